//! Pruning: finished tasks that are old, and sessions and idempotency keys that ended.
//!
//! # Metrics
//! `miroir_session_active_count`, `miroir_idempotency_cache_size`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use miroir_pipeline::error::Error;
use miroir_store::{Stores, TaskRegistryOptions, clock};
use tokio_util::sync::CancellationToken;

use crate::runtime::{Item, PartitionedTask, Peers, Schedule, partitioned};

/// From the start to the first pass, at most.
const FIRST: Duration = Duration::from_secs(10);

/// When records are pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruningOptions {
    /// How long a task is kept after its end. A week by default.
    pub keep_tasks: Duration,
    /// Time between two passes. Five minutes by default.
    pub interval: Duration,
}

impl Default for PruningOptions {
    fn default() -> Self {
        Self::from(&TaskRegistryOptions::default())
    }
}

impl From<&TaskRegistryOptions> for PruningOptions {
    fn from(registry: &TaskRegistryOptions) -> Self {
        Self { keep_tasks: registry.ttl, interval: registry.prune_interval }
    }
}

/// Prunes until cancelled: the first time within ten seconds, then at every interval. Each kind of
/// record is pruned by one pod for all.
pub async fn prune(
    stores: Stores,
    peers: Arc<Peers>,
    options: PruningOptions,
    stop: CancellationToken,
) {
    let PruningOptions { keep_tasks: keep, interval } = options;
    let schedule = Schedule { first: interval.min(FIRST), interval };
    partitioned(Arc::new(Pruner { stores, keep }), peers, schedule, stop).await;
}

/// Forgets finished tasks that are old, and sessions and keys that ended. Each is done by one pod for
/// all.
#[derive(Debug)]
struct Pruner {
    stores: Stores,
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

impl PartitionedTask for Pruner {
    const NAME: &'static str = "task_pruner";
    type Item = Registry;

    async fn items(&self) -> Result<Vec<Registry>, Error> {
        Ok(vec![Registry::Tasks, Registry::Sessions, Registry::Idempotency])
    }

    async fn run(&self, registry: Registry) -> Result<(), Error> {
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
