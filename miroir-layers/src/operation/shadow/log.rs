//! What was found, in memory: the last differences, and counts.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use miroir_api::admin::{ShadowDiff, ShadowDiffs, ShadowKind, ShadowTarget};
use miroir_core::lock::Lock;

/// Which differences are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Name of a target: differences of others are left out.
    pub target: Option<&'a str>,
    /// A kind: differences that are not of it are left out.
    pub kind: Option<ShadowKind>,
    /// Differences with higher ids, the oldest first; the newest first without.
    pub since: Option<u64>,
    /// Number of differences returned at most.
    pub limit: usize,
}

#[derive(Debug, Default)]
struct Ring {
    last_id: u64,
    diffs: VecDeque<ShadowDiff>,
}

/// The last differences and the counts of all targets. The oldest difference makes room for a new
/// one; nothing outlives the process.
#[derive(Debug)]
pub struct ShadowLog {
    capacity: usize,
    ring: Lock<Ring>,
    counts: Vec<Counts>,
}

/// The counts of one target.
#[derive(Debug, Default)]
pub(super) struct Counts {
    name: String,
    pub(super) sampled: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) compared: AtomicU64,
    pub(super) in_flight: AtomicU64,
    different: AtomicU64,
    kinds: [AtomicU64; 4],
}

impl ShadowLog {
    /// Remembers so many differences of these targets.
    pub(super) fn new(capacity: usize, targets: impl Iterator<Item = String>) -> Self {
        let counts = targets.map(|name| Counts { name, ..Counts::default() }).collect();
        Self { capacity, ring: Lock::default(), counts }
    }

    pub(super) fn counts(&self, target: usize) -> &Counts {
        &self.counts[target]
    }

    /// Adds a difference, whose id is set here.
    pub(super) fn add(&self, target: usize, mut diff: ShadowDiff) {
        let counts = &self.counts[target];
        counts.different.fetch_add(1, Ordering::Relaxed);
        for kind in &diff.kinds {
            counts.kinds[*kind as usize].fetch_add(1, Ordering::Relaxed);
        }
        let mut ring = self.ring.lock();
        ring.last_id += 1;
        diff.id = ring.last_id;
        if ring.diffs.len() >= self.capacity {
            ring.diffs.pop_front();
        }
        if self.capacity > 0 {
            ring.diffs.push_back(diff);
        }
    }

    /// What was found, in the order it was.
    pub fn read(&self, wanted: &Wanted<'_>) -> ShadowDiffs {
        // First: what was counted as compared has its difference in the list then.
        let targets = self.targets();
        let (diffs, last_id) = {
            let ring = self.ring.lock();
            let fits = |diff: &&ShadowDiff| {
                wanted.target.is_none_or(|target| diff.target == target)
                    && wanted.kind.is_none_or(|kind| diff.kinds.contains(&kind))
            };
            let diffs: Vec<ShadowDiff> = match wanted.since {
                Some(since) => {
                    let newer = ring.diffs.iter().filter(|diff| diff.id > since);
                    newer.filter(fits).take(wanted.limit).cloned().collect()
                }
                None => {
                    let newest = ring.diffs.iter().rev().filter(fits).take(wanted.limit);
                    let mut diffs: Vec<_> = newest.cloned().collect();
                    diffs.reverse();
                    diffs
                }
            };
            (diffs, ring.last_id)
        };
        // With fewer than the limit there is nothing more that fits up to the last one.
        let next_since_id = match diffs.last() {
            Some(last) if wanted.since.is_some() && diffs.len() == wanted.limit => last.id,
            _ => last_id,
        };
        ShadowDiffs { diffs, next_since_id, targets }
    }

    /// The names of all targets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.counts.iter().map(|counts| counts.name.as_str())
    }

    fn targets(&self) -> Vec<ShadowTarget> {
        let view = |counts: &Counts| {
            let get = |counter: &AtomicU64| counter.load(Ordering::Acquire);
            let mut out = ShadowTarget {
                target: counts.name.clone(),
                sampled: get(&counts.sampled),
                dropped: get(&counts.dropped),
                in_flight: get(&counts.in_flight),
                compared: get(&counts.compared),
                different: get(&counts.different),
                ..ShadowTarget::default()
            };
            for kind in ShadowKind::ALL {
                *out.kinds.of(kind) = get(&counts.kinds[kind as usize]);
            }
            out
        };
        self.counts.iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use miroir_api::admin::{ShadowRequest, ShadowSide};

    use super::*;

    fn diff(target: &str, kinds: &[ShadowKind]) -> ShadowDiff {
        let side = ShadowSide { status: Some(200), error: None, took_ms: 1.0 };
        ShadowDiff {
            id: 0,
            at: String::new(),
            target: target.to_owned(),
            operation: "search".to_owned(),
            index: None,
            request: ShadowRequest {
                method: "POST".to_owned(),
                path: "/multi-search".to_owned(),
                body: String::new(),
                truncated: false,
            },
            kinds: kinds.to_vec(),
            hits: None,
            kendall_tau: None,
            primary: side.clone(),
            shadow: side,
        }
    }

    fn ids(found: &ShadowDiffs) -> Vec<u64> {
        found.diffs.iter().map(|diff| diff.id).collect()
    }

    #[test]
    fn the_oldest_makes_room_and_the_reader_can_follow() {
        let log = ShadowLog::new(3, ["a".to_owned(), "b".to_owned()].into_iter());
        let all = Wanted { limit: 10, ..Wanted::default() };
        assert_eq!(log.read(&all).next_since_id, 0);
        for at in 0..5_usize {
            let kinds = if at == 3 { [ShadowKind::Error] } else { [ShadowKind::Hits] };
            log.add(at % 2, diff(["a", "b"][at % 2], &kinds));
        }
        assert_eq!(ids(&log.read(&all)), [3, 4, 5]);
        assert_eq!(ids(&log.read(&Wanted { limit: 2, ..all })), [4, 5]);
        assert_eq!(ids(&log.read(&Wanted { target: Some("b"), ..all })), [4]);
        assert_eq!(ids(&log.read(&Wanted { kind: Some(ShadowKind::Error), ..all })), [4]);
        let first = log.read(&Wanted { since: Some(0), limit: 2, ..all });
        assert_eq!((ids(&first), first.next_since_id), (vec![3, 4], 4));
        let rest = log.read(&Wanted { since: Some(4), limit: 2, ..all });
        assert_eq!((ids(&rest), rest.next_since_id), (vec![5], 5));
        // Nothing that fits: what was looked at need not be looked at again.
        let none = log.read(&Wanted { since: Some(4), target: Some("b"), ..all });
        assert_eq!((ids(&none), none.next_since_id), (vec![], 5));
        let targets = log.read(&all).targets;
        assert_eq!((targets[0].different, targets[0].kinds.hits), (3, 3));
        assert_eq!((targets[1].different, targets[1].kinds.error), (2, 1));
    }
}
