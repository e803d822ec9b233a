//! When a write counts as accepted.
//!
//! A write to a shard goes to all its owners in all groups. It is accepted once *one* group met its
//! quorum for that shard, and a batch once that holds for every shard it touched. Groups that
//! missed their quorum or a replica are named degraded; every replica that missed a write is
//! listed, so that it can be recorded, left out of reads and caught up.

use std::collections::{BTreeMap, BTreeSet};

use miroir_api::{GroupId, NodeId, ShardId};
use serde::{Deserialize, Serialize};

use crate::routing::{Placement, ShardSet};

#[cfg(test)]
mod tests;

/// How many owners inside a group have to acknowledge a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteQuorum {
    /// One at RF ≤ 2, as a mirror runs on one disk; the majority above.
    #[default]
    Auto,
    /// More than half: 2 of 2, 2 of 3.
    Majority,
    /// One acknowledgement, whatever the replication factor.
    Any,
}

impl WriteQuorum {
    /// Acknowledgements needed in a group with `replication_factor` owners of a shard.
    pub fn needed(self, replication_factor: u32) -> u32 {
        match self {
            Self::Any => 1,
            Self::Auto if replication_factor <= 2 => 1,
            Self::Auto | Self::Majority => replication_factor / 2 + 1,
        }
    }
}

/// What became of a write to one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardQuorum {
    /// The shard that was written to.
    pub shard: ShardId,
    /// Groups that met their quorum, ascending. The write is accepted if there is one.
    pub met: Vec<GroupId>,
    /// Nodes it goes to that did not acknowledge, by group and rank; while the layout changes those
    /// that do not count are among them.
    pub missed: Vec<(GroupId, NodeId)>,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuorumDecision {
    /// Accepted: for each shard at least one group met its quorum.
    Met {
        /// Groups that met their quorum for every shard, ascending.
        complete: Vec<GroupId>,
        /// Groups that missed their quorum or a replica for some shard, ascending.
        degraded_groups: Vec<GroupId>,
        /// What has to be caught up, ascending by node.
        missed: Vec<(NodeId, ShardSet)>,
    },
    /// Not accepted: some shard has no group that met its quorum.
    NoQuorum {
        /// Shards for which no group met its quorum.
        shards: ShardSet,
        /// What did not acknowledge, ascending by node, over all touched shards: those with a
        /// quorum too, because other replicas may hold their part of the write.
        missed: Vec<(NodeId, ShardSet)>,
    },
}

/// Judges the write to one shard; `acked` tells whether an owner acknowledged it.
#[must_use]
pub fn outcome(
    placement: &Placement,
    rf: u32,
    rule: WriteQuorum,
    shard: ShardId,
    acked: impl Fn(&NodeId, ShardId) -> bool,
) -> ShardQuorum {
    let needed = rule.needed(rf);
    let missed = placement.write_targets(shard).filter(|(_, node)| !acked(node, shard));
    let missed = missed.map(|(group, node)| (group, node.clone())).collect();
    let acks =
        |group| placement.owners(group, shard).filter(|node| acked(node, shard)).count() as u32;
    let met = placement.groups().filter(|group| acks(*group) >= needed).collect();
    ShardQuorum { shard, met, missed }
}

/// Judges a write to the shards `touched`; `acked` tells whether a node acknowledged its part for
/// a shard. A write that touched nothing is accepted.
#[must_use]
pub fn evaluate(
    placement: &Placement,
    rf: u32,
    rule: WriteQuorum,
    touched: &ShardSet,
    acked: impl Fn(&NodeId, ShardId) -> bool,
) -> QuorumDecision {
    let mut lost = ShardSet::empty(touched.universe());
    let mut degraded = BTreeSet::new();
    let counted: Vec<GroupId> = placement.groups().collect();
    let mut complete = counted.clone();
    let mut missed: BTreeMap<NodeId, ShardSet> = BTreeMap::new();
    for shard in touched.iter() {
        let outcome = outcome(placement, rf, rule, shard, &acked);
        if outcome.met.is_empty() {
            lost.insert(shard);
        }
        complete.retain(|group| outcome.met.contains(group));
        degraded.extend(counted.iter().copied().filter(|group| !outcome.met.contains(group)));
        for (group, node) in outcome.missed {
            if counted.contains(&group) {
                degraded.insert(group);
            }
            missed.entry(node).or_insert_with(|| ShardSet::empty(touched.universe())).insert(shard);
        }
    }
    let missed = missed.into_iter().collect();
    if lost.is_empty() {
        QuorumDecision::Met { complete, degraded_groups: degraded.into_iter().collect(), missed }
    } else {
        QuorumDecision::NoQuorum { shards: lost, missed }
    }
}
