//! `GET /_miroir/replicas`: replicas that missed something and are not read until they caught up.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use miroir::Shared;
use miroir::store::StaleKind;
use miroir_api::{NodeId, ShardId};
use serde::Serialize;

/// All stale replicas.
#[derive(Debug, Serialize)]
pub(super) struct ReplicasView {
    /// How many there are.
    total: usize,
    /// By index, node and shard.
    stale: Vec<StaleView>,
}

/// One stale replica.
#[derive(Debug, Serialize)]
struct StaleView {
    node: NodeId,
    /// Name of the index on the nodes.
    index: String,
    /// `null`: the index as a whole.
    shard: Option<ShardId>,
    /// What it needs: `pending`, `shard`, `index`, `deleted`.
    kind: StaleKind,
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<ReplicasView> {
    let stale = shared.stale();
    let mut rows: Vec<StaleView> = stale
        .rows()
        .map(|row| StaleView {
            node: row.node.clone(),
            index: row.index.clone(),
            shard: row.shard,
            kind: row.kind,
        })
        .collect();
    rows.sort_by(|a, b| (&a.index, &a.node, a.shard).cmp(&(&b.index, &b.node, b.shard)));
    Json(ReplicasView { total: rows.len(), stale: rows })
}
