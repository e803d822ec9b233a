//! `cargo xtask chaos`: real processes, killed with SIGKILL while clients search and write.
//!
//! First one of three nodes (two copies of each shard) dies for a third of the time, then the server
//! itself, between the acknowledgement of writes and their end. No search may fail or miss a
//! document that was there before; every acknowledged document must be on exactly two nodes in the
//! end, as it was last written, and nothing else.
//!
//! `chaos slow` is about nodes that answer late; see [`slow`]. `chaos flood` is about a tenant that
//! asks more than nodes can do; see [`flood`]. The others are about one kind of trouble each, and are
//! described in their modules: [`repair`], [`full_disk`], [`hang`], [`away`], [`disks`], [`big`],
//! [`tasks`], [`pods`], [`poison`], [`elastic`], [`entropy`].

mod away;
mod big;
mod delay;
mod disks;
mod elastic;
mod entropy;
mod flood;
mod full_disk;
mod hang;
mod judge;
mod ledger;
mod load;
mod pods;
mod poison;
mod queue_node;
mod repair;
mod slow;
mod steady;
mod strangers;
mod tasks;
mod writers;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use self::ledger::Ledger;
use self::load::Figures;
use crate::build::{self, Build, Programs};
use crate::cluster::{self, Cluster, Node, NodeProgram, Server};
use crate::guard::{self, Scratch};
use crate::http::Client;
use crate::options::{ChaosOptions, ChaosPart, Shape};
use crate::{Failure, Outcome};

/// The index.
const INDEX: &str = "chaos";
/// Documents that are there before anything goes wrong.
const BASE: usize = 600;
/// Clients that search.
const READERS: usize = 2;
/// Times the server is killed.
const SERVER_KILLS: usize = 5;
/// How long the cluster may take to be whole again.
const CATCH_UP: Duration = Duration::from_mins(5);

/// What a cluster of three nodes with two copies of each shard is started with.
#[derive(Clone, Copy, Debug)]
struct Setting<'a> {
    program: &'a NodeProgram,
    server: &'a Path,
}

impl Setting<'_> {
    const SHAPE: Shape = Shape { shards: 16, groups: 1, factor: 2, nodes: Some(3) };

    fn start(&self) -> Outcome<Cluster> {
        self.start_in(Scratch::new("chaos", false)?)
    }

    fn start_in(&self, scratch: Scratch) -> Outcome<Cluster> {
        Cluster::start(self.program, self.server, Self::SHAPE, None, scratch)
    }
}

/// Runs one part.
pub(crate) fn run(options: &ChaosOptions) -> Outcome<()> {
    guard::catch_signals()?;
    let programs = match &options.server {
        Some(server) if options.meilisearch.is_some() => Programs::of_server(server.clone()),
        Some(_) => return Err("--server needs --meilisearch".into()),
        None => build::programs(Build {
            engine: options.meilisearch.is_none(),
            release: options.part != ChaosPart::Kill,
        })?,
    };
    let program = NodeProgram::choose(options.meilisearch.as_deref(), &programs)?;
    let setting = Setting { program: &program, server: &programs.server };
    let over = |what: &str| {
        println!("{what}: 3 {}, 16 shards, 2 copies of each", program.describe());
    };
    match options.part {
        ChaosPart::Kill => {
            over("chaos");
            kill(&setting, options.seconds)
        }
        ChaosPart::Slow => {
            over("a slow node");
            slow::run(&program, &programs.server, options.rate)
        }
        ChaosPart::Flood => {
            println!("a tenant floods 2 {}, each a replica group", program.describe());
            flood::run(&program, &programs.server)
        }
        ChaosPart::Strangers => {
            over("requests of nobody that never end");
            strangers::run(&program, &programs.server)
        }
        ChaosPart::Poison => {
            over("a query that a node does not survive");
            poison::run(&program, &programs.server)
        }
        ChaosPart::Repair => {
            over("a node dies with a long queue");
            repair::run(&setting, options.documents.unwrap_or(300_000))
        }
        ChaosPart::FullDisk => {
            over("a disk fills");
            full_disk::run(&setting)
        }
        ChaosPart::Hang => {
            over("a node hangs");
            hang::run(&setting, options.seconds)
        }
        ChaosPart::Away => {
            over("a node is away for a minute");
            away::run(&setting, options.documents.unwrap_or(100_000))
        }
        ChaosPart::Disks => {
            over("nodes with other disks");
            disks::run(&setting)
        }
        ChaosPart::Big => {
            over("large documents");
            big::run(&setting, options.documents.unwrap_or(2_000))
        }
        ChaosPart::Tasks => {
            over("single-document writes");
            tasks::run(&setting, options.documents.unwrap_or(100_000))
        }
        ChaosPart::Elastic => {
            over("the topology changes");
            elastic::run(&setting, options.documents.unwrap_or(20_000))
        }
        ChaosPart::Entropy => {
            println!(
                "a disk that is not what it was: 3 {}, 16 shards, 3 copies",
                program.describe()
            );
            entropy::run(&setting, options.documents.unwrap_or(200_000))
        }
        ChaosPart::Pods => {
            println!("single-document writes: 3 servers over one Redis, 3 stub nodes");
            pods::run(setting.server, options.documents.unwrap_or(100_000))
        }
    }
}

