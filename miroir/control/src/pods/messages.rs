//! What the leader does about messages of the other pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_api::{NodeId, TaskUid};
use serde_json::Value;

use crate::broadcast::drift;
use miroir_core::routing::ShardSet;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::cluster::anti_entropy::Suspicion;
use miroir_pipeline::cluster::leadership::LeaderMessage;
use miroir_pipeline::error::Error;
use miroir_pipeline::index::scatter::stale_marks::{self, WriteOutcome};

/// Does what a message asks for. One that cannot be handled now is left again.
pub(super) async fn handle(state: &Arc<ClusterState>, note: Value) {
    let done = match serde_json::from_value(note.clone()) {
        Ok(LeaderMessage::Late { task, nodes }) => late(state, task, &nodes).await,
        Ok(LeaderMessage::Drift { index }) => mend(state, &index).await,
        Ok(LeaderMessage::Differs { index, shard, ids }) => {
            let ids = ids.into_iter().map(Arc::from).collect();
            state.comparisons.suspect(Suspicion { index, shard, ids });
            Ok(())
        }
        Err(error) => {
            tracing::warn!(%error, %note, "a message of another version is dropped");
            Ok(())
        }
    };
    if let Err(error) = done {
        tracing::warn!(%error, %note, "a message is looked at again");
        if let Err(error) = state.stores.pods.note(note).await {
            tracing::error!(%error, "a message is lost");
        }
    }
}

async fn mend(state: &Arc<ClusterState>, index: &str) -> Result<(), Error> {
    let entry = state.catalog.by_physical(index);
    match entry {
        Some(entry) => drift::check(state, &entry, true).await,
        None => Ok(()),
    }
}

/// Has replicas catch up that got a write after it was settled that they had not.
async fn late(state: &Arc<ClusterState>, task: TaskUid, nodes: &[NodeId]) -> Result<(), Error> {
    metrics::counter!("miroir_late_writes_total").increment(nodes.len() as u64);
    // Indexes that were made or deleted late show when the nodes are looked through again.
    for node in nodes {
        state.membership.task_uids.mark_unverified(node);
    }
    let Some(record) = state.stores.tasks.get(task).await? else { return Ok(()) };
    let physical = record.physical.clone().unwrap_or_default();
    let Some(entry) = state.catalog.of_task(&record) else {
        return Ok(());
    };
    // What its successor found out; of the nodes in question, that nobody knows.
    let mut outcomes: BTreeMap<NodeId, WriteOutcome> = BTreeMap::new();
    for on_node in &record.nodes {
        let outcome = match (on_node.dropped, nodes.contains(&on_node.node)) {
            (true, true) => WriteOutcome::Unknown,
            (true, false) => WriteOutcome::Rejected,
            (false, _) => WriteOutcome::Accepted,
        };
        outcomes
            .entry(on_node.node.clone())
            .and_modify(|f| {
                if outcome != WriteOutcome::Accepted {
                    *f = outcome;
                }
            })
            .or_insert(outcome);
    }
    let outcome_of = |node: &NodeId| outcomes.get(node).copied().unwrap_or(WriteOutcome::Rejected);
    let well = |node: &NodeId| state.is_available(node);
    // It was acknowledged where others had it.
    let doubted = |_: &NodeId| false;
    let touched = record.nodes.iter().flat_map(|n| n.shards.iter().copied());
    let touched = ShardSet::from_iter(touched, entry.shards);
    state
        .staleness
        .mark_by(|stale| {
            let placement = state.membership.topology().placement(entry.shards);
            let rows = if touched.is_empty() {
                let nodes = outcomes.keys();
                stale_marks::settings(
                    stale, &placement, &physical, nodes, well, doubted, outcome_of,
                )
            } else {
                stale_marks::documents(
                    stale, &placement, &physical, &touched, well, doubted, outcome_of,
                )
            };
            (rows, ())
        })
        .await?;
    Ok(())
}
