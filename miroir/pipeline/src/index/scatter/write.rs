//! Writes: documents to shards, shards to nodes, acknowledgements to a quorum.
//!
//! The task is stored before any node is called and the calls run detached from the client, so
//! neither a crash nor a disconnect leaves a write that nobody remembers. A replica that did not
//! acknowledge is recorded as stale *before* the client is answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::StatusCode;
use miroir_api::meili::{SummarizedTask, TaskKind, TaskStatus};
use miroir_api::{GroupId, NodeId, ShardId, TaskUid};
use tower::ServiceExt;

use super::catalog_sync;
use super::stale_marks::{self, WriteOutcome};
use crate::cluster::leadership::LeaderMessage;
use crate::cluster::sequencer::Exclusive;
use crate::cluster::{ClusterState, disk_loss};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Fault, NodeFailure};
use crate::index::Response;
use crate::leaf::{self, Question, Target};
use crate::meta::{Accepted, Meta};
use crate::node::{Call, TaskRef};
use crate::node_errors;
use miroir_core::copying::Touch;
use miroir_core::quorum::{self, QuorumDecision};
use miroir_core::routing::ShardSet;
use miroir_core::topology::Topology;
use miroir_core::view::{CatchUp, Route, StaleMap};
use miroir_store::{IndexEntry, NewTask, NodeTask, TaskRecord, clock};

/// Pause before the store is asked again to record what became of a write.
const STORE_PAUSE: Duration = Duration::from_millis(200);

/// What one node has to be told, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Id of the node that gets the calls.
    pub node: NodeId,
    /// The shards of the node that the calls are about.
    pub shards: ShardSet,
    /// The calls, each of which enqueues a task.
    pub calls: Vec<Call>,
    /// The shards of each call, where they are not all about the same; else empty.
    pub parts: Vec<ShardSet>,
}

/// An accepted write.
#[derive(Debug)]
pub struct AcceptedWrite {
    /// The task as stored, with what each node said.
    pub record: TaskRecord,
    /// Groups in which a replica missed it.
    pub degraded: Vec<GroupId>,
    /// The first group that has all of it on a quorum.
    pub group: Option<GroupId>,
}

/// By what the nodes' tasks of a write to documents are found whose acknowledgement was lost: their
/// `customMetadata`.
pub fn tag(task: TaskUid) -> String {
    format!("miroir:{task}")
}

/// What a write is about.
#[derive(Debug)]
pub struct WritePlan {
    /// Snapshot of the index's entry when the write was planned.
    pub index: Arc<IndexEntry>,
    /// The topology it is planned under.
    pub topology: Arc<Topology>,
    /// Shards whose quorum decides.
    pub touched: ShardSet,
    /// Which documents it touches; [`Touch::Any`] where nobody asks.
    pub touch: Touch,
    /// What a replica that misses it needs.
    pub missed: CatchUp,
    /// Calls, one entry a node.
    pub batches: Vec<Batch>,
    /// Held until all calls are sent, if the write excludes others.
    pub exclusive: Option<Exclusive>,
    /// Whether one node judges the request before anything is stored: what it refuses leaves no task.
    pub preflight: bool,
}

/// The shape of a node's answer to a call of a batch.
type Sent = Vec<Result<u32, Error>>;

async fn send_batch(
    leaves: leaf::BoxService,
    plan: &WritePlan,
    state: &ClusterState,
    batch: &Batch,
    tag: &str,
    cx: &Context,
) -> Sent {
    let mut sent = Sent::new();
    for call in &batch.calls {
        // It may have been held up on the way here.
        if let Err(error) = state.leadership.ensure_leader() {
            sent.push(Err(error));
            break;
        }
        // What is not sent in time is not sent at all: nobody waits for it any more.
        if cx.deadline.remaining().is_zero() {
            sent.push(Err(Error::node(&batch.node, NodeFailure::Expired)));
            break;
        }
        let mut call = call.clone();
        if call.path.contains("/documents") {
            call.path.push(if call.path.contains('?') { '&' } else { '?' });
            call.path.push_str("customMetadata=");
            call.path.push_str(tag);
        }
        let request = leaf::Request::new(
            Target::Exactly(batch.node.clone()),
            Question::Plain(Arc::new(call)),
            Arc::clone(&plan.index),
            Arc::clone(&plan.topology),
            state.staleness.load(),
            Route::in_turn(Vec::new(), 0),
            cx.clone(),
        );
        let before = state.membership.task_uids.highest(&batch.node);
        let answer = leaves.clone().oneshot(request).await.and_then(|answer| {
            let page = answer
                .pages
                .first()
                .ok_or_else(|| Error::node(&batch.node, NodeFailure::Garbage))?;
            Ok(Call::parse::<TaskRef>(&batch.node, &page.body)?.task_uid)
        });
        let answer = match answer {
            Ok(uid) => {
                disk_loss::accept_task_uid(state, &batch.node, before, uid).await.map(|()| uid)
            }
            failed => failed,
        };
        let failed = answer.is_err();
        sent.push(answer);
        if failed {
            break;
        }
    }
    sent
}

