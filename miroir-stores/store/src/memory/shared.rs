//! Leases and pods: what several processes would share.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use time::OffsetDateTime;

use super::Shared;
use crate::{Lease, Leases, Part, PodReport, Pods, Roster, StoreFuture};

/// The last lease of a scope, which may have ended.
#[derive(Debug)]
struct Held {
    lease: Lease,
    until: OffsetDateTime,
}

#[derive(Debug, Default)]
pub(super) struct LeaseMap(Shared<BTreeMap<String, Held>>);

impl LeaseMap {
    /// Sets the end of a lease if it is in force; whether it was.
    fn end(
        &self,
        lease: &Lease,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> StoreFuture<'_, bool> {
        let lease = lease.clone();
        self.0.answer(move |leases| {
            let held = leases.get_mut(&lease.scope);
            let held = held.filter(|held| held.lease == lease && held.until > now);
            held.map(|held| held.until = until).is_some()
        })
    }
}

impl Leases for LeaseMap {
    fn acquire(
        &self,
        scope: &str,
        holder: &str,
        now: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, Option<Lease>> {
        let (scope, holder) = (scope.to_owned(), holder.to_owned());
        self.0.answer(move |leases| {
            let last = leases.get(&scope);
            let fence = match last {
                Some(held) if held.until > now && held.lease.holder != holder => return None,
                Some(held) if held.until > now => held.lease.fence,
                Some(held) => held.lease.fence + 1,
                None => 1,
            };
            let lease = Lease { scope: scope.clone(), holder, fence };
            leases.insert(scope, Held { lease: lease.clone(), until: now + ttl });
            Some(lease)
        })
    }

    fn renew(&self, lease: &Lease, now: OffsetDateTime, ttl: Duration) -> StoreFuture<'_, bool> {
        self.end(lease, now, now + ttl)
    }

    fn release(&self, lease: &Lease, now: OffsetDateTime) -> StoreFuture<'_, bool> {
        self.end(lease, now, now)
    }
}

#[derive(Debug, Default)]
struct Deployment {
    epoch: u64,
    parts: BTreeMap<Part, u64>,
    /// The epoch that was last answered to each one's report.
    told: BTreeMap<String, u64>,
    /// With the end of each one's word.
    pods: BTreeMap<String, (PodReport, OffsetDateTime)>,
    notes: VecDeque<serde_json::Value>,
}

impl Deployment {
    fn roster(&mut self, now: OffsetDateTime) -> Roster {
        self.pods.retain(|_, (_, until)| *until > now);
        let pods = self.pods.values().map(|(pod, _)| pod.clone()).collect();
        Roster { epoch: self.epoch, parts: self.parts.clone(), accepted: false, pods }
    }
}

#[derive(Debug, Default)]
pub(super) struct PodMap(Shared<Deployment>);

impl Pods for PodMap {
    fn report(
        &self,
        pod: PodReport,
        now: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, Roster> {
        self.0.answer(move |all| {
            let last = all.pods.get(&pod.name).map_or(now, |(_, until)| *until);
            let told = all.told.insert(pod.name.clone(), all.epoch).unwrap_or(all.epoch);
            // Who had a word all the time is waited for with what was told to nobody yet.
            let needed = if last > now { told } else { all.epoch };
            let accepted = pod.seen.is_some_and(|seen| seen >= needed);
            let until = if accepted { now + ttl } else { last };
            all.pods.insert(pod.name.clone(), (pod, until));
            Roster { accepted, ..all.roster(now) }
        })
    }

    fn roster(&self, now: OffsetDateTime) -> StoreFuture<'_, Roster> {
        self.0.answer(move |all| all.roster(now))
    }

    fn bump_epoch(&self, parts: &[Part]) -> StoreFuture<'_, u64> {
        let parts = parts.to_vec();
        self.0.answer(move |all| {
            all.epoch += 1;
            all.parts.extend(parts.into_iter().map(|part| (part, all.epoch)));
            all.epoch
        })
    }

    fn leave(&self, name: &str) -> StoreFuture<'_, ()> {
        let name = name.to_owned();
        self.0.answer(move |all| {
            all.pods.remove(&name);
            all.told.remove(&name);
        })
    }

    fn note(&self, note: serde_json::Value) -> StoreFuture<'_, ()> {
        self.0.answer(move |all| all.notes.push_back(note))
    }

    fn take_notes(&self) -> StoreFuture<'_, Vec<serde_json::Value>> {
        self.0.answer(|all| all.notes.drain(..).collect())
    }
}
