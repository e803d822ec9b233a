//! `cargo xtask test`: every test of the workspace, Meilisearch's clients, and a list of what did
//! not run.

use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{Command, Stdio};

use crate::options::real_nodes;
use crate::{Outcome, build, guard, sdk};

/// A program that the tests need.
#[derive(Debug)]
struct Tool {
    name: &'static str,
    why: &'static str,
    /// Package of Debian and Ubuntu.
    package: &'static str,
    /// Whether it is there.
    there: fn() -> bool,
}

/// What the tests need besides Rust.
const TOOLS: &[Tool] = &[
    Tool {
        name: "a C compiler",
        why: "SQLite and the engine's storage are built from C",
        package: "build-essential",
        there: || ["cc", "gcc", "clang"].iter().any(guard::in_path),
    },
    Tool {
        name: "OpenSSL's headers",
        why: "the search engine links it",
        package: "libssl-dev",
        there: openssl,
    },
    Tool {
        name: "pkg-config",
        why: "the search engine's build looks for OpenSSL with it",
        package: "pkg-config",
        there: || openssl() || guard::in_path("pkg-config"),
    },
    Tool {
        name: "Redis",
        why: "the tests of the Redis store start servers of their own",
        package: "redis-server",
        there: || guard::in_path("redis-server"),
    },
];

/// Whether the search engine finds OpenSSL to link: it needs it on Linux only.
fn openssl() -> bool {
    let named =
        ["OPENSSL_DIR", "OPENSSL_LIB_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    let mut found = Command::new("pkg-config");
    found.args(["--exists", "openssl"]).stdout(Stdio::null()).stderr(Stdio::null());
    !cfg!(target_os = "linux") || named || found.status().is_ok_and(|status| status.success())
}

/// An error that says what is missing to build the engine node.
pub(crate) fn engine_can_be_built() -> Outcome<()> {
    if openssl() {
        return Ok(());
    }
    Err("the engine node links OpenSSL: install pkg-config and OpenSSL's headers (on Debian and \
         Ubuntu `apt-get install pkg-config libssl-dev`), or have a Meilisearch in PATH"
        .into())
}

/// Something that runs only under a condition.
#[derive(Debug)]
struct Optional {
    what: &'static str,
    /// Why it did not run; `None` when it did.
    missing: fn() -> Option<&'static str>,
}

/// What depends on the machine.
const OPTIONAL: &[Optional] = &[Optional {
    what: "real nodes",
    missing: || {
        let unset = "MIROIR_TEST_MEILISEARCH not set, in-process engine used";
        real_nodes().is_none().then_some(unset)
    },
}];

/// What a test run showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Cargo's `test result:` lines, one per test program.
    pub(crate) results: Vec<String>,
    /// Names of ignored tests.
    pub(crate) ignored: Vec<String>,
    /// Names of failed tests.
    pub(crate) failed: Vec<String>,
    /// Whether everything passed.
    pub(crate) passed: bool,
}

