//! What is known of each node: which life of it this is, and how far it has counted.

use std::fmt;

use miroir_api::NodeId;
use serde::{Deserialize, Serialize};

use super::{ALWAYS, PutOptions, Table, Typed, encode};
use crate::StoreFuture;

/// What is known of a node. One of which nothing is stored is in its first life and has shown nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Id of the node.
    pub node: NodeId,
    /// Which disk of the node this is: 0 at first, one more whenever it came back without what it had.
    #[serde(default)]
    pub life: u64,
    /// The highest task uid that this life has shown, as of the last time it was stored; `None` before
    /// the first.
    #[serde(default)]
    pub highest: Option<u32>,
    /// The first task uid of this life of which nobody has seen who gave it, as of the last time it was
    /// stored; `None` before the first.
    #[serde(default)]
    pub unaccounted: Option<u32>,
    /// Whether the identity key of this life was made on the node.
    #[serde(default)]
    pub identified: bool,
    /// The version of the topology that the node was told last, where the store's is lower: the store
    /// went back in time.
    #[serde(default)]
    pub ahead: Option<u64>,
    /// The node whose disk is behind this node's address, until an operator decides.
    #[serde(default)]
    pub foreign: Option<NodeId>,
}

impl NodeRecord {
    /// A node of which nothing is known.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            life: 0,
            highest: None,
            unaccounted: None,
            identified: false,
            ahead: None,
            foreign: None,
        }
    }

    /// The same node with a disk that has nothing of what it had.
    #[must_use]
    pub fn next_life(&self) -> Self {
        Self { life: self.life + 1, ..Self::new(self.node.clone()) }
    }
}

/// What is known of nodes. Only the pod that leads changes it.
pub trait NodeRecords: Send + Sync + fmt::Debug {
    /// What is known of all nodes, by node.
    fn list(&self) -> StoreFuture<'_, Vec<NodeRecord>>;
    /// Replaces what is known of one node. The last of two concurrent calls stays.
    fn put(&self, record: NodeRecord) -> StoreFuture<'_, ()>;
}

impl NodeRecords for Typed {
    fn list(&self) -> StoreFuture<'_, Vec<NodeRecord>> {
        Box::pin(self.all(Table::NodeFacts, ALWAYS))
    }

    fn put(&self, record: NodeRecord) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let (key, value) = (record.node.as_str(), encode(&record)?);
            let put = self.records.put(Table::NodeFacts, key, value, PutOptions::default(), ALWAYS);
            put.await.map(drop)
        })
    }
}
