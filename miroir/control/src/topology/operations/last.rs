//! Nodes that alone have an index's settings: who copies them needs somebody to copy from.

use std::sync::Arc;

use miroir_api::NodeId;
use miroir_pipeline::cluster::ClusterState;
use miroir_store::IndexEntry;

/// An index whose settings would be on no node any more, if only those were left that stay. `stays` is
/// asked of an index and a node.
pub(super) fn loses_settings(
    state: &ClusterState,
    stays: impl Fn(&IndexEntry, &NodeId) -> bool,
) -> Option<Arc<IndexEntry>> {
    let (topology, stale) = (state.membership.topology(), state.staleness.load());
    state.catalog.all().into_iter().find(|entry| {
        let missed = |node: &NodeId| {
            stale.of_index(&entry.physical).any(|row| row.node == *node && row.shard.is_none())
        };
        let mut have = topology.nodes().map(|node| &node.id).filter(|id| !missed(id)).peekable();
        have.peek().is_some() && !have.any(|id| stays(entry, id))
    })
}
