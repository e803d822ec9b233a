//! Gauges of how background work is split: how many shards are this pod's among its peers, and how
//! much waits in queues.

use std::sync::Arc;
use std::time::Duration;

use miroir_pipeline::cluster::ClusterState;
use tokio_util::sync::CancellationToken;

use crate::runtime::Peers;

/// Kinds of queues. Nothing fills them yet, but autoscalers are bound to their gauge, which therefore
/// reads 0 from the start instead of being absent.
const QUEUES: [&str; 2] = ["dump_import", "reshard_backfill"];
/// Time between two looks at queues.
const LOOK_AT_QUEUES: Duration = Duration::from_secs(15);

/// Sets both gauges every 15 seconds until cancelled.
pub async fn show_shares(state: Arc<ClusterState>, peers: Arc<Peers>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_AT_QUEUES);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let own = (0..state.options.shards).filter(|shard| peers.owns(&format!("shard:{shard}")));
        metrics::gauge!("miroir_owned_shards_count").set(own.count() as f64);
        for kind in QUEUES {
            match state.stores.jobs.list(kind).await {
                Ok(jobs) => metrics::gauge!("miroir_background_queue_depth", "job_type" => kind)
                    .set(jobs.len() as f64),
                Err(error) => tracing::debug!(%error, "a queue could not be looked at"),
            }
        }
    }
}
