//! Asks only the shards that a filter on the primary key can find documents in.
//!
//! A search goes to every shard, because its hits may be anywhere. With `sku = "4711"` as its
//! filter, where `sku` is the primary key, they are in one. This layer reads the filters of searches
//! and lists and says so in the request's hints; which shards may be left out, and which may not, is
//! in [`miroir_core::filter`]. Plans are kept, so that the same filter is read once.
//!
//! A filter that a node would refuse is not touched: the nodes that are asked refuse it. Where
//! nothing can be found, one shard is asked all the same, for the empty answer in its right form.
//!
//! # Stage
//! Index: searches of every kind, counts of several searches, and lists of documents, where they
//! have a filter. Other operations pass untouched.
//!
//! # Order
//! Inside of whatever changes filters. Hints of other layers need no order; shards that another
//! layer asked for are left alone.
//!
//! # Context
//! Reads nothing of it. Writes the hint `shards` (as `query_planner`, `Must`).
//!
//! # Errors
//! Adds none.
//!
//! # Metrics
//! `miroir_query_plan_narrowable_total{narrowed}`: reads with a filter, by whether fewer than all
//! shards were asked. `miroir_query_plan_narrowing_ratio`: the share of `yes` among them.
//! `miroir_query_plan_fanout_size`: nodes that answered a read with a filter.
//!
//! # Example
//! ```
//! use miroir_pipeline::Stack;
//! use miroir_layers::index::{QueryPlannerLayer, QueryPlannerOptions};
//!
//! let options = QueryPlannerOptions { max_pk_literals_narrowable: 16, ..QueryPlannerOptions::default() };
//! let planner = QueryPlannerLayer::new(options);
//! let stack = Stack::<miroir_pipeline::index::Request>::new().push(planner);
//! assert_eq!(stack.describe().layers, ["query_planner"]);
//! ```

mod cache;
mod layer;
#[cfg(test)]
mod tests;

use miroir_core::options::{Capability, Faults, Validate};
use serde::{Deserialize, Serialize};

pub use layer::QueryPlannerLayer;

/// More ids than this take longer to look at than they save.
const MOST_LITERALS: usize = 65_536;

/// `query_planner`: how much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryPlannerOptions {
    /// Whether reads are narrowed. True by default.
    pub enabled: bool,
    /// A filter that allows more ids than this is asked of all shards. Every spelling of a literal
    /// counts.
    pub max_pk_literals_narrowable: usize,
    /// Whether every plan is logged, at level `info`.
    pub log_plans: bool,
}

impl Default for QueryPlannerOptions {
    fn default() -> Self {
        Self { enabled: true, max_pk_literals_narrowable: 128, log_plans: false }
    }
}

impl Validate for QueryPlannerOptions {
    fn validate(&self, faults: &mut Faults) {
        let most = self.max_pk_literals_narrowable;
        faults.when(
            self.enabled && !(1..=MOST_LITERALS).contains(&most),
            &["max_pk_literals_narrowable"],
            format!("{most} is not a number of ids that can be looked at"),
            "use 1 to 65536, or set query_planner.enabled to false",
        );
    }
}

impl Capability for QueryPlannerOptions {
    fn enabled(&self) -> bool {
        self.enabled
    }
}
