//! A slow node: searches come at a steady rate while one of three nodes, then all of them, answer
//! late. What clients feel of it, and what it costs, is compared with the time before.

use std::path::Path;
use std::time::Duration;

use super::delay::relayed;
use super::steady::{Load, Phase, heading, prepare};
use crate::cluster::{NodeProgram, Server};
use crate::guard::Scratch;
use crate::options::Shape;
use crate::{Failure, Outcome};

/// How late a slow node answers, and how late all do.
const LATE: Duration = Duration::from_millis(500);
const ALL_LATE: Duration = Duration::from_millis(200);

/// Slows nodes of a cluster with two copies of each shard, and judges.
pub(super) fn run(program: &NodeProgram, server: &Path, rate: u64) -> Outcome<()> {
    let scratch = Scratch::new("chaos", false)?;
    let (_nodes, relays, urls) = relayed(program, 3, scratch.path())?;
    let shape = Shape { factor: 2, ..Shape::default() };
    let server = Server::start(server, &urls, shape, None, scratch.path())?;
    let words = prepare(&server)?;
    let load = Load::new(&server.url, &relays, &words, rate);
    heading(rate);
    load.run("at first", 10)?;
    let healthy = load.run("all well", 30)?;
    relays[0].set(LATE);
    let first = load.run("node-0 late by 500 ms: 5 s", 5)?;
    let slow = load.run("node-0 late by 500 ms: after", 30)?;
    relays[0].set(Duration::ZERO);
    let recovering = load.run("well again: 10 s", 10)?;
    let well = load.run("well again: after", 20)?;
    for relay in &relays {
        relay.set(ALL_LATE);
    }
    let all = load.run("all late by 200 ms", 30)?;

    let mut wrong: Vec<String> = Vec::new();
    let phases = [&healthy, &first, &slow, &recovering, &well, &all];
    wrong.extend(phases.iter().find_map(|phase| phase.whole().err()));
    let extra = |phase: &Phase| phase.calls_per_search() / healthy.calls_per_search() - 1.0;
    let mut judge = |what: &str, value: f64, most: f64| {
        println!("  {what}: {value:.3}, at most {most}");
        if value > most {
            wrong.push(format!("{what} is {value:.3}, more than {most}"));
        }
    };
    let p99 = |phase: &Phase| phase.quantile(0.99);
    judge("p99 with a late node, of what it is when all are well", p99(&slow) / p99(&healthy), 2.0);
    judge("share of the late node after 5 s", slow.share(), 0.02);
    judge("extra calls with a late node", extra(&slow), 0.05);
    judge("extra calls while all are late", extra(&all), 0.05);
    judge(
        "fair share less the share of the node when it is well again",
        1.0 / 3.0 - well.share(),
        0.1,
    );
    if wrong.is_empty() { Ok(()) } else { Err(Failure::from(wrong.join("; "))) }
}
