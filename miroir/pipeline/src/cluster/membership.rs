//! Which nodes there are, how they are doing, and which of their disks are known.

use std::sync::Arc;

use miroir_api::NodeId;
use miroir_core::lock::Lock;
use miroir_core::topology::{Health, InUse, NodeEvent, Topology, TopologyError};
use miroir_store::records::CommittedTopology;
use tokio::sync::Notify;

use super::snapshot::Snapshot;
use crate::node::{CheckFailure, HealthBoard, TaskUidTracker};

/// The topology, and what health checks and answers have shown of its nodes.
#[derive(Debug)]
pub struct Membership {
    topology: Snapshot<Topology>,
    /// What health checks have shown.
    pub health: HealthBoard,
    /// The task uids that nodes have given out: proof that a node still has its disk.
    pub task_uids: TaskUidTracker,
    /// Wakes whoever repairs replicas.
    changed: Arc<Notify>,
    former: Lock<Former>,
}

/// Ways of placing documents that requests may still work by.
#[derive(Debug, Default)]
struct Former {
    placings: Vec<InUse>,
    /// The version that was followed last.
    version: u64,
    /// The last one of which nothing older was in use.
    settled: u64,
}

impl Membership {
    /// Members as configured. `changed` is notified when a node changes its status.
    pub fn new(topology: Topology, changed: Arc<Notify>) -> Self {
        Self {
            topology: Snapshot::new(topology),
            health: HealthBoard::default(),
            task_uids: TaskUidTracker::default(),
            changed,
            former: Lock::default(),
        }
    }

    /// The topology as it is now.
    pub fn topology(&self) -> Arc<Topology> {
        self.topology.load()
    }

    /// The version of the topology that it was made with: no request is older.
    pub fn found(&self, version: u64) {
        let mut former = self.former.lock();
        (former.version, former.settled) = (version, version);
    }

    /// Follows what a store says of the nodes; see [`Topology::following`].
    ///
    /// # Errors
    /// As [`Topology::following`]; nothing is changed then.
    pub fn follow(&self, committed: &CommittedTopology) -> Result<Arc<Topology>, TopologyError> {
        let CommittedTopology { layout, change, without_shards, .. } = committed;
        let before = self.topology.load().in_use();
        let next = |now: &Topology| now.following(layout, change.as_ref(), without_shards);
        let next = self.topology.try_update(next)?;
        let mut former = self.former.lock();
        former.placings.push(before);
        former.version = committed.version;
        drop(former);
        self.changed.notify_waiters();
        Ok(next)
    }

    /// The version of the topology by which every request that is under way places documents, or a
    /// later one; 0 before any was followed.
    pub fn settled(&self) -> u64 {
        let now = self.topology.load();
        let mut former = self.former.lock();
        former.placings.retain(|placing| placing.is_still() && !placing.is_of(&now));
        if former.placings.is_empty() {
            former.settled = former.version;
        }
        former.settled
    }

    /// Says that the disk behind a node's address is another's: it is not used, however it answers.
    pub fn bar(&self, node: &NodeId) {
        let topology = self.topology.load();
        if topology.node(node).is_some_and(|node| node.health != Health::Failed) {
            self.apply(node, NodeEvent::Fail);
        }
        self.health.blame(node, CheckFailure::ForeignDisk);
    }

    /// Applies an event to a node. Illegal transitions are logged and change nothing.
    pub fn apply(&self, node: &NodeId, event: NodeEvent) {
        match self.topology.try_update(|topology| topology.with_event(node, event)) {
            Ok(next) => {
                let status = next.node(node).map_or("unknown", |n| n.status().as_str());
                tracing::warn!(node = %node, status, "node changed its status");
                if event == NodeEvent::Fail {
                    self.task_uids.mark_unverified(node);
                }
                self.changed.notify_waiters();
            }
            Err(error) => tracing::debug!(node = %node, %error, "ignored"),
        }
    }
}

#[cfg(test)]
mod tests {
    use miroir_api::GroupId;
    use miroir_core::topology::Node;

    use super::*;

    #[test]
    fn a_node_that_failed_has_to_show_its_disk_again() {
        let id = NodeId::new("a").unwrap();
        let node = Node::new(id.clone(), "http://a".to_owned(), GroupId(0));
        let members = Membership::new(Topology::new(vec![node], 1).unwrap(), Arc::default());
        members.task_uids.mark_verified(&id);
        // A legal event changes the status, an illegal one nothing.
        members.apply(&id, NodeEvent::Recover);
        assert!(members.task_uids.is_verified(&id));
        members.apply(&id, NodeEvent::Fail);
        let health = members.topology().node(&id).map(|node| node.health);
        assert_eq!(health, Some(Health::Failed));
        assert!(!members.task_uids.is_verified(&id));
    }
}
