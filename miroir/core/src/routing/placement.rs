//! Which nodes own which shards.

use std::collections::BTreeMap;

use miroir_api::{GroupId, NodeId, ShardId};

use super::{Phase, ShardSet, owners_of};

/// The nodes among which shards are placed, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seats {
    /// Copies of a shard in each group.
    pub replication_factor: u32,
    /// The nodes of each group.
    pub groups: BTreeMap<GroupId, Vec<NodeId>>,
}

/// The owners of every shard of an index with a given number of shards, in every group.
///
/// Depends on the node ids of each group, the replication factor, the number of shards, and on a
/// change of these that is under way; on nothing else: not on addresses, order in the configuration or
/// the nodes' status. Every pod therefore computes the same placement.
///
/// While a [`Change`](crate::topology::Change) is under way a shard has owners by both layouts. Which
/// of them are written, and which are read, is said by its phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    shards: u32,
    groups: Vec<GroupPlacement>,
    /// Groups that requests begin with, and whose quorum counts.
    counted: Vec<GroupId>,
    changes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct GroupPlacement {
    id: GroupId,
    /// All that own something by either layout, ascending by id.
    nodes: Vec<NodeId>,
    written: Owners,
    /// `None`: those that are written.
    read: Option<Owners>,
    /// Every shard that a node may have documents of.
    held: Vec<ShardSet>,
    /// What a node is written.
    owned: Vec<ShardSet>,
}

/// The owners of each shard, best first, as indexes into the nodes of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Owners {
    all: Vec<u32>,
    /// Where the owners of a shard end in `all`.
    ends: Vec<u32>,
}

impl Owners {
    fn of(&self, shard: ShardId) -> &[u32] {
        let at = shard.0 as usize;
        let Some(end) = self.ends.get(at) else { return &[] };
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[start as usize..*end as usize]
    }

    /// The shards of each of so many nodes.
    fn by_node(&self, nodes: usize) -> Vec<ShardSet> {
        let shards = self.ends.len() as u32;
        let mut out = vec![ShardSet::empty(shards); nodes];
        for shard in (0..shards).map(ShardId) {
            for at in self.of(shard) {
                out[*at as usize].insert(shard);
            }
        }
        out
    }

    /// Those of both for each shard, the first's first.
    fn and(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for shard in (0..self.ends.len() as u32).map(ShardId) {
            let first = self.of(shard);
            both.all.extend(first);
            both.all.extend(other.of(shard).iter().filter(|at| !first.contains(at)));
            both.ends.push(both.all.len() as u32);
        }
        both
    }
}

impl Placement {
    /// Places `shards` shards on every group; `groups[g]` are the nodes of group `g`, in any order.
    ///
    /// A group with fewer nodes than the replication factor places each shard on all its nodes;
    /// [`Topology::new`](crate::topology::Topology::new) refuses such a group.
    pub fn new(groups: &[Vec<NodeId>], replication_factor: u32, shards: u32) -> Self {
        let groups = (0..).map(GroupId).zip(groups.iter().cloned()).collect();
        Self::of(&Seats { replication_factor, groups }, shards)
    }

    /// As [`Placement::new`], on groups with numbers of their own.
    pub fn of(seats: &Seats, shards: u32) -> Self {
        let groups = seats.groups.iter().map(|(id, nodes)| {
            let mut nodes = nodes.clone();
            nodes.sort_unstable();
            let written = owners(&nodes, seats.replication_factor, &nodes, shards);
            GroupPlacement::new(*id, nodes, written, None, None)
        });
        let counted = seats.groups.keys().copied().collect();
        Self { shards, groups: groups.collect(), counted, changes: false }
    }

    /// As [`Placement::of`], while shards go from one list of seats to another.
    pub fn changing(from: &Seats, to: &Seats, phase: Phase, shards: u32) -> Self {
        let mut all: BTreeMap<GroupId, Vec<NodeId>> = from.groups.clone();
        for (group, nodes) in &to.groups {
            all.entry(*group).or_default().extend(nodes.iter().cloned());
        }
        let groups = all.into_iter().map(|(id, mut nodes)| {
            nodes.sort_unstable();
            nodes.dedup();
            let by = |seats: &Seats| {
                let own = seats.groups.get(&id).map_or(&[] as &[NodeId], |own| own);
                owners(own, seats.replication_factor, &nodes, shards)
            };
            let (before, after) = (by(from), by(to));
            let both = before.and(&after);
            let (written, read) = match phase {
                Phase::Announced => (before, None),
                Phase::Copying => (both.clone(), None),
                Phase::Switched => (after.and(&before), Some(after)),
                Phase::Retiring => (after, None),
            };
            GroupPlacement::new(id, nodes, written, read, Some(&both))
        });
        let counted = if phase < Phase::Switched { from } else { to };
        let counted = counted.groups.keys().copied().collect();
        Self { shards, groups: groups.collect(), counted, changes: true }
    }

    fn group(&self, group: GroupId) -> Option<&GroupPlacement> {
        let at = self.groups.binary_search_by_key(&group, |own| own.id).ok()?;
        Some(&self.groups[at])
    }

