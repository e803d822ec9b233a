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

use futures_util::future::join_all;
use miroir_api::meili::TaskStatus;
use miroir_api::{NodeId, ShardId};

use super::catalog_sync;
use super::currency::{is_current, teach};
use super::plan::{AcceptedWrite, Answers, Batch, Sent, Share, Tags, WritePlan};
use super::send::{Sending, UnderWay, send_batch};
use super::settle::{Stored, concerned, fail, judge, report_late, settle};
use super::stale_marks::WriteOutcome;
use crate::cluster::leadership::ChangeGuard;
use crate::cluster::sequencer::Ticket;
use crate::cluster::{ClusterState, WritePermit};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Fault};
use crate::leaf;
use crate::node_errors;
use miroir_core::quorum::QuorumDecision;
use miroir_core::routing::ShardSet;
use miroir_core::topology::Topology;
use miroir_core::view::CatchUp;
use miroir_store::{IndexEntry, NewTask, NodeTask, Place, clock};
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
    mut task: NewTask,
    cx: Context,
) -> Result<AcceptedWrite, Error> {
    task.idempotency = cx.task_key();
    let share = Share {
        task,
        touched: plan.touched.clone(),
        documents: plan.documents(),
        placed: Vec::new(),
    };
    let permit = state.write_bytes.take(plan.bytes(), cx.deadline).await?;
    let tracker = state.tracker.clone();
    let guard = state.leadership.begin_change();
    let job = tracker.spawn(run_write(leaves, state, plan, vec![share], cx, permit, guard));
    let mut outcomes = job.await.map_err(Error::internal)??;
    outcomes.pop().ok_or_else(|| Error::internal("a write has no outcome"))?
}

/// Makes a write of one client, or of several whose documents go to nodes together. Answers for each
/// share.
///
/// # Errors
/// When no node was told of anything; of several shares each can be tried alone then, unless it is the
/// store that failed.
pub(super) async fn run_write(
    leaves: leaf::BoxService,
    state: Arc<ClusterState>,
    mut plan: WritePlan,
    mut shares: Vec<Share>,
    cx: Context,
    mut permit: WritePermit,
    guard: ChangeGuard,
) -> Result<Vec<Result<AcceptedWrite, Error>>, Error> {
    let Some(kind) = shares.first().map(|share| share.task.kind) else { return Ok(Vec::new()) };
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
    let will = |node: &NodeId| reachable.contains(node);
    if let QuorumDecision::NoQuorum { shards, .. } =
        judge(&state, &plan, &plan.touched, kind, &stale, will)
    {
        return Err(Error::no_quorum(shards));
    }
    name(&state, &plan, &reachable, &mut shares);
    // Nobody else is in the lane of exclusive work, but a late call may be.
    let mut turns =
        exclusive.as_ref().map(|_| state.sequencer.turns(&plan.index.physical, &reachable));
    let mut answers = Answers::new();
    if plan.preflight {
        let turns = turns.as_deref_mut().unwrap_or_default();
        answers = preflight(&leaves, &state, &plan, &reachable, turns, &cx).await?;
    }
    if let Some((key, id_case)) = plan.teaches.take() {
        plan.index = teach(&state, &plan, &key, id_case).await?;
    }
    let mut stored = store(&state, shares).await?;
    let _in_flight: Vec<_> =
        stored.iter().map(|share| state.writes_in_flight.begin(share.record.uid)).collect();
    let first = stored[0].record.uid;
    if let Err(error) = catalog_sync::follow(&state, &plan.index, kind).await {
        for share in &mut stored {
            fail(&state, &mut share.record, &error).await?;
        }
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
            let turns = shared.write(&reachable, &plan.touch, &plan.touched, first);
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
        let tasks = stored.iter().map(|share| (share.record.uid, share.documents));
        change.settle(&state, &plan.index, tasks, &found, calls);
    }
    let early = plan.missed == CatchUp::Shard;
    let tags = Tags::new(state.store_id, &stored[0].record);
    let sending = Arc::new(Sending { state, plan, tags, cx });
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
        let verdict = || judge(state, plan, &plan.touched, kind, &state.staleness.load(), acked);
        early && matches!(verdict(), QuorumDecision::Met { .. })
    };
    under_way.collect(state, &mut answers, enough).await;
    if stored.len() > 1 && under_way.open().is_empty() && are_refusals(&answers) {
        // One of them may be what no node takes.
        forget(state, stored).await?;
        return Err(Error::outdated());
    }
    let mut late = under_way.begin_late(&sending);
    let mut outcomes: Vec<Option<Result<AcceptedWrite, Error>>> = Vec::new();
    outcomes.resize_with(stored.len(), || None);
    while outcomes.iter().any(Option::is_none) {
        let open = under_way.open();
        let undecided = stored.iter_mut().zip(&mut outcomes).filter(|(_, known)| known.is_none());
        let settled = undecided.map(|(share, outcome)| async {
            match settle(state, plan, share, &answers, open).await {
                // Nodes may have it: it is not left half recorded.
                Err(error) if *error.fault() == Fault::Store && !state.stop.is_cancelled() => {
                    let task = share.record.uid;
                    tracing::warn!(%task, %error, "what became of a write is recorded later");
                    tokio::time::sleep(STORE_PAUSE).await;
                    false
                }
                decided => {
                    *outcome = decided.transpose();
                    outcome.is_none()
                }
            }
        });
        // A replica that counted a moment ago counts no more: the others decide.
        if join_all(settled).await.contains(&true) {
            late.clear();
            under_way.collect(state, &mut answers, |_| false).await;
        }
    }
    for (share, outcome) in stored.iter().zip(&outcomes) {
        if let Some(Err(error)) = outcome
            && error.is_deposed()
        {
            report_late(state, &share.record, &answers, under_way.open()).await;
        }
    }
    drop((gate, exclusive));
    if !under_way.open().is_empty() {
        let open = |batch: &&Batch| under_way.open().contains(&batch.node);
        permit.keep(plan.batches.iter().filter(open).map(Batch::bytes).sum());
        let tasks = stored.into_iter().map(|share| (share.record.uid, share.touched)).collect();
        let sending = Arc::clone(&sending);
        state.tracker.spawn(async move {
            under_way.finish(sending, tasks, late).await;
            drop((permit, guard));
        });
    }
    Ok(outcomes.into_iter().flatten().collect())
}