impl Report {
    fn read(&mut self, line: &str) {
        if line.starts_with("test result: ") {
            self.results.push(line.to_owned());
        } else if let Some((name, verdict)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        {
            if let Some(reason) = verdict.strip_prefix("ignored") {
                self.ignored.push(format!("{name}{reason}"));
            } else if verdict.starts_with("FAILED") {
                self.failed.push(name.to_owned());
            }
        }
    }

    /// Sum over all test programs.
    pub(crate) fn total(&self) -> String {
        let (mut passed, mut failed, mut ignored) = (0, 0, 0);
        for line in &self.results {
            let count = |word: &str| -> u64 {
                let before = line.split(word).next().unwrap_or_default().trim_end();
                before.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
            };
            passed += count(" passed");
            failed += count(" failed");
            ignored += count(" ignored");
        }
        let verdict = if self.passed { "ok" } else { "FAILED" };
        format!(
            "test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored \
             (all {} test programs)",
            self.results.len()
        )
    }

    /// What did not run, and why, one line each.
    pub(crate) fn not_run(&self) -> Vec<String> {
        let mut out: Vec<String> =
            self.ignored.iter().map(|name| format!("ignored: {name}")).collect();
        for optional in OPTIONAL {
            if let Some(why) = (optional.missing)() {
                out.push(format!("{}: {why}", optional.what));
            }
        }
        out
    }
}

/// Runs all tests and prints the closing lines.
pub(crate) fn run(install: bool) -> Outcome<()> {
    prepare(install)?;
    let report = tests()?;
    // From here on there are nodes to stop.
    guard::catch_signals()?;
    let clients = sdk::check(install)?;
    println!();
    println!("did not run:");
    let mut missing = report.not_run();
    missing.extend(clients.not_run.iter().cloned());
    if missing.is_empty() {
        println!("  nothing");
    }
    for line in missing {
        println!("  {line}");
    }
    for name in report.failed.iter().chain(&clients.failed) {
        println!("failed: {name}");
    }
    println!("{}", clients.total());
    println!("{}", report.total());
    if report.passed && clients.failed.is_empty() { Ok(()) } else { Err("tests failed".into()) }
}

/// Runs the tests, showing their output, and then the examples of the documentation.
///
/// Always the whole workspace with all features: any other choice would make Cargo compile the
/// dependencies again with other feature sets. The programs of `examples/` are not linked one by
/// one: the test beside them has all of them in it and runs them.
pub(crate) fn tests() -> Outcome<Report> {
    let mut report = Report { passed: true, ..Report::default() };
    run_tests(&["--lib", "--bins", "--tests"], &mut report)?;
    run_tests(&["--doc"], &mut report)?;
    Ok(report)
}

/// Runs those of the tests that `targets` selects.
fn run_tests(targets: &[&str], report: &mut Report) -> Outcome<()> {
    let mut child = build::cargo(&["test", "--workspace", "--all-features", "--no-fail-fast"])
        .args(targets)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    let output = child.stdout.take().ok_or("cargo has no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        report.read(line.trim_end());
    }
    report.passed &= child.wait()?.success();
    Ok(())
}

/// Installs the tools that are missing, saying so first.
pub(crate) fn prepare(install: bool) -> Outcome<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !(tool.there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for tool in &missing {
        eprintln!("missing: {} ({}); package {}", tool.name, tool.why, tool.package);
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    if !install {
        return Err(format!("install {} first", packages.join(", ")).into());
    }
    if !guard::in_path("apt-get") {
        return Err("this system has no apt-get: install the above with its package manager".into());
    }
    let mut install = vec!["apt-get", "install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    // A fresh machine has no lists of packages yet. Where one of its sources is away, the package may
    // still be known.
    for (mut words, needed) in [(vec!["apt-get", "update"], false), (install, true)] {
        // Root needs no sudo, and a container often has none.
        if !rustix::process::geteuid().is_root() {
            words.insert(0, "sudo");
            if !std::io::stdin().is_terminal() {
                words.insert(1, "--non-interactive");
            }
        }
        eprintln!("running: {}", words.join(" "));
        match build::run(Command::new(words[0]).args(&words[1..])) {
            Err(error) if needed => return Err(error),
            Err(error) => eprintln!("{error}"),
            Ok(()) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn results_are_read_and_summed() {
        let mut report = Report::default();
        for line in [
            "running 3 tests",
            "test merge::order ... ok",
            "test slow ... ignored, takes an hour",
            "test miroir/src/lib.rs - stack (line 3) ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            report.read(line);
        }
        assert_eq!(report.ignored, ["slow, takes an hour"]);
        assert_eq!(report.failed, ["miroir/src/lib.rs - stack (line 3)"]);
        assert_eq!(
            report.total(),
            "test result: FAILED. 13 passed; 1 failed; 1 ignored (all 2 test programs)"
        );
        assert!(report.not_run()[0].contains("slow"));
    }
}
