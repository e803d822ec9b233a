//! Nodes that show that they lost their disk.

use miroir_api::NodeId;
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_store::{NodeTask, Part, TaskRecord};

use super::ClusterState;
use crate::error::{Error, NodeFailure};

/// Tasks looked back at for task uids of nodes whose highest was never stored.
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
    declare(state, node, None).await?;
    Err(Error::node(node, NodeFailure::LostDisk))
}

/// Records that a node lost what it had: a new life of it begins, nothing of it is read before it was
/// rebuilt, and its old tasks say nothing any more. `seen` is a life that the node shows and the store
/// may not know.
///
/// # Errors
/// When the store fails.
pub async fn declare(state: &ClusterState, node: &NodeId, seen: Option<u64>) -> Result<(), Error> {
    tracing::error!(%node, "the node lost its disk, or came back with an older copy: rebuilding it");
    metrics::counter!("miroir_nodes_lost_total").increment(1);
    // Rows first: whoever dies in between finds the life that still is, and declares it over again.
    let made = state.catalog.all().into_iter().filter(|entry| !entry.making);
    let rows = made.map(|entry| StaleReplica::new(node, &entry.physical, None, CatchUp::Index));
    state.staleness.mark(rows.collect()).await?;
    state.membership.task_uids.forget(node);
    state.nodes.pool.given().forget(node);
    let begun = state.lives.change(node, |record| {
        let mut next = record.next_life();
        next.life = next.life.max(seen.map_or(0, |seen| seen + 1));
        // Who decides about a foreign disk says so when its keys are off it.
        next.foreign = record.foreign;
        next
    });
    begun.await?;
    state.applied.forget(node).await;
    state.signals.tasks.notify_one();
    Ok(state.leadership.publish(&[Part::Nodes]).await?)
}

/// Drops what nodes took of a task in a life that is over: whatever became of it is not on their
/// disks. Returns whether there was any. Replicas that lack it are on record since the life ended. What
/// no node has acknowledged stays: it may arrive in the present life.
pub fn drop_former(state: &ClusterState, task: &mut TaskRecord) -> bool {
    let former = |on: &NodeTask| !on.dropped && on.uid.is_some() && state.lives.is_former(on);
    let mut any = false;
    for on_node in task.nodes.iter_mut().filter(|on| former(on)) {
        on_node.dropped = true;
        any = true;
    }
    any
}
