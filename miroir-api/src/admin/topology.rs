//! `GET /_miroir/topology` and `GET /_miroir/shards`.

use serde::{Deserialize, Serialize};

use crate::{GroupId, NodeId, ShardId};

/// The cluster as one pod sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopologyView {
    /// Version of the topology in the store; 0 from a server that does not say.
    #[serde(default)]
    pub version: u64,
    /// By what pods and nodes tell the topology from others, as 16 hexadecimal digits.
    #[serde(default)]
    pub fingerprint: String,
    /// Number of shards that new indexes get; indexes that exist keep theirs.
    pub shards: u32,
    /// Copies of a shard inside each group.
    pub replication_factor: u32,
    /// All nodes, by group and id.
    pub nodes: Vec<NodeView>,
    /// Nodes that are not fully usable.
    pub degraded_node_count: usize,
    /// Whether shards are being moved.
    pub rebalance_in_progress: bool,
    /// Whether some group can answer for every shard right now.
    pub fully_covered: bool,
}

/// One node, as the answering pod sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Id from the configuration; placement hashes it, so it stays the same for the life of a node.
    pub id: NodeId,
    /// Status in lower case, for example `active`.
    pub status: String,
    /// The group the node belongs to.
    pub replica_group: GroupId,
    /// Shards the node holds, of an index with the default number of shards.
    pub shard_count: usize,
    /// Milliseconds since the node last answered; absent if it never did.
    pub last_seen_ms: Option<u64>,
    /// Why the last check failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// How often the node came back without what it had.
    #[serde(default)]
    pub life: u64,
    /// The other node whose disk is behind this node's address; the node is not used then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub disk_of: Option<NodeId>,
}

/// A node whose disk was thrown away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardedView {
    /// Id of the node.
    pub node: NodeId,
    /// The life that begins.
    pub life: u64,
}

/// A store that was behind its nodes and is gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedStoreView {
    /// The version of the topology from now on.
    pub version: u64,
}

/// What the nodes hold, compared with what the store says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuiltView {
    /// Each difference as a sentence.
    pub differences: Vec<String>,
    /// The version of the topology from now on, where the store was behind and nothing differs.
    pub version: Option<u64>,
}

/// The owners of every shard, for indexes with the default number of shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardsView {
    /// Number of shards, and so of entries of `placement`.
    pub shards: u32,
    /// One entry a shard, in order.
    pub placement: Vec<ShardPlacement>,
}

/// The owners of one shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardPlacement {
    /// Number of the shard, from 0.
    pub shard: ShardId,
    /// Its owners in each group, best first.
    pub groups: Vec<Vec<NodeId>>,
}
