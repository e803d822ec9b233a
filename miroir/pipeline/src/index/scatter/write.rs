//! Writes: documents to shards, shards to nodes, acknowledgements to a quorum.
//!
//! The task is stored before any node is called and the calls run detached from the client, so
//! neither a crash nor a disconnect leaves a write that nobody remembers. A replica that did not
//! acknowledge is recorded as stale *before* the client is answered: it refused or could not be
//! reached, or it had not answered when a quorum had the write and the others had had their grace
//! ([`crate::cluster::late_writes`]).
//!
//! Nothing is sent, and no task stored, once the client's time is over, nor by a plan that would be
//! another one by now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use miroir_api::meili::{SummarizedTask, TaskKind, TaskStatus};
use miroir_api::{GroupId, NodeId, ShardId};

use super::catalog_sync;
use super::currency::{is_current, teach};
use super::plan::{AcceptedWrite, Answers, Batch, Tags, WritePlan};
use super::send::{Sending, UnderWay, send_batch};
use super::stale_marks::{self, WriteOutcome};
use crate::cluster::leadership::{ChangeGuard, LeaderMessage};
use crate::cluster::{ClusterState, WritePermit};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Fault, NodeFailure};
use crate::index::Response;
use crate::leaf;
use crate::meta::{Accepted, Meta};
use crate::node_errors;
use miroir_core::quorum::{self, QuorumDecision};
use miroir_core::topology::Topology;
use miroir_core::view::{CatchUp, StaleMap};
use miroir_store::{IndexEntry, NewTask, NodeTask, TaskRecord, clock};
use uuid::Uuid;

/// Pause before the store is asked again to record what became of a write.
const STORE_PAUSE: Duration = Duration::from_millis(200);

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
    let bytes = plan.batches.iter().map(Batch::bytes).sum();
    let permit = state.write_bytes.take(bytes, cx.deadline).await?;
    let tracker = state.tracker.clone();
    let guard = state.leadership.begin_change();
    let job = tracker.spawn(run_write(leaves, state, plan, task, cx, permit, guard));
    job.await.map_err(Error::internal)?
}

