//! Which replicas must not be read, as a snapshot.

use std::collections::BTreeMap;

use miroir_api::{NodeId, ShardId};

use serde::{Deserialize, Serialize};

/// What a replica needs before it may be read again. Ordered by strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// It has writes in its queue that it had not finished when it went away: ask how they ended.
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
    /// The node's tasks whose success makes a [`CatchUp::Pending`] replica complete, by uid,
    /// ascending; empty in rows of other kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaits: Vec<u32>,
}

impl StaleReplica {
    /// Most tasks that one row waits for. A replica that waits for more is compared instead.
    pub const MOST_AWAITED: usize = 1000;

    /// The row after another miss of the same replica: the stronger kind, and the tasks of both.
    /// The generation is the newer one's.
    #[must_use]
    pub fn and(mut self, newer: Self) -> Self {
        self.kind = self.kind.max(newer.kind);
        self.generation = newer.generation;
        self.awaits.extend(newer.awaits);
        self.awaits.sort_unstable();
        self.awaits.dedup();
        if self.awaits.len() > Self::MOST_AWAITED {
            self.kind = self.kind.max(self.without_tasks());
        }
        if self.kind != CatchUp::Pending {
            self.awaits.clear();
        }
        self
    }

    /// What the replica needs where its tasks did not do what was acknowledged, or nobody knows.
    pub fn without_tasks(&self) -> CatchUp {
        if self.shard.is_some() { CatchUp::Shard } else { CatchUp::Index }
    }
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

    /// Whether this node missed no write to the shard that was acknowledged: what it has, with what
    /// is in its queue, may be copied from, and its word on a write counts.
    ///
    /// One with tasks pending from before it went away is none until they are known to have
    /// succeeded. One that missed settings alone is.
    pub fn is_authority(&self, index: &str, node: &NodeId, shard: ShardId) -> bool {
        !self.rows.get(index).is_some_and(|rows| {
            rows.iter().any(|row| {
                row.node == *node
                    && match row.shard {
                        Some(missed) => missed == shard,
                        None => row.kind != CatchUp::Shard,
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

    /// Rows of one index, by its name on the nodes.
    pub fn of_index(&self, index: &str) -> impl Iterator<Item = &StaleReplica> {
        self.rows.get(index).into_iter().flatten()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(shard: Option<u32>, kind: CatchUp, awaits: &[u32]) -> StaleReplica {
        StaleReplica {
            node: NodeId::new("n").unwrap(),
            index: "a".to_owned(),
            shard: shard.map(ShardId),
            kind,
            generation: 0,
            awaits: awaits.to_vec(),
        }
    }

    #[test]
    fn a_replica_with_tasks_pending_is_no_authority() {
        let node = NodeId::new("n").unwrap();
        let authority =
            |row: StaleReplica| StaleMap::new(vec![row]).is_authority("a", &node, ShardId(1));
        for kind in [CatchUp::Pending, CatchUp::Shard, CatchUp::Index, CatchUp::Deleted] {
            assert!(!authority(row(Some(1), kind, &[])), "{kind:?}");
            assert!(authority(row(Some(2), kind, &[])), "{kind:?}");
            // Settings say nothing of documents.
            assert_eq!(authority(row(None, kind, &[])), kind == CatchUp::Shard, "{kind:?}");
        }
    }

    #[test]
    fn rows_that_wait_wait_for_the_tasks_of_both() {
        let both =
            row(Some(1), CatchUp::Pending, &[7, 3]).and(row(Some(1), CatchUp::Pending, &[3, 5]));
        assert_eq!((both.kind, both.awaits.as_slice()), (CatchUp::Pending, [3, 5, 7].as_slice()));
        let missed = both.and(row(Some(1), CatchUp::Shard, &[]));
        assert_eq!((missed.kind, missed.awaits.as_slice()), (CatchUp::Shard, [].as_slice()));
        let late = missed.and(row(Some(1), CatchUp::Pending, &[9]));
        assert_eq!((late.kind, late.awaits.as_slice()), (CatchUp::Shard, [].as_slice()));
        let many: Vec<u32> = (0..=StaleReplica::MOST_AWAITED as u32).collect();
        for (shard, kind) in [(Some(1), CatchUp::Shard), (None, CatchUp::Index)] {
            let full = row(shard, CatchUp::Pending, &many[1..]);
            let full = full.clone().and(full);
            assert_eq!((full.kind, full.awaits.len()), (CatchUp::Pending, many.len() - 1));
            let over = full.and(row(shard, CatchUp::Pending, &many[..1]));
            assert_eq!((over.kind, over.awaits.len()), (kind, 0));
        }
    }
}
