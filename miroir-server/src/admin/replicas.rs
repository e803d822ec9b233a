//! `GET /_miroir/replicas`: replicas that missed something and are not read until they caught up.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use miroir::cluster::ClusterState;
use miroir::view::CatchUp;
use miroir_api::admin::{ReplicasView, StaleView};

fn name(kind: CatchUp) -> &'static str {
    match kind {
        CatchUp::Pending => "pending",
        CatchUp::Shard => "shard",
        CatchUp::Index => "index",
        CatchUp::Deleted => "deleted",
    }
}

pub(super) async fn list(State(state): State<Arc<ClusterState>>) -> Json<ReplicasView> {
    let stale = state.staleness.load();
    let mut rows: Vec<StaleView> = stale
        .rows()
        .map(|row| StaleView {
            node: row.node.clone(),
            index: row.index.clone(),
            shard: row.shard,
            kind: name(row.kind).to_owned(),
        })
        .collect();
    rows.sort_by(|a, b| (&a.index, &a.node, a.shard).cmp(&(&b.index, &b.node, b.shard)));
    Json(ReplicasView { total: rows.len(), stale: rows })
}
