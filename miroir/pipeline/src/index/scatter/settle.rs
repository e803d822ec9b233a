//! The end of a write: who has it, who missed it, and what its clients are told.
//!
//! Each share of a write ([`Share`](super::plan::Share)) is judged by the shards of its own: clients
//! whose writes went together are told what they would be told if each had gone alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use miroir_api::meili::{SummarizedTask, TaskKind, TaskStatus};
use miroir_api::{GroupId, NodeId, ShardId};

use super::catalog_sync;
use super::plan::{AcceptedWrite, Answers, Batch, WritePlan};
use super::stale_marks::{self, WriteOutcome};
use crate::cluster::ClusterState;
use crate::cluster::leadership::LeaderMessage;
use crate::error::{Error, ErrorKind, NodeFailure};
use crate::index::Response;
use crate::meta::{Accepted, Meta};
use crate::node_errors;
use miroir_core::quorum::{self, QuorumDecision};
use miroir_core::routing::ShardSet;
use miroir_core::view::{CatchUp, StaleMap};
use miroir_store::{TaskRecord, clock};

/// A share of a write whose task is stored.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its task.
    pub(super) record: TaskRecord,
    /// Its shards.
    pub(super) touched: ShardSet,
    /// How many documents it brings.
    pub(super) documents: usize,
}

/// Whether a write of these shards has its quorum, if so many nodes take it.
pub(super) fn judge(
    state: &ClusterState,
    plan: &WritePlan,
    touched: &ShardSet,
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
        touched,
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

/// The calls of a write that are about a share of it: all, where it is not about documents.
pub(super) fn concerned<'a>(
    plan: &'a WritePlan,
    touched: &'a ShardSet,
) -> impl Iterator<Item = &'a Batch> {
    let documents = plan.missed == CatchUp::Shard;
    let own = move |batch: &&Batch| !documents || !batch.shards.intersection(touched).is_empty();
    plan.batches.iter().filter(own)
}

/// What became of a write at a node, as far as that is known.
fn outcome_at(answers: &Answers, open: &[NodeId], node: &NodeId) -> WriteOutcome {
    match answers.get(node) {
        Some(sent) => WriteOutcome::of(sent),
        None if open.contains(node) => WriteOutcome::Unknown,
        None => WriteOutcome::Rejected,
    }
}

/// Tells the next leader of nodes that may have got what it took for certain had not arrived.
pub(super) async fn report_late(
    state: &ClusterState,
    record: &TaskRecord,
    answers: &Answers,
    open: &[NodeId],
) {
    let arrived =
        answers.iter().filter(|(_, sent)| WriteOutcome::of(sent) != WriteOutcome::Rejected);
    let nodes = arrived.map(|(node, _)| node).chain(open);
    let own = |node: &&NodeId| record.nodes.iter().any(|task| task.node == **node);
    let nodes = nodes.filter(own).cloned().collect();
    let message = LeaderMessage::Late { task: record.uid, nodes };
    if let Err(error) = state.leadership.send(&message).await {
        tracing::error!(task = %record.uid, %error, "a late write is on no record");
    }
}

/// Has it on record who missed a share of a write, and answers for it; `None` where that is not decided
/// before the calls that are open are answered.
///
/// # Errors
/// What its client is told; a store error if nothing is on record yet.
pub(super) async fn settle(
    state: &ClusterState,
    plan: &WritePlan,
    share: &mut Stored,
    answers: &Answers,
    open: &[NodeId],
) -> Result<Option<AcceptedWrite>, Error> {
    let Stored { record, touched, .. } = share;
    let mut at: BTreeMap<NodeId, usize> = BTreeMap::new();
    for node_task in &mut record.nodes {
        let position = at.entry(node_task.node.clone()).or_default();
        match answers.get(&node_task.node).and_then(|sent| sent.get(*position)) {
            Some(Ok(uid)) => node_task.uid = Some(*uid),
            _ => node_task.dropped = true,
        }
        *position += 1;
    }
    let outcome_of = |node: &NodeId| outcome_at(answers, open, node);
    let acked = |node: &NodeId| outcome_of(node) == WriteOutcome::Accepted;
    let kind = record.kind;
    let placement = plan.topology.placement(plan.index.shards);
    let physical = &plan.index.physical;
    let nodes = || concerned(plan, touched).map(|batch| &batch.node);
    let well = |node: &NodeId| state.is_available(node);
    let outcome = state
        .staleness
        .mark_and(
            |stale| {
                let verdict = judge(state, plan, touched, kind, stale, acked);
                let met = matches!(verdict, QuorumDecision::Met { .. });
                if !met && nodes().any(|node| open.contains(node)) {
                    return (Vec::new(), None);
                }
                // What is acknowledged stays, whatever else the nodes got that have it.
                let doubted = |node: &NodeId| !met && state.is_in_doubt(node);
                let rows = match (plan.missed, kind) {
                    (CatchUp::Shard, _) => stale_marks::documents(
                        stale, &placement, physical, touched, well, doubted, outcome_of,
                    ),
                    (_, TaskKind::SettingsUpdate) => stale_marks::settings(
                        stale,
                        &placement,
                        physical,
                        nodes(),
                        well,
                        doubted,
                        outcome_of,
                    ),
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
                for batch in concerned(plan, touched).filter(|b| open.contains(&b.node)) {
                    let shards: Vec<ShardId> = batch.shards.intersection(touched).iter().collect();
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
            Ok((plan.topology.complete_groups().map(|group| group.id).collect(), None))
        }
        QuorumDecision::NoQuorum { shards, .. } => Err(Error::no_quorum(shards)),
    };
    match outcome {
        Ok((degraded, group)) => {
            if kind == TaskKind::IndexDeletion {
                state.document_order.forget(plan.index.incarnation);
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
            let errors = || {
                let own = nodes().filter_map(|node| answers.get(node));
                own.flatten().filter_map(|answer| answer.as_ref().err())
            };
            let refused = errors().find(|e| matches!(e.kind(), ErrorKind::Verbatim { .. }));
            let expired =
                || errors().any(|error| error.node_failure() == Some(NodeFailure::Expired));
            let rejected = nodes().all(|node| outcome_of(node) == WriteOutcome::Rejected);
            let error = match refused {
                Some(error) if !nodes().any(acked) => {
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
pub(super) async fn fail(
    state: &ClusterState,
    record: &mut TaskRecord,
    error: &Error,
) -> Result<(), Error> {
    let text = error.render().1.unwrap_or_default();
    record.end(TaskStatus::Failed, clock::now());
    record.error = serde_json::from_slice(&text).ok();
    Ok(state.stores.tasks.update(record.clone()).await?)
}

impl AcceptedWrite {
    /// The `202` of it.
    pub(super) fn into_response(self) -> Response {
        accepted(&self.record, self.degraded, self.group)
    }
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
