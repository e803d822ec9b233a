//! Which replicas can be brought up to date: a node is written the shards that it owns, and no others.

use miroir_core::topology::Topology;
use miroir_core::view::StaleReplica;
use miroir_pipeline::cluster::ClusterState;

/// Whether a row is about a replica that is to be brought up to date now. One that the node does not own
/// is to be its own, or was; a change of the layout that is paused copies nothing.
pub(super) fn is_due(state: &ClusterState, topology: &Topology, row: &StaleReplica) -> bool {
    let Some(shard) = row.shard else { return true };
    let Some(entry) = state.catalog.by_physical(&row.index) else { return true };
    topology.placement(entry.shards).owns(&row.node, shard)
        && !state.is_paused(&row.node, shard, entry.shards)
}
