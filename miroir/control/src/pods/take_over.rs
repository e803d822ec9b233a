//! Beginning to change things, where another process, or this one before, may have left off in the
//! middle.

use miroir_api::{NodeId, TaskUid};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::index::scatter::catalog_sync;
use miroir_store::{StoreError, TaskQuery};

use crate::replicas::disk_check;
use crate::tasks::recover;

/// Reads what the stores hold and what was left unfinished, and closes the gates of indexes with
/// writes that nobody has looked into yet.
///
/// # Errors
/// When a store fails. It is to be called again then.
pub async fn take_over(state: &ClusterState) -> Result<(), StoreError> {
    let newest = TaskQuery { limit: 1, ..TaskQuery::default() };
    let newest = state.stores.tasks.list(newest).await?.tasks.first().map(|task| task.uid.0);
    state.recovery.begin_at(TaskUid(newest.map_or(0, |uid| uid.saturating_add(1))));
    let topology = state.membership.topology();
    let nodes: Vec<NodeId> = topology.nodes().map(|node| node.id.clone()).collect();
    catalog_sync::undo_makings(&state.stores, &nodes).await?;
    state.recovery.open_all_but(|_| false);
    state.recovery.hold(recover::hold(state).await?);
    state.keyring.seed().await?;
    state.reload().await?;
    state.outbox.want(!state.stores.webhooks.list().await?.is_empty());
    // What a former term of this process left here is told by the stores.
    state.broadcasts.clear();
    state.verifying.clear();
    state.document_order.begin();
    state.applied.clear().await;
    state.membership.task_uids.clear();
    state.nodes.pool.given().clear();
    disk_check::remember(state).await?;
    disk_check::at_first(state).await;
    Ok(())
}