/// Kills a node, then the server.
fn kill(setting: &Setting<'_>, seconds: u64) -> Outcome<()> {
    let mut cluster = setting.start()?;
    let ledger = Ledger::default();
    prepare(&mut cluster.server.client(), &ledger)?;
    kill_a_node(&mut cluster, setting.program, &ledger, seconds)?;
    kill_the_server(&mut cluster, setting.server, Setting::SHAPE, &ledger)
}

fn prepare(client: &mut Client, ledger: &Ledger) -> Outcome<()> {
    cluster::apply(client, "POST", "/indexes", &json!({"uid": INDEX, "primaryKey": "id"}))?;
    let settings = json!({"filterableAttributes": ["origin"], "sortableAttributes": ["version"]});
    cluster::apply(client, "PATCH", &format!("/indexes/{INDEX}/settings"), &settings)?;
    let documents = ledger.base(BASE);
    cluster::apply(client, "POST", &format!("/indexes/{INDEX}/documents"), &documents)?;
    Ok(())
}

fn kill_a_node(
    cluster: &mut Cluster,
    program: &NodeProgram,
    ledger: &Ledger,
    seconds: u64,
) -> Outcome<()> {
    let third = Duration::from_secs(seconds) / 3;
    let stop = AtomicBool::new(false);
    let figures = Figures::default();
    let url = cluster.server.url.clone();
    let dir = cluster.scratch.path().to_owned();
    let metrics = cluster.server.metrics_url.clone();
    let degraded_before = metric(&metrics, "miroir_writes_degraded_total")?;
    let mut back = Instant::now();
    std::thread::scope(|scope| -> Outcome<()> {
        for number in 0..READERS {
            let (url, stop, figures) = (&url, &stop, &figures);
            scope.spawn(move || load::search(url, number, stop, figures));
        }
        let (writer_url, writer_stop, writer_figures) = (&url, &stop, &figures);
        scope.spawn(move || load::write(writer_url, ledger, writer_stop, writer_figures));
        let outcome = (|| {
            pass(third)?;
            let node = &mut cluster.nodes[1];
            let port = node.port();
            node.kill()?;
            println!("  node-1 was killed");
            pass(third)?;
            cluster.nodes[1] = Node::start_at(program, "node-1", &dir, port)?;
            back = Instant::now();
            println!("  node-1 is back");
            pass(third)
        })();
        stop.store(true, Ordering::Relaxed);
        outcome
    })?;
    let degraded = metric(&metrics, "miroir_writes_degraded_total")? - degraded_before;
    println!("  searches and reads {figures}; writes degraded {degraded}");
    figures.judge(0)?;
    if degraded <= 0.0 {
        return Err("no write was degraded while a node was down".into());
    }
    whole_again(cluster)?;
    println!("  caught up {:.1} s after the node was back", back.elapsed().as_secs_f64());
    ledger.check(cluster, INDEX, 2)
}

