//! Documents that a node has and does not own.

use std::sync::Arc;

use miroir_api::NodeId;
use miroir_core::routing::ShardSet;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_pipeline::leaf::lacks_index;
use miroir_store::IndexEntry;

use super::{Trouble, node};

/// Deletes a node's documents of some shards, by their ids, until it has none.
///
/// # Errors
/// When the node fails. One that has no such index has nothing to delete.
pub(crate) async fn delete_shards(
    state: &ClusterState,
    entry: &IndexEntry,
    of: &NodeId,
    shards: &ShardSet,
) -> Result<(), Error> {
    match delete_all(state, entry, of, shards).await {
        Ok(()) => Ok(()),
        Err(Trouble::Failed(error)) if lacks_index(&error) => Ok(()),
        Err(trouble) => Err(trouble.into_error()),
    }
}

async fn delete_all(
    state: &ClusterState,
    entry: &IndexEntry,
    of: &NodeId,
    shards: &ShardSet,
) -> Result<(), Trouble> {
    loop {
        let ids: Vec<Arc<str>> = node::ids(state, entry, of, shards, 0).await?;
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<&Arc<str>> = ids.iter().collect();
        let uids = node::delete(state, entry, of, &ids).await?;
        node::wait(state, of, &uids).await?;
    }
}
