//! A node that is away for a minute in which one document of a thousand changes, beside one that lost
//! its disk: what it takes to bring each up to date.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::delay::{Delay, relayed};
use super::judge::Judge;
use super::ledger::Ledger;
use super::{CATCH_UP, INDEX, Setting, metric_of, noticed, pass, prepare, whole_within};
use crate::Outcome;
use crate::cluster::{self, Cluster, Node, Server};
use crate::guard::{self, Scratch};

/// One document of so many changes.
const EVERY: usize = 1_000;
/// Documents of one write.
const BATCH: usize = 10_000;
/// First number of documents; those before are of [`prepare`].
const FIRST: usize = 100_000;
/// Words of a document.
const WORDS: usize = 60;
/// Time that the node is away.
const AWAY: Duration = Duration::from_mins(1);
/// How long a full copy may take.
const PATIENCE: Duration = Duration::from_mins(40);

/// What bringing a node up to date took.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// From when it was known that the node is there and what it lacks.
    seconds: f64,
    /// From when it was back until that was known.
    unnoticed: f64,
    /// Documents that it was sent.
    documents: u64,
    /// Bytes of them.
    bytes: usize,
}

/// Compares both, and judges.
pub(super) fn run(setting: &Setting<'_>, documents: usize) -> Outcome<()> {
    let scratch = Scratch::new("chaos", false)?;
    let (nodes, relays, urls) = relayed(setting.program, 3, scratch.path())?;
    let server = Server::start(setting.server, &urls, Setting::SHAPE, None, scratch.path())?;
    let mut cluster = Cluster { server, nodes, scratch };
    let ledger = Ledger::default();
    prepare(&mut cluster.server.client(), &ledger)?;
    let path = format!("/indexes/{INDEX}/documents");
    let mut client = cluster.server.client();
    for from in (FIRST..FIRST + documents).step_by(BATCH) {
        let to = (from + BATCH).min(FIRST + documents);
        let described = |number| ledger.load(number..number + 1, &description(number, "once"));
        let batch = Value::Array((from..to).flat_map(described).collect());
        cluster::apply(&mut client, "POST", &path, &batch)?;
    }
    whole_within(&mut cluster, CATCH_UP)?;

    let before = newest(&cluster)?;
    cluster.nodes[1].kill()?;
    let begun = Instant::now();
    let mut changed = Vec::new();
    for number in (FIRST..FIRST + documents).step_by(EVERY) {
        changed.extend(ledger.load(number..number + 1, &description(number, "since")));
    }
    let changes = changed.len();
    cluster::apply(&mut client, "POST", &path, &Value::Array(changed))?;
    pass(AWAY.saturating_sub(begun.elapsed()))?;
    let short = back(setting, &mut cluster, &relays, before)?;
    print("away for a minute", short);

    cluster.nodes[1].kill()?;
    fs::remove_dir_all(cluster.scratch.path().join("node-1"))?;
    let full = back(setting, &mut cluster, &relays, None)?;
    print("disk lost", full);

    let mut judge = Judge::default();
    judge.must(full.documents > 0, "nothing was copied to the empty disk");
    // Two of three nodes have each of them.
    let share = short.documents as f64 / changes as f64;
    judge.at_most("documents written, of those that changed", share, 1.01);
    let bytes = short.bytes as f64 / full.bytes.max(1) as f64;
    judge.at_most("bytes written, of a full copy", bytes, 0.02);
    judge.at_most("time, of a full copy", short.seconds / full.seconds, 0.05);
    judge.outcome(ledger.check(&cluster, INDEX, 2))?;
    judge.end()
}

/// What a document says, as long as a description of a product: what is compared and what is indexed are
/// as far apart as with such documents.
fn description(number: usize, first: &str) -> String {
    const SYLLABLES: [&str; 16] = [
        "ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu",
        "va",
    ];
    let mut text = first.to_owned();
    let mut state = number as u64 ^ 0x5EED;
    for _ in 0..WORDS {
        // Knuth's linear congruential generator.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push(' ');
        for digit in 0..3 {
            text.push_str(SYLLABLES[(state >> (40 + 4 * digit)) as usize % SYLLABLES.len()]);
        }
    }
    text
}

/// The newest task of the node.
fn newest(cluster: &Cluster) -> Outcome<Option<u64>> {
    Ok(cluster.nodes[1].client().get("/tasks?limit=1")?.json()["results"][0]["uid"].as_u64())
}

/// Starts the node again, and waits until it has caught up.
fn back(
    setting: &Setting<'_>,
    cluster: &mut Cluster,
    relays: &[Delay],
    before: Option<u64>,
) -> Outcome<Effort> {
    let (port, dir) = (cluster.nodes[1].port(), cluster.scratch.path().to_owned());
    relays[1].forget_bodies();
    cluster.nodes[1] = Node::start_at(setting.program, "node-1", &dir, port)?;
    let back = Instant::now();
    used(cluster)?;
    noticed(cluster)?;
    let unnoticed = back.elapsed().as_secs_f64();
    whole_within(cluster, PATIENCE)?;
    let seconds = back.elapsed().as_secs_f64() - unnoticed;
    let types = "types=documentAdditionOrUpdate&limit=100000";
    let tasks = cluster.nodes[1].client().get(&format!("/tasks?{types}"))?.json();
    let tasks = tasks["results"].as_array().cloned().unwrap_or_default();
    let new = tasks.iter().filter(|task| task["uid"].as_u64() > before);
    let documents = new.filter_map(|task| task["details"]["receivedDocuments"].as_u64()).sum();
    Ok(Effort { seconds, unnoticed, documents, bytes: relays[1].written() })
}

/// Waits until the node is asked again, which has to be noticed before anything is repaired.
fn used(cluster: &mut Cluster) -> Outcome<()> {
    let metrics = cluster.server.metrics_url.clone();
    let healthy = "node_id=\"node-1\"";
    let used = guard::wait_until(CATCH_UP, || {
        cluster.server.check()?;
        Ok(metric_of(&metrics, "miroir_node_healthy", healthy)? > 0.0)
    })?;
    if used { Ok(()) } else { Err("nobody noticed that a node is back".into()) }
}

fn print(name: &str, effort: Effort) {
    println!(
        "  {name:<20} noticed after {:>4.1} s, up to date {:>5.1} s later, {:>8} documents, {:>10} bytes",
        effort.unnoticed, effort.seconds, effort.documents, effort.bytes
    );
}
