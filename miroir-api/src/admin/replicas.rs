//! `GET /_miroir/replicas`.

use serde::{Deserialize, Serialize};

use crate::{NodeId, ShardId};

/// Replicas that missed something and are not read until they caught up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicasView {
    /// Number of entries of `stale`.
    pub total: usize,
    /// By index, node and shard.
    pub stale: Vec<StaleView>,
}

/// A replica that missed a write, and what would bring it up to date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaleView {
    /// Id of the node that holds the replica.
    pub node: NodeId,
    /// Name of the index on the nodes.
    pub index: String,
    /// `null`: the index as a whole.
    pub shard: Option<ShardId>,
    /// What it needs: `pending`, `shard`, `index`, `deleted`.
    pub kind: String,
}
