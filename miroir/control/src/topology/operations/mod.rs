//! Changes of the topology: nodes and groups come and go, shards get more copies or fewer.
//!
//! Each is a [`Change`] of the layout in the store, with an [`Operation`] that says what it is for. The
//! pod that leads takes it from phase to phase:
//!
//! | phase | ends when |
//! | --- | --- |
//! | announced | new nodes have every index, with its settings |
//! | copying | every new owner has every document of its shards, as verified by the repairer, and some owner after the change every setting |
//! | switched | no replica among the owners after the change misses anything |
//! | retiring | nodes have no document any more of shards that they do not own |
//!
//! No phase does anything before all pods, with all requests that are under way, work by it. Nothing but
//! the phase is stored: whoever leads next looks what is left, and goes on.
//!
//! New owners are put on record as stale replicas, so the repairer copies, verifies and counts them as it
//! does with those that missed a write.
//!
//! # Metrics
//! `miroir_rebalance_in_progress`, `miroir_rebalance_duration_seconds`,
//! `miroir_rebalance_documents_migrated_total` (whatever is copied while the layout changes).

mod begin;
mod last;
mod leftovers;
mod pairs;
mod plan;
mod spares;
mod verbs;

use std::sync::Arc;
use std::time::Duration;

use miroir_core::topology::{Change, Intent, Layout, Phase, Seat};
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_store::records::{CommittedTopology, Operation, OperationState};
use miroir_store::{Part, clock};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub use begin::begin;
pub(in crate::topology) use begin::begin_for;
pub use plan::{Move, Plan};
pub use spares::add_spare;
pub(in crate::topology) use spares::make_spare;
pub use verbs::{OperationView, Verb, apply, list, remove_node};

use pairs::Sides;

/// Time between two looks at what is left.
const LOOK: Duration = Duration::from_millis(500);

/// Why an operation does not go on: a word, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// One of a few words.
    pub kind: &'static str,
    /// Which node, index, how many replicas.
    pub detail: String,
}

impl Reason {
    fn new(kind: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// Takes the change that is under way from phase to phase, until cancelled.
pub async fn run(state: Arc<ClusterState>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            done = step(&state) => if let Err(error) = done {
                tracing::warn!(%error, "the change of the topology is tried again");
            },
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(LOOK) => {}
        }
    }
}

/// Goes on with the change that is under way, if there is one and nothing keeps it.
async fn step(state: &Arc<ClusterState>) -> Result<(), Error> {
    let committed = state.committed.load_full();
    let known = committed.change.as_ref().zip(committed.operation.as_ref());
    metrics::gauge!("miroir_rebalance_in_progress").set(if known.is_some() { 1.0 } else { 0.0 });
    let Some((change, operation)) = known else { return forget_unowned(state).await };
    let reason = go_on(state, &committed, change, operation).await?;
    if let Some(reason) = reason {
        tracing::debug!(operation = %operation.id, phase = %change.phase, ?reason, "waits");
    }
    Ok(())
}

/// Enters the next phase, or says what it waits for.
async fn go_on(
    state: &Arc<ClusterState>,
    committed: &CommittedTopology,
    change: &Change,
    operation: &Operation,
) -> Result<Option<Reason>, Error> {
    if let Some(reason) = waits(state, committed, change, operation).await? {
        return Ok(Some(reason));
    }
    let next = |phase| Change { phase, ..change.clone() };
    match change.phase {
        Phase::Announced => begin_copying(state, committed, next(Phase::Copying)).await?,
        Phase::Copying => enter(state, committed, next(Phase::Switched)).await?,
        Phase::Switched => enter(state, committed, next(Phase::Retiring)).await?,
        Phase::Retiring => {
            leftovers::clean(state, &Sides::of(state, committed, change)?).await?;
            end(state, committed, change, operation).await?;
        }
    }
    Ok(None)
}

/// What the present phase waits for; `None` where it is over, leftovers apart.
async fn waits(
    state: &ClusterState,
    committed: &CommittedTopology,
    change: &Change,
    operation: &Operation,
) -> Result<Option<Reason>, Error> {
    if let Some(reason) = behind(state, committed.version).await? {
        return Ok(Some(reason));
    }
    if operation.state == OperationState::Paused {
        return Ok(Some(Reason::new("paused", "by an operator")));
    }
    let sides = Sides::of(state, committed, change)?;
    Ok(match change.phase {
        Phase::Announced => unprepared(state),
        Phase::Copying | Phase::Switched => sides.unready(state, change.phase),
        Phase::Retiring => leftovers::kept(state, &sides),
    })
}

/// A pod that may still place documents by a phase before this one.
async fn behind(state: &ClusterState, version: u64) -> Result<Option<Reason>, Error> {
    if state.membership.settled() < version {
        return Ok(Some(Reason::new("barrier_pod", state.leadership.pod())));
    }
    if !state.leadership.is_shared() {
        return Ok(None);
    }
    let roster = state.stores.pods.roster(clock::now()).await?;
    let me = state.leadership.process();
    let behind = roster.pods.iter().find(|pod| pod.name != me && pod.settled < version);
    Ok(behind.map(|pod| Reason::new("barrier_pod", &pod.pod)))
}

