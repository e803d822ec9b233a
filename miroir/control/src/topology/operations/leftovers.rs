//! Documents of shards that a node does not own any more.

use std::sync::Arc;

use miroir_api::NodeId;
use miroir_core::routing::ShardSet;
use miroir_core::topology::Health;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_store::IndexEntry;

use super::Reason;
use super::pairs::Sides;
use crate::replicas::repair;

/// Nodes that had shards which are others' after a change, index by index. Those that leave, and do not
/// answer, are none of them: they keep what they have, and are asked for nothing any more.
fn leftovers(state: &ClusterState, sides: &Sides) -> Vec<(NodeId, Arc<IndexEntry>, ShardSet)> {
    let mut all = Vec::new();
    for node in sides.before.nodes() {
        if sides.after.node(&node.id).is_none() && is_away(state, &node.id) {
            continue;
        }
        for entry in state.catalog.all().into_iter().filter(|entry| entry.primary_key.is_some()) {
            let lost = sides.lost_by(&node.id, entry.shards);
            if !lost.is_empty() {
                all.push((node.id.clone(), entry, lost));
            }
        }
    }
    all
}

fn is_away(state: &ClusterState, node: &NodeId) -> bool {
    let topology = state.membership.topology();
    topology.node(node).is_none_or(|node| node.health == Health::Failed)
}

/// What keeps such documents from being deleted.
pub(super) fn kept(state: &ClusterState, sides: &Sides) -> Option<Reason> {
    let stale = state.staleness.load();
    leftovers(state, sides).into_iter().find_map(|(node, entry, _)| {
        if is_away(state, &node) {
            return Some(Reason::new("node_away", node.to_string()));
        }
        // Its index is made anew, without these shards.
        let lacks = stale.lacks_index(&entry.physical, &node);
        lacks.then(|| Reason::new("indexes", format!("index `{}` on node `{node}`", entry.name)))
    })
}

/// Deletes them.
pub(super) async fn clean(state: &Arc<ClusterState>, sides: &Sides) -> Result<(), Error> {
    for (node, entry, shards) in leftovers(state, sides) {
        repair::delete_shards(state, &entry, &node, &shards).await?;
    }
    Ok(())
}
