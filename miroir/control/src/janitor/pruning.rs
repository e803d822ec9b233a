//! Pruning: finished tasks that are old or too many, and sessions and idempotency keys that ended.
//!
//! # Metrics
//! `miroir_session_active_count`, `miroir_idempotency_cache_size`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use miroir_api::meili::TaskStatus;
use miroir_pipeline::error::Error;
use miroir_store::{Stores, TaskQuery, TaskRegistryOptions, clock};
use tokio_util::sync::CancellationToken;

use crate::runtime::{Item, PartitionedTask, Peers, Schedule, partitioned};

/// From the start to the first pass, at most.
const FIRST: Duration = Duration::from_secs(10);

/// Tasks forgotten in one step.
const PAGE: usize = 1_000;

/// How tasks end.
const FINISHED: [TaskStatus; 3] = [TaskStatus::Succeeded, TaskStatus::Failed, TaskStatus::Canceled];

/// When records are pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruningOptions {
    /// How long a task is kept after its end. A week by default.
    pub keep_tasks: Duration,
    /// How many tasks are kept; beyond that the oldest that have finished go. A million by default.
    pub max_tasks: usize,
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
        Self {
            keep_tasks: registry.ttl,
            max_tasks: registry.max_tasks,
            interval: registry.prune_interval,
        }
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
    let PruningOptions { keep_tasks: keep, max_tasks: most, interval } = options;
    let schedule = Schedule { first: interval.min(FIRST), interval };
    partitioned(Arc::new(Pruner { stores, keep, most }), peers, schedule, stop).await;
}

/// Forgets finished tasks that are old, and sessions and keys that ended. Each is done by one pod for
/// all.
#[derive(Debug)]
struct Pruner {
    stores: Stores,
    keep: Duration,
    most: usize,
}

impl Pruner {
    /// Forgets the oldest tasks that have finished, until no more are left than are kept or none of
    /// the rest has finished; how many.
    async fn forget_most(&self) -> Result<usize, Error> {
        let tasks = &self.stores.tasks;
        let all = tasks.list(TaskQuery { limit: 0, ..TaskQuery::default() }).await?.total;
        let mut surplus = usize::try_from(all).unwrap_or(usize::MAX).saturating_sub(self.most);
        let mut forgotten = 0;
        while surplus > 0 {
            let oldest = TaskQuery {
                limit: surplus.min(PAGE),
                reverse: true,
                statuses: Some(FINISHED.to_vec()),
                ..TaskQuery::default()
            };
            let uids: Vec<u32> =
                tasks.list(oldest).await?.tasks.iter().map(|task| task.uid.0).collect();
            let removed = tasks.remove(uids).await?.len();
            if removed == 0 {
                break;
            }
            forgotten += removed;
            surplus = surplus.saturating_sub(removed);
        }
        Ok(forgotten)
    }
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
                let pruned = self.forget_most().await?;
                if pruned > 0 {
                    let most = self.most;
                    tracing::warn!(
                        pruned,
                        most,
                        "the oldest tasks were forgotten, for there were more than \
                         `task_registry.max_tasks`"
                    );
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

#[cfg(test)]
mod tests {
    use miroir_api::meili::TaskKind;
    use miroir_store::{NewTask, memory};

    use super::*;

    #[tokio::test]
    async fn the_oldest_finished_tasks_go_where_there_are_too_many() {
        let stores = memory::open();
        for _ in 0..6 {
            let new = NewTask::new(TaskKind::DocumentDeletion, clock::now());
            let mut task = stores.tasks.insert(new).await.unwrap();
            // The first of all is still under way.
            if task.uid.0 > 0 {
                task.status = TaskStatus::Succeeded;
                task.finished_at = Some(clock::now());
                stores.tasks.update(task).await.unwrap();
            }
        }
        let left = async || stores.tasks.uids(TaskQuery::default()).await.unwrap();
        let pruner = |most| Pruner { stores: stores.clone(), keep: Duration::from_hours(1), most };
        pruner(6).run(Registry::Tasks).await.unwrap();
        assert_eq!(left().await, [0, 1, 2, 3, 4, 5]);
        pruner(3).run(Registry::Tasks).await.unwrap();
        assert_eq!(left().await, [0, 4, 5]);
        // What is under way stays, however many there are.
        assert_eq!(pruner(0).forget_most().await.unwrap(), 2);
        assert_eq!(left().await, [0]);
    }
}
