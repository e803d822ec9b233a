//! `/_miroir/operations`, and the requests that begin one.

use serde::{Deserialize, Serialize};

use crate::{GroupId, NodeId, ShardId};

/// A node that is to get shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRequest {
    /// The id it is to have; placement hashes it.
    pub id: NodeId,
    /// Base URL, `http://host:port` without a path.
    pub address: String,
    /// The replica group it is to belong to; 0 by default.
    #[serde(default)]
    pub replica_group: GroupId,
}

/// A node that takes the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplacementRequest {
    /// The id it is to have.
    pub id: NodeId,
    /// Base URL, `http://host:port` without a path.
    pub address: String,
}

/// A group that is to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRequest {
    /// Its nodes, all of which name the same, new group.
    pub nodes: Vec<NodeRequest>,
}

/// Another number of copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicationFactorRequest {
    /// Copies of each shard in each group.
    pub replication_factor: u32,
}

/// Shards of an index that a node gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveView {
    /// The index.
    pub index: String,
    /// The node that gets them.
    pub target: NodeId,
    /// Which.
    pub shards: Vec<ShardId>,
    /// Documents they have, estimated from the average of a shard.
    pub documents: u64,
    /// Bytes of these documents, estimated likewise.
    pub bytes: u64,
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// What it is for, for example `join`.
    pub operation: String,
    /// The version of the topology that it starts from.
    pub version: u64,
    /// What is copied, by index and node.
    pub moves: Vec<MoveView>,
    /// Replicas of shards that are made in all.
    pub shards: usize,
    /// Documents that are copied in all, estimated.
    pub documents: u64,
    /// Bytes that are copied in all, estimated.
    pub bytes: u64,
    /// Why it cannot begin; empty where it can.
    pub blockers: Vec<String>,
}

/// An operation that began, or its plan alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedView {
    /// Id of the operation; none of a dry run.
    #[serde(default)]
    pub operation_id: Option<String>,
    /// What it does.
    pub plan: PlanView,
}

/// Why an operation does not go on at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonView {
    /// One of a few words: `barrier_pod`, `paused`, `node_away`, `indexes`, `copies`.
    pub kind: String,
    /// Which node, index, how many replicas.
    pub detail: String,
}

/// An operation on the topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationView {
    /// Its id.
    pub id: String,
    /// What it is for: `join`, `drain`, `replace`, `group_add`, `group_remove`, `replication_factor`.
    pub operation: String,
    /// `moving`, `paused`, `rolling_back`, `committed` or `rolled_back`.
    pub state: String,
    /// `announced`, `copying`, `switched` or `retiring`; none of one that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The nodes that it is about.
    pub nodes: Vec<NodeId>,
    /// The node that failed, if it began by itself to make that node's copies anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<NodeId>,
    /// When it began, RFC 3339.
    pub began_at: String,
    /// When it ended, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// What its phase waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ReasonView>,
}

/// Operations, the one under way first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationsView {
    /// At most 21.
    pub operations: Vec<OperationView>,
}
