//! Which workers run. Each ends when `shared.stop` is cancelled; one that panics is started again.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use metrics_exporter_prometheus::PrometheusHandle;
use miroir::broadcast::drift;
use miroir::cluster::ClusterState;
use miroir::health;
use miroir::pods::{self, Leader, PodOptions};
use miroir::replicas::repair;
use miroir::runtime::{self, Candidate, Item, Peers, Schedule, Worker, elected, partitioned};
use miroir::store::Stores;
use miroir::tasks::poller;
use miroir::{Cluster, clock};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::Readiness;
use crate::config::Config;
use crate::edge::Admission;
use crate::peers::Identity;
use crate::{envelope, peers, webhooks};

/// Pause before a worker that panicked is started again.
const RESTART: Duration = Duration::from_secs(1);
/// From the start to the first look for old tasks, at most.
const FIRST_PRUNING: Duration = Duration::from_secs(10);
/// Time between two looks at readiness.
const LOOK: Duration = Duration::from_millis(500);

/// Starts all workers. Dropping the set cuts them off.
pub(crate) fn start(
    config: &Config,
    cluster: &Cluster,
    pod: &Pod,
    readiness: &Readiness,
    metrics: PrometheusHandle,
    admission: Arc<Admission>,
) -> JoinSet<()> {
    let shared = &cluster.state;
    let stop = &shared.stop;
    let mut workers = JoinSet::new();
    let mut add = |worker| {
        workers.spawn(worker);
    };

    let (state, options) = (Arc::clone(shared), config.health);
    add(supervise("health", stop, move |stop| health::run(Arc::clone(&state), options, stop)));

    let discovery = peers::discovery(config, &pod.me, &shared.stores);
    let peers = peers::unknown_or_alone(discovery.as_ref());
    if let Some(discovery) = discovery {
        let (list, every) = (Arc::clone(&peers), config.peer_discovery.refresh_interval);
        add(supervise("peers", stop, move |stop| {
            runtime::follow(Arc::clone(&list), Arc::clone(&discovery), every, stop)
        }));
        let lease = &config.leader_election;
        let options = PodOptions {
            address: pod.me.address(config, pod.client),
            report_ttl: lease.lease_ttl,
            ..PodOptions::default()
        };
        let state = Arc::clone(shared);
        add(supervise("pods", stop, move |stop| {
            pods::follow(Arc::clone(&state), options.clone(), stop)
        }));
        let candidate = Candidate {
            leases: Arc::clone(&shared.stores.leases),
            holder: shared.leadership.process().to_owned(),
            ttl: lease.lease_ttl,
            renew: lease.renew_interval,
        };
        let state = Arc::clone(shared);
        let start = Box::new(move |stop: CancellationToken| changing(&state, &stop));
        let leader = Arc::new(Leader::new(Arc::clone(shared), start));
        add(supervise("leader", stop, move |stop| {
            elected(candidate.clone(), Arc::clone(&leader), stop)
        }));
    } else {
        changing(shared, stop).into_iter().for_each(&mut add);
    }

    let (state, options, list) =
        (Arc::clone(shared), config.settings_drift_check, Arc::clone(&peers));
    add(supervise("settings_drift_check", stop, move |stop| {
        drift::run(Arc::clone(&state), Arc::clone(&list), options, stop)
    }));

    let pruner = Arc::new(Pruner { stores: shared.stores.clone(), keep: config.task_registry.ttl });
    let interval = config.task_registry.prune_interval;
    let schedule = Schedule { first: interval.min(FIRST_PRUNING), interval };
    let list = Arc::clone(&peers);
    add(supervise(Pruner::NAME, stop, move |stop| {
        partitioned(Arc::clone(&pruner), Arc::clone(&list), schedule, stop)
    }));

    add(supervise("envelope", stop, move |stop| envelope::run(Arc::clone(&admission), stop)));

    let state = Arc::clone(shared);
    add(supervise("shares", stop, move |stop| {
        show_shares(Arc::clone(&state), Arc::clone(&peers), stop)
    }));

    add(supervise("metrics", stop, move |stop| {
        let metrics = metrics.clone();
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = crate::metrics::upkeep(metrics) => {}
            }
        }
    }));

    let (state, readiness) = (Arc::clone(shared), readiness.clone());
    add(supervise("readiness", stop, move |stop| {
        await_ready(Arc::clone(&state), readiness.clone(), stop)
    }));
    workers
}

