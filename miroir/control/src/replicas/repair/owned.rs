//! Which replicas can be brought up to date: a node is written the shards that it owns, and no others.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_api::NodeId;
use miroir_core::routing::ShardSet;
use miroir_core::topology::Topology;
use miroir_core::view::StaleReplica;
use miroir_pipeline::cluster::ClusterState;

/// What nodes own now, as far as it was asked for.
pub(super) struct Owned<'a> {
    state: &'a ClusterState,
    topology: Arc<Topology>,
    /// By number of shards.
    known: BTreeMap<(u32, NodeId), ShardSet>,
}

impl<'a> Owned<'a> {
    pub(super) fn new(state: &'a ClusterState) -> Self {
        Self { state, topology: state.membership.topology(), known: BTreeMap::new() }
    }

    /// Whether a row is about a replica that is to be brought up to date now. One that the node does not
    /// own is to be its own, or was; a change of the layout that is paused copies nothing.
    pub(super) fn has(&mut self, row: &StaleReplica) -> bool {
        let Some(shard) = row.shard else { return true };
        let Some(entry) = self.state.catalog.by_physical(&row.index) else { return true };
        let (topology, shards) = (&self.topology, entry.shards);
        let owned = self
            .known
            .entry((shards, row.node.clone()))
            .or_insert_with(|| topology.placement(shards).owned_by(&row.node));
        owned.contains(shard) && !self.state.is_paused(&row.node, shard, shards)
    }
}
