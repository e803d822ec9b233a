//! Options of the registry of tasks.

use std::time::Duration;

use miroir_core::options::{Faults, Validate, seconds};
use serde::{Deserialize, Serialize};

/// `task_registry`: Miroir's own tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskRegistryOptions {
    /// Tasks kept in memory, unfinished ones among them ([`CachedTasks`](crate::CachedTasks)). 10,000 by default.
    pub cache_size: usize,
    /// Connections to the `redis` backend. Read, and without effect.
    pub redis_pool_max: u32,
    /// How long a finished task is kept. A week by default.
    #[serde(rename = "ttl_seconds", with = "seconds")]
    pub ttl: Duration,
    /// How many tasks are kept; beyond that the oldest that have finished are forgotten. A million by
    /// default, as on one node.
    pub max_tasks: usize,
    /// Time between two prunings. Five minutes by default.
    #[serde(rename = "prune_interval_s", with = "seconds")]
    pub prune_interval: Duration,
}

impl Default for TaskRegistryOptions {
    fn default() -> Self {
        Self {
            cache_size: 10_000,
            redis_pool_max: 50,
            ttl: Duration::from_hours(7 * 24),
            max_tasks: 1_000_000,
            prune_interval: Duration::from_mins(5),
        }
    }
}

impl Validate for TaskRegistryOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[
            ("cache_size", self.cache_size == 0),
            ("ttl_seconds", self.ttl.is_zero()),
            ("max_tasks", self.max_tasks == 0),
            ("prune_interval_s", self.prune_interval.is_zero()),
        ]);
    }
}
