//! `cargo xtask sdk`: Meilisearch's own clients against Miroir, and against one node.
//!
//! The programs lie in `examples/sdk-tests/`, one per language. What they need is installed below
//! the target directory from the public registries. A language that cannot run is named with the
//! reason; it never counts as passed.

mod language;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::build::{self, Build, cargo, root};
use crate::cluster::{Cluster, MASTER_KEY, NODE_KEY, Node, NodeProgram};
use crate::guard::{self, Scratch};
use crate::options::{Shape, real_nodes};
use crate::{Failure, Outcome};
use language::{LANGUAGES, Ready};

/// What the clients showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// A client and what it ran against.
    pub(crate) passed: Vec<String>,
    /// The same for those that failed.
    pub(crate) failed: Vec<String>,
    /// Clients that did not run, with the reason.
    pub(crate) not_run: Vec<String>,
}

/// Runs every client and prints what happened.
pub(crate) fn run(install: bool) -> Outcome<()> {
    guard::catch_signals()?;
    let report = check(install)?;
    println!();
    for line in &report.not_run {
        println!("did not run: {line}");
    }
    println!("{}", report.total());
    if report.failed.is_empty() { Ok(()) } else { Err(report.failed.join(", ").into()) }
}

impl Report {
    /// One line of numbers.
    pub(crate) fn total(&self) -> String {
        format!(
            "clients: {} passed; {} failed; {} did not run",
            self.passed.len(),
            self.failed.len(),
            self.not_run.len()
        )
    }
}

/// Where clients and their packages go.
fn directory() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").filter(|path| !path.is_empty());
    let target = target.map_or_else(|| root().join("target"), |path| root().join(path));
    target.join("sdk-tests")
}

/// Runs every client that can run here.
pub(crate) fn check(install: bool) -> Outcome<Report> {
    let mut report = Report::default();
    let mut ready: Vec<Ready> = Vec::new();
    for language in LANGUAGES {
        guard::check_stop()?;
        let source = root().join("examples/sdk-tests").join(language.folder);
        let place = directory().join(language.folder);
        let found = match language.prepare(&source, &place, install) {
            Ok(found) => found,
            Err(Failure::Stopped) => return Err(Failure::Stopped),
            Err(Failure::Message(why)) => {
                report.not_run.push(format!("{} client: {why}", language.name));
                continue;
            }
        };
        match language.build(&source, &place) {
            Ok(()) => ready.push(found),
            Err(Failure::Stopped) => return Err(Failure::Stopped),
            Err(Failure::Message(why)) => {
                report.failed.push(format!("{} client: {why}", language.name));
            }
        }
    }
    if ready.is_empty() {
        return Ok(report);
    }
    let real = real_nodes();
    let programs = build::programs(Build { engine: real.is_none(), release: false })?;
    let program = NodeProgram::choose(real.as_deref(), &programs)?;
    {
        let scratch = Scratch::new("sdk", false)?;
        let cluster = Cluster::start(&program, &programs.server, Shape::default(), None, scratch)?;
        let against = format!("Miroir over {} {}", cluster.nodes.len(), program.kind());
        all(&ready, &cluster.server.url, MASTER_KEY, &against, &mut report)?;
    }
    if real.is_some() {
        let scratch = Scratch::new("sdk-node", false)?;
        let node = Node::start(&program, "node", scratch.path())?;
        all(&ready, &node.url, NODE_KEY, "one node", &mut report)?;
    } else {
        let why = "against one node: MIROIR_TEST_MEILISEARCH not set";
        report.not_run.push(format!("clients {why}"));
    }
    Ok(report)
}

fn all(ready: &[Ready], url: &str, key: &str, against: &str, report: &mut Report) -> Outcome<()> {
    for client in ready {
        guard::check_stop()?;
        let name = format!("{} client against {against}", client.name);
        println!("-- {name}");
        let status = client
            .command()
            .env("MEILISEARCH_URL", url)
            .env("MEILISEARCH_API_KEY", key)
            .stdin(Stdio::null())
            .status()
            .map_err(|error| format!("cannot run {}: {error}", client.name))?;
        if status.success() {
            report.passed.push(name);
        } else {
            println!("FAILED ({status})");
            report.failed.push(name);
        }
    }
    Ok(())
}

/// Cargo for the Rust client: a workspace of its own with its own lock file, so that neither
/// Miroir's lock file nor the features of its dependencies know of it.
fn cargo_at(place: &Path, source: &Path, arguments: &[&str]) -> Command {
    let mut command = cargo(arguments);
    command.arg("--manifest-path").arg(source.join("Cargo.toml")).env("CARGO_TARGET_DIR", place);
    command
}
