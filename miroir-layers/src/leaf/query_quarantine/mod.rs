//! Keeps a question that a node did not survive from the next replica.
//!
//! A node that dies of a question (its memory was not enough) looks like one that died of something
//! else: the connection breaks. Failover would ask the next replica, that would die too, and where one
//! Meilisearch is gone a whole cluster would be. So a question over which a connection broke counts
//! points, and one with two of them is refused, here and at once, for
//! [`QueryQuarantineOptions::duration`]. Two points are counted at once for a question that
//!
//! - is heavy, as [`Question::is_heavy`](miroir_pipeline::leaf::Question::is_heavy) says, and broke the
//!   connection or got no answer in time, or
//! - had been with the node for a second, and for several times as long as calls take it, when the
//!   connection broke.
//!
//! Any other one counts one point and is asked once more: it was most likely in flight when a node
//! was stopped, and nobody should notice that. A second point takes another node, and an answer takes
//! the point away: one node that breaks off all the time says nothing of a question.
//!
//! Questions are told apart by their words, the index and the client's filter, a tenant's rules
//! included. A pod tells the others before it answers, so that who asks the next pod kills no second
//! node; where the store is away each counts for itself. A process forgets when it ends.
//!
//! # Stage
//! Leaf, `Target::Cover` only: whole questions of clients. Documents by id and the calls of workers
//! pass.
//!
//! # Order
//! Inside of `hedge` and `failover`: what they would ask of another replica passes here, too.
//!
//! # Context
//! Reads `class`: only what somebody waits for can be quarantined. Notes a warning in `explain` for a
//! question that is refused.
//!
//! # Errors
//! `503 miroir_query_quarantined` in place of the failure, and for the same question until its time is
//! over. It says for how long, why, and what to do. Nobody asks again after it.
//!
//! # Metrics
//! `miroir_query_quarantine_total{reason}` counts questions that were quarantined: `reset` where a
//! connection broke, `timeout` where a heavy one got no answer.
//! `miroir_query_quarantine_refused_total` counts the ones refused since, and
//! `miroir_quarantined_queries` is how many are quarantined.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use miroir_pipeline::Stack;
//! use miroir_pipeline::node::Scores;
//! use miroir_layers::leaf::{
//!     FailoverLayer, Quarantine, QueryQuarantineLayer, QueryQuarantineOptions,
//! };
//! use miroir_store::memory;
//!
//! // The scores that the nodes' `load` layers feed.
//! let scores = Arc::new(Scores::default());
//! // Spawn `Quarantine::follow` to hear what other pods found.
//! let quarantine = Quarantine::new(QueryQuarantineOptions::default(), &memory::open());
//! let quarantine = QueryQuarantineLayer::new(scores, quarantine);
//! let stack = Stack::<miroir_pipeline::leaf::Request>::new()
//!     .push(FailoverLayer::default())
//!     .push(quarantine);
//! assert_eq!(stack.describe().layers, ["failover", "query_quarantine"]);
//! ```

mod fingerprint;
mod layer;
mod quarantine;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

use miroir_core::options::{Capability, Faults, Validate, milliseconds};
use serde::{Deserialize, Serialize};

pub use layer::QueryQuarantineLayer;
pub use quarantine::Quarantine;

/// `query_quarantine`: whether and for how long a question that broke a node is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryQuarantineOptions {
    /// Whether questions are quarantined. True by default.
    pub enabled: bool,
    /// How long a question is refused, and how long a point counts. 60 s by default.
    #[serde(rename = "duration_ms", with = "milliseconds")]
    pub duration: Duration,
    /// Questions that have points, at most; beyond, the one that is forgotten soonest goes. 1,000 by
    /// default.
    #[serde(skip)]
    pub max_entries: usize,
}

impl Default for QueryQuarantineOptions {
    fn default() -> Self {
        Self { enabled: true, duration: Duration::from_mins(1), max_entries: 1000 }
    }
}

impl Validate for QueryQuarantineOptions {
    fn validate(&self, faults: &mut Faults) {
        let remedy = "use at least 1, or set query_quarantine.enabled to false";
        let zero = self.enabled && self.duration.is_zero();
        faults.when(zero, &["duration_ms"], "must not be 0", remedy);
    }
}

impl Capability for QueryQuarantineOptions {
    fn enabled(&self) -> bool {
        self.enabled
    }
}
