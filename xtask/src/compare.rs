//! `cargo xtask compare`: what a client, or a whole suite of one, is answered by Miroir and by one plain
//! Meilisearch, request by request.
//!
//! The client talks to a proxy that asks both and answers with the plain node's answers; the proxy is a
//! program of the test kit (`miroir-test/src/compare`). Either server may be one that runs already;
//! otherwise a cluster of three nodes and a plain node are started for it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::build::{self, Build, Programs};
use crate::cluster::{Cluster, MASTER_KEY, NODE_KEY, Node, NodeProgram};
use crate::guard::{self, Process, Scratch};
use crate::http::Client;
use crate::options::Shape;
use crate::{Failure, Outcome};

/// How long the proxy may take to start.
const START: Duration = Duration::from_secs(30);

/// A server that runs already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    /// Base address.
    pub(crate) url: String,
    /// Its master key.
    pub(crate) key: String,
}

/// Options of `compare`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CompareOptions {
    /// Where the proxy listens; `None`: any free port.
    pub(crate) port: Option<u16>,
    /// The plain node, if it runs already.
    pub(crate) reference: Option<Running>,
    /// Miroir, if it runs already.
    pub(crate) candidate: Option<Running>,
    /// What the client uses as its master key; `None`: the key of demos.
    pub(crate) client_key: Option<String>,
    /// The client gets Miroir's answers.
    pub(crate) answer_candidate: bool,
    /// The order of fields counts.
    pub(crate) key_order: bool,
    /// Most examples; `None`: 20.
    pub(crate) examples: Option<usize>,
    /// Where the report is written as JSON.
    pub(crate) report: Option<PathBuf>,
    /// The cluster that is started.
    pub(crate) shape: Shape,
    /// A real Meilisearch.
    pub(crate) meilisearch: Option<PathBuf>,
    /// A server built elsewhere; `None`: the checkout's.
    pub(crate) server: Option<PathBuf>,
    /// A proxy built elsewhere; `None`: the checkout's.
    pub(crate) proxy: Option<PathBuf>,
    /// The client; none: the proxy serves until it is stopped.
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// Runs the client against the proxy.
pub(crate) fn run(options: &CompareOptions) -> Outcome<()> {
    guard::catch_signals()?;
    let program = match &options.proxy {
        Some(path) => path.clone(),
        None => build::tool("comparing-proxy")?,
    };
    let scratch = Scratch::new("compare", false)?;
    let started = start(options, &scratch)?;
    let key = options.client_key.clone().unwrap_or_else(|| MASTER_KEY.to_owned());
    let mut command = Command::new(program);
    command
        .args(["--reference", &started.reference.url, "--candidate", &started.candidate.url])
        .args(["--port", &options.port.unwrap_or(0).to_string()])
        .args(["--examples", &options.examples.unwrap_or(20).to_string()])
        .env("COMPARE_REFERENCE_KEY", &started.reference.key)
        .env("COMPARE_CANDIDATE_KEY", &started.candidate.key)
        .env("COMPARE_CLIENT_KEY", &key);
    if options.key_order {
        command.arg("--key-order");
    }
    if options.answer_candidate {
        command.args(["--answer", "candidate"]);
    }
    let log = scratch.path().join("proxy.log");
    let (mut proxy, url) = Process::start_announced("comparing-proxy", &mut command, &log, START)?;
    println!("comparing proxy: {url}, master key {key}");
    println!("reference: {}, candidate: {}", started.reference.url, started.candidate.url);
    let client = match options.command.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).env("MEILISEARCH_URL", &url).env("MEILISEARCH_API_KEY", &key);
            let ended = build::run(&mut command);
            guard::check_stop()?;
            ended
        }
        None => {
            println!("Ctrl-C ends it and shows the report; {url}/_compare/text shows it meanwhile");
            while !guard::stopping() {
                proxy.check()?;
                guard::pause();
            }
            Ok(())
        }
    };
    let mut reader = Client::new(&url, &key);
    print!("{}", reader.get("/_compare/text")?.text());
    let told = reader.get("/_compare/json")?;
    if let Some(path) = &options.report {
        std::fs::write(path, &told.body)?;
    }
    match (told.json()["different"].as_u64(), client) {
        (Some(0), client) => client,
        (Some(count), Ok(())) => Err(format!("{count} answers differ").into()),
        (Some(count), Err(error)) => Err(format!("{count} answers differ; {error}").into()),
        (None, _) => Err(Failure::from("the proxy has no report")),
    }
}

/// The two servers, and what was started for them.
struct Started {
    reference: Running,
    candidate: Running,
    _servers: (Option<Node>, Option<Cluster>),
}

fn start(options: &CompareOptions, scratch: &Scratch) -> Outcome<Started> {
    if let (Some(reference), Some(candidate)) = (&options.reference, &options.candidate) {
        let (reference, candidate) = (reference.clone(), candidate.clone());
        return Ok(Started { reference, candidate, _servers: (None, None) });
    }
    let engine = options.meilisearch.is_none();
    let programs = match &options.server {
        Some(server) if !engine => Programs::of_server(server.clone()),
        Some(_) => return Err("--server needs --meilisearch".into()),
        None => build::programs(Build { engine, release: false })?,
    };
    let nodes = NodeProgram::choose(options.meilisearch.as_deref(), &programs)?;
    let node = match options.reference {
        Some(_) => None,
        None => Some(Node::start(&nodes, "reference", scratch.path())?),
    };
    let cluster = match options.candidate {
        Some(_) => None,
        None => {
            let scratch = Scratch::new("compare-cluster", false)?;
            Some(Cluster::start(&nodes, &programs.server, options.shape, None, scratch)?)
        }
    };
    let running = |url: &str, key: &str| Running { url: url.to_owned(), key: key.to_owned() };
    let reference = node.as_ref().map(|node| running(&node.url, NODE_KEY));
    let candidate = cluster.as_ref().map(|cluster| running(&cluster.server.url, MASTER_KEY));
    let reference = options.reference.clone().or(reference).ok_or("no reference")?;
    let candidate = options.candidate.clone().or(candidate).ok_or("no candidate")?;
    Ok(Started { reference, candidate, _servers: (node, cluster) })
}