/// Whether a node is there to take a write.
pub(super) fn writable(
    state: &ClusterState,
    topology: &Topology,
    index: &IndexEntry,
    missed: CatchUp,
    node: &NodeId,
) -> bool {
    topology.node(node).is_some_and(|node| state.nodes.is_available(node))
        && (missed != CatchUp::Shard || !state.staleness.load().lacks_index(&index.physical, node))
}

fn judge(
    state: &ClusterState,
    plan: &WritePlan,
    kind: TaskKind,
    stale: &StaleMap,
    acked: impl Fn(&NodeId) -> bool,
) -> QuorumDecision {
    let placement = plan.topology.placement(plan.index.shards);
    let index = &plan.index.physical;
    quorum::evaluate(
        &placement,
        plan.topology.replication_factor(),
        state.options.write_quorum,
        &plan.touched,
        |node, shard| {
            // A replica that is to be replaced by a copy keeps nothing for sure.
            acked(node)
                && match (plan.missed, kind) {
                    (CatchUp::Deleted, _) => true,
                    (CatchUp::Shard, _) => stale.is_authority(index, node, shard),
                    (_, TaskKind::SettingsUpdate) => !stale.misses_index(index, node),
                    _ => !stale.lacks_index(index, node),
                }
        },
    )
}

/// Whether a node refuses the request, and not only that it takes it: one whose disk is full says
/// nothing about what others make of it.
fn judges(error: &Error) -> bool {
    #[derive(serde::Deserialize)]
    struct Refusal {
        code: String,
    }
    let ErrorKind::Verbatim { body, .. } = error.kind() else { return false };
    !serde_json::from_slice::<Refusal>(body).is_ok_and(|refusal| {
        matches!(
            refusal.code.as_str(),
            "no_space_left_on_device" | "too_many_open_files" | "io_error"
        )
    })
}

/// Stores the task, sends the batches in the index's order, counts the quorum and remembers who
/// missed it. Runs to its end even if the caller goes away.
///
/// # Errors
/// `miroir_no_quorum`, a node's own refusal when no node took the write, or a store error.
pub async fn dispatch_write(
    leaves: leaf::BoxService,
    state: Arc<ClusterState>,
    plan: WritePlan,
    task: NewTask,
    cx: Context,
) -> Result<AcceptedWrite, Error> {
    let tracker = state.tracker.clone();
    let guard = state.leadership.begin_change();
    let job = tracker.spawn(async move {
        let outcome = run_write(leaves, state, plan, task, cx).await;
        drop(guard);
        outcome
    });
    job.await.map_err(Error::internal)?
}

