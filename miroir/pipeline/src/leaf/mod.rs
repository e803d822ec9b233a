//! LEAF: some shards of one index, on any replicas that hold them, or one named replica.
//!
//! A leaf is *not* "one of some equal replicas": two shards on one node may have their second copies
//! on two different nodes, so doing without a node may need two others. Hedging and failover
//! therefore both say the same sentence: cover these shards again without that node.

mod dispatch;
mod weight;

use std::sync::Arc;

use bytes::Bytes;
use miroir_api::NodeId;

pub use dispatch::{Dispatch, choose, restrict};
pub use dispatch::{lacks_index, narrow};

use crate::context::Context;
use crate::error::Error;
use crate::node::Call;
use crate::stage::Stage;
use miroir_core::routing::{Leaf, ShardSet};
use miroir_core::topology::Topology;
use miroir_core::view::{Route, StaleMap};
use miroir_store::IndexEntry;

/// Which nodes are asked.
#[derive(Clone, Debug)]
pub enum Target {
    /// Any replicas that together hold these shards, avoiding those nodes. Reads.
    Cover {
        /// Shards to read, each exactly once.
        shards: ShardSet,
        /// Nodes to leave out.
        avoid: Vec<NodeId>,
        /// A choice made already, with the other parts of the same read: this node for all of the
        /// shards. `None` leaves the choice to [`Dispatch`].
        chosen: Option<Leaf>,
    },
    /// This node and no other. Writes, and workers that compare replicas.
    Exactly(NodeId),
}

/// A JSON request that is restricted to the shards of its leaf.
#[derive(Clone, Debug)]
pub struct Scoped {
    /// What follows `/indexes/{uid}` in the path.
    pub path: &'static str,
    /// A JSON object without a `filter`.
    pub body: Bytes,
    /// The client's filter, as JSON.
    pub filter: Option<Bytes>,
    /// Bounded name for metrics of nodes: `search`, `documents_fetch`, ….
    pub operation: &'static str,
    /// Asks for sort values on fetched documents.
    pub sort_values: bool,
}

/// Several searches of one index in one call, each restricted to the shards of its leaf.
#[derive(Clone, Debug)]
pub struct ScopedMany {
    /// The searches; their paths and names do not count.
    pub queries: Vec<Scoped>,
    /// The `federation` object, as JSON.
    pub federation: Option<Bytes>,
    /// Bounded name for metrics of nodes: `search`, `similar`, ….
    pub operation: &'static str,
}

/// What a leaf's nodes are asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// A read whose leaf adds its shards to the filter.
    Scoped(Arc<Scoped>),
    /// Several such searches, answered by one multi-search.
    Many(Arc<ScopedMany>),
    /// A call that needs no restriction: by document id, or to one named node.
    Plain(Arc<Call>),
}

/// A request of the leaf stage.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// Which nodes may be asked, and about which shards.
    pub target: Target,
    /// What the nodes are asked.
    pub question: Question,
    /// Snapshot of the index's entry; its `physical` name is the one on nodes.
    pub index: Arc<IndexEntry>,
    /// Snapshot of the topology by which shards are placed.
    pub topology: Arc<Topology>,
    /// Snapshot of the replicas that must not be read.
    pub stale: Arc<StaleMap>,
    /// Which groups and replicas are preferred, decided once for all leaves of a request.
    pub route: Route,
    /// Who asks, until when, and what layers know of it.
    pub cx: Context,
}

impl Request {
    /// A request that asks `question` of `target`. Replicas in `stale` are not read, and those that
    /// `route` puts first are preferred.
    pub fn new(
        target: Target,
        question: Question,
        index: impl Into<Arc<IndexEntry>>,
        topology: impl Into<Arc<Topology>>,
        stale: Arc<StaleMap>,
        route: Route,
        cx: Context,
    ) -> Self {
        let (index, topology) = (index.into(), topology.into());
        Self { target, question, index, topology, stale, route, cx }
    }

    /// The same question to other nodes.
    #[must_use]
    pub fn with_target(&self, target: Target) -> Self {
        Self {
            target,
            question: self.question.clone(),
            index: Arc::clone(&self.index),
            topology: Arc::clone(&self.topology),
            stale: Arc::clone(&self.stale),
            route: self.route.clone(),
            cx: self.cx.clone(),
        }
    }
}

/// One node's answer.
#[derive(Clone, Debug)]
pub struct Page {
    /// Id of the node that answered.
    pub node: NodeId,
    /// The shards that the answer covers, each in no other page.
    pub shards: ShardSet,
    /// The node's answer, JSON as it came.
    pub body: Bytes,
}

/// A part of a leaf that was not answered.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Id of the node that failed.
    pub node: NodeId,
    /// The shards that it was asked for.
    pub shards: ShardSet,
    /// Why it failed.
    pub error: Error,
}

/// The answer of the leaf stage. Pages, failures and missing shards never overlap, and together are
/// what was asked for.
#[derive(Clone, Debug)]
pub struct Response {
    /// Answers of nodes, a shard in at most one of them.
    pub pages: Vec<Page>,
    /// Shards whose node failed, with the node and the reason.
    pub failed: Vec<Failed>,
    /// Shards of which no replica could be asked.
    pub missing: ShardSet,
}

impl Stage for Request {
    type Response = Response;
    const NAME: &'static str = "leaf";
}

/// A boxed service of this stage.
pub type BoxService = crate::stage::BoxService<Request>;
