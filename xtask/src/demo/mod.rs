//! `cargo xtask demo`: a cluster with the sample catalogue, to try out or to compare with one node.

mod check;
mod compare;
mod load;
mod nodes;
mod queries;

use std::path::Path;

use serde_json::Value;

use crate::build::{self, Build};
use crate::cluster::{self, Cluster, MASTER_KEY, Node, NodeProgram};
use crate::guard::{self, Scratch};
use crate::options::DemoOptions;
use crate::{Outcome, catalogue, test};

pub(crate) use self::load::{load, ndjson};

/// The demo's index.
pub(crate) const INDEX: &str = "catalogue";
/// Where it serves unless told otherwise.
const PORT: u16 = 7700;

/// What is loaded.
#[derive(Debug)]
pub(crate) struct Corpus {
    documents: Vec<Value>,
    /// `None`: let the server infer it.
    primary_key: Option<&'static str>,
    /// `None`: the defaults.
    settings: Option<Value>,
}

impl Corpus {
    /// The first `count` documents of the sample catalogue.
    pub(crate) fn catalogue(count: usize) -> Self {
        Self {
            documents: catalogue::documents(count).collect(),
            primary_key: Some(catalogue::PRIMARY_KEY),
            settings: Some(catalogue::settings()),
        }
    }

    fn read(data: Option<&Path>) -> Outcome<Self> {
        let Some(path) = data else { return Ok(Self::catalogue(catalogue::DOCUMENTS)) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let mut documents = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let document: Value = serde_json::from_str(line)
                .map_err(|error| format!("{}, line {}: {error}", path.display(), number + 1))?;
            documents.push(document);
        }
        if documents.is_empty() {
            return Err(format!("{} holds no documents", path.display()).into());
        }
        Ok(Self { documents, primary_key: None, settings: None })
    }
}

/// Bodies of the sample searches of these areas.
pub(crate) fn search_bodies(areas: &[&str]) -> Vec<Value> {
    queries::of_the_catalogue()
        .into_iter()
        .filter(|query| query.method == "POST" && areas.contains(&query.area))
        .filter_map(|query| query.body)
        .collect()
}

/// Runs the demo.
pub(crate) fn run(options: &DemoOptions) -> Outcome<()> {
    guard::catch_signals()?;
    let corpus = Corpus::read(options.data.as_deref())?;
    let real = nodes::meilisearch(options)?;
    match &real {
        Some(real) => eprintln!("nodes: {}", real.described),
        None => {
            test::engine_can_be_built()?;
            eprintln!(
                "nodes: engine nodes, built from source; a Meilisearch in PATH saves building them"
            );
        }
    }
    let programs = build::programs(Build { engine: real.is_none(), release: options.release })?;
    let program = NodeProgram::choose(real.as_ref().map(|real| real.path.as_path()), &programs)?;
    let shape = options.shape;
    eprintln!(
        "starting {} {}, {} shards, {} group(s), {} copies in each",
        shape.node_count(),
        program.describe(),
        shape.shards,
        shape.groups,
        shape.factor,
    );
    // A comparison should not fail because something else serves on the usual port.
    let port = options.port.or((!options.check).then_some(PORT));
    let scratch = Scratch::new("demo", options.keep)?;
    let mut cluster = Cluster::start(&program, &programs.server, shape, port, scratch)?;
    let mut client = cluster.server.client();
    load(&mut client, &corpus, "loading the cluster")?;
    if options.check {
        let single = Node::start(&program, "single", cluster.scratch.path())?;
        let mut reference = single.client();
        load(&mut reference, &corpus, "loading one plain node")?;
        return check::run(&mut reference, &mut client, &corpus, &program);
    }
    announce(&cluster, &corpus);
    while !guard::stopping() {
        cluster.server.check()?;
        guard::pause();
    }
    eprintln!("\nstopping");
    Ok(())
}

fn announce(cluster: &Cluster, corpus: &Corpus) {
    let server = &cluster.server;
    let url = &server.url;
    let search = |body: &str| {
        println!(
            "  curl -s '{url}/indexes/{INDEX}/search' -H 'Authorization: Bearer {MASTER_KEY}' \
             -H 'Content-Type: application/json' --data '{body}'"
        );
    };
    println!("Miroir serves {} documents at {url}", corpus.documents.len());
    println!();
    println!("  master key   {MASTER_KEY}");
    println!("  admin key    {}", cluster::ADMIN_KEY);
    println!("  node key     {}", cluster::NODE_KEY);
    println!("  metrics      {}", server.metrics_url);
    println!("  config       {}", server.config.display());
    for (number, node) in cluster.nodes.iter().enumerate() {
        println!("  node-{number}       {}", node.url);
    }
    println!();
    println!("Try:");
    if corpus.settings.is_some() {
        search(r#"{"q":"waterprof tent","limit":3}"#);
        search(
            r#"{"filter":"in_stock = true AND price < 100","facets":["brand","categories"],"sort":["rating:desc"],"limit":3}"#,
        );
        search(
            r#"{"q":"hiking boots","filter":"_geoRadius(47.27, 11.40, 200000)","sort":["_geoPoint(47.27, 11.40):asc"],"limit":3}"#,
        );
    } else {
        search(r#"{"q":"","limit":3}"#);
        println!("  curl -s '{url}/indexes' -H 'Authorization: Bearer {MASTER_KEY}'");
        println!("  curl -s '{url}/stats' -H 'Authorization: Bearer {MASTER_KEY}'");
    }
    println!();
    println!("Ctrl-C stops everything.");
}