async fn run_write(
    leaves: leaf::BoxService,
    state: Arc<ClusterState>,
    mut plan: WritePlan,
    mut task: NewTask,
    cx: Context,
    mut permit: WritePermit,
    guard: ChangeGuard,
) -> Result<AcceptedWrite, Error> {
    task.idempotency = cx.task_key();
    task.nonce = Some(Uuid::now_v7());
    let exclusive = plan.exclusive.take();
    // Exclusive work came first if there was any, and it may have taken the index away.
    let taken_over = plan.handover.take().and_then(|gates| gates.take());
    let mut shared_gate = match (&exclusive, &taken_over) {
        (Some(_), _) | (_, Some(_)) => None,
        (None, None) => Some(cx.deadline.run(state.sequencer.enter(&plan.index.physical)).await?),
    };
    if let Some(gate) = &shared_gate {
        gate.held_back(&plan.touch).await;
    }
    // Nor is it the client's index if it has another name by now, or is about to have.
    let listed = state.catalog.current(&plan.index).filter(|now| now.name == plan.index.name);
    let deferred = || state.open_tasks.deferred_on(plan.index.name.as_str()).is_some();
    if exclusive.is_none() && (listed.is_none() || deferred()) {
        return Err(Error::index_not_found(plan.index.name.as_str()));
    }
    if exclusive.is_none() && !is_current(&state, &plan) {
        return Err(Error::outdated());
    }
    // The client was told that its time is over: from here on it would be carried out.
    if cx.deadline.remaining().is_zero() {
        return Err(Error::deadline());
    }
    let reachable: Vec<NodeId> = plan
        .batches
        .iter()
        .filter(|batch| writable(&state, &plan.topology, &plan.index, plan.missed, &batch.node))
        // A node that does not answer keeps no more than that waiting.
        .filter(|batch| !state.write_bytes.is_share(state.late_writes.bytes(&batch.node)))
        .map(|batch| batch.node.clone())
        .collect();
    let stale = state.staleness.load();
    if let QuorumDecision::NoQuorum { shards, .. } =
        judge(&state, &plan, task.kind, &stale, |node| reachable.contains(node))
    {
        return Err(Error::no_quorum(shards));
    }
    task.nodes = node_tasks(&plan, &reachable);
    for on_node in &mut task.nodes {
        on_node.life = state.lives.of(&on_node.node);
    }
    // Nobody else is in the lane of exclusive work, but a late call may be.
    let mut turns =
        exclusive.as_ref().map(|_| state.sequencer.turns(&plan.index.physical, &reachable));
    let mut answers = Answers::new();
    if plan.preflight {
        let mut order: Vec<usize> = (0..plan.batches.len()).collect();
        order.sort_by_key(|at| state.late_writes.is_late(&plan.batches[*at].node));
        for batch in order.into_iter().map(|at| &plan.batches[at]) {
            let Some(at) = reachable.iter().position(|node| *node == batch.node) else { continue };
            if let Some(turns) = &mut turns {
                turns[at].turn().await;
            }
            let sent = send_batch(leaves.clone(), &plan, &state, batch, None, &cx).await;
            match sent.iter().find_map(|r| r.as_ref().err()) {
                Some(error) if judges(error) => {
                    return Err(node_errors::scrub(error.clone(), &plan.index));
                }
                // This node does not count; let another one judge. It may have the write all the same.
                Some(_) => {
                    if WriteOutcome::of(&sent) == WriteOutcome::Unknown {
                        answers.insert(batch.node.clone(), sent);
                    }
                }
                None => {
                    answers.insert(batch.node.clone(), sent);
                    break;
                }
            }
        }
    }
    if let Some((key, id_case)) = plan.teaches.take() {
        plan.index = teach(&state, &plan, &key, id_case).await?;
    }
    let mut record = state.stores.tasks.insert(task).await?;
    let _in_flight = state.writes_in_flight.begin(record.uid);
    if let Err(error) = catalog_sync::follow(&state, &plan.index, record.kind).await {
        fail(&state, &mut record, &error).await?;
        return Err(error);
    }
    if let Some(held) = taken_over {
        shared_gate = state.sequencer.enter_from(held, &plan.index.physical);
    }
    // The gate stays closed to repairs until it is on record who missed the write.
    let gate;
    let tickets = match (turns, shared_gate) {
        (Some(turns), _) => {
            gate = None;
            turns
        }
        (None, Some(shared)) => {
            let turns = shared.write(&reachable, &plan.touch, &plan.touched, record.uid);
            gate = Some(turns.gate);
            turns.tickets
        }
        (None, None) => return Err(Error::internal("a write has no gate")),
    };
    // Meanwhile owners have said which of the documents they have. The write has its turns by now: its place
    // among others is that of its task.
    if let Some(mut change) = plan.order.take() {
        let found = cx.deadline.run(change.found()).await.unwrap_or_default();
        let calls = plan.batches.iter_mut().map(|batch| &mut batch.calls);
        change.settle(&state, &plan.index, record.uid, &found, calls);
    }
    let (kind, early) = (record.kind, plan.missed == CatchUp::Shard);
    let sending = Arc::new(Sending { tags: Tags::new(state.store_id, &record), state, plan, cx });
    let (state, plan) = (&sending.state, &sending.plan);
    let calls = reachable.iter().zip(tickets).filter(|(node, _)| !answers.contains_key(*node));
    let mut under_way = UnderWay::new(calls.filter_map(|(node, ticket)| {
        let at = plan.batches.iter().position(|batch| batch.node == *node)?;
        Some((node.clone(), Arc::clone(&sending).batch(leaves.clone(), at, ticket)))
    }));
    let enough = |answers: &Answers| {
        let acked = |node: &NodeId| {
            answers.get(node).is_some_and(|sent| WriteOutcome::of(sent) == WriteOutcome::Accepted)
        };
        let verdict = || judge(state, plan, kind, &state.staleness.load(), acked);
        early && matches!(verdict(), QuorumDecision::Met { .. })
    };
    under_way.collect(state, &mut answers, enough).await;
    let mut late = under_way.begin_late(&sending);
    let outcome = loop {
        match settle(state, plan, &mut record, &answers, under_way.open()).await {
            // Nodes may have it: it is not left half recorded.
            Err(error) if *error.fault() == Fault::Store && !state.stop.is_cancelled() => {
                tracing::warn!(task = %record.uid, %error, "what became of a write is recorded later");
                tokio::time::sleep(STORE_PAUSE).await;
            }
            Err(error) => break Err(error),
            Ok(Some(accepted)) => break Ok(accepted),
            // A replica that counted a moment ago counts no more: the others decide.
            Ok(None) => {
                late.clear();
                under_way.collect(state, &mut answers, |_| false).await;
            }
        }
    };
    if let Err(error) = &outcome
        && error.is_deposed()
    {
        report_late(state, &record, &answers, under_way.open()).await;
    }
    drop((gate, exclusive));
    if !under_way.open().is_empty() {
        let open = |batch: &&Batch| under_way.open().contains(&batch.node);
        permit.keep(plan.batches.iter().filter(open).map(Batch::bytes).sum());
        let (sending, task) = (Arc::clone(&sending), record.uid);
        state.tracker.spawn(async move {
            under_way.finish(sending, task, late).await;
            drop((permit, guard));
        });
    }
    outcome
}

