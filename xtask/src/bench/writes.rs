//! Writes of one document each: through Miroir, and to its nodes directly, as many copies of each.

use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::load::{Sample, Target, measure};
use super::options::BenchOptions;
use super::table::Row;
use super::{millis, ratio, row, time};
use crate::Outcome;
use crate::cluster::{Cluster, MASTER_KEY, NODE_KEY, Node, NodeProgram, apply, is_idle};
use crate::guard::{self, Scratch};
use crate::http::{Client, render};
use crate::options::Shape;

/// Both sides take turns so often.
const ROUNDS: u32 = 3;
/// Documents of one turn; more than any side writes in it.
const DOCUMENTS: usize = 40_000;
/// How long what was written in a turn may take to be done.
const PATIENCE: Duration = Duration::from_mins(10);
/// Connections of the load generator.
const CONNECTIONS: [usize; 3] = [1, 16, 64];

pub(super) fn run(
    options: &BenchOptions,
    program: &NodeProgram,
    server: &Path,
) -> Outcome<Vec<Row>> {
    let one = Shape { shards: 1, groups: 1, factor: 1, nodes: Some(1) };
    let copies =
        Shape { shards: options.shards, groups: 1, factor: 2, nodes: Some(options.nodes.max(2)) };
    let mut rows = Vec::new();
    for shape in [one, copies] {
        eprintln!("writes over {} node(s), copies: {}", shape.node_count(), shape.factor);
        rows.extend(over(options, program, server, shape)?);
    }
    Ok(rows)
}

fn over(
    options: &BenchOptions,
    program: &NodeProgram,
    server: &Path,
    shape: Shape,
) -> Outcome<Vec<Row>> {
    let scratch = Scratch::new("bench", false)?;
    let cluster = Cluster::start(program, server, shape, None, scratch)?;
    let mut client = cluster.server.client();
    make(&mut client, "through")?;
    for node in &cluster.nodes {
        make(&mut node.client(), "direct")?;
    }
    let (nodes, factor) = (cluster.nodes.len(), shape.factor as usize);
    let what = match (nodes, factor) {
        (1, _) => "one node".to_owned(),
        _ => format!("{nodes} nodes, {factor} copies"),
    };
    let turn = time(options) / ROUNDS;
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        let (mut through, mut direct) = (Taken::default(), Taken::default());
        for round in 0..ROUNDS {
            let ids = format!("{connections}-{round}");
            let url = cluster.server.url.clone();
            let own = target("Miroir", vec![url], MASTER_KEY, "through", &ids);
            through.add(&[measure(&own, connections, turn)?]);
            idle(&mut client)?;
            direct.add(&directly(&cluster.nodes, factor, connections, turn, &ids)?);
            cluster.nodes.iter().try_for_each(|node| idle(&mut node.client()))?;
        }
        let goal = match (connections, nodes) {
            (1, _) => "",
            (_, 1) => "≥ 0.9×",
            _ => "≥ 0.85×",
        };
        rows.push(row(
            format!("single documents/s, {what}, {connections} connection(s)"),
            format!("{:.0}", through.rate()),
            format!("to the nodes directly {:.0}", direct.rate()),
            ratio(through.rate(), direct.rate()),
            goal,
        ));
        rows.push(row(
            format!("p50 of the same, {connections} connection(s)"),
            millis(through.pooled.p50()),
            format!("to the nodes directly {}", millis(direct.pooled.p50())),
            ratio(through.pooled.p50().as_secs_f64(), direct.pooled.p50().as_secs_f64()),
            "",
        ));
    }
    Ok(rows)
}

/// What one side wrote in all its turns.
#[derive(Default)]
struct Taken {
    /// Writes a second, of each turn.
    rates: Vec<f64>,
    pooled: Sample,
}

impl Taken {
    /// Adds what was sent at the same time.
    fn add(&mut self, samples: &[Sample]) {
        self.rates.push(samples.iter().map(Sample::throughput).sum());
        for sample in samples {
            self.pooled.merge(sample.clone());
        }
    }

    /// Writes a second, over all turns.
    fn rate(&self) -> f64 {
        self.rates.iter().sum::<f64>() / self.rates.len().max(1) as f64
    }
}

/// Every document goes to as many nodes as it has copies, to all of them at once.
fn directly(
    nodes: &[Node],
    copies: usize,
    connections: usize,
    turn: Duration,
    ids: &str,
) -> Outcome<Vec<Sample>> {
    let places = nodes.len().min(connections);
    let groups: Vec<(Target, usize)> = (0..places)
        .map(|first| {
            let members = (0..copies).map(|copy| &nodes[(first + copy) % nodes.len()]);
            let urls = members.map(|node| node.url.clone()).collect();
            let share = connections / places + usize::from(first < connections % places);
            let ids = format!("{ids}-{first}");
            (target("the nodes", urls, NODE_KEY, "direct", &ids), share)
        })
        .collect();
    thread::scope(|scope| {
        let workers: Vec<_> = groups
            .iter()
            .map(|(target, share)| scope.spawn(move || measure(target, *share, turn)))
            .collect();
        let joined = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err("a client panicked".into())));
        joined.collect()
    })
}

fn target(name: &str, urls: Vec<String>, key: &str, index: &str, ids: &str) -> Target {
    let path = format!("/indexes/{index}/documents");
    let first = urls.first().cloned().unwrap_or_default();
    let request = |n: usize| {
        let title = format!("one small document {}", n % 977);
        let document = json!([{ "id": format!("{ids}-{n}"), "title": title, "n": n }]);
        render(&first, key, "POST", &path, Some(&document))
    };
    Target {
        name: name.to_owned(),
        requests: (0..DOCUMENTS).map(request).collect(),
        urls,
        processes: Vec::new(),
    }
}

fn make(client: &mut Client, index: &str) -> Outcome<()> {
    apply(client, "POST", "/indexes", &json!({ "uid": index, "primaryKey": "id" }))?;
    let first = json!([{ "id": "0", "title": "the first" }]);
    apply(client, "POST", &format!("/indexes/{index}/documents"), &first)?;
    Ok(())
}

/// Waits until nothing is left to do.
fn idle(client: &mut Client) -> Outcome<()> {
    let ended = guard::wait_until(PATIENCE, || is_idle(client))?;
    if ended { Ok(()) } else { Err("what was written is not done in time".into()) }
}
