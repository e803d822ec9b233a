//! Building the programs that commands run, and telling how far that is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::progress::Status;
use crate::{Failure, Outcome, guard};

/// What to build, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build {
    /// Also the engine node. It brings the search engine: the long part of a first build.
    pub(crate) engine: bool,
    /// With the release profile.
    pub(crate) release: bool,
}

impl Build {
    /// The packages whose programs are built.
    fn packages(self) -> &'static [&'static str] {
        if self.engine { &["miroir-server", "miroir-engine"] } else { &["miroir-server"] }
    }

    fn describe(self) -> &'static str {
        if self.engine { "the server and the engine node" } else { "the server" }
    }

    /// Cargo's arguments.
    ///
    /// For development the features are those of the whole workspace, as for the tests: Cargo
    /// compiles a dependency again for every other set of features, and so both use one build. That
    /// is for the features only; of the workspace no more is built than the programs need. A release
    /// has the features of the programs alone: it is what is measured and deployed.
    fn arguments(self) -> Vec<&'static str> {
        let mut out = vec!["build", "--message-format=json-render-diagnostics"];
        if self.release {
            out.push("--release");
            out.extend(self.packages().iter().flat_map(|name| ["-p", *name]));
        } else {
            out.extend(["--workspace", "--all-features"]);
        }
        out.extend(["--bin", "miroir-server"]);
        if self.engine {
            out.extend(["--bin", "engine-node"]);
        }
        out
    }
}

/// What was built.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// Path of `miroir-server`.
    pub(crate) server: PathBuf,
    /// Path of `engine-node`, when it was asked for.
    pub(crate) engine_node: Option<PathBuf>,
    /// Names of the crates that had to be compiled for it.
    pub(crate) compiled: BTreeSet<String>,
}

impl Programs {
    /// A server that was built elsewhere, and no engine node.
    pub(crate) fn of_server(server: PathBuf) -> Self {
        Self { server, engine_node: None, compiled: BTreeSet::new() }
    }
}

/// The repository's root.
///
/// Cargo says at run time where it is: what was compiled in may be another checkout's, when two of
/// them share a build directory.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        manifest.parent().unwrap_or(Path::new(".")).to_owned()
    });
    &ROOT
}

/// A Cargo command in the repository's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    // What Cargo says to this program about its package is none of the business of others: some build
    // scripts look at it, and would compile their crates (and the search engine on top) again.
    for (name, _) in std::env::vars_os() {
        let told = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        });
        if told {
            command.env_remove(name);
        }
    }
    command
}

/// Builds the server and, if asked for, the engine node.
///
/// The default is the development profile: in this workspace it optimises those dependencies that
/// have to be fast and leaves everything else as it is quickest to build.
pub(crate) fn programs(build: Build) -> Outcome<Programs> {
    let mut progress = Compilation::new(build.describe(), crates(build.packages()));
    let mut child = cargo(&build.arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    let (sender, lines) = mpsc::channel();
    forward(child.stdout.take().ok_or("cargo has no output")?, sender.clone(), Line::Message);
    forward(child.stderr.take().ok_or("cargo has no output")?, sender, Line::Said);
    let mut status = Status::default();
    loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(Line::Message(line)) => {
                progress.message(&serde_json::from_str(&line).unwrap_or_default());
            }
            Ok(Line::Said(line)) => {
                if !progress.said(&line) {
                    status.interrupt(&line);
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if guard::stopping() {
            // Ctrl-C has reached Cargo too; a signal to this program alone has not.
            let _ = child.kill();
        }
        status.set(&progress.line());
    }
    let ended = child.wait()?;
    status.interrupt(&progress.end());
    guard::check_stop()?;
    if !ended.success() {
        return Err("the build failed".into());
    }
    let mut program =
        |name: &str| progress.programs.remove(name).ok_or_else(|| format!("cargo built no {name}"));
    let server = program("miroir-server")?;
    let engine_node = if build.engine { Some(program("engine-node")?) } else { None };
    Ok(Programs { server, engine_node, compiled: progress.compiled })
}

/// Builds another program of the workspace, as [`programs`] does for development, and says where it is.
pub(crate) fn tool(name: &str) -> Outcome<PathBuf> {
    run(&mut cargo(&["build", "--quiet", "--workspace", "--all-features", "--bin", name]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |path| root().join(path));
    Ok(target.join("debug").join(name))
}

/// What Cargo writes, line by line.
enum Line {
    /// To standard output: JSON.
    Message(String),
    /// To standard error, for people.
    Said(String),
}

fn forward(
    from: impl Read + Send + 'static,
    to: mpsc::Sender<Line>,
    kind: impl Fn(String) -> Line + Send + 'static,
) {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let _ = to.send(kind(String::from_utf8_lossy(&line).into_owned()));
        }
    });
}

