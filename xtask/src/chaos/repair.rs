//! A node that dies with a long queue, and comes back, under writers.
//!
//! Its replicas have to catch up while clients write on: no write waits for that, and what is left to
//! repair only becomes less.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::judge::Judge;
use super::ledger::Ledger;
use super::writers::Writers;
use super::{INDEX, Setting, metric, millis, pass, prepare};
use crate::bench::process;
use crate::cluster::{self, Cluster, Node};
use crate::{Outcome, guard};

/// Clients that write, and the pause of each between two writes.
const WRITERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(200);
/// Documents of one write of the queue.
const BATCH: usize = 10_000;
/// First number of documents in the queue; those before are of [`prepare`].
const FIRST: usize = 100_000;
/// Time that the node is away.
const AWAY: Duration = Duration::from_secs(30);
/// How long the cluster may take to be whole again.
const PATIENCE: Duration = Duration::from_mins(40);
/// Memory above that of the idle server, in bytes.
const MEMORY: u64 = 256 << 20;

/// Queues so many documents, kills a node, starts it again, and judges.
pub(super) fn run(setting: &Setting<'_>, documents: usize) -> Outcome<()> {
    let mut cluster = setting.start()?;
    let ledger = Ledger::default();
    prepare(&mut cluster.server.client(), &ledger)?;
    let idle = process::resident(cluster.server.id())?;
    queue(&cluster, &ledger, documents)?;
    println!("  {documents} documents are queued");
    let (stop, writers) = (AtomicBool::new(false), Writers::default());
    let url = cluster.server.url.clone();
    let mut judge = Judge::default();
    std::thread::scope(|scope| -> Outcome<()> {
        writers.start(scope, WRITERS, PAUSE, &url, &ledger, &stop);
        let outcome = watch(setting, &mut cluster, &writers, idle, &mut judge);
        stop.store(true, Ordering::Relaxed);
        outcome
    })?;
    let (refused, first) = writers.refused();
    judge.must(refused == 0, format!("{refused} writes were refused, the first: {first}"));
    judge.outcome(super::whole_within(&mut cluster, PATIENCE))?;
    judge.outcome(ledger.check(&cluster, INDEX, 2))?;
    judge.end()
}

fn queue(cluster: &Cluster, ledger: &Ledger, documents: usize) -> Outcome<()> {
    let mut client = cluster.server.client();
    let path = format!("/indexes/{INDEX}/documents");
    for from in (FIRST..FIRST + documents).step_by(BATCH) {
        let to = (from + BATCH).min(FIRST + documents);
        let batch = Value::Array(ledger.load(from..to, "some words that are not too many"));
        let body = batch.to_string();
        cluster::enqueue(&mut client, "POST", &path, "application/json", body.as_bytes())?;
    }
    Ok(())
}

/// Kills the node, starts it again, and looks until every replica has caught up.
fn watch(
    setting: &Setting<'_>,
    cluster: &mut Cluster,
    writers: &Writers,
    idle: u64,
    judge: &mut Judge,
) -> Outcome<()> {
    let metrics = cluster.server.metrics_url.clone();
    let begun = Instant::now();
    pass(Duration::from_secs(5))?;
    let marked = || metric(&metrics, "miroir_writes_degraded_total");
    let busy = marked()?;
    println!(
        "  {busy} of {} writes to busy nodes marked one that was late",
        writers.since(begun).took.len()
    );
    let port = cluster.nodes[1].port();
    cluster.nodes[1].kill()?;
    println!("  node-1 was killed");
    pass(AWAY)?;
    let away = metric(&metrics, "miroir_stale_shards")?;
    let dir = cluster.scratch.path().to_owned();
    cluster.nodes[1] = Node::start_at(setting.program, "node-1", &dir, port)?;
    let back = Instant::now();
    println!("  node-1 is back; {away} rows are stale");
    let (from, already) = (Instant::now(), marked()?);
    let (mut most, mut rose, mut peak, mut open) = (f64::MAX, 0.0_f64, 0_u64, 0.0_f64);
    let whole = guard::wait_until(PATIENCE, || {
        cluster.server.check()?;
        let stale = metric(&metrics, "miroir_stale_shards")?;
        // The first looks see misses of before it was noticed that the node is back.
        if back.elapsed() > Duration::from_secs(15) {
            rose = rose.max(stale - most);
            most = most.min(stale);
        }
        peak = peak.max(process::resident(cluster.server.id())?);
        open = open.max(healthy_open(&metrics)?);
        let covered = metric(&metrics, "miroir_shard_coverage")? == 1.0;
        Ok(stale == 0.0 && covered && back.elapsed() > Duration::from_secs(20))
    })?;
    println!("  caught up {:.1} s after it was back", back.elapsed().as_secs_f64());
    let writes = writers.since(begun);
    println!("  {} writes acknowledged", writes.took.len());
    println!("  p99 of writes: {:.1} ms", millis(writes.quantile_after(0, 0.99)));
    println!("  slowest write: {:.1} ms", millis(writes.slowest_after(0)));
    let since = (marked()? - already, writers.since(from).took.len());
    println!(
        "  {} of {} writes since the node was back marked one that was late",
        since.0, since.1
    );
    judge.at_most("marks of writes to busy nodes", busy, 0.0);
    println!("  writes held: {}", metric(&metrics, "miroir_held_writes_total")?);
    judge.must(whole, "the replica did not catch up");
    judge.at_most("rows by which stale ones ever rose", rose, 0.0);
    let above = peak.saturating_sub(idle);
    judge.at_most("memory above idle, MiB", above >> 20, MEMORY >> 20);
    judge.at_most("breakers of healthy nodes open", open, 0.0);
    Ok(())
}

/// Breakers of nodes that were never killed, 0 when all are closed.
fn healthy_open(metrics: &str) -> Outcome<f64> {
    let mut sum = 0.0;
    for node in ["node-0", "node-2"] {
        sum += super::metric_of(metrics, "miroir_breaker_state", node)?;
    }
    Ok(sum)
}
