//! What a change would move, before anything does.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use miroir_api::{NodeId, ShardId};
use miroir_core::topology::Change;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::node::Call;
use miroir_store::records::{CommittedTopology, OperationKind};
use serde::Deserialize;
use std::time::Duration;

use super::pairs::Sides;

/// How long nodes may take to say how much they have.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shards of an index that a node gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The index, by the name that clients use.
    pub index: String,
    /// The node that gets them.
    pub target: NodeId,
    /// Which.
    pub shards: Vec<ShardId>,
    /// Documents they have, estimated from what a shard of the index has on average.
    pub documents: u64,
    /// Bytes of these documents, estimated likewise.
    pub bytes: u64,
}

/// What a change would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it is for.
    pub kind: OperationKind,
    /// The version of the topology that it starts from.
    pub version: u64,
    /// What is copied, by index and node.
    pub moves: Vec<Move>,
    /// Why it cannot begin. Empty where it can.
    pub blockers: Vec<String>,
}

impl Plan {
    /// Documents that are copied in all, estimated.
    pub fn documents(&self) -> u64 {
        self.moves.iter().map(|m| m.documents).sum()
    }

    /// Bytes that are copied in all, estimated.
    pub fn bytes(&self) -> u64 {
        self.moves.iter().map(|m| m.bytes).sum()
    }

    /// Replicas of shards that are made in all.
    pub fn shards(&self) -> usize {
        self.moves.iter().map(|m| m.shards.len()).sum()
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Size {
    number_of_documents: u64,
    avg_document_size: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sizes {
    indexes: BTreeMap<String, Size>,
}

/// The plan of a change.
pub(super) async fn of(
    state: &ClusterState,
    committed: &CommittedTopology,
    change: &Change,
    kind: OperationKind,
    blockers: Vec<String>,
) -> Result<Plan, Error> {
    let sides = Sides::of(state, committed, change)?;
    let sizes = sizes(state).await;
    let mut moves = Vec::new();
    for entry in state.catalog.all() {
        let before = sides.before.placement(entry.shards);
        // Documents and shards of all nodes that said how much they have.
        let (mut documents, mut held, mut average) = (0, 0, 0);
        for (node, all) in &sizes {
            let Some(size) = all.indexes.get(&entry.physical) else { continue };
            documents += size.number_of_documents;
            held += before.owned_by(node).len() as u64;
            average = average.max(size.avg_document_size);
        }
        let mut by_node: BTreeMap<NodeId, Vec<ShardId>> = BTreeMap::new();
        for row in sides.gained(std::slice::from_ref(&entry)) {
            by_node.entry(row.node).or_default().extend(row.shard);
        }
        moves.extend(by_node.into_iter().map(|(target, shards)| {
            let documents = (documents * shards.len() as u64).div_ceil(held.max(1));
            let bytes = documents * average;
            Move { index: entry.name.to_string(), target, shards, documents, bytes }
        }));
    }
    Ok(Plan { kind, version: committed.version, moves, blockers })
}

/// How much nodes have, of those that say so.
async fn sizes(state: &ClusterState) -> Vec<(NodeId, Sizes)> {
    let cx = Context::internal(Origin::Repair, PATIENCE);
    let topology = state.membership.topology();
    let call = Call::get("stats_get", "/stats");
    let asked = join_all(topology.nodes().map(|node| async {
        let body = state.nodes.call(&node.id, &call, &cx).await.ok()?;
        Some((node.id.clone(), Call::parse::<Sizes>(&node.id, &body).ok()?))
    }));
    asked.await.into_iter().flatten().collect()
}
