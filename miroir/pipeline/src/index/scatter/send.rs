//! The calls of a write: in the lane's order at each node, and no longer waited for than needed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use miroir_api::{NodeId, TaskUid};
use tokio::time::{Instant, timeout_at};
use tower::ServiceExt;

use super::plan::{Answers, Batch, Sent, Tags, WritePlan};
use super::settle::concerned;
use super::stale_marks::WriteOutcome;
use crate::cluster::late_writes::{LateCall, LateTask};
use crate::cluster::sequencer::Ticket;
use crate::cluster::{ClusterState, disk_loss};
use crate::context::Context;
use crate::deadline::Deadline;
use crate::error::{Error, NodeFailure};
use crate::leaf::{self, Question, Target};
use crate::node::{Call, TaskRef};
use miroir_core::routing::ShardSet;
use miroir_core::view::Route;

/// How many times a node's patience the rest of a batch may take of which the node took the first
/// call: a write is not left half sent because its client's time is over.
const REST_PATIENCE: u32 = 6;

/// Sends the calls of a batch one after the other, until one fails. Those of a task to documents carry
/// its tags.
pub(super) async fn send_batch(
    leaves: leaf::BoxService,
    plan: &WritePlan,
    state: &ClusterState,
    batch: &Batch,
    tags: Option<Tags>,
    cx: &Context,
) -> Sent {
    let mut sent = Sent::new();
    let mut cx = cx.clone();
    for (at, call) in batch.calls.iter().enumerate() {
        // It may have been held up on the way here.
        if let Err(error) = state.leadership.ensure_leader() {
            sent.push(Err(error));
            break;
        }
        if !sent.is_empty() {
            let rest = Deadline::after(state.options.scatter.call_timeout() * REST_PATIENCE);
            cx.deadline = cx.deadline.max(rest);
        } else if cx.deadline.remaining().is_zero() {
            // What is not sent in time is not sent at all: nobody waits for it any more.
            sent.push(Err(Error::node(&batch.node, NodeFailure::Expired)));
            break;
        }
        let mut call = call.clone();
        if let Some(tags) = tags.filter(|_| call.path.contains("/documents")) {
            call.path.push(if call.path.contains('?') { '&' } else { '?' });
            call.path.push_str("customMetadata=");
            call.path.push_str(&tags.of(at));
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

/// What all calls of a write have in common.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) state: Arc<ClusterState>,
    pub(super) plan: WritePlan,
    pub(super) tags: Tags,
    pub(super) cx: Context,
}

impl Sending {
    /// Sends one batch when it is its turn at the node.
    pub(super) async fn batch(
        self: Arc<Self>,
        leaves: leaf::BoxService,
        at: usize,
        mut ticket: Ticket,
    ) -> (NodeId, Sent) {
        ticket.turn().await;
        let batch = &self.plan.batches[at];
        let begun = Instant::now();
        let tags = Some(self.tags);
        let sent = send_batch(leaves, &self.plan, &self.state, batch, tags, &self.cx).await;
        ticket.answered(WriteOutcome::for_journal(&sent));
        if sent.iter().all(Result::is_ok) {
            self.state.nodes.scores.node(&batch.node).wrote(begun.elapsed());
        }
        (batch.node.clone(), sent)
    }
}

/// The calls of a write that were not answered yet.
pub(super) struct UnderWay<F> {
    calls: FuturesUnordered<F>,
    open: Vec<NodeId>,
}

impl<F: Future<Output = (NodeId, Sent)>> UnderWay<F> {
    /// These calls, each with the node that it goes to.
    pub(super) fn new(calls: impl Iterator<Item = (NodeId, F)>) -> Self {
        let (open, calls): (Vec<NodeId>, Vec<F>) = calls.unzip();
        Self { calls: calls.into_iter().collect(), open }
    }

    /// The nodes that have not answered.
    pub(super) fn open(&self) -> &[NodeId] {
        &self.open
    }

    /// Collects answers: until all are there, or until they are `enough` and every other node has
    /// had its grace, which a node whose earlier call is late has had already.
    pub(super) async fn collect(
        &mut self,
        state: &ClusterState,
        answers: &mut Answers,
        enough: impl Fn(&Answers) -> bool,
    ) {
        let grace = |node: &NodeId| {
            let late = state.late_writes.is_late(node);
            if late { Duration::ZERO } else { state.nodes.scores.node(node).grace() }
        };
        let mut met: Option<Instant> = None;
        while !self.open.is_empty() {
            if met.is_none() && !answers.is_empty() && enough(answers) {
                met = Some(Instant::now());
            }
            let next = match met {
                None => self.calls.next().await,
                Some(met) => {
                    let longest = self.open.iter().map(grace).max().unwrap_or_default();
                    match timeout_at(met + longest, self.calls.next()).await {
                        Ok(next) => next,
                        Err(_) => return,
                    }
                }
            };
            let Some((node, sent)) = next else { return };
            self.open.retain(|open| *open != node);
            answers.insert(node, sent);
        }
    }

    /// Counts the calls that are open as late, one guard a node.
    pub(super) fn begin_late(&self, sending: &Sending) -> Vec<LateCall> {
        let batches = sending.plan.batches.iter();
        batches
            .filter(|batch| self.open.contains(&batch.node))
            .map(|batch| sending.state.late_writes.begin(&batch.node, batch.bytes()))
            .collect()
    }

    /// Waits for the late calls of a write that was answered, and says what became of them.
    pub(super) async fn finish(
        mut self,
        sending: Arc<Sending>,
        tasks: Vec<(TaskUid, ShardSet)>,
        mut late: Vec<LateCall>,
    ) {
        let (state, plan) = (&sending.state, &sending.plan);
        let index = &plan.index.physical;
        while let Some((node, sent)) = self.calls.next().await {
            late.retain(|call| *call.node() != node);
            let outcome = WriteOutcome::of(&sent);
            let uids: Vec<u32> = sent.into_iter().flatten().collect();
            for (task, touched) in &tasks {
                let Some(batch) = concerned(plan, touched).find(|batch| batch.node == node) else {
                    continue;
                };
                let shards: Vec<_> = batch.shards.intersection(touched).iter().collect();
                if outcome == WriteOutcome::Accepted {
                    let (index, uids, life) = (index.clone(), uids.clone(), state.lives.of(&node));
                    let late = LateTask { task: *task, index, shards, uids, life };
                    state.late_writes.taken(&node, late);
                    state.signals.tasks.notify_one();
                } else {
                    // Nothing is taken away: the repairer sees to it.
                    let _ = state.late_writes.ended(&node, *task, index, &shards, false);
                    state.signals.repairs.notify_waiters();
                }
            }
        }
    }
}
