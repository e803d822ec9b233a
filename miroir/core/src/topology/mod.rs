//! The nodes there are, their groups and their states, as an immutable snapshot.
//!
//! One request sees one [`Topology`]. A change makes a new one with the next version; snapshots
//! that differ only in health share their cached [`Placement`]s, because placement does not depend on
//! it.

mod change;
mod layout;
mod restore;
mod status;
mod wish;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::lock::ReadWriteLock;
use miroir_api::{GroupId, NodeId};

pub use self::change::Change;
pub use self::layout::{Layout, Seat};
pub use self::restore::{AutoRestore, Restore, patience, restore};
pub use self::status::{Health, IllegalTransition, Intent, NodeEvent, NodeStatus};
pub use self::wish::{Refused, Wish};
pub use crate::routing::Phase;
use crate::routing::{Placement, Seats};

/// One Meilisearch node: its address, its group, what it is for and how it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Stable id: what placement hashes.
    pub id: NodeId,
    /// Base URL, `http://host:port` without a path.
    pub address: String,
    /// The replica group it belongs to.
    pub group: GroupId,
    /// What it is for.
    pub intent: Intent,
    /// How it is doing.
    pub health: Health,
}

impl Node {
    /// A node that takes reads and writes.
    pub fn new(id: NodeId, address: String, group: GroupId) -> Self {
        Self { id, address, group, intent: Intent::default(), health: Health::default() }
    }

    /// Intent and health in one word.
    pub fn status(&self) -> NodeStatus {
        NodeStatus::of(self.intent, self.health)
    }

    /// Whether reads may go to the node. Which shards it is read for, and whether they are up to date
    /// on it, are other questions.
    pub fn is_readable(&self) -> bool {
        self.health != Health::Failed
    }

    /// Whether writes go to the node, if it owns what they are about. A failed node gets none: each
    /// write it misses is recorded and caught up before the node is read again.
    pub fn is_writable(&self) -> bool {
        self.health != Health::Failed
    }

    /// Takes an event.
    ///
    /// # Errors
    /// [`IllegalTransition::Refused`] when the event means nothing now.
    pub fn apply(&mut self, event: NodeEvent) -> Result<(), IllegalTransition> {
        let refused = IllegalTransition::Refused { from: self.status(), event };
        self.health = self.health.after(event).ok_or(refused)?;
        Ok(())
    }
}

/// One replica group: nodes that together hold every shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Number of the group, from 0.
    pub id: GroupId,
    /// Its nodes, ascending by id. Never empty.
    pub nodes: Vec<Node>,
}

/// A list of nodes that is no cluster. Each text names the configuration field and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// The list of nodes is empty.
    #[error("`nodes` is empty: list at least one node")]
    NoNodes,
    /// No copy of a shard was asked for.
    #[error("`replication_factor` is 0: use at least 1")]
    NoReplicas,
    /// Two nodes have one id.
    #[error("`nodes[].id` `{0}` is used twice: give every node an id of its own")]
    DuplicateId(NodeId),
    /// Two nodes have one address.
    #[error(
        "`nodes[].address` `{address}` is used by `{first}` and `{second}`: \
         every node needs an address of its own"
    )]
    DuplicateAddress {
        /// The address as the second node has it.
        address: String,
        /// Id of the node that comes first in the list.
        first: NodeId,
        /// Id of the node that has the same address again.
        second: NodeId,
    },
    /// A group without nodes lies below one that has some.
    #[error(
        "`nodes[].replica_group` has no node in group {missing} but one in group {found}: \
         number the groups from 0 without gaps"
    )]
    GroupGap {
        /// The lowest group without a node.
        missing: GroupId,
        /// The next group that has one.
        found: GroupId,
    },
    /// A group cannot hold the copies of a shard.
    #[error(
        "`replication_factor` is {replication_factor}, but `nodes[].replica_group` {group} has \
         only {nodes} node(s): add nodes to the group or lower `replication_factor`"
    )]
    GroupTooSmall {
        /// Number of the group.
        group: GroupId,
        /// Number of nodes in the group.
        nodes: usize,
        /// Number of nodes a group needs.
        replication_factor: u32,
    },
}

/// Placements by number of shards; indexes of one cluster use only a few different numbers.
type Placements = ReadWriteLock<BTreeMap<u32, Arc<Placement>>>;

/// The cluster at one moment. Cheap enough to clone when something changes; share it in an `Arc`
/// otherwise.
#[derive(Clone)]
pub struct Topology {
    version: u64,
    groups: Vec<Group>,
    seating: Arc<Seating>,
    placements: Arc<Placements>,
}

