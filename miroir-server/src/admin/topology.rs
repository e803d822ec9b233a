//! `GET /_miroir/topology` and `GET /_miroir/shards?shards=&index=`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use miroir::cluster::ClusterState;
use miroir::topology::NodeStatus;
use miroir_api::admin::{NodeView, ShardPlacement, ShardsView, TopologyView};
use miroir_api::meili::ApiError;
use miroir_api::{IndexUid, ShardId};
use serde::Deserialize;

use super::Refusal;

/// Most shards one may ask about: what `shards` in the configuration allows.
const MAX_SHARDS: u32 = 16_384;

pub(super) async fn topology(State(state): State<Arc<ClusterState>>) -> Json<TopologyView> {
    let topology = state.membership.topology();
    let shards = state.options.shards;
    let placement = topology.placement(shards);
    let nodes: Vec<NodeView> = topology
        .nodes()
        .map(|node| {
            let health = state.membership.health.get(&node.id);
            let disk = state.lives.get(&node.id);
            let seen = health.last_seen.map(|seen| seen.elapsed().as_millis());
            NodeView {
                id: node.id.clone(),
                status: node.status().as_str().to_owned(),
                replica_group: node.group,
                shard_count: placement.owned_by(&node.id).len(),
                last_seen_ms: seen.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
                error: health.error.map(|error| error.label().to_owned()),
                life: disk.life,
                disk_of: disk.foreign,
            }
        })
        .collect();
    let degraded = topology
        .nodes()
        .filter(|node| !matches!(node.status(), NodeStatus::Active | NodeStatus::Drained))
        .count();
    let committed = state.committed.load();
    Json(TopologyView {
        version: committed.version,
        fingerprint: committed.fingerprint.clone(),
        shards,
        replication_factor: topology.replication_factor(),
        nodes,
        degraded_node_count: degraded,
        rebalance_in_progress: committed.change.is_some(),
        fully_covered: state.nodes.fully_covered(),
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShardsQuery {
    /// Of an index with this many shards.
    shards: Option<u32>,
    /// Of this index.
    index: Option<String>,
}

pub(super) async fn shards(
    State(state): State<Arc<ClusterState>>,
    query: Result<Query<ShardsQuery>, QueryRejection>,
) -> Result<Json<ShardsView>, Refusal> {
    let bad = |message: String| Refusal(ApiError::new("bad_request", message));
    let Query(query) = query.map_err(|error| bad(error.body_text()))?;
    let shards = match (query.shards, query.index) {
        (Some(_), Some(_)) => {
            return Err(bad("Give either `shards` or `index`, not both.".to_owned()));
        }
        (Some(shards), None) if (1..=MAX_SHARDS).contains(&shards) => shards,
        (Some(_), None) => {
            return Err(bad(format!("`shards` must be between 1 and {MAX_SHARDS}.")));
        }
        (None, Some(name)) => {
            let entry = IndexUid::new(&name).ok().and_then(|uid| state.catalog.get(&uid));
            let missing = || ApiError::new("index_not_found", format!("Index `{name}` not found."));
            entry.ok_or_else(|| Refusal(missing()))?.shards
        }
        (None, None) => state.options.shards,
    };
    let placement = state.membership.topology().placement(shards);
    let groups: Vec<_> = placement.groups().collect();
    let owners = |shard| {
        groups.iter().map(|group| placement.owners(*group, shard).cloned().collect()).collect()
    };
    let placement = (0..shards)
        .map(ShardId)
        .map(|shard| ShardPlacement { shard, groups: owners(shard) })
        .collect();
    Ok(Json(ShardsView { shards, placement }))
}
