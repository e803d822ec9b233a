//! Clients that write all the time, and how long each write took to be acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::INDEX;
use super::ledger::Ledger;
use crate::bench::load::quantile;
use crate::cluster::MASTER_KEY;
use crate::guard;
use crate::http::Client;

/// Documents of one write.
const BATCH: usize = 10;
/// How long a client waits for an answer before the write counts as refused.
const PATIENCE: Duration = Duration::from_secs(45);

/// A write that was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Write {
    /// When it was sent.
    sent: Instant,
    /// Time until it was acknowledged.
    took: Duration,
}

#[derive(Debug, Default)]
struct Seen {
    acknowledged: Vec<Write>,
    refused: usize,
    /// What the first refusal said.
    first: Option<String>,
}

/// What writers saw.
#[derive(Debug, Default)]
pub(super) struct Writers(Mutex<Seen>);

/// Figures of the writes that were sent in a span of time.
#[derive(Debug)]
pub(super) struct Span {
    /// Times to the acknowledgement, in the order of sending.
    pub(super) took: Vec<Duration>,
}

impl Span {
    /// The quantile of all but the first so many writes.
    pub(super) fn quantile_after(&self, skipped: usize, share: f64) -> Duration {
        let mut took = self.took.get(skipped..).unwrap_or_default().to_vec();
        took.sort_unstable();
        quantile(&took, share)
    }

    /// The slowest of all but the first so many writes.
    pub(super) fn slowest_after(&self, skipped: usize) -> Duration {
        self.quantile_after(skipped, 1.0)
    }
}

impl Writers {
    fn with<T>(&self, f: impl FnOnce(&mut Seen) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts so many writers, each of which pauses so long between two writes.
    pub(super) fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        count: usize,
        pause: Duration,
        url: &'scope str,
        ledger: &'scope Ledger,
        stop: &'scope AtomicBool,
    ) {
        for number in 0..count {
            scope.spawn(move || self.write(number, pause, url, ledger, stop));
        }
    }

    fn write(&self, number: usize, pause: Duration, url: &str, ledger: &Ledger, stop: &AtomicBool) {
        let mut client = Client::new(url, MASTER_KEY).timeout(PATIENCE);
        let path = format!("/indexes/{INDEX}/documents");
        let over = || stop.load(Ordering::Relaxed) || guard::stopping();
        while !over() {
            let (ids, documents) = ledger.next(number, BATCH);
            loop {
                let sent = Instant::now();
                let why = match client.json("POST", &path, &documents) {
                    Ok(reply) if reply.status == 202 => {
                        break self.acknowledged(sent, || {
                            ledger.acknowledged(&ids);
                        });
                    }
                    Ok(reply) => format!("{}: {}", reply.status, reply.text()),
                    Err(error) => error.to_string(),
                };
                self.with(|seen| {
                    seen.refused += 1;
                    seen.first.get_or_insert(why);
                });
                if over() {
                    return;
                }
                guard::pause();
            }
            std::thread::sleep(pause);
        }
    }

    fn acknowledged(&self, sent: Instant, note: impl FnOnce()) {
        note();
        self.with(|seen| seen.acknowledged.push(Write { sent, took: sent.elapsed() }));
    }

    /// How many writes were acknowledged so far.
    pub(super) fn count(&self) -> usize {
        self.with(|seen| seen.acknowledged.len())
    }

    /// The writes that were sent since an instant, and acknowledged.
    pub(super) fn since(&self, from: Instant) -> Span {
        let mut all = self.with(|seen| seen.acknowledged.clone());
        all.retain(|write| write.sent >= from);
        all.sort_unstable_by_key(|write| write.sent);
        Span { took: all.iter().map(|write| write.took).collect() }
    }

    /// How many were refused or got no answer, with what the first was told.
    pub(super) fn refused(&self) -> (usize, String) {
        self.with(|seen| (seen.refused, seen.first.clone().unwrap_or_default()))
    }
}