/// What the record of a write says of its nodes before any is called.
fn node_tasks(plan: &WritePlan, reachable: &[NodeId]) -> Vec<NodeTask> {
    let documents = plan.missed == CatchUp::Shard;
    plan.batches
        .iter()
        .flat_map(|batch| {
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
        .collect()
}

/// Tells the next leader of nodes that may have got what it took for certain had not arrived.
async fn report_late(
    state: &ClusterState,
    record: &TaskRecord,
    answers: &Answers,
    open: &[NodeId],
) {
    let arrived =
        answers.iter().filter(|(_, sent)| WriteOutcome::of(sent) != WriteOutcome::Rejected);
    let nodes = arrived.map(|(node, _)| node).chain(open).cloned().collect();
    let message = LeaderMessage::Late { task: record.uid, nodes };
    if let Err(error) = state.leadership.send(&message).await {
        tracing::error!(task = %record.uid, %error, "a late write is on no record");
    }
}

async fn settle(
    state: &ClusterState,
    plan: &WritePlan,
    record: &mut TaskRecord,
    answers: &Answers,
    open: &[NodeId],
) -> Result<Option<AcceptedWrite>, Error> {
    let mut at: BTreeMap<NodeId, usize> = BTreeMap::new();
    for node_task in &mut record.nodes {
        let position = at.entry(node_task.node.clone()).or_default();
        match answers.get(&node_task.node).and_then(|sent| sent.get(*position)) {
            Some(Ok(uid)) => node_task.uid = Some(*uid),
            _ => node_task.dropped = true,
        }
        *position += 1;
    }
    let outcome_of = |node: &NodeId| match answers.get(node) {
        Some(sent) => WriteOutcome::of(sent),
        None if open.contains(node) => WriteOutcome::Unknown,
        None => WriteOutcome::Rejected,
    };
    let acked = |node: &NodeId| outcome_of(node) == WriteOutcome::Accepted;
    let kind = record.kind;
    let placement = plan.topology.placement(plan.index.shards);
    let physical = &plan.index.physical;
    let nodes = || plan.batches.iter().map(|batch| &batch.node);
    let well = |node: &NodeId| state.is_available(node);
    let outcome = state
        .staleness
        .mark_and(
            |stale| {
                let verdict = judge(state, plan, kind, stale, acked);
                let met = matches!(verdict, QuorumDecision::Met { .. });
                if !met && !open.is_empty() {
                    return (Vec::new(), None);
                }
                // What is acknowledged stays, whatever else the nodes got that have it.
                let doubted = |node: &NodeId| !met && state.is_in_doubt(node);
                let rows = match (plan.missed, kind) {
                    (CatchUp::Shard, _) => stale_marks::documents(
                        stale,
                        &placement,
                        physical,
                        &plan.touched,
                        well,
                        doubted,
                        outcome_of,
                    ),
                    (_, TaskKind::SettingsUpdate) => {
                        stale_marks::settings(stale, physical, nodes(), well, doubted, outcome_of)
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
                (rows, Some(verdict))
            },
            |before, after| {
                for batch in plan.batches.iter().filter(|batch| open.contains(&batch.node)) {
                    let shards: Vec<ShardId> = batch.shards.iter().collect();
                    let (node, late) = (&batch.node, &state.late_writes);
                    late.marked(record.uid, node, physical, &shards, before, after);
                }
            },
        )
        .await?;
    let Some(outcome) = outcome else { return Ok(None) };
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
            Ok(Some(AcceptedWrite { record: record.clone(), degraded, group }))
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
                    node_errors::scrub(error.clone(), &plan.index)
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
