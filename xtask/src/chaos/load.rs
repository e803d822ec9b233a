//! Clients: two that search and read, one that writes.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::ledger::Ledger;
use super::{BASE, INDEX};
use crate::Outcome;
use crate::cluster::MASTER_KEY;
use crate::guard;
use crate::http::Client;

/// Documents of one write.
const BATCH: usize = 10;
/// How long a client waits for an answer before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What clients saw.
#[derive(Debug, Default)]
pub(super) struct Figures {
    reads: AtomicUsize,
    failed: AtomicUsize,
    slowest: Mutex<Duration>,
    first: Mutex<Option<String>>,
    writes: AtomicUsize,
    refused: AtomicUsize,
    tasks: Mutex<Vec<u64>>,
}

impl Figures {
    fn read(&self, begun: Instant, outcome: Result<(), String>) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let mut slowest = self.slowest.lock().expect("no panic holds this lock");
        *slowest = begun.elapsed().max(*slowest);
        if let Err(why) = outcome {
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.first.lock().expect("no panic holds this lock").get_or_insert(why);
        }
    }

    /// Writes acknowledged so far.
    pub(super) fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }

    /// The tasks of acknowledged writes.
    pub(super) fn tasks(&self) -> Vec<u64> {
        self.tasks.lock().expect("no panic holds this lock").clone()
    }

    /// An error if more reads failed than may, or if there were no reads or writes at all.
    pub(super) fn judge(&self, may_fail: usize) -> Outcome<()> {
        self.judge_reads(may_fail)?;
        if self.writes() == 0 { Err("nothing was written".into()) } else { Ok(()) }
    }

    /// As [`Figures::judge`], where others write.
    pub(super) fn judge_reads(&self, may_fail: usize) -> Outcome<()> {
        let failed = self.failed.load(Ordering::Relaxed);
        if failed > may_fail {
            let first = self.first.lock().expect("no panic holds this lock").clone();
            return Err(
                format!("{failed} reads failed, first: {}", first.unwrap_or_default()).into()
            );
        }
        if self.reads.load(Ordering::Relaxed) == 0 {
            Err("nothing was read".into())
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = |value: &AtomicUsize| value.load(Ordering::Relaxed);
        let slowest = *self.slowest.lock().map_err(|_| fmt::Error)?;
        let (reads, failed) = (load(&self.reads), load(&self.failed));
        write!(f, "{reads}, failed {failed}, slowest {} ms", slowest.as_millis())?;
        match (load(&self.writes), load(&self.refused)) {
            // Others write.
            (0, 0) => Ok(()),
            (writes, refused) => {
                write!(f, "; writes acknowledged {writes}, sent again {refused}")
            }
        }
    }
}

/// Searches and reads what was there from the beginning: all of it must be there all the time.
pub(super) fn search(url: &str, number: usize, stop: &AtomicBool, figures: &Figures) {
    let mut client = Client::new(url, MASTER_KEY).timeout(PATIENCE);
    let mut turn = number * 31;
    while !stop.load(Ordering::Relaxed) && !guard::stopping() {
        turn += 1;
        let begun = Instant::now();
        let id = turn * 7 % BASE;
        let outcome = if turn.is_multiple_of(4) {
            let path = format!("/indexes/{INDEX}/documents/base-{id}");
            client.get(&path).map(|reply| {
                (reply.status == 200 && reply.json()["origin"] == "base", reply.text())
            })
        } else {
            let body = json!({
                "q": if turn.is_multiple_of(2) { "word" } else { "" },
                "filter": "origin = base", "limit": 5, "hitsPerPage": 5,
            });
            client.json("POST", &format!("/indexes/{INDEX}/search"), &body).map(|reply| {
                (reply.status == 200 && reply.json()["totalHits"] == BASE, reply.text())
            })
        };
        figures.read(
            begun,
            match outcome {
                Ok((true, _)) => Ok(()),
                Ok((false, text)) => Err(text.chars().take(300).collect()),
                Err(error) => Err(error.to_string()),
            },
        );
    }
}

/// Writes batches, each until it is acknowledged or there is no more time: then what became of it
/// is unknown.
pub(super) fn write(url: &str, ledger: &Ledger, stop: &AtomicBool, figures: &Figures) {
    let mut client = Client::new(url, MASTER_KEY).timeout(PATIENCE);
    let path = format!("/indexes/{INDEX}/documents");
    while !stop.load(Ordering::Relaxed) && !guard::stopping() {
        let (ids, documents) = ledger.next(0, BATCH);
        loop {
            match client.json("POST", &path, &documents) {
                Ok(reply) if reply.status == 202 => {
                    ledger.acknowledged(&ids);
                    if let Some(task) = reply.json()["taskUid"].as_u64() {
                        figures.tasks.lock().expect("no panic holds this lock").push(task);
                    }
                    figures.writes.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                _ => {
                    figures.refused.fetch_add(1, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) || guard::stopping() {
                        return;
                    }
                    guard::pause();
                }
            }
        }
        // Faster than the slowest node can index would only fill its queue.
        guard::pause();
    }
}