/// The workers that change things: one pod runs them for all.
fn changing(
    shared: &Arc<ClusterState>,
    stop: &CancellationToken,
) -> Vec<futures_util::future::BoxFuture<'static, ()>> {
    let (to_poll, to_repair, to_tell) =
        (Arc::clone(shared), Arc::clone(shared), Arc::clone(shared));
    vec![
        supervise("poller", stop, move |stop| poller::run(Arc::clone(&to_poll), stop)),
        supervise("repair", stop, move |stop| repair::run(Arc::clone(&to_repair), stop)),
        supervise("webhooks", stop, move |stop| webhooks::run(Arc::clone(&to_tell), stop)),
    ]
}

/// This process among others.
pub(crate) struct Pod {
    /// Who it is.
    pub(crate) me: Identity,
    /// Where it serves clients.
    pub(crate) client: SocketAddr,
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

/// Forgets finished tasks that are old, and sessions and keys that ended. Each is done by one pod for
/// all.
#[derive(Debug)]
struct Pruner {
    stores: Stores,
    /// How long a task is kept after its end.
    keep: Duration,
}

/// What there is to prune.
#[derive(Clone, Copy)]
enum Registry {
    Tasks,
    Sessions,
    Idempotency,
}

impl Item for Registry {
    fn key(&self) -> Cow<'_, str> {
        match self {
            Self::Tasks => "tasks".into(),
            Self::Sessions => "sessions".into(),
            Self::Idempotency => "idempotency".into(),
        }
    }
}

impl Worker for Pruner {
    const NAME: &'static str = "task_pruner";
    type Item = Registry;

    async fn items(&self) -> Result<Vec<Registry>, miroir::Error> {
        Ok(vec![Registry::Tasks, Registry::Sessions, Registry::Idempotency])
    }

    async fn run(&self, registry: Registry) -> Result<(), miroir::Error> {
        let (now, stores) = (clock::now(), &self.stores);
        match registry {
            Registry::Tasks => {
                let pruned = stores.tasks.prune(now - self.keep).await?;
                if pruned > 0 {
                    tracing::info!(pruned, "old tasks were forgotten");
                }
            }
            Registry::Sessions => {
                stores.sessions.prune(now).await?;
                let count = stores.sessions.count(now).await?;
                metrics::gauge!("miroir_session_active_count").set(count as f64);
            }
            Registry::Idempotency => {
                stores.idempotency.prune(now).await?;
                let count = stores.idempotency.count(now).await?;
                metrics::gauge!("miroir_idempotency_cache_size").set(count as f64);
            }
        }
        Ok(())
    }
}

/// Kinds of queues. Nothing fills them yet, but autoscalers are bound to their gauge, which therefore
/// reads 0 from the start instead of being absent.
const QUEUES: [&str; 2] = ["dump_import", "reshard_backfill"];
/// Time between two looks at queues.
const LOOK_AT_QUEUES: Duration = Duration::from_secs(15);

/// Shows how many shards are this pod's among its peers, and how much waits in queues.
async fn show_shares(shared: Arc<ClusterState>, peers: Arc<Peers>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_AT_QUEUES);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let own = (0..shared.options.shards).filter(|shard| peers.owns(&format!("shard:{shard}")));
        metrics::gauge!("miroir_owned_shards_count").set(own.count() as f64);
        for kind in QUEUES {
            match shared.stores.jobs.list(kind).await {
                Ok(jobs) => metrics::gauge!("miroir_background_queue_depth", "job_type" => kind)
                    .set(jobs.len() as f64),
                Err(error) => tracing::debug!(%error, "a queue could not be looked at"),
            }
        }
    }
}

/// Notices the moment of readiness even if nobody asks.
async fn await_ready(shared: Arc<ClusterState>, readiness: Readiness, stop: CancellationToken) {
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