/// Among which nodes shards are placed: fewer than there are while a node has no shards.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seating {
    seats: Seats,
    /// A change that is under way: the seats after it.
    change: Option<(Seats, Phase)>,
}

/// Tells whether anybody still works by a way of placing documents.
#[derive(Clone, Debug)]
pub struct InUse(Weak<Seating>);

impl InUse {
    /// Whether somebody does.
    pub fn is_still(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Whether it is the way of a topology.
    pub fn is_of(&self, topology: &Topology) -> bool {
        self.0.as_ptr() == Arc::as_ptr(&topology.seating)
    }
}

impl Seating {
    /// The seats by which requests begin and quorums are counted.
    fn counted(&self) -> &Seats {
        match &self.change {
            Some((to, phase)) if *phase >= Phase::Switched => to,
            _ => &self.seats,
        }
    }
}

impl Topology {
    /// A first topology, with version 1. The order of `nodes` does not matter.
    ///
    /// # Errors
    /// [`TopologyError`] names the field that is wrong.
    pub fn new(mut nodes: Vec<Node>, replication_factor: u32) -> Result<Self, TopologyError> {
        if nodes.is_empty() {
            return Err(TopologyError::NoNodes);
        }
        if replication_factor == 0 {
            return Err(TopologyError::NoReplicas);
        }
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        if let Some(pair) = nodes.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(TopologyError::DuplicateId(pair[0].id.clone()));
        }
        distinct_addresses(&nodes)?;

        let groups = by_group(nodes);
        for (expected, group) in (0..).map(GroupId).zip(&groups) {
            if group.id != expected {
                return Err(TopologyError::GroupGap { missing: expected, found: group.id });
            }
        }
        let ids = |group: &Group| group.nodes.iter().map(|node| node.id.clone()).collect();
        let seats = groups.iter().map(|group| (group.id, ids(group))).collect();
        let seats = Seats { replication_factor, groups: seats };
        large_enough(&seats)?;
        let seating = Arc::new(Seating { seats, change: None });
        Ok(Self { version: 1, groups, seating, placements: Arc::default() })
    }

    /// The next topology by what a store says: the nodes of the layout, of the change that is under way,
    /// and those that have no shards. What is known of a node's health and address stays; new ones are
    /// well, at the address that the store has.
    ///
    /// # Errors
    /// As [`Self::new`]; groups may have any numbers.
    pub fn following(
        &self,
        layout: &Layout,
        change: Option<&Change>,
        without_shards: &[Seat],
    ) -> Result<Self, TopologyError> {
        let mut all: BTreeMap<&NodeId, (&Seat, Intent)> = BTreeMap::new();
        let phase = change.map(|change| change.phase);
        let (mut joins, mut leaves) = (Intent::Joining, Intent::Draining);
        if phase >= Some(Phase::Switched) {
            joins = Intent::Active;
        }
        if phase.is_none() {
            leaves = Intent::Active;
        }
        all.extend(without_shards.iter().map(|seat| (&seat.id, (seat, Intent::Drained))));
        all.extend(layout.nodes.iter().map(|seat| (&seat.id, (seat, leaves))));
        for seat in change.into_iter().flat_map(|change| &change.to.nodes) {
            let own = all.entry(&seat.id).or_insert((seat, joins));
            match own.1 {
                Intent::Drained => own.1 = joins,
                Intent::Draining => own.1 = Intent::Active,
                _ => {}
            }
        }
        let node = |(seat, intent): (&Seat, Intent)| {
            let known = self.node(&seat.id);
            let new = || Node::new(seat.id.clone(), seat.address.clone(), seat.group);
            Node { intent, group: seat.group, ..known.cloned().unwrap_or_else(new) }
        };
        let nodes: Vec<Node> = all.into_values().map(node).collect();
        distinct_addresses(&nodes)?;
        let seats = layout.seats();
        large_enough(&seats)?;
        let change = match change {
            Some(change) => {
                let to = change.to.seats();
                large_enough(&to)?;
                Some((to, change.phase))
            }
            None => None,
        };
        let seating = Seating { seats, change };
        let (seating, placements) = if seating == *self.seating {
            (Arc::clone(&self.seating), Arc::clone(&self.placements))
        } else {
            (Arc::new(seating), Arc::default())
        };
        Ok(Self { version: self.version + 1, groups: by_group(nodes), seating, placements })
    }

    /// The same topology under a given version, when it comes from a store that counts them.
    #[must_use]
    pub fn at_version(self, version: u64) -> Self {
        Self { version, ..self }
    }