/// How far a build is.
#[derive(Debug)]
struct Compilation {
    what: &'static str,
    start: Instant,
    /// How many crates there are to build, if that is known.
    total: Option<usize>,
    /// Ids of the packages that are there.
    done: BTreeSet<String>,
    /// Names of those that were compiled.
    compiled: BTreeSet<String>,
    /// Names of the packages Cargo has begun, first things first.
    begun: Vec<String>,
    programs: BTreeMap<String, PathBuf>,
}

impl Compilation {
    fn new(what: &'static str, total: Option<usize>) -> Self {
        Self {
            what,
            start: Instant::now(),
            total,
            done: BTreeSet::new(),
            compiled: BTreeSet::new(),
            begun: Vec::new(),
            programs: BTreeMap::new(),
        }
    }

    /// Reads one of Cargo's messages.
    fn message(&mut self, message: &Value) {
        let (Some("compiler-artifact"), Some(id)) =
            (message["reason"].as_str(), message["package_id"].as_str())
        else {
            return;
        };
        let target = &message["target"];
        // A build script comes before its crate and is no crate of its own.
        if target["kind"][0] == "custom-build" {
            return;
        }
        let name = package_name(id);
        if message["fresh"] == false {
            self.compiled.insert(name.to_owned());
        }
        self.begun.retain(|begun| begun != name);
        self.done.insert(id.to_owned());
        if let (Some(name), Some(path)) = (target["name"].as_str(), message["executable"].as_str())
        {
            self.programs.insert(name.to_owned(), path.into());
        }
    }

    /// Reads a line that Cargo wrote for people; false when it is one for them to see.
    fn said(&mut self, line: &str) -> bool {
        let Some((verb, rest)) = line.trim_start().split_once(' ') else { return false };
        match verb {
            "Compiling" => {
                let name = rest.split(' ').next().unwrap_or(rest);
                self.begun.push(name.to_owned());
                true
            }
            "Finished" | "Downloading" | "Downloaded" | "Updating" | "Locking" => true,
            _ => false,
        }
    }

    /// Where it stands, in one line.
    fn line(&self) -> String {
        let done = self.done.len();
        let total = self.total.map_or(String::new(), |total| format!(" of {}", total.max(done)));
        let at = self.begun.first().map_or(String::new(), |name| format!(", at {name}"));
        let time = minutes(self.start.elapsed());
        format!("building {}: {done}{total} crates, {time}{at}", self.what)
    }

    /// What it came to.
    fn end(&self) -> String {
        format!(
            "building {}: {} crates, {} of them compiled, {}",
            self.what,
            self.done.len(),
            self.compiled.len(),
            minutes(self.start.elapsed())
        )
    }
}

/// The name in a package's id: `registry+…#name@1.0.0`, or `path+file:///…/name#1.0.0`.
fn package_name(id: &str) -> &str {
    let (source, version) = id.rsplit_once('#').unwrap_or((id, ""));
    match version.split_once('@') {
        Some((name, _)) => name,
        None => source.rsplit('/').next().unwrap_or(source),
    }
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

/// How many crates it takes to build these packages: themselves and all they stand on, on this
/// platform. `None` when Cargo does not say.
fn crates(packages: &[&str]) -> Option<usize> {
    let words = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().ok()?;
        output.status.success().then_some(output.stdout)
    };
    let about = words(&mut cargo(&["--version", "--verbose"]))?;
    let about = String::from_utf8_lossy(&about);
    let host = about.lines().find_map(|line| line.strip_prefix("host: "))?;
    let metadata = ["metadata", "--format-version=1", "--all-features", "--filter-platform", host];
    closure(&serde_json::from_slice(&words(&mut cargo(&metadata))?).ok()?, packages)
}

