//! `cargo xtask fuzz targets`: the libFuzzer targets of `fuzz/`, one after the other.
//!
//! Neither `cargo-fuzz` nor a nightly compiler is needed: without a sanitizer, for which code without
//! `unsafe` has little use, libFuzzer wants coverage counters and nothing else.

use std::process::Command;

use super::directory;
use crate::build::{self, cargo, root};
use crate::{Failure, Outcome, guard};

/// The programs of `fuzz/`.
const TARGETS: [&str; 6] = ["splitter", "csv", "filter", "routes", "merge", "config"];

/// What makes the compiler count.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// Options of `fuzz targets`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TargetOptions {
    /// Which; none: all.
    pub(crate) names: Vec<String>,
    /// Executions of each; 0: the seeds only.
    pub(crate) runs: u64,
    /// Longest input in bytes.
    pub(crate) length: usize,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self { names: Vec::new(), runs: 1_000_000, length: 512 }
    }
}

impl TargetOptions {
    /// The targets to run.
    fn chosen(&self) -> Outcome<Vec<&'static str>> {
        if self.names.is_empty() {
            return Ok(TARGETS.to_vec());
        }
        let find = |name: &String| {
            TARGETS.into_iter().find(|target| target == name).ok_or_else(|| {
                let known = TARGETS.join(", ");
                Failure::Message(format!("there is no target `{name}`; there are {known}"))
            })
        };
        self.names.iter().map(find).collect()
    }
}

/// Builds the targets and runs them; what breaks one stays as a file to commit beside the seeds.
pub(super) fn run(options: &TargetOptions) -> Outcome<()> {
    let chosen = options.chosen()?;
    let (built, host) = (directory("build")?, host()?);
    let mut command = cargo(&["build", "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    // For the targets only: with `--target` programs that run during the build are left alone.
    command.args(["--target", &host]).arg("--target-dir").arg(&built).env("RUSTFLAGS", FLAGS);
    build::run(&mut command)?;
    let programs = built.join(&host).join("release");
    for name in chosen {
        guard::check_stop()?;
        let corpus = directory(&format!("corpus/{name}"))?;
        let crashes = directory(&format!("crashes/{name}"))?;
        println!("fuzzing {name}");
        let mut command = Command::new(programs.join(name));
        command
            .arg(format!("-runs={}", options.runs))
            .arg(format!("-max_len={}", options.length))
            .args(["-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1", "-verbosity=0"])
            .arg(format!("-artifact_prefix={}/", crashes.display()))
            .arg(corpus)
            .arg(root().join("fuzz/seeds").join(name));
        build::run(&mut command).map_err(|error| {
            format!(
                "{error}; the input is in {}: commit it to fuzz/seeds/{name} once it is mended",
                crashes.display()
            )
        })?;
    }
    Ok(())
}

/// The triple of this machine.
fn host() -> Outcome<String> {
    let output = Command::new("rustc").arg("-vV").current_dir(root()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.ok_or("rustc names no host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_that_are_built_and_have_seeds() {
        let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
        for name in TARGETS {
            assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
            let seeds = std::fs::read_dir(root().join("fuzz/seeds").join(name)).unwrap();
            assert!(seeds.count() > 0, "{name}");
        }
    }

    #[test]
    fn a_wrong_name_is_refused_with_the_right_ones() {
        let options = TargetOptions { names: vec!["nope".into()], ..TargetOptions::default() };
        assert!(options.chosen().unwrap_err().to_string().contains("splitter, csv"));
    }
}
