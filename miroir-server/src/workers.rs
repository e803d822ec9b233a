//! Which workers run. Each ends when `shared.stop` is cancelled; one that panics is started again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use metrics_exporter_prometheus::PrometheusHandle;
use miroir::node::health;
use miroir::operation::control::{drift, poller, repair};
use miroir::{Cluster, Shared, clock};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::Readiness;
use crate::config::Config;
use crate::{metrics, options, webhooks};

/// Pause before a worker that panicked is started again.
const RESTART: Duration = Duration::from_secs(1);
/// Time between two looks at readiness.
const LOOK: Duration = Duration::from_millis(500);

/// Starts all workers. Dropping the set cuts them off.
pub(crate) fn start(
    config: &Config,
    cluster: &Cluster,
    readiness: &Readiness,
    metrics: PrometheusHandle,
) -> JoinSet<()> {
    let shared = &cluster.shared;
    let stop = &shared.stop;
    let mut workers = JoinSet::new();
    let mut add = |worker| {
        workers.spawn(worker);
    };

    let (state, options) = (Arc::clone(shared), options::health(config));
    add(supervise("health", stop, move |stop| health::run(Arc::clone(&state), options, stop)));

    let state = Arc::clone(shared);
    add(supervise("poller", stop, move |stop| poller::run(Arc::clone(&state), stop)));

    let state = Arc::clone(shared);
    add(supervise("repair", stop, move |stop| repair::run(Arc::clone(&state), stop)));

    let (state, options) = (Arc::clone(shared), options::drift(config));
    add(supervise("settings_drift_check", stop, move |stop| {
        drift::run(Arc::clone(&state), options, stop)
    }));

    let state = Arc::clone(shared);
    let ttl = Duration::from(config.task_registry.ttl_seconds);
    let every = Duration::from(config.task_registry.prune_interval_s);
    add(supervise("task_pruner", stop, move |stop| prune(Arc::clone(&state), ttl, every, stop)));

    let state = Arc::clone(shared);
    add(supervise("webhooks", stop, move |stop| webhooks::run(Arc::clone(&state), stop)));

    add(supervise("metrics", stop, move |stop| {
        let metrics = metrics.clone();
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = metrics::upkeep(metrics) => {}
            }
        }
    }));

    let (state, readiness) = (Arc::clone(shared), readiness.clone());
    add(supervise("readiness", stop, move |stop| {
        await_ready(Arc::clone(&state), readiness.clone(), stop)
    }));
    workers
}

/// Runs a worker until it ends by itself; after a panic, which the panic hook has logged, anew.
fn supervise<F, Fut>(
    name: &'static str,
    stop: &CancellationToken,
    start: F,
) -> futures_util::future::BoxFuture<'static, ()>
where
    F: Fn(CancellationToken) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let stop = stop.clone();
    Box::pin(async move {
        while AssertUnwindSafe(start(stop.clone())).catch_unwind().await.is_err() {
            tracing::error!(worker = name, "a worker panicked and is started again");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RESTART) => {}
            }
        }
    })
}

/// Forgets finished tasks that are older than `ttl`.
async fn prune(shared: Arc<Shared>, ttl: Duration, every: Duration, stop: CancellationToken) {
    loop {
        match shared.stores.tasks.prune(clock::now() - ttl).await {
            Ok(0) => {}
            Ok(pruned) => tracing::info!(pruned, "old tasks were forgotten"),
            Err(error) => tracing::error!(%error, "old tasks could not be forgotten"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

/// Notices the moment of readiness even if nobody asks.
async fn await_ready(shared: Arc<Shared>, readiness: Readiness, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK);
    while !readiness.look(&shared) {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_panics_is_started_again_until_it_is_stopped() {
        let stop = CancellationToken::new();
        let starts = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&starts);
        let end = stop.clone();
        supervise("test", &stop, move |stop| {
            let start = count.fetch_add(1, Ordering::Relaxed);
            let end = end.clone();
            async move {
                assert!(start == 2, "as a test wants it");
                end.cancel();
                stop.cancelled().await;
            }
        })
        .await;
        assert_eq!(starts.load(Ordering::Relaxed), 3);
    }
}