/// Has one node judge a request before anything is stored. Answers what nodes have of it by then.
async fn preflight(
    leaves: &leaf::BoxService,
    state: &ClusterState,
    plan: &WritePlan,
    reachable: &[NodeId],
    turns: &mut [Ticket],
    cx: &Context,
) -> Result<Answers, Error> {
    let mut answers = Answers::new();
    let mut order: Vec<usize> = (0..plan.batches.len()).collect();
    order.sort_by_key(|at| state.late_writes.is_late(&plan.batches[*at].node));
    for batch in order.into_iter().map(|at| &plan.batches[at]) {
        let Some(at) = reachable.iter().position(|node| *node == batch.node) else { continue };
        if let Some(ticket) = turns.get_mut(at) {
            ticket.turn().await;
        }
        let sent = send_batch(leaves.clone(), plan, state, batch, None, cx).await;
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
    Ok(answers)
}

/// Gives the tasks of a write what their calls are found by, and the nodes that they go to.
fn name(state: &ClusterState, plan: &WritePlan, reachable: &[NodeId], shares: &mut [Share]) {
    let nonce = Some(Uuid::now_v7());
    let of = u32::try_from(shares.len()).unwrap_or(u32::MAX);
    let mut sent: BTreeMap<NodeId, u32> = BTreeMap::new();
    for (at, share) in (0..of).zip(shares) {
        share.task.nonce = nonce;
        share.task.combined = (of > 1).then_some(Place { at, of });
        share.task.nodes = node_tasks(plan, reachable, &share.touched);
        for on_node in &mut share.task.nodes {
            on_node.life = state.lives.of(&on_node.node);
            if of > 1 {
                let own = share.placed.iter().filter(|shard| on_node.shards.contains(shard));
                let count = u32::try_from(own.count()).unwrap_or(u32::MAX);
                let before = sent.entry(on_node.node.clone()).or_default();
                on_node.own = Some((*before, count));
                *before = before.saturating_add(count);
            }
        }
    }
}

/// Stores the tasks of a write, in one step.
async fn store(state: &ClusterState, shares: Vec<Share>) -> Result<Vec<Stored>, Error> {
    let mut rest = Vec::with_capacity(shares.len());
    let mut tasks = Vec::with_capacity(shares.len());
    for Share { task, touched, documents, .. } in shares {
        tasks.push(task);
        rest.push((touched, documents));
    }
    let records = state.stores.tasks.insert_many(tasks).await?;
    let stored = |(record, (touched, documents))| Stored { record, touched, documents };
    Ok(records.into_iter().zip(rest).map(stored).collect())
}

/// Whether all nodes refused a request as such.
fn are_refusals(answers: &Answers) -> bool {
    let is_refused = |sent: &Sent| {
        WriteOutcome::of(sent) == WriteOutcome::Rejected
            && sent.iter().any(|answer| answer.as_ref().is_err_and(judges))
    };
    !answers.is_empty() && answers.values().all(is_refused)
}

/// Takes tasks back of which nobody was told and that no node has.
async fn forget(state: &ClusterState, stored: Vec<Stored>) -> Result<(), Error> {
    let mut records: Vec<_> = stored.into_iter().map(|share| share.record).collect();
    let uids = records.iter().map(|record| record.uid.0).collect();
    for record in &mut records {
        record.nodes.iter_mut().for_each(|task| task.dropped = true);
        record.end(TaskStatus::Failed, clock::now());
    }
    state.stores.tasks.update_many(records).await?;
    state.stores.tasks.remove(uids).await?;
    Ok(())
}

/// What the record of a share says of its nodes before any is called.
fn node_tasks(plan: &WritePlan, reachable: &[NodeId], touched: &ShardSet) -> Vec<NodeTask> {
    let documents = plan.missed == CatchUp::Shard;
    concerned(plan, touched)
        .flat_map(|batch| {
            let shards = move |call| -> Vec<ShardId> {
                let all = if documents { Some(&batch.shards) } else { None };
                let of_call = batch.parts.get(call).or(all);
                of_call.map(|set| set.intersection(touched).iter().collect()).unwrap_or_default()
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
