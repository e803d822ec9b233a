//! Ingest: the same documents written to the nodes directly, in parallel, and through Miroir.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::options::BenchOptions;
use super::table::Row;
use super::{process, ratio, row};
use crate::Outcome;
use crate::catalogue;
use crate::cluster::{Cluster, Node, NodeProgram, apply, enqueue, wait_task};
use crate::demo::ndjson;
use crate::guard::{self, Scratch};
use crate::http::Client;
use crate::options::Shape;

/// Documents of one request to Miroir.
const BATCH: usize = 3_000;

pub(super) fn run(
    options: &BenchOptions,
    program: &NodeProgram,
    server: &Path,
) -> Outcome<Vec<Row>> {
    eprintln!("ingest of {} documents", options.documents);
    let shape = Shape { shards: options.shards, groups: 1, factor: 1, nodes: Some(options.nodes) };
    let scratch = Scratch::new("bench", false)?;
    let cluster = Cluster::start(program, server, shape, None, scratch)?;
    let documents: Vec<Value> = catalogue::documents(options.documents).collect();

    let direct = directly(&cluster.nodes, &documents)?;

    let mut client = cluster.server.client();
    set_up(&mut client, "through")?;
    let payloads: Vec<String> = documents.chunks(BATCH).map(ndjson).collect();
    let nodes_before = nodes_time(&cluster.nodes)?;
    let before = process::processor_time(cluster.server.id())?;
    let start = Instant::now();
    send(&mut client, "through", &payloads)?;
    let through = start.elapsed();
    let own = process::processor_time(cluster.server.id())?.saturating_sub(before);
    let nodes = nodes_time(&cluster.nodes)?.saturating_sub(nodes_before);

    let rate = |time: Duration| documents.len() as f64 / time.as_secs_f64();
    Ok(vec![
        row(
            "ingest, documents/s",
            format!("{:.0}", rate(through)),
            format!("{} nodes directly, in parallel {:.0}", options.nodes, rate(direct)),
            ratio(rate(through), rate(direct)),
            "≥ 0.95×",
        ),
        row(
            "processor time of an ingest",
            format!("{:.2} s", own.as_secs_f64()),
            format!("the nodes {:.2} s", nodes.as_secs_f64()),
            format!("{:.1} %", own.as_secs_f64() / nodes.as_secs_f64().max(0.01) * 100.0),
            "≤ 5 %",
        ),
    ])
}

/// Every node gets its share of each batch over a connection of its own.
fn directly(nodes: &[Node], documents: &[Value]) -> Outcome<Duration> {
    for node in nodes {
        set_up(&mut node.client(), "direct")?;
    }
    let shares: Vec<Vec<String>> = (0..nodes.len())
        .map(|number| {
            let share: Vec<Value> =
                documents.iter().skip(number).step_by(nodes.len()).cloned().collect();
            share.chunks((BATCH / nodes.len()).max(1)).map(ndjson).collect()
        })
        .collect();
    let start = Instant::now();
    thread::scope(|scope| {
        let workers: Vec<_> = nodes
            .iter()
            .zip(&shares)
            .map(|(node, payloads)| {
                scope.spawn(move || send(&mut node.client(), "direct", payloads))
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err("a client panicked".into()))
        })
    })?;
    Ok(start.elapsed())
}

fn set_up(client: &mut Client, index: &str) -> Outcome<()> {
    let key = catalogue::PRIMARY_KEY;
    apply(client, "POST", "/indexes", &json!({ "uid": index, "primaryKey": key }))?;
    apply(client, "PATCH", &format!("/indexes/{index}/settings"), &catalogue::settings())?;
    Ok(())
}

/// Sends all payloads and waits until they can be searched.
fn send(client: &mut Client, index: &str, payloads: &[String]) -> Outcome<()> {
    let path = format!("/indexes/{index}/documents");
    let mut tasks = Vec::new();
    for payload in payloads {
        guard::check_stop()?;
        let kind = "application/x-ndjson";
        tasks.push(enqueue(client, "POST", &path, kind, payload.as_bytes())?);
    }
    tasks.into_iter().try_for_each(|task| wait_task(client, task).map(|_| ()))
}

fn nodes_time(nodes: &[Node]) -> Outcome<Duration> {
    nodes.iter().map(|node| process::processor_time(node.id())).sum::<Outcome<Duration>>()
}