async fn run_write(
    leaves: leaf::BoxService,
    state: Arc<ClusterState>,
    mut plan: WritePlan,
    mut task: NewTask,
    cx: Context,
) -> Result<AcceptedWrite, Error> {
    task.idempotency = cx.task_key();
    let exclusive = plan.exclusive.take();
    // Exclusive work came first if there was any, and it may have taken the index away.
    let shared_gate = match &exclusive {
        Some(_) => None,
        None => Some(cx.deadline.run(state.sequencer.enter(&plan.index.physical)).await?),
    };
    if let Some(gate) = &shared_gate {
        gate.held_back(&plan.touch).await;
    }
    if shared_gate.is_some() && !state.catalog.is_listed(&plan.index) {
        return Err(Error::index_not_found(plan.index.name.as_str()));
    }
    // The client was told that its time is over: from here on it would be carried out.
    if cx.deadline.remaining().is_zero() {
        return Err(Error::deadline());
    }
    let reachable: Vec<NodeId> = plan
        .batches
        .iter()
        .filter(|batch| writable(&state, &plan.topology, &plan.index, plan.missed, &batch.node))
        .map(|batch| batch.node.clone())
        .collect();
    let stale = state.staleness.load();
    if let QuorumDecision::NoQuorum { shards, .. } =
        judge(&state, &plan, task.kind, &stale, |node| reachable.contains(node))
    {
        return Err(Error::no_quorum(shards));
    }
    task.nodes = plan
        .batches
        .iter()
        .flat_map(|batch| {
            let documents = plan.missed == CatchUp::Shard;
            let shards = move |call| -> Vec<ShardId> {
                let all = if documents { Some(&batch.shards) } else { None };
                batch.parts.get(call).or(all).map(|set| set.iter().collect()).unwrap_or_default()
            };
            let dropped = !reachable.contains(&batch.node);
            (0..batch.calls.len()).map(move |call| NodeTask {
                dropped,
                shards: shards(call),
                ..NodeTask::new(batch.node.clone(), None)
            })
        })
        .collect();
    let mut first = None;
    if plan.preflight {
        for batch in plan.batches.iter().filter(|batch| reachable.contains(&batch.node)) {
            let sent = send_batch(leaves.clone(), &plan, &state, batch, "preflight", &cx).await;
            match sent.iter().find_map(|r| r.as_ref().err()) {
                Some(error) if judges(error) => {
                    return Err(node_errors::scrub(error.clone(), &plan.index, false));
                }
                // This node does not count; let another one judge.
                Some(_) => {}
                None => {
                    first = Some((batch.node.clone(), sent));
                    break;
                }
            }
        }
    }
    let mut record = state.stores.tasks.insert(task).await?;
    let _in_flight = state.writes_in_flight.begin(record.uid);
    if let Err(error) = catalog_sync::follow(&state, &plan.index, record.kind).await {
        fail(&state, &mut record, &error).await?;
        return Err(error);
    }
    let tag = tag(record.uid);

    // The gate stays closed to repairs until it is on record who missed the write.
    let gate;
    let answers: BTreeMap<NodeId, Sent> = {
        let mut turns =
            shared_gate.map(|gate| gate.write(&reachable, &plan.touch, &plan.touched, record.uid));
        let tickets = turns.as_mut().map(|t| std::mem::take(&mut t.tickets)).unwrap_or_default();
        let mut tickets = tickets.into_iter();
        gate = turns.map(|turns| turns.gate);
        let calls = plan
            .batches
            .iter()
            .filter(|batch| reachable.contains(&batch.node))
            .filter(|batch| first.as_ref().is_none_or(|(node, _)| *node != batch.node))
            .map(|batch| {
                let ticket = tickets.next();
                let (leaves, plan, state, cx, tag) = (leaves.clone(), &plan, &state, &cx, &tag);
                async move {
                    let mut ticket = ticket;
                    if let Some(ticket) = &mut ticket {
                        ticket.turn().await;
                    }
                    let sent = send_batch(leaves, plan, state, batch, tag, cx).await;
                    if let Some(ticket) = &mut ticket {
                        ticket.answered(WriteOutcome::for_journal(&sent));
                    }
                    (batch.node.clone(), sent)
                }
            })
            .collect::<Vec<_>>();
        join_all(calls).await.into_iter().chain(first).collect()
    };
    let outcome = loop {
        match settle(&state, &plan, &mut record, &answers).await {
            // Nodes may have it: it is not left half recorded.
            Err(error) if *error.fault() == Fault::Store && !state.stop.is_cancelled() => {
                tracing::warn!(task = %record.uid, %error, "what became of a write is recorded later");
                tokio::time::sleep(STORE_PAUSE).await;
            }
            outcome => break outcome,
        }
    };
    if let Err(error) = &outcome
        && error.is_deposed()
    {
        late(&state, &record, &answers).await;
    }
    drop((gate, exclusive));
    outcome
}

/// Tells the next leader of nodes that may have got what it took for certain had not arrived.
async fn late(state: &ClusterState, record: &TaskRecord, answers: &BTreeMap<NodeId, Sent>) {
    let arrived =
        answers.iter().filter(|(_, sent)| WriteOutcome::of(sent) != WriteOutcome::Rejected);
    let nodes = arrived.map(|(node, _)| node.clone()).collect();
    let message = LeaderMessage::Late { task: record.uid, nodes };
    if let Err(error) = state.leadership.send(&message).await {
        tracing::error!(task = %record.uid, %error, "a late write is on no record");
    }
}