/// The size of the closure of these packages in what `cargo metadata` printed.
fn closure(metadata: &Value, packages: &[&str]) -> Option<usize> {
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()?
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, &node["deps"])))
        .collect();
    let wanted = |package: &&Value| packages.iter().any(|name| package["name"] == *name);
    let mut found: BTreeSet<&str> = BTreeSet::new();
    let mut waiting: Vec<&str> = metadata["packages"]
        .as_array()?
        .iter()
        .filter(wanted)
        .filter_map(|package| package["id"].as_str())
        .collect();
    while let Some(id) = waiting.pop() {
        if !found.insert(id) {
            continue;
        }
        for dependency in nodes.get(id)?.as_array()? {
            let kinds = dependency["dep_kinds"].as_array()?;
            if kinds.iter().any(|kind| kind["kind"] != "dev") {
                waiting.push(dependency["pkg"].as_str()?);
            }
        }
    }
    Some(found.len())
}

/// Runs a command that shows its own output.
pub(crate) fn run(command: &mut Command) -> Outcome<()> {
    let shown = command.get_program().display().to_string();
    let status = command.status().map_err(|error| format!("cannot run {shown}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        let arguments: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        Err(Failure::Message(format!("`{} {}` failed ({status})", shown, arguments.join(" "))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn artifact(id: &str, kind: &str, fresh: bool) -> Value {
        let target = json!({"kind": [kind], "name": "x"});
        json!({"reason": "compiler-artifact", "package_id": id, "target": target, "fresh": fresh})
    }

    #[test]
    fn a_crate_counts_once_and_its_build_script_does_not() {
        let mut build = Compilation::new("the server", Some(3));
        assert!(build.said("   Compiling milli-core v1.15.1"));
        assert!(build.line().ends_with("0 of 3 crates, 0:00, at milli-core"), "{}", build.line());
        let core = "registry+https://example.org/index#milli-core@1.15.1";
        build.message(&artifact(core, "custom-build", false));
        assert_eq!(build.done.len(), 0);
        build.message(&artifact(core, "lib", false));
        build.message(&artifact(core, "bin", false));
        build.message(&artifact("path+file:///a/miroir-api#0.1.0", "lib", true));
        build.message(&json!({"reason": "build-finished", "success": true}));
        assert!(build.line().ends_with("the server: 2 of 3 crates, 0:00"), "{}", build.line());
        assert_eq!(build.compiled, BTreeSet::from(["milli-core".to_owned()]));
        assert_eq!(build.done.iter().map(|id| package_name(id)).next(), Some("miroir-api"));
    }

    #[test]
    fn what_concerns_people_is_shown() {
        let mut build = Compilation::new("the server", None);
        assert!(build.said("    Finished `dev` profile in 1s"));
        for line in ["error[E0308]: mismatched types", "", "    Blocking waiting for file lock"] {
            assert!(!build.said(line), "{line}");
        }
    }

    #[test]
    fn dependencies_of_tests_are_not_built() {
        let node = |id: &str, deps: Value| json!({"id": id, "deps": deps});
        let dep = |id: &str, kind: Value| json!({"pkg": id, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [{"name": "server", "id": "s"}, {"name": "other", "id": "o"}],
            "resolve": {"nodes": [
                node("s", json!([dep("a", Value::Null), dep("t", json!("dev"))])),
                node("a", json!([dep("b", json!("build"))])),
                node("b", json!([dep("a", Value::Null)])),
                node("t", json!([])),
                node("o", json!([])),
            ]},
        });
        assert_eq!(closure(&metadata, &["server"]), Some(3));
        assert_eq!(closure(&metadata, &["server", "other"]), Some(4));
        assert_eq!(closure(&json!({}), &["server"]), None);
    }
}
