//! Which questions have points. No clock: callers say what time it is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use miroir_api::NodeId;
use miroir_core::lock::Lock;
use tokio::time::Instant;

use super::QueryQuarantineOptions;
use super::fingerprint::Fingerprint;

/// Points from which on a question is refused.
pub(super) const LIMIT: u32 = 2;

/// Why a question has points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The connection to the node broke.
    Reset,
    /// The node did not answer in time.
    Timeout,
}

impl Reason {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Timeout => "timeout",
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    points: u32,
    /// Where it counted last: one node that breaks off again and again says nothing of a question.
    node: NodeId,
    reason: Reason,
    until: Instant,
}

/// Points of questions, by their fingerprints.
#[derive(Debug)]
pub(super) struct Table {
    duration: Duration,
    most: usize,
    entries: Lock<HashMap<Fingerprint, Entry>>,
    /// Number of entries: as a rule none, and nobody has to read a question.
    count: AtomicUsize,
}

impl Table {
    pub(super) fn new(options: QueryQuarantineOptions) -> Self {
        Self {
            duration: options.duration,
            most: options.max_entries.max(1),
            entries: Lock::default(),
            count: AtomicUsize::new(0),
        }
    }

    /// Whether no question has points.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Why and for how long this question is still refused.
    pub(super) fn refused(&self, key: Fingerprint, now: Instant) -> Option<(Reason, Duration)> {
        let entry = self.change(now, |entries| entries.get(&key).cloned())?;
        (entry.points >= LIMIT).then(|| (entry.reason, entry.until.duration_since(now)))
    }

    /// Counts points that a question got at a node; a single one only if the last was got at another
    /// node. For how long the question is refused from now on, if it is.
    pub(super) fn count(
        &self,
        key: Fingerprint,
        (points, reason): (u32, Reason),
        node: &NodeId,
        now: Instant,
    ) -> Option<Duration> {
        self.change(now, |entries| {
            if entries.len() >= self.most && !entries.contains_key(&key) {
                let soonest = entries.iter().min_by_key(|(_, entry)| entry.until);
                if let Some(soonest) = soonest.map(|(key, _)| *key) {
                    entries.remove(&soonest);
                }
            }
            let until = now + self.duration;
            let before = entries.get(&key);
            let again = points < LIMIT && before.is_some_and(|entry| entry.node == *node);
            let points = before.map_or(0, |entry| entry.points) + if again { 0 } else { points };
            entries.insert(key, Entry { points, node: node.clone(), reason, until });
            (points >= LIMIT).then_some(self.duration)
        })
    }

    /// The question was answered: its points are gone, unless it is refused.
    pub(super) fn acquit(&self, key: Fingerprint, now: Instant) {
        self.change(now, |entries| {
            if entries.get(&key).is_some_and(|entry| entry.points < LIMIT) {
                entries.remove(&key);
            }
        });
    }

    /// Changes the entries that still count, and tells the outside how many are refused.
    fn change<T>(
        &self,
        now: Instant,
        change: impl FnOnce(&mut HashMap<Fingerprint, Entry>) -> T,
    ) -> T {
        let mut entries = self.entries.lock();
        entries.retain(|_, entry| entry.until > now);
        let out = change(&mut entries);
        self.count.store(entries.len(), Ordering::Relaxed);
        let refused = entries.values().filter(|entry| entry.points >= LIMIT).count();
        metrics::gauge!("miroir_quarantined_queries").set(refused as f64);
        out
    }
}
