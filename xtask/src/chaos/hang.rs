//! A node that hangs: stopped with SIGSTOP under writes, so that its connections stay open and
//! nothing answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::judge::Judge;
use super::ledger::Ledger;
use super::writers::Writers;
use super::{Setting, millis, pass, prepare, whole_again};
use crate::Outcome;

/// Clients that write.
const WRITERS: usize = 4;
/// Pause of each between two writes.
const PAUSE: Duration = Duration::from_millis(100);
/// Most that p99 may be from the second write of each writer on, in milliseconds.
const P99: f64 = 1_500.0;

/// Stops a node for so many seconds, and judges.
pub(super) fn run(setting: &Setting<'_>, seconds: u64) -> Outcome<()> {
    let mut cluster = setting.start()?;
    let ledger = Ledger::default();
    prepare(&mut cluster.server.client(), &ledger)?;
    let (stop, writers) = (AtomicBool::new(false), Writers::default());
    let url = cluster.server.url.clone();
    let mut judge = Judge::default();
    std::thread::scope(|scope| -> Outcome<()> {
        writers.start(scope, WRITERS, PAUSE, &url, &ledger, &stop);
        let outcome = (|| {
            let begun = Instant::now();
            pass(Duration::from_secs(10))?;
            let before = writers.since(begun).quantile_after(0, 0.99);
            println!("  p99 of writes before: {:.1} ms", millis(before));
            cluster.nodes[1].pause()?;
            let stopped = Instant::now();
            println!("  node-1 is stopped");
            pass(Duration::from_secs(seconds))?;
            let hung = writers.since(stopped);
            cluster.nodes[1].resume()?;
            println!("  node-1 goes on");
            let writes = hung.took.len();
            println!("  {writes} writes meanwhile");
            judge.must(writes > WRITERS, "writes stood still while the node hung");
            println!("  slowest of the first writes: {:.1} ms", millis(hung.slowest_after(0)));
            let p99 = hung.quantile_after(WRITERS, 0.99);
            judge.at_most("p99 of writes from the second on, ms", millis(p99), P99);
            let slowest = millis(hung.slowest_after(WRITERS));
            println!("  slowest from the second on: {slowest:.1} ms");
            pass(Duration::from_secs(10))
        })();
        // Writers end before the node's connections are needed.
        stop.store(true, Ordering::Relaxed);
        outcome
    })?;
    let (refused, first) = writers.refused();
    judge.must(refused == 0, format!("{refused} writes were refused, the first: {first}"));
    judge.must(writers.count() > 0, "nothing was written");
    judge.outcome(whole_again(&mut cluster))?;
    judge.outcome(ledger.check(&cluster, super::INDEX, 2))?;
    judge.end()
}