fn kill_the_server(
    cluster: &mut Cluster,
    program: &Path,
    shape: Shape,
    ledger: &Ledger,
) -> Outcome<()> {
    let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url.clone()).collect();
    let dir = cluster.scratch.path().to_owned();
    let port = cluster.server.url.rsplit(':').next().and_then(|text| text.parse::<u16>().ok());
    let mut tasks = Vec::new();
    for round in 0..SERVER_KILLS {
        let stop = AtomicBool::new(false);
        let figures = Figures::default();
        let url = cluster.server.url.clone();
        let server = &mut cluster.server;
        std::thread::scope(|scope| -> Outcome<()> {
            let (writer_url, stop_ref, figures) = (&url, &stop, &figures);
            let writer = scope.spawn(move || load::write(writer_url, ledger, stop_ref, figures));
            // Some writes have been acknowledged, some are being sent, none has to have ended.
            let enough = guard::wait_until(CATCH_UP, || Ok(figures.writes() > 2 + round));
            let killed = server.kill();
            let restarted = killed.and_then(|()| Server::start(program, &urls, shape, port, &dir));
            stop.store(true, Ordering::Relaxed);
            enough?;
            *server = restarted?;
            writer.join().map_err(|_| Failure::from("a writer panicked"))?;
            tasks.extend(figures.tasks());
            Ok(())
        })?;
    }
    let mut client = cluster.server.client();
    for task in &tasks {
        cluster::wait_task(&mut client, *task)?;
    }
    whole_again(cluster)?;
    println!(
        "  miroir-server was killed {SERVER_KILLS} times: {} acknowledged tasks, all succeeded",
        tasks.len()
    );
    ledger.check(cluster, INDEX, 2)
}

/// A time in milliseconds.
fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Lets time pass.
fn pass(time: Duration) -> Outcome<()> {
    guard::wait_until(time, || Ok(false)).map(|_| ())
}

/// Waits until every task has ended and no replica has anything to catch up.
fn whole_again(cluster: &mut Cluster) -> Outcome<()> {
    whole_within(cluster, CATCH_UP)
}

/// Waits until it is noticed that a node lost its disk.
fn noticed(cluster: &mut Cluster) -> Outcome<()> {
    let metrics = cluster.server.metrics_url.clone();
    let noticed = guard::wait_until(CATCH_UP, || {
        cluster.server.check()?;
        Ok(metric(&metrics, "miroir_nodes_lost_total")? > 0.0
            || metric(&metrics, "miroir_stale_shards")? > 0.0)
    })?;
    if noticed { Ok(()) } else { Err("nobody noticed that a disk is empty".into()) }
}

/// As [`whole_again`], with another limit.
fn whole_within(cluster: &mut Cluster, limit: Duration) -> Outcome<()> {
    let metrics = cluster.server.metrics_url.clone();
    let mut client = cluster.server.client();
    let whole = guard::wait_until(limit, || {
        cluster.server.check()?;
        Ok(crate::cluster::is_idle(&mut client)?
            && metric(&metrics, "miroir_stale_shards")? == 0.0
            && metric(&metrics, "miroir_shard_coverage")? == 1.0)
    })?;
    if whole { Ok(()) } else { Err("the cluster did not become whole again".into()) }
}

/// The sum of a family's samples.
fn metric(url: &str, name: &str) -> Outcome<f64> {
    metric_of(url, name, "")
}

/// The sum of a family's samples that have this text in their labels.
fn metric_of(url: &str, name: &str, label: &str) -> Outcome<f64> {
    let base = url.trim_end_matches("/metrics");
    let reply = Client::new(base, "").get("/metrics")?;
    let text = reply.text();
    let samples = text
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
        .filter(|line| line.contains(label));
    Ok(samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}
