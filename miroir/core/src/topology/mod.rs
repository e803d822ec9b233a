//! The nodes there are, their groups and their states, as an immutable snapshot.
//!
//! One request sees one [`Topology`]. A change makes a new one with the next version; snapshots
//! that differ only in intent or health share their cached [`Placement`]s, because placement
//! does not depend on them.

mod layout;
mod status;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::lock::ReadWriteLock;
use miroir_api::{GroupId, NodeId};

pub use self::layout::{Layout, Seat};
pub use self::status::{Health, IllegalTransition, Intent, NodeEvent, NodeStatus};
use crate::routing::Placement;

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

    /// Whether reads may go to the node. Whether a shard on it is up to date is another question.
    pub fn is_readable(&self) -> bool {
        matches!(self.intent, Intent::Active | Intent::Draining) && self.health != Health::Failed
    }

    /// Whether writes go to the node. A draining node still owns its shards and takes their
    /// writes. A failed node gets none: each write it misses is recorded and caught up before the
    /// node is read again.
    pub fn is_writable(&self) -> bool {
        self.intent != Intent::Removed && self.health != Health::Failed
    }

    /// Takes an event: of intent or of health, whichever it is about.
    ///
    /// # Errors
    /// [`IllegalTransition::Refused`] when the event means nothing now; a removed node takes none.
    pub fn apply(&mut self, event: NodeEvent) -> Result<(), IllegalTransition> {
        let refused = IllegalTransition::Refused { from: self.status(), event };
        if self.intent == Intent::Removed {
            return Err(refused);
        }
        match (self.intent.after(event), self.health.after(event)) {
            (Some(intent), _) => self.intent = intent,
            (None, Some(health)) => self.health = health,
            (None, None) => return Err(refused),
        }
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
    replication_factor: u32,
    groups: Vec<Group>,
    placements: Arc<Placements>,
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

        let mut by_group: BTreeMap<GroupId, Vec<Node>> = BTreeMap::new();
        for node in nodes {
            by_group.entry(node.group).or_default().push(node);
        }
        let mut groups = Vec::with_capacity(by_group.len());
        for (expected, (id, nodes)) in (0..).map(GroupId).zip(by_group) {
            if id != expected {
                return Err(TopologyError::GroupGap { missing: expected, found: id });
            }
            if nodes.len() < replication_factor as usize {
                let nodes = nodes.len();
                return Err(TopologyError::GroupTooSmall { group: id, nodes, replication_factor });
            }
            groups.push(Group { id, nodes });
        }
        Ok(Self { version: 1, replication_factor, groups, placements: Arc::default() })
    }

    /// The next topology, with other nodes: one was added, or one that is removed is left out.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_nodes(&self, nodes: Vec<Node>) -> Result<Self, TopologyError> {
        let next = Self::new(nodes, self.replication_factor)?;
        Ok(Self { version: self.version + 1, ..next })
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

    /// Copies of a shard in each group.
    pub fn replication_factor(&self) -> u32 {
        self.replication_factor
    }

    /// All groups, ascending and without gaps. Never empty.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group of this number; `None` if there are fewer groups.
    pub fn group(&self, group: GroupId) -> Option<&Group> {
        self.groups.get(group.0 as usize)
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
            let groups: Vec<Vec<NodeId>> = self
                .groups
                .iter()
                .map(|group| group.nodes.iter().map(|node| node.id.clone()).collect())
                .collect();
            Arc::new(Placement::new(&groups, self.replication_factor, shards))
        });
        Arc::clone(placement)
    }
}

/// Equal when version, replication factor, groups and nodes are; what is cached does not count.
impl PartialEq for Topology {
    fn eq(&self, other: &Self) -> bool {
        (self.version, self.replication_factor) == (other.version, other.replication_factor)
            && self.groups == other.groups
    }
}

impl Eq for Topology {}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology")
            .field("version", &self.version)
            .field("replication_factor", &self.replication_factor)
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

/// Two nodes behind one address would hold every document of both twice. Case and a slash at the
/// end make no other address.
fn distinct_addresses(nodes: &[Node]) -> Result<(), TopologyError> {
    let mut seen: BTreeMap<String, &NodeId> = BTreeMap::new();
    for node in nodes {
        let address = node.address.trim_end_matches('/').to_ascii_lowercase();
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
