//! Anti-entropy: finds replicas that differ though they missed nothing, and mends them.
//!
//! What is known to have gone wrong is on record, and repaired ([`super::repair`]). This looks for what
//! nobody knows of: a disk that lost or changed something, a fault of a node, or of Miroir.
//!
//! | comparison | asks each replica | finds | when |
//! | --- | --- | --- | --- |
//! | counts | how many documents each shard has | documents that were lost, or are too many | every `count_interval_s` |
//! | documents | for all documents of a shard, one page after the other | every difference | every `schedule`, where counts differ, and when asked |
//!
//! Only replicas are compared that missed nothing and whose nodes answer. Pods share the shards, and only
//! read. What seems to differ is told to the pod that leads, which looks twice more, with everything in
//! between worked off that the nodes had been given ([`mend`]); [`miroir_core::anti_entropy`] says which
//! replica is right. The document is then copied as a repair copies it: in the order of writes, verified,
//! while clients write on.
//!
//! After a question that took some time a pass rests for as long as leaves the node
//! `node_time_percent` of its time for it, 2 by default.
//!
//! # Metrics
//! `miroir_antientropy_shards_scanned_total`, `miroir_antientropy_mismatches_found_total`,
//! `miroir_antientropy_docs_repaired_total`, `miroir_antientropy_ambiguous_total`,
//! `miroir_antientropy_last_scan_completed_seconds`, `miroir_antientropy_pass_seconds`.

mod compare;
mod counts;
mod mend;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use miroir_api::ShardId;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::cluster::anti_entropy::Suspicion;
use miroir_pipeline::cluster::leadership::LeaderMessage;
use miroir_pipeline::error::Error;
use miroir_store::{IndexEntry, clock};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::runtime::{Item, PartitionedTask, Peers, Schedule, partitioned, pass};
pub use counts::Counts;
pub use mend::run as mend;

/// When a process makes its first pass, at the latest.
const FIRST: Duration = Duration::from_mins(30);

/// Rests between questions.
#[derive(Clone, Copy, Debug)]
struct Pace {
    percent: u32,
}

impl Pace {
    fn of(state: &ClusterState) -> Self {
        Self { percent: state.options.anti_entropy.node_time_percent.clamp(1, 100) }
    }

    /// After a question that took so long.
    async fn rest(self, took: Duration) {
        let rest = took * (100 - self.percent) / self.percent;
        if !rest.is_zero() {
            sleep(rest).await;
        }
    }
}

/// A shard that is compared.
#[derive(Debug)]
pub struct Compared {
    entry: Arc<IndexEntry>,
    shard: ShardId,
}

impl Item for Compared {
    fn key(&self) -> Cow<'_, str> {
        format!("{}:{}", self.entry.physical, self.shard).into()
    }
}

/// Compares all documents of one shard after the other, as [`crate::runtime::partitioned`] has it.
#[derive(Debug)]
pub struct AntiEntropy {
    state: Arc<ClusterState>,
    /// Where the next pass begins, among all shards.
    next: AtomicUsize,
}

impl AntiEntropy {
    /// Over a cluster.
    #[must_use]
    pub fn new(state: Arc<ClusterState>) -> Self {
        Self { state, next: AtomicUsize::new(0) }
    }
}

impl PartitionedTask for AntiEntropy {
    const NAME: &'static str = "anti_entropy";
    type Item = Compared;

    async fn items(&self) -> Result<Vec<Compared>, Error> {
        let mut entries = self.state.catalog.all();
        entries.retain(|entry| entry.primary_key.is_some() && !entry.making);
        entries.sort_by(|a, b| a.physical.cmp(&b.physical));
        let mut all = Vec::new();
        for entry in entries {
            let shard = |shard| Compared { entry: Arc::clone(&entry), shard: ShardId(shard) };
            all.extend((0..entry.shards).map(shard));
        }
        let most = self.state.options.anti_entropy.shards_per_pass;
        if most > 0 && most < all.len() {
            let from = self.next.load(Ordering::Relaxed) % all.len();
            self.next.store(from + most, Ordering::Relaxed);
            all.rotate_left(from);
            all.truncate(most);
        }
        Ok(all)
    }

    async fn run(&self, item: Compared) -> Result<(), Error> {
        check(&self.state, &item.entry, item.shard).await
    }
}

/// Compares a shard, and has looked into what seems to differ.
async fn check(
    state: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
    shard: ShardId,
) -> Result<(), Error> {
    let found = compare::shard(state, entry, shard, Pace::of(state)).await;
    let found = found.map_err(crate::replicas::repair::Trouble::into_error)?;
    state.comparisons.compared(found.as_ref().map(|found| found.documents));
    let Some(found) = found else { return Ok(()) };
    metrics::counter!("miroir_antientropy_shards_scanned_total").increment(1);
    if found.ids.is_empty() {
        return Ok(());
    }
    let index = entry.physical.clone();
    if state.leadership.leads() {
        state.comparisons.suspect(Suspicion { index, shard, ids: found.ids });
        return Ok(());
    }
    let ids = found.ids.iter().map(ToString::to_string).collect();
    state.leadership.send(&LeaderMessage::Differs { index, shard, ids }).await
}

/// Compares this pod's share until cancelled.
pub async fn run(state: Arc<ClusterState>, peers: Arc<Peers>, stop: CancellationToken) {
    let options = state.options.anti_entropy;
    if !options.enabled {
        return stop.cancelled().await;
    }
    let every = Schedule { first: options.count_interval, interval: options.count_interval };
    let counts = Arc::new(Counts::new(Arc::clone(&state)));
    tokio::join!(
        partitioned(counts, Arc::clone(&peers), every, stop.clone()),
        passes(&state, &peers, &stop),
    );
}

async fn passes(state: &Arc<ClusterState>, peers: &Peers, stop: &CancellationToken) {
    let worker = AntiEntropy::new(Arc::clone(state));
    let interval = state.options.anti_entropy.schedule;
    let mut next = Instant::now() + interval.min(FIRST);
    // Who asks this pod means all shards, whosever they are.
    let alone = Peers::alone();
    loop {
        let peers = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = state.comparisons.asked() => &alone,
            () = sleep_until(next) => {
                next = Instant::now() + interval;
                peers
            }
        };
        let begun = Instant::now();
        state.comparisons.begin(clock::now());
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = pass(&worker, peers) => {}
        }
        let ended = clock::now();
        state.comparisons.end(ended);
        metrics::gauge!("miroir_antientropy_last_scan_completed_seconds")
            .set(ended.unix_timestamp() as f64);
        metrics::histogram!("miroir_antientropy_pass_seconds").record(begun.elapsed());
    }
}
