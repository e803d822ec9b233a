//! Which nodes own which shards.

use miroir_api::{GroupId, NodeId, ShardId};

use super::{ShardSet, owners_of};

/// The owners of every shard of an index with a given number of shards, in every group.
///
/// Depends on the node ids of each group, the replication factor and the number of shards, on
/// nothing else: not on addresses, order in the configuration or the nodes' status. Every pod
/// therefore computes the same placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    shards: u32,
    replication_factor: usize,
    groups: Vec<GroupPlacement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct GroupPlacement {
    /// Ascending by id.
    nodes: Vec<NodeId>,
    /// Indexes into `nodes`: `replication_factor` entries a shard, best first.
    owners: Vec<u32>,
    /// What each of `nodes` owns.
    owned: Vec<ShardSet>,
}

impl Placement {
    /// Places `shards` shards on every group; `groups[g]` are the nodes of group `g`, in any order.
    ///
    /// A group with fewer nodes than `replication_factor` places each shard on all its nodes;
    /// [`Topology::new`](crate::topology::Topology::new) refuses such a group.
    pub fn new(groups: &[Vec<NodeId>], replication_factor: u32, shards: u32) -> Self {
        let replication_factor = replication_factor as usize;
        let groups = groups
            .iter()
            .map(|nodes| GroupPlacement::new(nodes.clone(), replication_factor, shards))
            .collect();
        Self { shards, replication_factor, groups }
    }

    /// Number of shards that were placed.
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// Copies of a shard in each group.
    pub fn replication_factor(&self) -> u32 {
        self.replication_factor as u32
    }

    /// Ids of all groups, ascending from 0 without gaps.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0..self.groups.len() as u32).map(GroupId)
    }

    /// The owners of a shard inside a group, best first. Empty when there is no such group or
    /// shard.
    pub fn owners(&self, group: GroupId, shard: ShardId) -> impl Iterator<Item = &NodeId> {
        let group = self.groups.get(group.0 as usize);
        group.into_iter().flat_map(move |g| g.owners(shard).iter().map(|at| &g.nodes[*at as usize]))
    }

    /// The shards a node owns; empty if the node is unknown.
    pub fn owned_by(&self, node: &NodeId) -> ShardSet {
        let owned =
            self.groups.iter().find_map(|g| Some(&g.owned[g.nodes.binary_search(node).ok()?]));
        owned.cloned().unwrap_or_else(|| ShardSet::empty(self.shards))
    }

    /// Every node a write to the shard goes to: all owners in all groups, by group and rank.
    pub fn write_targets(&self, shard: ShardId) -> impl Iterator<Item = (GroupId, &NodeId)> {
        self.groups().flat_map(move |g| self.owners(g, shard).map(move |node| (g, node)))
    }

    /// The nodes of a group, ascending by id.
    pub(super) fn nodes(&self, group: GroupId) -> &[NodeId] {
        self.groups.get(group.0 as usize).map_or(&[], |g| &g.nodes)
    }

    /// Owners of a shard as indexes into [`Self::nodes`], best first.
    pub(super) fn ranked(&self, group: GroupId, shard: ShardId) -> &[u32] {
        self.groups.get(group.0 as usize).map_or(&[], |g| g.owners(shard))
    }

    /// What the node at an index of [`Self::nodes`] owns.
    pub(super) fn owned_at(&self, group: GroupId, node: usize) -> &ShardSet {
        &self.groups[group.0 as usize].owned[node]
    }
}

impl GroupPlacement {
    fn new(mut nodes: Vec<NodeId>, replication_factor: usize, shards: u32) -> Self {
        nodes.sort_unstable();
        let mut owned = vec![ShardSet::empty(shards); nodes.len()];
        let mut owners = Vec::with_capacity(shards as usize * replication_factor.min(nodes.len()));
        let ids: Vec<&NodeId> = nodes.iter().collect();
        for shard in (0..shards).map(ShardId) {
            for at in owners_of(shard, &ids, replication_factor) {
                owned[at].insert(shard);
                owners.push(at as u32);
            }
        }
        Self { nodes, owners, owned }
    }

    fn owners(&self, shard: ShardId) -> &[u32] {
        let shards = self.owned.first().map_or(0, ShardSet::universe) as usize;
        let copies = self.owners.len().checked_div(shards).unwrap_or(0);
        let start = shard.0 as usize * copies;
        self.owners.get(start..start + copies).unwrap_or_default()
    }
}