/// A new node that cannot be used yet, or lacks an index.
fn unprepared(state: &ClusterState) -> Option<Reason> {
    let (topology, stale) = (state.membership.topology(), state.staleness.load());
    let joining = || topology.nodes().filter(|node| node.intent == Intent::Joining);
    if let Some(node) = joining().find(|node| {
        !state.nodes.is_available(node) || !state.membership.task_uids.is_verified(&node.id)
    }) {
        return Some(Reason::new("node_away", node.id.to_string()));
    }
    let of = |row: &&StaleReplica| row.shard.is_none() && joining().any(|n| n.id == row.node);
    let row = stale.rows().find(of)?;
    Some(Reason::new("indexes", format!("index `{}` on node `{}`", row.index, row.node)))
}

/// Replaces the topology in the store, and works by it from now on.
async fn commit(
    state: &ClusterState,
    before: &CommittedTopology,
    next: CommittedTopology,
) -> Result<(), Error> {
    state.leadership.ensure_leader()?;
    let next = CommittedTopology { version: before.version + 1, ..next };
    if !state.stores.identity.commit_topology(next, before.version).await? {
        state.follow_topology().await?;
        return Err(Error::internal("the topology was changed at the same time"));
    }
    state.follow_topology().await?;
    state.leadership.publish(&[Part::Nodes]).await?;
    Ok(())
}

async fn enter(
    state: &ClusterState,
    committed: &CommittedTopology,
    change: Change,
) -> Result<(), Error> {
    tracing::info!(phase = %change.phase, "the change of the topology goes on");
    commit(state, committed, CommittedTopology { change: Some(change), ..committed.clone() }).await
}

/// Puts on record what new owners lack, and has them written from now on.
async fn begin_copying(
    state: &Arc<ClusterState>,
    committed: &CommittedTopology,
    change: Change,
) -> Result<(), Error> {
    let sides = Sides::of(state, committed, &change)?;
    // An index that is made meanwhile would have owners that lack what was written before.
    let hold = state.catalog.hold().await;
    state.staleness.mark(sides.gained(&state.catalog.all())).await?;
    enter(state, committed, change).await?;
    drop(hold);
    state.signals.repairs.notify_waiters();
    Ok(())
}

/// Says which indexes nodes lack that are new.
async fn mark_new(state: &ClusterState, nodes: &[Seat]) -> Result<(), Error> {
    let rows = state.catalog.all().into_iter().flat_map(|entry| {
        let row =
            move |seat: &Seat| StaleReplica::new(&seat.id, &entry.physical, None, CatchUp::Index);
        nodes.iter().map(row).collect::<Vec<_>>()
    });
    Ok(state.staleness.mark(rows.collect()).await?)
}

/// Makes the layout after the change the only one.
async fn end(
    state: &ClusterState,
    committed: &CommittedTopology,
    change: &Change,
    operation: &Operation,
) -> Result<(), Error> {
    let ended = match operation.state {
        OperationState::RollingBack => OperationState::RolledBack,
        _ => OperationState::Committed,
    };
    let ended = Operation { state: ended, ended_at: Some(clock::now()), ..operation.clone() };
    let took = clock::now() - operation.began_at;
    metrics::histogram!("miroir_rebalance_duration_seconds").record(took.as_seconds_f64());
    tracing::info!(operation = %ended.id, state = ended.state.as_str(), "a change of the topology ended");
    let next = settled_on(committed, &change.to, ended);
    commit(state, committed, next).await?;
    forget_unowned(state).await
}

/// A topology whose only layout is this one.
fn settled_on(committed: &CommittedTopology, to: &Layout, ended: Operation) -> CommittedTopology {
    let has = |seat: &Seat| to.nodes.iter().any(|own| own.id == seat.id);
    let mut without = committed.without_shards.clone();
    let of_change = committed.change.iter().flat_map(|change| &change.to.nodes);
    for seat in committed.layout.nodes.iter().chain(of_change) {
        if !without.iter().any(|own| own.id == seat.id) {
            without.push(seat.clone());
        }
    }
    without.retain(|seat| !has(seat));
    let mut spares = committed.spares.clone();
    spares.retain(|id| without.iter().any(|seat| seat.id == *id));
    let mut all = vec![ended];
    all.extend(committed.ended.iter().take(CommittedTopology::ENDED - 1).cloned());
    CommittedTopology {
        layout: to.clone(),
        change: None,
        operation: None,
        without_shards: without,
        spares,
        ended: all,
        ..committed.clone()
    }
}

/// Forgets what replicas miss that are none any more. Calls that were under way when they were given up
/// may be put on record later.
async fn forget_unowned(state: &ClusterState) -> Result<(), Error> {
    let (topology, stale) = (state.membership.topology(), state.staleness.load());
    for row in stale.rows() {
        let entry = state.catalog.by_physical(&row.index);
        let unowned = entry
            .zip(row.shard)
            .is_some_and(|(entry, shard)| !topology.placement(entry.shards).owns(&row.node, shard));
        if unowned || topology.node(&row.node).is_none() {
            state.staleness.clear(row.clone()).await?;
        }
    }
    Ok(())
}