    /// Counts changes; a higher version is newer.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Copies of a shard in each group that count for a quorum.
    pub fn replication_factor(&self) -> u32 {
        self.seating.counted().replication_factor
    }

    /// All groups, ascending. Never empty.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The groups that hold every shard, ascending: all but one that is being added or removed.
    pub fn complete_groups(&self) -> impl Iterator<Item = &Group> {
        let counted = self.seating.counted();
        self.groups.iter().filter(|group| counted.groups.contains_key(&group.id))
    }

    /// The group of this number; `None` if there is none.
    pub fn group(&self, group: GroupId) -> Option<&Group> {
        let at = self.groups.binary_search_by_key(&group, |own| own.id).ok()?;
        Some(&self.groups[at])
    }

    /// How far a change of the layout has come; `None` if there is none under way.
    pub fn phase(&self) -> Option<Phase> {
        self.seating.change.as_ref().map(|(_, phase)| *phase)
    }

    /// All nodes, by group and id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.groups.iter().flat_map(|group| &group.nodes)
    }

    /// The node of this id; `None` if no group has it.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.groups.iter().find_map(|group| group.node(id))
    }

    /// The next topology, after something happened to a node.
    ///
    /// # Errors
    /// When there is no such node, or it cannot take the event.
    pub fn with_event(&self, id: &NodeId, event: NodeEvent) -> Result<Self, IllegalTransition> {
        let mut next = self.clone();
        let node = next
            .groups
            .iter_mut()
            .find_map(|group| group.nodes.iter_mut().find(|node| node.id == *id))
            .ok_or_else(|| IllegalTransition::UnknownNode { node: id.clone(), event })?;
        node.apply(event)?;
        next.version += 1;
        Ok(next)
    }

    /// Notes that lives as long as any snapshot that places as this one does, and so as long as any
    /// request that works by one.
    pub fn in_use(&self) -> InUse {
        InUse(Arc::downgrade(&self.seating))
    }

    /// Who owns what in an index with this many shards, whatever the nodes' health. Computed once
    /// a number.
    pub fn placement(&self, shards: u32) -> Arc<Placement> {
        let known = self.placements.read();
        if let Some(known) = known.get(&shards) {
            return Arc::clone(known);
        }
        drop(known);
        let mut known = self.placements.write();
        let placement = known.entry(shards).or_insert_with(|| {
            let Seating { seats, change } = &*self.seating;
            Arc::new(match change {
                Some((to, phase)) => Placement::changing(seats, to, *phase, shards),
                None => Placement::of(seats, shards),
            })
        });
        Arc::clone(placement)
    }
}

/// Equal when version, replication factor, groups and nodes are; what is cached does not count.
impl PartialEq for Topology {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
            && self.seating == other.seating
            && self.groups == other.groups
    }
}

impl Eq for Topology {}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology")
            .field("version", &self.version)
            .field("seating", &self.seating)
            .field("groups", &self.groups)
            .finish_non_exhaustive()
    }
}

impl Group {
    /// One node of the group.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|node| node.id.cmp(id)).ok()?;
        Some(&self.nodes[at])
    }
}

fn by_group(nodes: Vec<Node>) -> Vec<Group> {
    let mut groups: BTreeMap<GroupId, Vec<Node>> = BTreeMap::new();
    for node in nodes {
        groups.entry(node.group).or_default().push(node);
    }
    groups.into_iter().map(|(id, nodes)| Group { id, nodes }).collect()
}

fn large_enough(seats: &Seats) -> Result<(), TopologyError> {
    let replication_factor = seats.replication_factor;
    let small = seats.groups.iter().find(|(_, nodes)| nodes.len() < replication_factor as usize);
    match small {
        Some((group, nodes)) => Err(TopologyError::GroupTooSmall {
            group: *group,
            nodes: nodes.len(),
            replication_factor,
        }),
        None => Ok(()),
    }
}

/// What two addresses of one node have in common: case and a slash at the end make no other address.
fn address_key(address: &str) -> String {
    address.trim_end_matches('/').to_ascii_lowercase()
}

/// Two nodes behind one address would hold every document of both twice.
fn distinct_addresses(nodes: &[Node]) -> Result<(), TopologyError> {
    let mut seen: BTreeMap<String, &NodeId> = BTreeMap::new();
    for node in nodes {
        let address = address_key(&node.address);
        if let Some(first) = seen.insert(address, &node.id) {
            return Err(TopologyError::DuplicateAddress {
                address: node.address.clone(),
                first: first.clone(),
                second: node.id.clone(),
            });
        }
    }
    Ok(())
}
