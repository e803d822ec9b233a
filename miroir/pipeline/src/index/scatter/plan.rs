//! What a write is about, and what nodes are told of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_api::{GroupId, NodeId, ShardId, TaskUid};
use miroir_core::copying::Touch;
use miroir_core::documents::IdCase;
use miroir_core::routing::ShardSet;
use miroir_core::topology::Topology;
use miroir_core::view::CatchUp;
use miroir_store::{IndexEntry, NewTask, StoreId, TaskRecord};
use uuid::Uuid;

use super::order::OrderChange;
use crate::cluster::sequencer::{Exclusive, Handover};
use crate::error::Error;
use crate::node::Call;

/// What one node has to be told, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Id of the node that gets the calls.
    pub node: NodeId,
    /// The shards of the node that the calls are about.
    pub shards: ShardSet,
    /// The calls, each of which enqueues a task.
    pub calls: Vec<Call>,
    /// The shards of each call, where they are not all about the same; else empty.
    pub parts: Vec<ShardSet>,
}

impl Batch {
    /// Bytes of the calls' bodies.
    pub fn bytes(&self) -> usize {
        self.calls.iter().map(|call| call.body.len()).sum()
    }
}

/// An accepted write.
#[derive(Debug)]
pub struct AcceptedWrite {
    /// The task as stored, with what each node said.
    pub record: TaskRecord,
    /// Groups in which a replica missed it.
    pub degraded: Vec<GroupId>,
    /// The first group that has all of it on a quorum.
    pub group: Option<GroupId>,
}

/// By what the nodes' tasks of a write to documents are found whose acknowledgement was lost: their
/// `customMetadata`. A task of a version that gave no nonce has one tag for all its calls, which a
/// task of another store may have too.
#[derive(Clone, Copy, Debug)]
pub struct Tags {
    store: StoreId,
    task: TaskUid,
    nonce: Option<Uuid>,
}

impl Tags {
    /// The tags of the calls of a task in this store.
    pub fn new(store: StoreId, task: &TaskRecord) -> Self {
        // Tasks whose calls are the same go by the first of them.
        Self { store, task: TaskUid(*task.calls_of().start()), nonce: task.nonce }
    }

    /// The tag of a call: they are counted for each node, from 0.
    pub fn of(&self, call: usize) -> String {
        let Self { store, task, nonce } = self;
        nonce.map_or_else(
            || format!("miroir:{task}"),
            |nonce| format!("miroir:{store}:{task}:{}:{call}", nonce.simple()),
        )
    }
}

/// What a write is about.
#[derive(Debug)]
pub struct WritePlan {
    /// Snapshot of the index's entry when the write was planned.
    pub index: Arc<IndexEntry>,
    /// The topology it is planned under.
    pub topology: Arc<Topology>,
    /// Shards whose quorum decides.
    pub touched: ShardSet,
    /// Which documents it touches; [`Touch::Any`] where nobody asks.
    pub touch: Touch,
    /// What a replica that misses it needs.
    pub missed: CatchUp,
    /// Calls, one entry a node.
    pub batches: Vec<Batch>,
    /// Held until all calls are sent, if the write excludes others.
    pub exclusive: Option<Exclusive>,
    /// The primary key and the case of ids that the index has with it, where these are new.
    pub teaches: Option<(String, IdCase)>,
    /// What it does to the order of documents; `None` where nothing is known of it.
    pub order: Option<OrderChange>,
    /// Gates that it takes over, and keeps closed until it has its task.
    pub handover: Option<Handover>,
    /// Whether one node judges the request before anything is stored: what it refuses leaves no task.
    pub preflight: bool,
}

impl WritePlan {
    /// Bytes of all calls' bodies.
    pub(super) fn bytes(&self) -> usize {
        self.batches.iter().map(Batch::bytes).sum()
    }

    /// How many documents it brings, where their order counts.
    pub(super) fn documents(&self) -> usize {
        self.order.as_ref().map_or(0, OrderChange::documents)
    }
}

/// What of a write is one client's: most writes are one client's alone.
#[derive(Debug)]
pub(super) struct Share {
    /// The task that the client is told.
    pub(super) task: NewTask,
    /// The shards that its documents are in.
    pub(super) touched: ShardSet,
    /// How many documents it brings. Those of the first share come first.
    pub(super) documents: usize,
    /// The shard of each of them, if there are other shares.
    pub(super) placed: Vec<ShardId>,
}

/// A node's answers to the calls of a batch: the uids of its tasks. The first failure is the last.
pub(super) type Sent = Vec<Result<u32, Error>>;
/// The answers of all nodes that answered.
pub(super) type Answers = BTreeMap<NodeId, Sent>;
