//! Which replicas must not be read, as a snapshot.

use std::collections::BTreeMap;

use miroir_api::{NodeId, ShardId};

use serde::{Deserialize, Serialize};

/// What a replica needs before it may be read again. Ordered by strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// It has the write in its queue but had not finished it when it went away.
    Pending,
    /// It missed a write to the shard: copy the shard from a peer.
    Shard,
    /// It missed a change of the index itself: build the index anew, then copy every shard.
    Index,
    /// It missed the deletion of an index that no longer exists.
    Deleted,
}

/// A replica that must not be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StaleReplica {
    /// Id of the node that has the replica.
    pub node: NodeId,
    /// Name of the index on the nodes.
    pub index: String,
    /// The shard; `None` for the index as a whole.
    pub shard: Option<ShardId>,
    /// What it needs before it may be read.
    pub kind: CatchUp,
    /// Raised by each miss; 0 in what callers of `mark` pass.
    pub generation: u64,
}

/// Which replicas must not be read, by physical index.
#[derive(Debug, Default)]
pub struct StaleMap {
    rows: BTreeMap<String, Vec<StaleReplica>>,
    total: usize,
}

impl StaleMap {
    /// The map of these rows.
    pub fn new(rows: Vec<StaleReplica>) -> Self {
        let total = rows.len();
        let mut map = Self { rows: BTreeMap::new(), total };
        for row in rows {
            map.rows.entry(row.index.clone()).or_default().push(row);
        }
        map
    }

    /// Whether this node's copy of the shard must not be read.
    pub fn is_stale(&self, index: &str, node: &NodeId, shard: ShardId) -> bool {
        self.rows.get(index).is_some_and(|rows| {
            rows.iter().any(|row| {
                // A deletion it missed counts too: the index was made again since, and the node
                // still has the old one.
                row.node == *node && row.shard.is_none_or(|s| s == shard)
            })
        })
    }

    /// Whether this node has, or has in its queue, every write to the shard that was acknowledged.
    /// It may still not be readable.
    pub fn is_authority(&self, index: &str, node: &NodeId, shard: ShardId) -> bool {
        !self.rows.get(index).is_some_and(|rows| {
            rows.iter().any(|row| {
                row.node == *node
                    && match row.shard {
                        Some(missed) => missed == shard && row.kind >= CatchUp::Shard,
                        None => row.kind >= CatchUp::Index,
                    }
            })
        })
    }

    /// Whether the node missed something about the index as a whole: its settings, its making, or
    /// the deletion of one of the same name.
    pub fn misses_index(&self, index: &str, node: &NodeId) -> bool {
        self.rows.get(index).is_some_and(|rows| {
            rows.iter().any(|row| {
                let about_all = row.shard.is_none() && row.kind >= CatchUp::Shard;
                row.node == *node && about_all
            })
        })
    }

    /// Whether the index has to be created again on the node before it can take anything.
    pub fn lacks_index(&self, index: &str, node: &NodeId) -> bool {
        self.rows.get(index).is_some_and(|rows| {
            rows.iter().any(|row| row.node == *node && row.kind >= CatchUp::Index)
        })
    }

    /// Rows of all indexes.
    pub fn rows(&self) -> impl Iterator<Item = &StaleReplica> {
        self.rows.values().flatten()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.total
    }

    /// Whether every replica may be read.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}
