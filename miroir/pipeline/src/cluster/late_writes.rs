//! Writes that a node had not answered when they were acknowledged.
//!
//! A write is acknowledged once its quorum has it and every other owner answered or had its grace.
//! Whoever did not is marked stale, and its call goes on: it is *late*. As long as a call of a node is
//! late, nobody waits for that node again. What it marked is left alone by repairs, as the call might
//! arrive after the copy; and where it was taken after all, and carried out, the mark goes without any
//! copy, unless the replica missed something else meanwhile.
//!
//! Nothing of this is stored: who forgets it repairs by copying.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_api::{NodeId, ShardId, TaskUid};
use miroir_core::lock::Lock;
use miroir_core::view::{CatchUp, StaleMap, StaleReplica};
use tokio::sync::Notify;

type Key = (NodeId, String, ShardId);

/// What late writes marked of one replica.
#[derive(Debug)]
struct Mark {
    /// Of the row, after the last of them.
    generation: u64,
    /// The writes, and whether the node answered.
    writes: BTreeMap<TaskUid, bool>,
    /// Whether they are all that the replica missed.
    alone: bool,
}

/// A late write that the node has in its queue.
#[derive(Clone, Debug)]
pub struct LateTask {
    /// The task of the write.
    pub task: TaskUid,
    /// Name of the index on the nodes.
    pub index: String,
    /// The shards of the write that the node owns.
    pub shards: Vec<ShardId>,
    /// Uids of the node's tasks, in the order of the calls.
    pub uids: Vec<u32>,
    /// The life of the node in which it took them.
    pub life: u64,
}

#[derive(Debug, Default)]
struct Inner {
    marks: BTreeMap<Key, Mark>,
    /// Calls that are late, and their bytes.
    calls: BTreeMap<NodeId, (usize, usize)>,
    /// Acknowledgements that no record of a task has yet.
    acknowledged: Vec<(NodeId, LateTask)>,
    /// What records of tasks count, and nobody knows the end of.
    taken: BTreeMap<NodeId, Vec<LateTask>>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct LateWrites {
    inner: Arc<Lock<Inner>>,
    /// Notified when a late write is there to be followed.
    pub changed: Notify,
}

/// A call is late while this lives.
#[derive(Debug)]
pub struct LateCall {
    inner: Arc<Lock<Inner>>,
    node: NodeId,
    bytes: usize,
}

impl LateCall {
    /// The node that the call goes to.
    pub fn node(&self) -> &NodeId {
        &self.node
    }
}

impl Drop for LateCall {
    fn drop(&mut self) {
        let mut inner = self.inner.lock();
        if let Some((calls, bytes)) = inner.calls.get_mut(&self.node) {
            *calls -= 1;
            *bytes -= self.bytes;
            if *calls == 0 {
                inner.calls.remove(&self.node);
            }
        }
    }
}

impl LateWrites {
    /// Counts a call to a node, with a body of so many bytes, as late until the guard is dropped.
    pub fn begin(&self, node: &NodeId, bytes: usize) -> LateCall {
        metrics::counter!("miroir_writes_late_total").increment(1);
        let mut inner = self.inner.lock();
        let sum = inner.calls.entry(node.clone()).or_default();
        *sum = (sum.0 + 1, sum.1 + bytes);
        LateCall { inner: Arc::clone(&self.inner), node: node.clone(), bytes }
    }

    /// Whether a call of the node is late.
    pub fn is_late(&self, node: &NodeId) -> bool {
        self.inner.lock().calls.contains_key(node)
    }

    /// Bytes of the node's late calls.
    pub fn bytes(&self, node: &NodeId) -> usize {
        self.inner.lock().calls.get(node).map_or(0, |(_, bytes)| *bytes)
    }

    /// Notes what a write marked of a node that has not answered it. Called before anybody sees
    /// `after`, with the rows before and after the mark; again for the same write changes nothing.
    pub fn marked(
        &self,
        task: TaskUid,
        node: &NodeId,
        index: &str,
        shards: &[ShardId],
        before: &StaleMap,
        after: &StaleMap,
    ) {
        let generation = |map: &StaleMap, shard| {
            let of = |row: &&StaleReplica| row.node == *node && row.shard == Some(shard);
            map.of_index(index).find(of).map(|row| (row.kind, row.generation))
        };
        let mut inner = self.inner.lock();
        for shard in shards {
            let Some((kind, now)) = generation(after, *shard) else { continue };
            let old = generation(before, *shard).map(|(_, generation)| generation);
            let mark =
                inner.marks.entry((node.clone(), index.to_owned(), *shard)).or_insert_with(|| {
                    Mark { generation: now, writes: BTreeMap::new(), alone: old.is_none() }
                });
            if !mark.writes.is_empty() && old != Some(mark.generation) {
                mark.alone = false;
            }
            mark.alone &= kind == CatchUp::Shard;
            mark.generation = now;
            mark.writes.insert(task, false);
        }
    }

    /// A node took a late write after all. The record of its task is told first: see
    /// [`LateWrites::acknowledgements`].
    pub fn taken(&self, node: &NodeId, late: LateTask) {
        let mut inner = self.inner.lock();
        for shard in &late.shards {
            let key = (node.clone(), late.index.clone(), *shard);
            if let Some(mark) = inner.marks.get_mut(&key) {
                mark.writes.insert(late.task, true);
            }
        }
        inner.acknowledged.push((node.clone(), late));
    }

    /// Acknowledgements that no record of a task has yet, oldest first.
    pub fn acknowledgements(&self) -> Vec<(NodeId, LateTask)> {
        self.inner.lock().acknowledged.clone()
    }

