//! Which replicas must not be read, as a snapshot.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

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
    /// A replica that missed something just now: of no generation yet, and waiting for no task.
    pub fn new(node: &NodeId, index: &str, shard: Option<ShardId>, kind: CatchUp) -> Self {
        let (node, index) = (node.clone(), index.to_owned());
        Self { node, index, shard, kind, generation: 0, awaits: Vec::new() }
    }

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

/// Which replicas must not be read. Looking one up takes the same time however many of an index
/// there are, and a map without some of them shares the other indexes.
#[derive(Debug, Default)]
pub struct StaleMap {
    indexes: BTreeMap<String, Arc<OfIndex>>,
    total: usize,
}

/// The rows of one index, in the order they came in.
#[derive(Debug, Default)]
struct OfIndex {
    rows: Vec<StaleReplica>,
    nodes: HashMap<NodeId, Marks>,
}

impl OfIndex {
    fn new(rows: Vec<StaleReplica>) -> Self {
        let mut nodes: HashMap<NodeId, Marks> = HashMap::new();
        for row in &rows {
            match nodes.get_mut(&row.node) {
                Some(marks) => marks.add(row),
                None => nodes.entry(row.node.clone()).or_default().add(row),
            }
        }
        Self { rows, nodes }
    }
}

/// What the rows of one node say of one index.
#[derive(Debug, Default)]
struct Marks {
    /// Shards with a row of their own.
    stale: Bits,
    /// Whether a row is about the index as a whole.
    whole: bool,
    /// Whether such a row is about more than tasks that are pending.
    misses: bool,
    /// Whether such a row is about more than settings.
    documents: bool,
    /// Whether a row of any shard is as strong as [`CatchUp::Index`].
    lacks_index: bool,
}

/// A set of shards that grows.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn insert(&mut self, shard: ShardId) {
        let (word, bit) = (shard.0 as usize / 64, shard.0 % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << bit;
    }

    fn contains(&self, shard: ShardId) -> bool {
        let (word, bit) = (shard.0 as usize / 64, shard.0 % 64);
        self.0.get(word).is_some_and(|word| word & (1 << bit) != 0)
    }
}

impl Marks {
    fn add(&mut self, row: &StaleReplica) {
        self.lacks_index |= row.kind >= CatchUp::Index;
        match row.shard {
            Some(shard) => {
                self.stale.insert(shard);
            }
            None => {
                self.whole = true;
                self.misses |= row.kind >= CatchUp::Shard;
                self.documents |= row.kind != CatchUp::Shard;
            }
        }
    }
}

impl StaleMap {
    /// The map of these rows.
    pub fn new(rows: Vec<StaleReplica>) -> Self {
        let total = rows.len();
        let mut indexes: BTreeMap<String, Vec<StaleReplica>> = BTreeMap::new();
        for row in rows {
            match indexes.get_mut(&row.index) {
                Some(rows) => rows.push(row),
                None => indexes.entry(row.index.clone()).or_default().push(row),
            }
        }
        let indexes = indexes.into_iter();
        let indexes = indexes.map(|(name, rows)| (name, Arc::new(OfIndex::new(rows)))).collect();
        Self { indexes, total }
    }

    /// The map without the row of this node, index, shard and generation, if it is there.
    #[must_use]
    pub fn without(&self, row: &StaleReplica) -> Self {
        let mut indexes = self.indexes.clone();
        let mut total = self.total;
        if let Some(of) = self.indexes.get(&row.index) {
            let key = |row: &StaleReplica| (row.node.clone(), row.shard, row.generation);
            let gone = key(row);
            let rows: Vec<_> = of.rows.iter().filter(|own| key(own) != gone).cloned().collect();
            total -= of.rows.len() - rows.len();
            if rows.is_empty() {
                indexes.remove(&row.index);
            } else {
                indexes.insert(row.index.clone(), Arc::new(OfIndex::new(rows)));
            }
        }
        Self { indexes, total }
    }

    fn marks(&self, index: &str, node: &NodeId) -> Option<&Marks> {
        // As a rule nothing is stale.
        if self.is_empty() {
            return None;
        }
        self.indexes.get(index)?.nodes.get(node)
    }

