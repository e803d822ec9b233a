//! Which disk each node has: its life, how far it has counted, whose it is.
//!
//! A node's *life* is raised, in the store first, when it comes back without what it had. What Miroir
//! remembers of a node carries the life it was seen in, so that nothing of a former one is taken for
//! the present one's: task uids begin again at 0.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use miroir_api::NodeId;
use miroir_core::lock::Lock;
use miroir_store::records::{NodeRecord, NodeRecords};
use miroir_store::{NodeTask, StoreError};

use crate::node::{GivenTasks, TaskUidTracker};

/// What is stored of nodes, and kept in memory. The leader changes it; other pods read it anew with
/// [`NodeLives::reload`].
#[derive(Debug)]
pub struct NodeLives {
    store: Arc<dyn NodeRecords>,
    records: Lock<BTreeMap<NodeId, NodeRecord>>,
    /// Nodes that keep no keys, as far as they were asked.
    keyless: Lock<BTreeSet<NodeId>>,
    /// Held while a record is changed: it is read, written to the store, and kept then.
    changing: tokio::sync::Mutex<()>,
}

impl NodeLives {
    /// Nothing was read yet.
    pub fn new(store: Arc<dyn NodeRecords>) -> Self {
        Self {
            store,
            records: Lock::default(),
            keyless: Lock::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// Reads anew what is stored.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reload(&self) -> Result<(), StoreError> {
        let _changing = self.changing.lock().await;
        let records = self.store.list().await?;
        let records = records.into_iter().map(|record| (record.node.clone(), record)).collect();
        *self.records.lock() = records;
        Ok(())
    }

    /// What is known of a node.
    pub fn get(&self, node: &NodeId) -> NodeRecord {
        let records = self.records.lock();
        records.get(node).cloned().unwrap_or_else(|| NodeRecord::new(node.clone()))
    }

    /// What is known of all nodes of which anything is, by node: of those that were removed as well.
    pub fn all(&self) -> Vec<NodeRecord> {
        self.records.lock().values().cloned().collect()
    }

    /// Which life of a node this is.
    pub fn of(&self, node: &NodeId) -> u64 {
        self.records.lock().get(node).map_or(0, |record| record.life)
    }

    /// Whether a task was given to a disk that the node has no more: its uid is another task's by
    /// now, if any's.
    pub fn is_former(&self, task: &NodeTask) -> bool {
        task.life != self.of(&task.node)
    }

    /// The node whose disk is behind a node's address, while nobody has decided what becomes of it.
    pub fn foreign(&self, node: &NodeId) -> Option<NodeId> {
        self.records.lock().get(node)?.foreign.clone()
    }

    /// Whether a node was asked for its keys, and keeps none.
    pub fn is_keyless(&self, node: &NodeId) -> bool {
        self.keyless.lock().contains(node)
    }

    /// Notes that a node keeps no keys. Returns whether that is news.
    pub fn note_keyless(&self, node: &NodeId) -> bool {
        self.keyless.lock().insert(node.clone())
    }

    /// Stores what `change` makes of what is known of a node. Returns what is known now.
    ///
    /// # Errors
    /// When the store fails. Nothing has changed then.
    pub async fn change(
        &self,
        node: &NodeId,
        change: impl FnOnce(NodeRecord) -> NodeRecord + Send,
    ) -> Result<NodeRecord, StoreError> {
        let _changing = self.changing.lock().await;
        let before = self.get(node);
        let after = change(before.clone());
        if after != before {
            self.store.put(after.clone()).await?;
            self.records.lock().insert(node.clone(), after.clone());
        }
        Ok(after)
    }

    /// Stores how far nodes have counted, and up to where that is accounted for, where that is more
    /// than is stored.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn store_highest(
        &self,
        task_uids: &TaskUidTracker,
        given: &GivenTasks,
    ) -> Result<(), StoreError> {
        for (node, _) in task_uids.all() {
            let newer = |record: NodeRecord| NodeRecord {
                highest: task_uids.highest(&node).max(record.highest),
                unaccounted: given.next(&node).or(record.unaccounted),
                ..record
            };
            let known = self.get(&node);
            if newer(known.clone()) != known {
                // Looked up again behind the lock: the life may have ended meanwhile.
                self.change(&node, newer).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use miroir_store::memory;

    use super::*;

    #[tokio::test]
    async fn a_new_life_knows_nothing_of_the_one_before() {
        let stores = memory::open();
        let lives = NodeLives::new(Arc::clone(&stores.node_records));
        let (node, uids) = (NodeId::new("a").unwrap(), TaskUidTracker::default());
        let given = GivenTasks::default();
        uids.saw(&node, 7);
        given.begin_at(&node, 6, 0);
        lives.store_highest(&uids, &given).await.unwrap();
        assert_eq!(lives.get(&node).unaccounted, Some(6));
        lives.change(&node, |record| NodeRecord { identified: true, ..record }).await.unwrap();
        let task = NodeTask::new(node.clone(), Some(7));
        assert!(!lives.is_former(&task));
        uids.forget(&node);
        given.forget(&node);
        lives.change(&node, |record| record.next_life()).await.unwrap();
        // Nothing of a life that is over is stored for the next.
        lives.store_highest(&uids, &given).await.unwrap();
        let now = lives.get(&node);
        assert_eq!((now.life, now.highest, now.identified), (1, None, false));
        assert_eq!(now.unaccounted, None);
        assert!(lives.is_former(&task));
        assert!(!lives.is_former(&NodeTask { life: 1, ..task }));
        // Another process reads the same.
        let other = NodeLives::new(stores.node_records);
        assert_eq!(other.of(&node), 0);
        other.reload().await.unwrap();
        assert_eq!(other.get(&node), now);
    }
}