    /// The record of its task has the oldest of the acknowledgements, or is closed. From here on it
    /// is followed: a mark that went before would let its task end without it.
    pub fn recorded(&self) {
        let mut inner = self.inner.lock();
        if !inner.acknowledged.is_empty() {
            let (node, late) = inner.acknowledged.remove(0);
            inner.taken.entry(node).or_default().push(late);
            self.changed.notify_one();
        }
    }

    /// The late writes that nodes have in their queues, oldest first.
    pub fn queued(&self) -> BTreeMap<NodeId, Vec<LateTask>> {
        self.inner.lock().taken.clone()
    }

    /// What became of a late write: whether the node took it and carried it out. Returns the rows
    /// that nothing keeps any more.
    pub fn ended(
        &self,
        node: &NodeId,
        task: TaskUid,
        index: &str,
        shards: &[ShardId],
        done: bool,
    ) -> Vec<StaleReplica> {
        let mut inner = self.inner.lock();
        if let Some(taken) = inner.taken.get_mut(node) {
            taken.retain(|late| late.task != task);
            if taken.is_empty() {
                inner.taken.remove(node);
            }
        }
        let mut rows = Vec::new();
        for shard in shards {
            let key = (node.clone(), index.to_owned(), *shard);
            let Some(mark) = inner.marks.get_mut(&key) else { continue };
            mark.writes.remove(&task);
            mark.alone &= done;
            if !mark.writes.is_empty() {
                continue;
            }
            if mark.alone {
                rows.push(StaleReplica {
                    node: node.clone(),
                    index: index.to_owned(),
                    shard: Some(*shard),
                    kind: CatchUp::Shard,
                    generation: mark.generation,
                    awaits: Vec::new(),
                });
            }
            inner.marks.remove(&key);
        }
        rows
    }

    /// Whether a row is to be left alone: a late call could still change what a copy wrote, or the
    /// row may go without one. To be asked after the row was read.
    pub fn holds(&self, row: &StaleReplica) -> bool {
        let inner = self.inner.lock();
        inner
            .marks
            .range((row.node.clone(), row.index.clone(), ShardId(0))..)
            .take_while(|((node, index, _), _)| *node == row.node && *index == row.index)
            .filter(|((.., shard), _)| row.shard.is_none_or(|wanted| wanted == *shard))
            .any(|(_, mark)| mark.alone || mark.writes.values().any(|answered| !answered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeId {
        NodeId::new("a").unwrap()
    }

    fn map(generation: u64) -> StaleMap {
        let rows = (generation > 0).then(|| StaleReplica {
            node: node(),
            index: "films".to_owned(),
            shard: Some(ShardId(1)),
            kind: CatchUp::Shard,
            generation,
            awaits: Vec::new(),
        });
        StaleMap::new(rows.into_iter().collect())
    }

    fn marked(late: &LateWrites, task: u32, before: u64, after: u64) {
        let (before, after) = (map(before), map(after));
        late.marked(TaskUid(task), &node(), "films", &[ShardId(1)], &before, &after);
    }

    fn ended(late: &LateWrites, task: u32, done: bool) -> Vec<u64> {
        let rows = late.ended(&node(), TaskUid(task), "films", &[ShardId(1)], done);
        rows.into_iter().map(|row| row.generation).collect()
    }

    fn holds(late: &LateWrites, generation: u64) -> bool {
        late.holds(map(generation).rows().next().unwrap())
    }

    fn taken(late: &LateWrites, task: u32) {
        let (task, index) = (TaskUid(task), "films".to_owned());
        let shards = vec![ShardId(1)];
        late.taken(&node(), LateTask { task, index, shards, uids: vec![7], life: 0 });
        let followed = late.queued().values().flatten().any(|known| known.task == task);
        assert!(!followed, "its task does not know of it");
        assert_eq!(late.acknowledgements().len(), 1);
        late.recorded();
        assert!(late.acknowledgements().is_empty());
    }

    #[test]
    fn a_mark_goes_with_the_last_of_the_writes_that_made_it() {
        let late = LateWrites::default();
        marked(&late, 1, 0, 1);
        marked(&late, 2, 1, 2);
        // Recorded once more after the store failed.
        marked(&late, 2, 2, 3);
        assert!(holds(&late, 3));
        taken(&late, 1);
        assert!(ended(&late, 1, true).is_empty());
        taken(&late, 2);
        assert_eq!(ended(&late, 2, true), [3]);
        assert!(!holds(&late, 3) && late.queued().is_empty());
    }

    #[test]
    fn a_mark_stays_where_something_else_was_missed() {
        // Before, in between, or one of the writes itself.
        for (first, second, done) in
            [((4, 5), (5, 6), true), ((0, 1), (2, 3), true), ((0, 1), (1, 2), false)]
        {
            let late = LateWrites::default();
            marked(&late, 1, first.0, first.1);
            marked(&late, 2, second.0, second.1);
            assert!(holds(&late, second.1), "not copied while a call is under way");
            taken(&late, 1);
            assert!(ended(&late, 1, done).is_empty());
            taken(&late, 2);
            assert!(!holds(&late, second.1));
            assert!(ended(&late, 2, true).is_empty());
        }
    }

    #[test]
    fn a_node_is_late_while_one_of_its_calls_is() {
        let late = LateWrites::default();
        let (first, second) = (late.begin(&node(), 5), late.begin(&node(), 6));
        assert_eq!((late.is_late(&node()), late.bytes(&node())), (true, 11));
        drop(first);
        assert_eq!(late.bytes(&node()), 6);
        drop(second);
        assert!(!late.is_late(&node()));
    }
}
