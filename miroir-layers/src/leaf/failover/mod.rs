//! Covers the shards of a failed node again, without that node.
//!
//! A node dies, and for some seconds, until its breaker opens or its health check notices, every
//! search still goes there. The shards it failed to answer for have other replicas; this layer asks
//! those, so that the client sees a slower answer and not an incomplete one. What *was* answered is
//! kept.
//!
//! When all nodes are ill at once, retries make them worse. So further attempts come out of a
//! budget: a share of all leaves, plus a few a second, plus what was saved up. When it is empty the
//! answer is returned as incomplete as it is.
//!
//! # Stage
//! Leaf, `Target::Cover` only. `Target::Exactly` is never touched: a write has no alternative node.
//!
//! # Order
//! Inside of `hedge`: each attempt may move on by itself.
//!
//! # Context
//! Reads `deadline`: nothing is asked again after it.
//!
//! # Errors
//! Adds none. An error that says that another replica may answer is taken for a failure of all its
//! shards. If a later attempt fails as a whole, what is known so far is returned; only an error that
//! is the client's fault, or a refusal of Miroir's own, takes its place.
//!
//! Of the failures in the answer each is the last one met for its shards. A shard that has no
//! other replica stays with the failure of the one it has.
//!
//! # Metrics
//! `miroir_scatter_retries_total` counts further attempts, `miroir_failover_exhausted_total` those
//! that the budget did not allow.
//!
//! # Example
//! ```
//! use miroir_pipeline::Stack;
//! use miroir_layers::leaf::{FailoverLayer, FailoverOptions};
//!
//! let layer = FailoverLayer::new(FailoverOptions { max_attempts: 2, ..Default::default() });
//! let stack = Stack::<miroir_pipeline::leaf::Request>::new().push(layer);
//! assert_eq!(stack.describe().layers, ["failover"]);
//! ```

mod layer;
#[cfg(test)]
mod tests;

use miroir_core::options::{Capability, Faults, Validate};
use serde::{Deserialize, Serialize};

pub use layer::FailoverLayer;

/// `failover`: how often, and how much at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FailoverOptions {
    /// Whether a failed read is asked elsewhere. True by default.
    pub enabled: bool,
    /// Attempts for one leaf, the first included. 1 switches the layer off.
    pub max_attempts: u32,
    /// Further attempts allowed, in percent of all leaves: bounds the load a failing cluster puts
    /// on the nodes that are left.
    pub budget_percent: u32,
    /// Whether shards of a node that did not answer in time are asked of another one. In a
    /// configuration this is `scatter.retry_on_timeout`.
    #[serde(skip)]
    pub retry_timeouts: bool,
    /// Further attempts allowed in every second beside those, for clusters with little traffic.
    #[serde(skip)]
    pub per_second: u32,
    /// Further attempts that can be saved up. Covers what is in flight at the moment a node dies.
    #[serde(skip)]
    pub burst: u32,
}

impl Default for FailoverOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            max_attempts: 3,
            budget_percent: 20,
            retry_timeouts: true,
            per_second: 10,
            burst: 100,
        }
    }
}

impl Validate for FailoverOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.percentage("budget_percent", self.budget_percent);
        faults.positive(&[("max_attempts", self.enabled && self.max_attempts == 0)]);
    }
}

impl Capability for FailoverOptions {
    fn enabled(&self) -> bool {
        self.enabled
    }
}
