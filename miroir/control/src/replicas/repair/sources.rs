//! From where a replica is copied, and how much at a time.

use miroir_api::{NodeId, ShardId};
use miroir_core::routing::ShardSet;
use miroir_core::view::{CatchUp, StaleMap};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::node::Call;
use miroir_store::IndexEntry;
use serde_json::Value;

use super::{Trouble, cx};

/// About so many documents are copied together, but at least one shard. A write of unknown extent
/// makes their comparison begin anew.
const AT_ONCE: u64 = 50_000;

/// Whether a node has every document of a shard, or will have it as soon as its queue is worked off.
pub(in crate::replicas) fn is_complete(
    stale: &StaleMap,
    index: &str,
    node: &NodeId,
    shard: ShardId,
) -> bool {
    // A task that waits when its node goes away may fail when it is back: a pending replica is none
    // to copy from.
    stale.is_authority(index, node, shard)
        && !stale.rows().any(|row| {
            row.index == index
                && row.node == *node
                && row.kind == CatchUp::Pending
                && row.shard.is_none_or(|other| other == shard)
        })
}

/// A readable replica of the shard that missed nothing, other than this node's.
pub(super) fn source_of(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
    shard: ShardId,
) -> Option<NodeId> {
    let topology = state.membership.topology();
    let stale = state.staleness.load();
    let placement = topology.placement(entry.shards);
    placement
        .write_targets(shard)
        .map(|(_, id)| id)
        .find(|id| {
            *id != node
                && topology.node(id).is_some_and(|n| n.is_readable())
                && is_complete(&stale, &entry.physical, id, shard)
                && !state.nodes.scores.is_open(id)
        })
        .cloned()
}

/// Whether some shards can still be copied from a node.
pub(in crate::replicas) fn is_source(
    state: &ClusterState,
    entry: &IndexEntry,
    source: &NodeId,
    shards: &ShardSet,
) -> bool {
    let stale = state.staleness.load();
    state.membership.topology().node(source).is_some_and(|n| n.is_readable())
        && shards.iter().all(|shard| is_complete(&stale, &entry.physical, source, shard))
}

/// A node that missed nothing about the index's settings, other than this one.
pub(super) fn source_of_settings(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
) -> Option<NodeId> {
    let topology = state.membership.topology();
    let stale = state.staleness.load();
    let pending = |id: &NodeId| {
        stale
            .rows()
            .any(|row| row.index == entry.physical && row.node == *id && row.shard.is_none())
    };
    topology
        .nodes()
        .find(|n| {
            n.id != *node
                && n.is_readable()
                && !state.nodes.scores.is_open(&n.id)
                && !pending(&n.id)
        })
        .map(|n| n.id.clone())
}

/// How many shards are copied together.
pub(super) async fn portion(
    state: &ClusterState,
    entry: &IndexEntry,
    source: &NodeId,
) -> Result<usize, Trouble> {
    let path = format!("/indexes/{}/stats", entry.physical);
    let body = state.nodes.call(source, &Call::get("stats_get", path), &cx()).await?;
    let stats: Value = Call::parse(source, &body)?;
    let documents = stats["numberOfDocuments"].as_u64().unwrap_or(u64::MAX);
    let owned = state.membership.topology().placement(entry.shards).owned_by(source).len();
    Ok(at_once(documents, owned))
}

/// How many shards fit into one copy, of a node that holds `owned` shards with so many documents.
fn at_once(documents: u64, owned: usize) -> usize {
    let per_shard = documents.div_ceil(owned.max(1) as u64).max(1);
    usize::try_from(AT_ONCE / per_shard).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_shards_are_copied_together_and_large_ones_alone() {
        assert_eq!(at_once(0, 16), 50_000);
        assert_eq!(at_once(900, 12), 666);
        assert_eq!(at_once(80_000, 16), 10);
        assert_eq!(at_once(5_000_000, 16), 1);
        assert_eq!(at_once(u64::MAX, 0), 1);
    }
}
