//! Nodes that show by a task uid that they lost their disk.

use std::collections::BTreeSet;

use miroir_api::NodeId;
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_store::TaskQuery;

use super::ClusterState;
use crate::error::{Error, NodeFailure};

/// Tasks looked back at for a node's task uids.
pub const LOOK_BACK: usize = 200;

/// Notes the uid of a task that a node took, asked for when `before` was the highest uid known of it.
///
/// # Errors
/// When the uid shows that the node lost its disk: then that is on record.
pub async fn accept_task_uid(
    state: &ClusterState,
    node: &NodeId,
    before: Option<u32>,
    uid: u32,
) -> Result<(), Error> {
    if state.membership.task_uids.takes(node, before, uid) {
        return Ok(());
    }
    declare(state, node).await?;
    Err(Error::node(node, NodeFailure::LostDisk))
}

/// Records that a node lost what it had: nothing of it is read before it was rebuilt, and its old
/// tasks say nothing any more.
///
/// # Errors
/// When the store fails.
pub async fn declare(state: &ClusterState, node: &NodeId) -> Result<(), Error> {
    tracing::error!(%node, "the node lost its disk, or came back with an older copy: rebuilding it");
    metrics::counter!("miroir_nodes_lost_total").increment(1);
    let rows =
        state.catalog.all().into_iter().filter(|entry| !entry.making).map(|entry| StaleReplica {
            node: node.clone(),
            index: entry.physical.clone(),
            shard: None,
            kind: CatchUp::Index,
            generation: 0,
            awaits: Vec::new(),
        });
    state.staleness.mark(rows.collect()).await?;
    state.membership.task_uids.forget(node);
    state.applied.forget(node).await;
    // The uids of its former life would be taken for those of the new one.
    let query = TaskQuery { limit: LOOK_BACK, ..TaskQuery::default() };
    let mut tasks = state.stores.tasks.list(query).await?.tasks;
    tasks.extend(state.stores.tasks.unfinished().await?);
    let mut seen = BTreeSet::new();
    for mut task in tasks {
        let mut changed = false;
        for on_node in task.nodes.iter_mut().filter(|n| n.node == *node && n.uid.is_some()) {
            changed |= !on_node.dropped;
            on_node.dropped = true;
        }
        if seen.insert(task.uid) && changed {
            state.stores.tasks.update(task).await?;
        }
    }
    state.signals.tasks.notify_one();
    Ok(())
}
