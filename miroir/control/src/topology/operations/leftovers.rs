//! Documents of shards that a node does not own any more.

use std::sync::Arc;

use miroir_core::topology::{Change, Health};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_store::records::CommittedTopology;

use super::Reason;
use super::pairs::Sides;
use crate::replicas::repair;

/// Deletes what nodes have of shards that are others' after the change. Says what keeps it, if something
/// does. Nodes that leave, and do not answer, keep what they have: they are asked for nothing any more.
pub(super) async fn clean(
    state: &Arc<ClusterState>,
    committed: &CommittedTopology,
    change: &Change,
) -> Result<Option<Reason>, Error> {
    let sides = Sides::of(state, committed, change)?;
    let topology = state.membership.topology();
    for node in sides.before.nodes() {
        let stays = sides.after.node(&node.id).is_some();
        let there = topology.node(&node.id);
        let failed = there.is_none_or(|node| node.health == Health::Failed);
        for entry in state.catalog.all() {
            let lost = sides.lost_by(&node.id, entry.shards);
            if lost.is_empty() || entry.primary_key.is_none() {
                continue;
            }
            if failed && !stays {
                continue;
            }
            if failed {
                return Ok(Some(Reason::new("node_away", node.id.to_string())));
            }
            // Its index may not be sound: it is made anew then, without these shards.
            if state.staleness.load().lacks_index(&entry.physical, &node.id) {
                return Ok(Some(Reason::new(
                    "indexes",
                    format!("`{}` on `{}`", entry.name, node.id),
                )));
            }
            repair::delete_shards(state, &entry, &node.id, &lost).await?;
        }
    }
    Ok(None)
}
