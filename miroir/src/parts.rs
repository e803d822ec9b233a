//! What layers share.

use std::sync::Arc;

use miroir_layers::edge::rate_limit::Limiter;
use miroir_layers::index::tenant_affinity::TenantDirectory;
use miroir_layers::leaf::{Quarantine, QueryQuarantineOptions};
use miroir_pipeline::keyring::Keyring;
use miroir_pipeline::node::Scores;
use miroir_store::{Stores, memory};

/// What layers share with each other and with the stages.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Parts {
    /// Figures of nodes: `load` and `breaker` feed them, routing, `hedge` and `session_pinning`
    /// read them.
    pub scores: Arc<Scores>,
    /// The stores of the cluster's state.
    pub stores: Stores,
    /// Where requests are counted against rate limits.
    pub limiter: Limiter,
    /// The API keys, from which their holders are known.
    pub keyring: Arc<Keyring>,
    /// Which tenants API keys are of; nobody's while
    /// [`Options::tenant_affinity`](crate::Options::tenant_affinity) does not ask for it.
    pub tenants: Arc<TenantDirectory>,
    /// Questions that nodes did not survive: `query_quarantine` refuses them.
    pub quarantine: Arc<Quarantine>,
}

impl Parts {
    /// Parts that share nothing with a cluster: to look at stacks that nothing is built of.
    pub(crate) fn of_nobody() -> Self {
        Self {
            scores: Arc::default(),
            stores: memory::open(),
            limiter: Limiter::new(memory::buckets()),
            keyring: Arc::new(Keyring::new(None)),
            tenants: Arc::default(),
            quarantine: Quarantine::new(QueryQuarantineOptions::default(), &memory::open()),
        }
    }
}
