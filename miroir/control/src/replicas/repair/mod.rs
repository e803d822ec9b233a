//! The repairer: brings replicas that missed something up to date, then lets them be read again.
//!
//! Each miss is a row in the store. Rows are worked on when their node is well again, those of one
//! index on one node one after the other, everything else side by side: what fails stops nothing
//! else. A node takes part in two copies at a time.
//!
//! | kind | what is done |
//! | --- | --- |
//! | `pending` | ask the node how the writes in its queue went; if not well, as `shard` or `index` |
//! | `shard` | compare the shard with an up-to-date peer's, and write what differs |
//! | `shard`, of no shard in particular | compare the settings with a peer's, and set them |
//! | `shard`, where a node lacks the index | note that it misses an `index` |
//! | `index`, `deleted` | delete the index on the node, make it with a peer's settings; each of its shards is then a `shard` |
//! | any, of an index that is gone | delete the index on the node |
//!
//! Writes go on meanwhile, to the node that is repaired as well; [`miroir_core::copying`] says why
//! that is sound.

mod gauges;
mod group_commit;
mod leftovers;
pub(super) mod lot;
mod lots;
pub(super) mod node;
mod owned;
pub(super) mod pages;
mod rebuild;
pub(super) mod sources;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use miroir_api::{NodeId, ShardId};
use miroir_core::lock::Lock;
use miroir_core::view::{CatchUp, StaleReplica};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::applied;
use crate::replicas::pending;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::{Error, ErrorKind};
use miroir_pipeline::leaf::lacks_index;
use miroir_store::{IndexEntry, StoreError};

pub(crate) use leftovers::delete_shards;
pub(crate) use node::{has_all_settings, idle};
pub(crate) use rebuild::{find_missing, lacking};

/// Whether a shard can be copied from somebody else than this node.
pub(crate) fn has_source(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
    shard: ShardId,
) -> bool {
    sources::source_of(state, entry, node, shard).is_some()
}

/// How long one call of a repair may take.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_secs(1);
/// Pause before a repair that failed is tried again: twice as long each time, up to a bound.
const AGAIN: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(15);
/// Copies that a node takes part in at a time.
const AT_ONCE: usize = 2;

pub(super) fn cx() -> Context {
    Context::internal(Origin::Repair, PATIENCE)
}

/// Why a repair does not go on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A call failed, or the store.
    Failed(Error),
    /// Something else has to happen first.
    Blocked {
        /// One of a few words, for the metric.
        reason: &'static str,
        /// For the log: which document, which shard.
        detail: String,
    },
    /// What is copied, or from where, is not what it was.
    Changed,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl Trouble {
    pub(super) fn blocked(reason: &'static str, detail: impl Into<String>) -> Self {
        Self::Blocked { reason, detail: detail.into() }
    }

    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Failed(error) => error,
            other => Error::internal(other.reason()),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Failed(error) if matches!(error.kind(), ErrorKind::NodeFailed(_)) => "node_away",
            Self::Failed(_) => "failed",
            Self::Blocked { reason, .. } => reason,
            Self::Changed => "changed",
        }
    }
}

/// What is repaired together: an index on a node.
type Key = (String, NodeId);

/// What all repairs share.
#[derive(Debug, Default)]
struct Bench {
    places: Lock<BTreeMap<NodeId, Arc<Semaphore>>>,
}

impl Bench {
    /// Waits for a place at each of two nodes.
    async fn places(&self, one: &NodeId, other: &NodeId) -> Vec<OwnedSemaphorePermit> {
        let mut nodes = [one, other];
        // In one order, so that no two wait for each other.
        nodes.sort();
        let mut held = Vec::new();
        for node in nodes {
            let places = {
                let mut all = self.places.lock();
                let new = || Arc::new(Semaphore::new(AT_ONCE));
                Arc::clone(all.entry(node.clone()).or_insert_with(new))
            };
            held.extend(places.acquire_owned().await.ok());
        }
        held
    }
}

/// When a repair that failed is tried again.
#[derive(Clone, Copy, Debug)]
struct Later {
    at: Instant,
    pause: Duration,
}

/// Repairs until cancelled.
pub async fn run(state: Arc<ClusterState>, stop: CancellationToken) {
    let bench = Arc::new(Bench::default());
    let mut later: BTreeMap<Key, Later> = BTreeMap::new();
    // Dropped with this future: whoever does not lead any more repairs nothing.
    let mut running = JoinSet::new();
    let mut busy: BTreeSet<Key> = BTreeSet::new();
    loop {
        if let Err(error) = applied::features::apply(&state).await {
            tracing::error!(%error, "experimental features could not be read");
        }
        if let Err(error) = applied::search_rules::apply(&state).await {
            tracing::error!(%error, "search rules could not be read");
        }
        later.retain(|_, later| later.at + LONGEST > Instant::now());
        for key in due(&state, &later, &busy) {
            busy.insert(key.clone());
            let (state, bench) = (Arc::clone(&state), Arc::clone(&bench));
            running.spawn(async move {
                let done = repair(&state, &bench, &key.0, &key.1).await;
                (key, done)
            });
        }
        // What was noted between the look and the wait is found after the pause.
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = state.signals.repairs.notified() => {}
            () = tokio::time::sleep(PAUSE) => {}
            Some(done) = running.join_next(), if !running.is_empty() => match done {
                Ok((key, done)) => {
                    busy.remove(&key);
                    conclude(&mut later, key, done);
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => return,
            },
        }
    }
}

