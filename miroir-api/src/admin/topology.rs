//! `GET /_miroir/topology` and `GET /_miroir/shards`.

use serde::{Deserialize, Serialize};

use crate::{GroupId, NodeId, ShardId};

/// The cluster as one pod sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopologyView {
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
