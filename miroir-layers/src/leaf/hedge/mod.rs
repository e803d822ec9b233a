//! Asks another replica where a node takes longer than usual, and takes the answer that comes first.
//!
//! A search is as slow as its slowest node: one that pauses for its disk or its memory slows every
//! search that needs it. This layer watches each node of a cover on its own. One that has not
//! answered within what [`HedgeOptions::percent`] of calls take (of its own, or of the median node's
//! where that is less), times [`HedgeOptions::p95_trigger_multiplier`], has its shards covered once more without
//! it. The first complete answer is taken and the other call is given up. A node that is slow, and is
//! asked only to learn whether it still is ([`Route::probed`](miroir_core::view::Route)), is waited for as
//! long as half of calls take.
//!
//! Where everything is slow, hedges make it slower. So they come out of a budget, a share of all
//! calls to nodes, and one request has only so many; and a node that keeps half of its callers
//! waiting too long is not asked in the stead of another. After *The Tail at Scale* (Dean and Barroso
//! 2013); the budget after Finagle's `RetryBudget`.
//!
//! # Stage
//! Leaf, `Target::Cover` only. `Target::Exactly` is never touched: a write cannot be hedged.
//!
//! # Order
//! Outermost of its stage: `failover` inside of it sees each node's part on its own. Needs
//! [`load`](crate::node::load) in the node stage, with the same `Scores`: without it nobody knows how
//! long a node usually takes.
//!
//! # Context
//! Reads `class`: only what somebody waits for is hedged. Notes in `explain` how long each node is
//! waited for.
//!
//! # Errors
//! Adds none. An error of one part that is the client's fault, or that no replica can help, is the
//! answer at once; one that names a node is a failure of that part.
//!
//! # Metrics
//! `miroir_hedge_fired_total{outcome}`: `winner` where the hedge answered first, `loser` where the
//! first call did or neither was complete. `miroir_hedge_skipped_total{reason}`: `budget`, `limit`
//! (of one request), `heavy` (a question of very many conditions is asked of one replica only),
//! `no_replica`, `others_late`.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use miroir_pipeline::Stack;
//! use miroir_pipeline::node::Scores;
//! use miroir_layers::leaf::{FailoverLayer, HedgeLayer, HedgeOptions};
//!
//! // The scores that the nodes' `load` layers feed.
//! let scores = Arc::new(Scores::default());
//! let hedge = HedgeLayer::new(scores, HedgeOptions { max_hedges_per_query: 1, ..Default::default() });
//! let stack = Stack::<miroir_pipeline::leaf::Request>::new().push(hedge).push(FailoverLayer::default());
//! assert_eq!(stack.describe().layers, ["hedge", "failover"]);
//! ```

mod layer;
#[cfg(test)]
mod tests;

use std::time::Duration;

use miroir_core::options::{Capability, Faults, Validate, milliseconds};
use serde::{Deserialize, Serialize};

pub use layer::HedgeLayer;

/// `hedging`: when, and how often at most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HedgeOptions {
    /// Whether slow calls are hedged. True by default.
    pub enabled: bool,
    /// How many times as long as [`HedgeOptions::percent`] of calls take is waited.
    pub p95_trigger_multiplier: f64,
    /// The least time that is waited. 15 ms by default.
    #[serde(rename = "min_trigger_ms", with = "milliseconds")]
    pub min_trigger: Duration,
    /// Hedges of one leaf request.
    pub max_hedges_per_query: u32,
    /// Whether replicas of another group may answer.
    pub cross_group_fallback: bool,
    /// Calls of hedges in percent of all other calls to nodes.
    pub budget_percent: u32,
    /// The share of calls that are over before anybody gets impatient, in percent. 95 by default.
    #[serde(skip)]
    pub percent: u32,
    /// Calls of hedges that can be saved up. Covers what is in flight when a node becomes slow.
    #[serde(skip)]
    pub burst: u32,
}

impl Default for HedgeOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            p95_trigger_multiplier: 1.2,
            min_trigger: Duration::from_millis(15),
            max_hedges_per_query: 2,
            cross_group_fallback: true,
            budget_percent: 5,
            percent: 95,
            burst: 20,
        }
    }
}

impl Validate for HedgeOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.percentage("budget_percent", self.budget_percent);
        let multiplier = self.p95_trigger_multiplier;
        faults.when(
            !(1.0..=100.0).contains(&multiplier),
            &["p95_trigger_multiplier"],
            format!("{multiplier} times the usual time is not what a hedge can wait"),
            "use 1 to 100",
        );
        let none = self.enabled && self.max_hedges_per_query == 0;
        faults.positive(&[("max_hedges_per_query", none)]);
    }
}

impl Capability for HedgeOptions {
    fn enabled(&self) -> bool {
        self.enabled
    }
}
