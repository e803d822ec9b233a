//! What a change is about: the shards whose owners before and after it are not the same.

use std::sync::Arc;

use miroir_api::NodeId;
use miroir_core::routing::ShardSet;
use miroir_core::topology::{Change, Phase, Topology};
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_store::IndexEntry;
use miroir_store::records::CommittedTopology;

use super::{Reason, last};

/// The topology before a change and after it.
pub(super) struct Sides {
    pub(super) before: Topology,
    pub(super) after: Topology,
}

impl Sides {
    pub(super) fn of(
        state: &ClusterState,
        committed: &CommittedTopology,
        change: &Change,
    ) -> Result<Self, Error> {
        let now = state.membership.topology();
        let side = |layout| now.following(layout, None, &[]).map_err(Error::internal);
        Ok(Self { before: side(&committed.layout)?, after: side(&change.to)? })
    }

    /// The shards that a node owns after the change and not before it.
    fn gained_by(&self, node: &NodeId, shards: u32) -> ShardSet {
        let after = self.after.placement(shards).owned_by(node);
        after.difference(&self.before.placement(shards).owned_by(node))
    }

    /// The shards that a node owns before the change and not after it.
    pub(super) fn lost_by(&self, node: &NodeId, shards: u32) -> ShardSet {
        let before = self.before.placement(shards).owned_by(node);
        before.difference(&self.after.placement(shards).owned_by(node))
    }

    /// What owners lack that are new.
    pub(super) fn gained(&self, indexes: &[Arc<IndexEntry>]) -> Vec<StaleReplica> {
        let mut rows = Vec::new();
        for entry in indexes {
            for node in self.after.nodes() {
                let gained = self.gained_by(&node.id, entry.shards);
                rows.extend(gained.iter().map(|shard| {
                    StaleReplica::new(&node.id, &entry.physical, Some(shard), CatchUp::Shard)
                }));
            }
        }
        rows
    }

    /// Replicas that are still missing before the next phase: new ones while they are copied, and then
    /// all of the shards that change owners.
    pub(super) fn unready(&self, state: &ClusterState, phase: Phase) -> Option<Reason> {
        let stale = state.staleness.load();
        let (mut open, mut example) = (0_usize, None);
        for row in stale.rows() {
            let Some(entry) = state.catalog.by_physical(&row.index) else { continue };
            let shards = entry.shards;
            let gained = self.gained_by(&row.node, shards);
            let concerned = match row.shard {
                None => row.kind >= CatchUp::Index && !gained.is_empty(),
                Some(shard) if gained.contains(shard) => true,
                Some(shard) => {
                    phase == Phase::Switched
                        && self.after.placement(shards).owns(&row.node, shard)
                        && self.changes(&entry, shard)
                }
            };
            if concerned {
                open += 1;
                example.get_or_insert_with(|| format!("index `{}` on `{}`", entry.name, row.node));
            }
        }
        let Some(example) = example else {
            let stays = |entry: &IndexEntry, node: &NodeId| {
                self.after.placement(entry.shards).is_read(node)
            };
            // Those that leave may be switched off as soon as they have left.
            let lost = last::loses_settings(state, stays)?;
            return Some(Reason::new(
                "copies",
                format!("no node that stays has the settings of index `{}` yet", lost.name),
            ));
        };
        Some(Reason::new(
            "copies",
            format!("{open} replica(s) are not up to date, such as {example}"),
        ))
    }

    /// Whether a shard has other owners after the change.
    fn changes(&self, entry: &IndexEntry, shard: miroir_api::ShardId) -> bool {
        let owners = |side: &Topology| {
            let placement = side.placement(entry.shards);
            let mut owners: Vec<NodeId> =
                placement.write_targets(shard).map(|(_, node)| node.clone()).collect();
            owners.sort_unstable();
            owners
        };
        owners(&self.before) != owners(&self.after)
    }
}
