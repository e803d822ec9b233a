//! Shares one scatter between identical reads that are in flight at the same time.
//!
//! Search boxes and pages that many look at ask the same question many times within milliseconds.
//! The first one is the *leader*: it asks the nodes. Those that come within the window join it and
//! wait for its answer. The next one after the answer asks anew: nothing is cached.
//!
//! # What is the same question
//! The operation with its body, whose keys may stand in any order; the index as the catalogue has it
//! (name, settings, and everything else of the entry); the topology and the stale replicas it is
//! judged by; the hints; the extensions that say they are
//! [part of the answer](miroir_pipeline::extension::Extension::answer_key), such as the settings version
//! and the over-fetch the client asks for. Who asks is no part of it: whatever a key may not see was made part of the question before (tenant rules are
//! filters by now).
//!
//! # Never older than what a client knows
//! When Miroir learns that a task is done it changes the index's catalogue entry *before* it shows
//! the task as `succeeded`. Who has seen that therefore asks another question than whoever asked
//! before, and joins nobody. What a client can know otherwise (it saw a document that a node just
//! took, in the answer to another question) is bounded by the window: nobody joins a scatter that
//! began longer ago. On other pods, which hear of finished tasks a little later, the window is the
//! bound as well. Reads of a session, those that *must* go to a certain group, and those that are to be
//! explained are not shared.
//!
//! # Stage
//! Index, reads of clients. Writes and background work pass untouched.
//!
//! # Order
//! Inside of everything that changes requests or hints: `tenant_affinity`, `session_pinning`,
//! `query_planner`.
//!
//! # Context
//! Reads `class`, `deadline`, `explain`, and of every extension what it says of its part in the answer;
//! one that must not be shared, such as a session, keeps its request alone.
//!
//! # Errors
//! Adds none, except that who waits gives up at its own deadline. A leader that vanishes (its client
//! went) or fails hands over: one follower asks, the others go on waiting for that one. If that fails
//! too, the error is everybody's, so that nodes in trouble are not asked once for every follower. What
//! is wrong with the request itself is told at once to those whose request is the same byte for byte.
//!
//! # Metrics
//! `miroir_query_coalesce_subscribers_total`: reads that joined another one.
//! `miroir_query_coalesce_hits_total`: reads that were answered by another one's scatter.
//!
//! # Example
//! ```
//! use miroir_pipeline::Stack;
//! use miroir_layers::index::{QueryCoalescingLayer, QueryCoalescingOptions, QueryPlannerLayer};
//!
//! let options = QueryCoalescingOptions { max_subscribers: 100, ..QueryCoalescingOptions::default() };
//! let stack = Stack::<miroir_pipeline::index::Request>::new()
//!     .push(QueryPlannerLayer::default())
//!     .push(QueryCoalescingLayer::new(options));
//! assert_eq!(stack.describe().layers, ["query_planner", "query_coalescing"]);
//! ```

#[allow(clippy::duplicate_mod, reason = "tests have it over loom's types, too")]
mod flight;
mod key;
mod layer;
/// What the flights are made of; tests put loom's in place of it.
mod sync {
    pub(super) use std::sync::{Arc, Mutex};
}
#[cfg(test)]
mod tests;

use std::time::Duration;

use miroir_core::options::{Capability, Faults, Validate, milliseconds};
use serde::{Deserialize, Serialize};

pub use layer::QueryCoalescingLayer;

/// `query_coalescing`: how much is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryCoalescingOptions {
    /// Whether identical reads are shared. True by default.
    pub enabled: bool,
    /// How long after its beginning a scatter may be joined. 50 ms by default.
    #[serde(rename = "window_ms", with = "milliseconds")]
    pub window: Duration,
    /// How many may wait for one scatter; the next one begins another.
    pub max_subscribers: usize,
    /// How many different questions may be in flight; others are asked on their own.
    pub max_pending_queries: usize,
}

impl Default for QueryCoalescingOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Duration::from_millis(50),
            max_subscribers: 1000,
            max_pending_queries: 10_000,
        }
    }
}

impl Validate for QueryCoalescingOptions {
    /// Values that share nothing although sharing is switched on.
    fn validate(&self, faults: &mut Faults) {
        for (key, zero) in [
            ("window_ms", self.window.is_zero()),
            ("max_subscribers", self.max_subscribers == 0),
            ("max_pending_queries", self.max_pending_queries == 0),
        ] {
            let remedy = "use at least 1, or set query_coalescing.enabled to false";
            faults.when(self.enabled && zero, &[key], "must not be 0", remedy);
        }
    }
}

impl Capability for QueryCoalescingOptions {
    fn enabled(&self) -> bool {
        self.enabled
    }
}
