//! The runner for work that is split between the pods.

use std::hash::Hasher as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use twox_hash::XxHash64;

use super::{Item as _, PartitionedTask, Peers, count};

/// When a worker's turn comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From the start to the first pass.
    pub first: Duration,
    /// From the begin of one pass to the begin of the next, at most: up to a tenth less, so that
    /// pods which started together do not stay in step. A pass that takes longer delays the next.
    pub interval: Duration,
}

/// Works on this pod's share of the items at every tick until cancelled.
///
/// A pass asks for the items, and before each item whose it is now: a pod that came meanwhile has
/// its share at once. What panics or fails does not keep the others from their turn.
pub async fn partitioned<W: PartitionedTask>(
    worker: Arc<W>,
    peers: Arc<Peers>,
    schedule: Schedule,
    stop: CancellationToken,
) {
    let mut next = tokio::time::Instant::now() + schedule.first;
    for number in 0_u64.. {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(next) => {}
        }
        next = tokio::time::Instant::now()
            + jittered(schedule.interval, peers.me().as_deref(), W::NAME, number);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = pass(&*worker, &peers) => {}
        }
    }
}

/// Nine to ten tenths of an interval. Which part of the last tenth follows from the other arguments.
fn jittered(interval: Duration, pod: Option<&str>, worker: &str, number: u64) -> Duration {
    /// Parts of a tenth.
    const PARTS: u32 = 16;
    let mut hasher = XxHash64::with_seed(number);
    hasher.write(worker.as_bytes());
    hasher.write(pod.unwrap_or_default().as_bytes());
    let part = (hasher.finish() % u64::from(PARTS)) as u32;
    interval.saturating_sub(interval / 10 * part / PARTS)
}

/// One pass over what is this pod's, now.
pub async fn pass<W: PartitionedTask>(worker: &W, peers: &Peers) {
    let name = W::NAME;
    metrics::gauge!("miroir_peer_pod_count").set(peers.count() as f64);
    let begin = Instant::now();
    let items = match AssertUnwindSafe(worker.items()).catch_unwind().await {
        Ok(Ok(items)) => items,
        Ok(Err(error)) => {
            tracing::warn!(worker = name, %error, "what there is to do could not be listed");
            return count(name, "error");
        }
        Err(_) => {
            tracing::error!(worker = name, "listing what there is to do panicked");
            return count(name, "panic");
        }
    };
    let mut own = 0_u32;
    for item in items {
        let key = item.key().into_owned();
        if !peers.owns(&key) {
            continue;
        }
        own += 1;
        match AssertUnwindSafe(worker.run(item)).catch_unwind().await {
            Ok(Ok(())) => count(name, "ok"),
            Ok(Err(error)) => {
                tracing::warn!(worker = name, item = key, %error, "tried again at the next tick");
                count(name, "error");
            }
            // The panic hook has said where.
            Err(_) => {
                tracing::error!(worker = name, item = key, "the work on an item panicked");
                count(name, "panic");
            }
        }
    }
    metrics::gauge!("miroir_worker_owned_items", "worker" => name).set(own);
    metrics::histogram!("miroir_worker_pass_seconds", "worker" => name).record(begin.elapsed());
}