async fn settle(
    state: &ClusterState,
    plan: &WritePlan,
    record: &mut TaskRecord,
    answers: &BTreeMap<NodeId, Sent>,
) -> Result<AcceptedWrite, Error> {
    let mut at: BTreeMap<NodeId, usize> = BTreeMap::new();
    for node_task in &mut record.nodes {
        let position = at.entry(node_task.node.clone()).or_default();
        match answers.get(&node_task.node).and_then(|sent| sent.get(*position)) {
            Some(Ok(uid)) => node_task.uid = Some(*uid),
            _ => node_task.dropped = true,
        }
        *position += 1;
    }
    let outcome_of = |node: &NodeId| {
        answers.get(node).map_or(WriteOutcome::Rejected, |sent| WriteOutcome::of(sent))
    };
    let acked = |node: &NodeId| outcome_of(node) == WriteOutcome::Accepted;
    let kind = record.kind;
    let placement = plan.topology.placement(plan.index.shards);
    let physical = &plan.index.physical;
    let nodes = || plan.batches.iter().map(|batch| &batch.node);
    let outcome = state
        .staleness
        .mark_by(|stale| {
            let verdict = judge(state, plan, kind, stale, acked);
            let met = matches!(verdict, QuorumDecision::Met { .. });
            let rows = match (plan.missed, kind) {
                (CatchUp::Shard, _) => {
                    stale_marks::documents(stale, &placement, physical, &plan.touched, outcome_of)
                }
                (_, TaskKind::SettingsUpdate) => {
                    stale_marks::settings(stale, physical, nodes(), outcome_of)
                }
                // Where one node may have deleted the index, all have to.
                (CatchUp::Deleted, _)
                    if nodes().any(|node| outcome_of(node) != WriteOutcome::Rejected) =>
                {
                    stale_marks::whole(physical, plan.missed, nodes(), outcome_of)
                }
                // Without a quorum the caller takes it back.
                (kind, _) if met => stale_marks::whole(physical, kind, nodes(), outcome_of),
                _ => Vec::new(),
            };
            (rows, verdict)
        })
        .await?;
    let outcome = match outcome {
        QuorumDecision::Met { complete, degraded_groups, .. } => {
            Ok((degraded_groups, complete.first().copied()))
        }
        QuorumDecision::NoQuorum { .. }
            if plan.missed == CatchUp::Deleted
                && nodes().any(|node| outcome_of(node) != WriteOutcome::Rejected) =>
        {
            if !nodes().any(acked) {
                // Nobody is left to wait for: the repairer sees to it.
                record.end(TaskStatus::Succeeded, clock::now());
            }
            Ok((plan.topology.groups().iter().map(|group| group.id).collect(), None))
        }
        QuorumDecision::NoQuorum { shards, .. } => Err(Error::no_quorum(shards)),
    };
    match outcome {
        Ok((degraded, group)) => {
            if kind == TaskKind::IndexDeletion {
                state.staleness.forget_index(physical).await?;
                state.stores.settings_versions.forget(physical).await?;
            }
            state.stores.tasks.update(record.clone()).await?;
            state.signals.tasks.notify_one();
            if !degraded.is_empty() {
                metrics::counter!("miroir_writes_degraded_total").increment(1);
            }
            Ok(AcceptedWrite { record: record.clone(), degraded, group })
        }
        Err(no_quorum) => {
            let refused = answers
                .values()
                .flatten()
                .filter_map(|r| r.as_ref().err())
                .find(|e| matches!(e.kind(), ErrorKind::Verbatim { .. }));
            let expired = || {
                answers
                    .values()
                    .flatten()
                    .filter_map(|r| r.as_ref().err())
                    .any(|error| error.node_failure() == Some(NodeFailure::Expired))
            };
            let rejected = nodes().all(|node| outcome_of(node) == WriteOutcome::Rejected);
            let error = match refused {
                Some(error) if !answers.keys().any(acked) => {
                    node_errors::scrub(error.clone(), &plan.index, false)
                }
                None if rejected && expired() => Error::deadline(),
                _ => no_quorum,
            };
            let may_have = nodes().filter(|node| outcome_of(node) != WriteOutcome::Rejected);
            catalog_sync::take_back(state, &plan.index, kind, may_have).await?;
            fail(state, record, &error).await?;
            Err(error)
        }
    }
}

/// Ends a task that nobody was told of.
async fn fail(state: &ClusterState, record: &mut TaskRecord, error: &Error) -> Result<(), Error> {
    let text = error.render().1.unwrap_or_default();
    record.end(TaskStatus::Failed, clock::now());
    record.error = serde_json::from_slice(&text).ok();
    Ok(state.stores.tasks.update(record.clone()).await?)
}

/// The `202` of an accepted task; `group` is the first that has it on a quorum.
pub fn accepted(record: &TaskRecord, degraded: Vec<GroupId>, group: Option<GroupId>) -> Response {
    let body = SummarizedTask {
        task_uid: record.uid,
        index_uid: record.index.clone(),
        status: TaskStatus::Enqueued,
        kind: record.kind,
        enqueued_at: clock::rfc3339(record.enqueued_at),
        custom_metadata: record.custom_metadata.clone(),
    };
    let nodes: std::collections::BTreeSet<_> = record.nodes.iter().map(|task| &task.node).collect();
    let meta = Meta {
        degraded_groups: degraded,
        nodes: nodes.len(),
        accepted: Some(Accepted { task: record.uid, group }),
        ..Meta::default()
    };
    Response {
        status: StatusCode::ACCEPTED,
        body: Bytes::from(serde_json::to_vec(&body).unwrap_or_default()),
        meta,
    }
}
