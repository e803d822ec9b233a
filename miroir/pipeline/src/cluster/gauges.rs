//! Gauges that describe the cluster.

use miroir_api::ShardId;
use miroir_core::topology::NodeStatus;
use tokio::time::Instant;

use super::ClusterState;

/// Sets the gauges of coverage, of placement and of every node.
pub fn publish(state: &ClusterState) {
    let topology = state.membership.topology();
    let placement = topology.placement(state.options.shards);
    let mut covered = 0;
    for shard in 0..state.options.shards {
        let alive = placement
            .write_targets(ShardId(shard))
            .any(|(_, id)| topology.node(id).is_some_and(|n| n.is_readable()));
        covered += u32::from(alive);
    }
    let total = state.options.shards.max(1);
    metrics::gauge!("miroir_shard_coverage").set(f64::from(covered) / f64::from(total));
    metrics::gauge!("miroir_degraded_shards_total").set(f64::from(total - covered));
    let standings =
        state.nodes.scores.standings(&topology, &state.options.replica_selection, Instant::now());
    for node in topology.nodes() {
        let id = node.id.to_string();
        if let Some(standing) = standings.of(&node.id) {
            metrics::gauge!("miroir_replica_selection_score", "node_id" => id.clone())
                .set(standing.cost);
        }
        let healthy = node.status() == NodeStatus::Active;
        metrics::gauge!("miroir_node_healthy", "node_id" => id.clone()).set(if healthy {
            1.0
        } else {
            0.0
        });
        let disk = state.lives.get(&node.id);
        metrics::gauge!("miroir_node_life", "node_id" => id.clone()).set(disk.life as f64);
        metrics::gauge!("miroir_node_foreign_disk", "node_id" => id.clone())
            .set(if disk.foreign.is_some() { 1.0 } else { 0.0 });
        metrics::gauge!("miroir_shard_distribution", "node_id" => id.clone())
            .set(placement.owned_by(&node.id).len() as f64);
        let score = state.nodes.scores.node(&node.id);
        metrics::gauge!("miroir_node_ewma_latency_seconds", "node_id" => id.clone())
            .set(score.latency().as_secs_f64());
        metrics::gauge!("miroir_node_in_flight", "node_id" => id).set(score.in_flight() as f64);
    }
}
