//! `cargo xtask fuzz api`: requests made up from the description of the API, to a server in front
//! of three nodes. None may be answered with a fault or not at all, and nothing may panic.
//!
//! The requests come from schemathesis, in a Python environment of its own below the build directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::directory;
use crate::build::{self, Build, root};
use crate::cluster::{Cluster, MASTER_KEY, NodeProgram, apply};
use crate::guard::{self, Scratch};
use crate::options::Shape;
use crate::{Failure, Outcome};

/// The version whose checks and options are used here.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// What it loads.
const CHECKS: &str = include_str!("checks.py");

/// Options of `fuzz api`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ApiOptions {
    /// Requests per operation, at most.
    pub(crate) examples: u32,
    /// What the requests follow from.
    pub(crate) seed: u64,
    /// Another description of the API than Miroir's own, such as Meilisearch's.
    pub(crate) description: Option<PathBuf>,
    /// A real Meilisearch.
    pub(crate) meilisearch: Option<PathBuf>,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self { examples: 50, seed: 1, description: None, meilisearch: None }
    }
}

/// Starts a cluster, sends the requests, and looks at what became of the server.
pub(super) fn run(options: &ApiOptions) -> Outcome<()> {
    guard::catch_signals()?;
    let tool = tool()?;
    let description = match &options.description {
        Some(path) => std::env::current_dir()?.join(path),
        None => root().join("docs/openapi.json"),
    };
    let engine = options.meilisearch.is_none();
    let programs = build::programs(Build { engine, release: false })?;
    let nodes = NodeProgram::choose(options.meilisearch.as_deref(), &programs)?;
    let scratch = Scratch::new("fuzz-api", false)?;
    let log = scratch.path().join("miroir-server.log");
    let mut cluster = Cluster::start(&nodes, &programs.server, Shape::default(), None, scratch)?;
    println!("nodes: 3 {}", nodes.describe());
    load(&cluster)?;

    let reports = directory("api")?;
    std::fs::write(reports.join("checks.py"), CHECKS)?;
    let sent = build::run(
        Command::new(tool)
            .arg("run")
            .arg(description)
            .args(["--url", &cluster.server.url])
            .arg("-H")
            .arg(format!("Authorization: Bearer {MASTER_KEY}"))
            .args(["-c", "no_fault", "--continue-on-failure", "--no-shrink"])
            .args(["--phases", "examples,coverage,fuzzing", "--suppress-health-check", "all"])
            .args(["--request-timeout", "60", "--warnings", "off", "--no-color"])
            .args(["--max-examples", &options.examples.to_string()])
            .args(["--seed", &options.seed.to_string()])
            .args(["--report", "ndjson", "--report-ndjson-path", "requests.ndjson"])
            .env("SCHEMATHESIS_HOOKS", "checks.py")
            .current_dir(&reports),
    );
    guard::check_stop()?;
    cluster.server.check()?;
    let panics = panics(&log)?;
    for line in &panics {
        println!("panic: {line}");
    }
    let ready = cluster.server.client().get("/_miroir/ready")?.status;
    match (sent, panics.len(), ready) {
        (Ok(()), 0, 200) => {
            println!("0 faults, 0 panics, 0 connections dropped; the cluster is ready");
            Ok(())
        }
        (Err(error), panics, _) => Err(Failure::Message(format!("{error}; {panics} panic(s)"))),
        (Ok(()), 0, status) => Err(format!("the cluster is not ready afterwards: {status}").into()),
        (Ok(()), panics, _) => Err(format!("{panics} panic(s)").into()),
    }
}

/// Something to search, under the names that the description gives as examples.
fn load(cluster: &Cluster) -> Outcome<()> {
    let mut client = cluster.server.client();
    let settings = json!({
        "filterableAttributes": ["genre", "price", "_geo"],
        "sortableAttributes": ["title", "price", "_geo"],
    });
    apply(&mut client, "POST", "/indexes", &json!({"uid": "movies", "primaryKey": "id"}))?;
    apply(&mut client, "PATCH", "/indexes/movies/settings", &settings)?;
    let documents: Vec<_> = (0..50)
        .map(|id| {
            json!({
                "id": id, "title": format!("The film number {id}"), "price": id % 7,
                "genre": (["drama", "comedy", "crime"][id % 3]),
                "_geo": {"lat": id, "lng": 2 * id},
            })
        })
        .collect();
    apply(&mut client, "POST", "/indexes/movies/documents", &json!(documents))?;
    Ok(())
}

/// Lines of the log that tell of a panic.
fn panics(log: &Path) -> Outcome<Vec<String>> {
    let text = std::fs::read(log)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect())
}

/// schemathesis, installed if it is not there yet.
fn tool() -> Outcome<PathBuf> {
    let place = directory("python")?;
    let tool = place.join("bin/schemathesis");
    if !tool.is_file() {
        println!("installing {SCHEMATHESIS} into {}", place.display());
        build::run(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
        build::run(Command::new(place.join("bin/pip")).args(["install", "--quiet", SCHEMATHESIS]))?;
    }
    Ok(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_found_in_a_log() {
        let scratch = Scratch::new("panics", false).unwrap();
        let log = scratch.path().join("log");
        std::fs::write(&log, "{\"level\":\"info\"}\nthread 'x' panicked at y\n").unwrap();
        assert_eq!(panics(&log).unwrap().len(), 1);
    }
}