    /// Whether this node's copy of the shard must not be read.
    pub fn is_stale(&self, index: &str, node: &NodeId, shard: ShardId) -> bool {
        // A deletion it missed counts too: the index was made again since, and the node still has
        // the old one.
        self.marks(index, node).is_some_and(|marks| marks.whole || marks.stale.contains(shard))
    }

    /// Whether this node missed no write to the shard that was acknowledged: what it has, with what
    /// is in its queue, may be copied from, and its word on a write counts.
    ///
    /// One with tasks pending from before it went away is none until they are known to have
    /// succeeded. One that missed settings alone is.
    pub fn is_authority(&self, index: &str, node: &NodeId, shard: ShardId) -> bool {
        self.marks(index, node).is_none_or(|marks| !marks.stale.contains(shard) && !marks.documents)
    }

    /// Whether the node missed something about the index as a whole: its settings, its making, or
    /// the deletion of one of the same name.
    pub fn misses_index(&self, index: &str, node: &NodeId) -> bool {
        self.marks(index, node).is_some_and(|marks| marks.misses)
    }

    /// Whether the index has to be created again on the node before it can take anything.
    pub fn lacks_index(&self, index: &str, node: &NodeId) -> bool {
        self.marks(index, node).is_some_and(|marks| marks.lacks_index)
    }

    /// Whether there is a row about any of this node's copies of the index.
    pub fn touches(&self, index: &str, node: &NodeId) -> bool {
        self.marks(index, node).is_some()
    }

    /// Rows of one index, by its name on the nodes.
    pub fn of_index(&self, index: &str) -> impl Iterator<Item = &StaleReplica> {
        self.indexes.get(index).into_iter().flat_map(|of| &of.rows)
    }

    /// Rows of all indexes.
    pub fn rows(&self) -> impl Iterator<Item = &StaleReplica> {
        self.indexes.values().flat_map(|of| &of.rows)
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
    use proptest::prelude::*;

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

    fn node(at: u8) -> NodeId {
        NodeId::new(&format!("n{at}")).unwrap()
    }

    prop_compose! {
        fn any_row()(
            at in 0..3_u8,
            index in 0..2_u8,
            shard in prop::option::weighted(0.8, 0..130_u32),
            kind in prop::sample::select(vec![
                CatchUp::Pending, CatchUp::Shard, CatchUp::Index, CatchUp::Deleted,
            ]),
        ) -> StaleReplica {
            let (node, index, shard) = (node(at), format!("i{index}"), shard.map(ShardId));
            StaleReplica { node, index, shard, kind, generation: 1, awaits: Vec::new() }
        }
    }

    proptest! {
        #[test]
        fn look_ups_say_what_the_rows_say(rows in prop::collection::vec(any_row(), 0..12)) {
            let mut rows = rows;
            let mut map = StaleMap::new(rows.clone());
            prop_assert_eq!(map.len(), rows.len());
            if let Some(row) = rows.first().cloned() {
                rows.retain(|own| {
                    (&own.node, &own.index, own.shard) != (&row.node, &row.index, row.shard)
                });
                map = map.without(&row);
            }
            prop_assert_eq!(map.rows().count(), rows.len());
            prop_assert_eq!((map.len(), map.is_empty()), (rows.len(), rows.is_empty()));
            for (index, at) in (0..2_u8).flat_map(|index| (0..3_u8).map(move |at| (index, at))) {
                let (index, node) = (format!("i{index}"), node(at));
                let own = || rows.iter().filter(|row| row.node == node && row.index == index);
                prop_assert_eq!(map.touches(&index, &node), own().next().is_some());
                let lacks = own().any(|row| row.kind >= CatchUp::Index);
                prop_assert_eq!(map.lacks_index(&index, &node), lacks);
                let misses = own().any(|row| row.shard.is_none() && row.kind >= CatchUp::Shard);
                prop_assert_eq!(map.misses_index(&index, &node), misses);
                for shard in (0..140).map(ShardId) {
                    let stale = own().any(|row| row.shard.is_none_or(|own| own == shard));
                    prop_assert_eq!(map.is_stale(&index, &node, shard), stale);
                    let missed = own().any(|row| match row.shard {
                        Some(own) => own == shard,
                        None => row.kind != CatchUp::Shard,
                    });
                    prop_assert_eq!(map.is_authority(&index, &node, shard), !missed);
                }
            }
        }
    }
}