    fn of_node(&self, node: &NodeId, what: impl Fn(&GroupPlacement) -> &[ShardSet]) -> ShardSet {
        let found = self.groups.iter().find_map(|group| {
            let at = group.nodes.binary_search(node).ok()?;
            what(group).get(at)
        });
        found.cloned().unwrap_or_else(|| ShardSet::empty(self.shards))
    }

    /// Number of shards that were placed.
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// Whether the layout changes: then some node may have documents that it does not own.
    pub fn changes(&self) -> bool {
        self.changes
    }

    /// Ids of all groups that hold every shard, ascending: one that is being added is none of them
    /// before it does.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        self.counted.clone().into_iter()
    }

    /// The owners of a shard inside a group that are read, and count for the quorum of a write; best
    /// first. Empty when there is no such group or shard.
    pub fn owners(&self, group: GroupId, shard: ShardId) -> impl Iterator<Item = &NodeId> {
        let group = self.group(group);
        group
            .into_iter()
            .flat_map(move |g| g.readers().of(shard).iter().map(|at| &g.nodes[*at as usize]))
    }

    /// The shards a node is written; empty if the node is unknown.
    pub fn owned_by(&self, node: &NodeId) -> ShardSet {
        self.of_node(node, |group| &group.owned)
    }

    /// Whether a node is written a shard.
    pub fn owns(&self, node: &NodeId, shard: ShardId) -> bool {
        self.groups.iter().any(|group| {
            let at = group.nodes.binary_search(node);
            at.is_ok_and(|at| group.owned[at].contains(shard))
        })
    }

    /// The shards a node is read for; empty if the node is unknown.
    pub fn read_from(&self, node: &NodeId) -> ShardSet {
        let of = |group: &GroupPlacement| {
            let at = group.nodes.binary_search(node).ok()?;
            group.readers().by_node(group.nodes.len()).into_iter().nth(at)
        };
        self.groups.iter().find_map(of).unwrap_or_else(|| ShardSet::empty(self.shards))
    }

    /// Whether a node is read, and counts for the quorum of a write, for any shard at all. Others have
    /// the index and its settings, and serve nobody.
    pub fn is_read(&self, node: &NodeId) -> bool {
        self.counted.iter().filter_map(|group| self.group(*group)).any(|group| {
            let at = group.nodes.binary_search(node);
            at.is_ok_and(|at| group.readers().all.contains(&(at as u32)))
        })
    }

    /// The shards a node may have documents of; empty if the node is unknown.
    pub fn held_by(&self, node: &NodeId) -> ShardSet {
        self.of_node(node, |group| &group.held)
    }

    /// Every node a write to the shard goes to: all owners in all groups, by group and rank; while the
    /// layout changes, those that count first.
    pub fn write_targets(&self, shard: ShardId) -> impl Iterator<Item = (GroupId, &NodeId)> {
        self.groups.iter().flat_map(move |group| {
            let node = |at: &u32| (group.id, &group.nodes[*at as usize]);
            group.written.of(shard).iter().map(node)
        })
    }

    /// The nodes of a group, ascending by id.
    pub(super) fn nodes(&self, group: GroupId) -> &[NodeId] {
        self.group(group).map_or(&[], |g| &g.nodes)
    }

    /// Owners of a shard that are read as indexes into [`Self::nodes`], best first.
    pub(super) fn ranked(&self, group: GroupId, shard: ShardId) -> &[u32] {
        self.group(group).map_or(&[], |g| g.readers().of(shard))
    }

    /// What the node at an index of [`Self::nodes`] may have documents of.
    pub(super) fn held_at(&self, group: GroupId, node: usize) -> Option<&ShardSet> {
        self.group(group)?.held.get(node)
    }
}

impl GroupPlacement {
    fn new(
        id: GroupId,
        nodes: Vec<NodeId>,
        written: Owners,
        read: Option<Owners>,
        held: Option<&Owners>,
    ) -> Self {
        let owned = written.by_node(nodes.len());
        let held = held.map_or_else(|| owned.clone(), |held| held.by_node(nodes.len()));
        Self { id, nodes, written, read, held, owned }
    }

    fn readers(&self) -> &Owners {
        self.read.as_ref().unwrap_or(&self.written)
    }
}

/// The owners of each shard among `seats`, as indexes into `nodes`, which has all of them.
fn owners(seats: &[NodeId], replication_factor: u32, nodes: &[NodeId], shards: u32) -> Owners {
    let mut seats: Vec<&NodeId> = seats.iter().collect();
    seats.sort_unstable();
    let place: Vec<u32> =
        seats.iter().map(|id| nodes.partition_point(|node| node < *id) as u32).collect();
    let mut out = Owners::default();
    for shard in (0..shards).map(ShardId) {
        let best = owners_of(shard, &seats, replication_factor as usize);
        out.all.extend(best.into_iter().map(|at| place[at]));
        out.ends.push(out.all.len() as u32);
    }
    out
}
