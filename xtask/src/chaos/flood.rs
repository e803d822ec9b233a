//! A tenant that floods the cluster: what another tenant feels of it, when each has a replica group
//! of its own and when they share all of them.
//!
//! Nodes work at a few searches at a time, each of which takes a while. So what a flood fills is the
//! nodes and not this machine, which all of them are on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::delay::relayed;
use super::steady::{Load, Phase, heading, prepare};
use crate::cluster::{NodeProgram, Server};
use crate::guard::Scratch;
use crate::options::Shape;
use crate::{Failure, Outcome};

/// Searches a node works at at a time, and how long each takes.
const AT_A_TIME: usize = 4;
const TAKES: Duration = Duration::from_millis(100);
/// Searches of the flooding tenant under way.
const FLOOD: usize = 64;
/// Searches a second of the other one: a quarter of what a node can do.
const RATE: u64 = 10;
/// Length of a phase, in seconds.
const PHASE: u64 = 40;

const TENANTS: &str =
    "  tenant_affinity: { enabled: true, mode: header, static_map: { calm: 0, flood: 1 } }\n";

/// Runs `load` while `flood` floods.
fn during(load: &Load<'_>, flood: &Load<'_>, name: &str) -> Outcome<Phase> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood.flood(FLOOD, &stop));
        let outcome = load.run(name, PHASE);
        stop.store(true, Ordering::Relaxed);
        let answered = flooding.join().map_err(|_| Failure::from("a client panicked"))?;
        println!("  {:<30} {:>6.1} a second", "  the flood", answered as f64 / PHASE as f64);
        outcome
    })
}

/// Floods a cluster of two groups, and judges.
pub(super) fn run(program: &NodeProgram, server: &Path) -> Outcome<()> {
    let scratch = Scratch::new("chaos", false)?;
    let (_nodes, relays, urls) = relayed(program, 2, scratch.path())?;
    let shape = Shape { groups: 2, ..Shape::default() };
    let server = Server::start_with(server, &urls, shape, None, scratch.path(), TENANTS)?;
    let words = prepare(&server)?;
    for relay in &relays {
        relay.work(AT_A_TIME, TAKES);
    }
    let load = || Load::new(&server.url, &relays, &words, RATE);
    let (calm, flood) = (load().of("calm"), load().of("flood"));
    heading(RATE);
    calm.run("at first", 10)?;
    let alone = calm.run("a tenant alone", PHASE)?;
    let apart = during(&calm, &flood, "another floods its own group")?;
    let shared = during(&load(), &load(), "nobody has a group, one floods")?;

    let mut wrong: Vec<String> = Vec::new();
    wrong.extend([&alone, &apart].iter().find_map(|phase| phase.whole().err()));
    let moved = |phase: &Phase| phase.quantile(0.99) / alone.quantile(0.99) - 1.0;
    println!("  p99 moved by {:.3}, at most 0.1", moved(&apart));
    println!("  p99 without groups moved by {:.3}, at least 1", moved(&shared));
    if moved(&apart) > 0.1 {
        wrong.push(format!("a flood moves another tenant's p99 by {:.3}", moved(&apart)));
    }
    if moved(&shared) < 1.0 {
        wrong.push("the flood was none: without groups nobody felt it".to_owned());
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::from(wrong.join("; "))) }
}
