//! Where requests are counted: in this process, or in the store that all pods share.

use std::sync::Arc;

use miroir::store::{Stores, memory};
use miroir_layers::edge::rate_limit::Limiter;

use crate::config::{Config, TaskStoreBackend};

/// Where requests are counted.
pub(crate) fn limiter(config: &Config, stores: &Stores) -> Limiter {
    let redis = config.task_store.backend == TaskStoreBackend::Redis;
    Limiter::new(if config.rate_limit.is_local(redis) {
        memory::buckets()
    } else {
        Arc::clone(&stores.buckets)
    })
}