/// What is to be repaired now: its node is there, and nobody is at it.
fn due(state: &ClusterState, later: &BTreeMap<Key, Later>, busy: &BTreeSet<Key>) -> BTreeSet<Key> {
    let stale = state.staleness.load();
    let topology = state.membership.topology();
    let now = Instant::now();
    let there = |node: &NodeId| topology.node(node).is_some_and(|n| state.nodes.is_available(n));
    let mut keys = BTreeSet::new();
    for row in stale.rows().filter(|row| there(&row.node) && !state.late_writes.holds(row)) {
        if owned::is_due(state, &topology, row) {
            keys.insert((row.index.clone(), row.node.clone()));
        }
    }
    keys.retain(|key| !busy.contains(key) && later.get(key).is_none_or(|l| l.at <= now));
    keys
}

fn conclude(later: &mut BTreeMap<Key, Later>, key: Key, done: Result<(), Trouble>) {
    let Err(trouble) = done else {
        later.remove(&key);
        return;
    };
    report(&key, &trouble);
    let pause = match (&trouble, later.get(&key)) {
        (Trouble::Changed | Trouble::Blocked { reason: "target_lag", .. }, _) | (_, None) => AGAIN,
        (_, Some(before)) => (before.pause * 2).min(LONGEST),
    };
    later.insert(key, Later { at: Instant::now() + pause, pause });
}

fn report((index, node): &Key, trouble: &Trouble) {
    match trouble {
        Trouble::Failed(error) => {
            tracing::warn!(%node, %index, %error, "repair failed");
        }
        // It only takes its time.
        Trouble::Blocked { reason: "target_lag", .. } | Trouble::Changed => return,
        Trouble::Blocked { reason, detail } => {
            tracing::warn!(%node, %index, reason, %detail, "repair waits");
        }
    }
    metrics::counter!("miroir_lot_blocked_total", "reason" => trouble.reason()).increment(1);
}

fn label(kind: CatchUp) -> &'static str {
    match kind {
        CatchUp::Pending => "pending",
        CatchUp::Shard => "shard",
        CatchUp::Index => "index",
        CatchUp::Deleted => "deleted",
    }
}

fn rows(state: &ClusterState, index: &str, node: &NodeId) -> Vec<StaleReplica> {
    let (stale, topology) = (state.staleness.load(), state.membership.topology());
    let of = stale.of_index(index).filter(|row| row.node == *node);
    // What a late call marked may go without a copy, or the call come after one.
    let due = |row: &&StaleReplica| owned::is_due(state, &topology, row);
    of.filter(|row| !state.late_writes.holds(row)).filter(due).cloned().collect()
}

/// Forgets misses that were repaired, unless they were missed again. Returns whether all were
/// forgotten.
async fn clear(state: &ClusterState, rows: Vec<StaleReplica>) -> Result<bool, Trouble> {
    let mut all = true;
    for row in rows {
        let (kind, node, index) = (label(row.kind), row.node.clone(), row.index.clone());
        if state.staleness.clear(row).await? {
            metrics::counter!("miroir_repairs_total", "kind" => kind).increment(1);
            tracing::info!(%node, %index, kind, "replica repaired");
        } else {
            all = false;
        }
    }
    Ok(all)
}

/// Repairs an index on a node until it misses nothing.
async fn repair(
    state: &Arc<ClusterState>,
    bench: &Bench,
    index: &str,
    node: &NodeId,
) -> Result<(), Trouble> {
    loop {
        let rows = rows(state, index, node);
        if rows.is_empty() {
            return Ok(());
        }
        if !state.is_available(node) {
            return Err(Trouble::blocked("node_away", node.to_string()));
        }
        // What is there may be another node's: it is not deleted before its key was looked at.
        if !state.membership.task_uids.is_verified(node) {
            return Err(Trouble::blocked("unverified", node.to_string()));
        }
        let Some(entry) = state.catalog.by_physical(index) else {
            rebuild::take_away(state, index, node, rows).await?;
            continue;
        };
        let (waits, rows): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.kind == CatchUp::Pending);
        let mut settled = 0;
        for row in &waits {
            settled += pending::settle(state, row).await?;
        }
        if settled > 0 {
            metrics::counter!("miroir_repairs_total", "kind" => label(CatchUp::Pending))
                .increment(settled);
        }
        if rows.is_empty() && settled == 0 && waits == self::rows(state, index, node) {
            return Err(Trouble::blocked("target_lag", "its queue is not worked off"));
        }
        if let Some(row) = rows.iter().find(|row| row.kind >= CatchUp::Index) {
            rebuild::rebuild(state, &entry, row).await?;
        } else if let Some(row) = rows.iter().find(|row| row.shard.is_none()) {
            rebuild::settings(state, &entry, row).await?;
        } else if !rows.is_empty() {
            match lots::all(state, bench, &entry, node, &rows).await {
                Err(Trouble::Failed(error))
                    if lacks_index(&error) && find_missing(state, &entry).await? => {}
                done => done?,
            }
        }
    }
}
