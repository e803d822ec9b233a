//! Lets a session read what it wrote.
//!
//! A write is accepted before it can be found. A client that reads right after it wrote sees the
//! index as it was, unless it polls the task first. With a session (`X-Miroir-Session`) the layer
//! does that for it: it remembers the task of the session's last write to each index, and a read of
//! that index
//!
//! - waits until the write is done ([`WaitStrategy::Block`]), on the group that had it first or
//!   everywhere, at most [`SessionPinningOptions::max_wait`];
//! - or goes to the group that had it first, without waiting ([`WaitStrategy::RoutePin`]): it never
//!   sees an older state than that group's.
//!
//! Sessions are in the store, so any pod knows of them. A session is forgotten
//! [`SessionPinningOptions::ttl`] after its last write, and once nothing it wrote is outstanding.
//!
//! A group that cannot serve every shard any more is nobody's: reads of the session go anywhere then.
//!
//! # Stage
//! Index: writes and reads of documents with a session in their context. Others pass untouched.
//! Changes of settings are not waited for.
//!
//! # Order
//! Outside of `tenant_affinity` and `query_coalescing`: its hint decides what is shared.
//!
//! # Context
//! Reads [`Session`], which its codec takes from `X-Miroir-Session`. Writes the hint `group` (as
//! `session_pinning`, `Must`). A read that may miss the session's last write has [`SessionStale`] in
//! its `Meta`, which the codec shows as `X-Miroir-Session-Stale`.
//!
//! # Errors
//! A store that fails fails the read: nobody knows what the session wrote. A write whose session
//! cannot be stored is accepted all the same, logged, and counted as `miroir_session_lost_total`.
//!
//! # Metrics
//! `miroir_session_pin_enforced_total{strategy}`, `miroir_session_wait_duration_seconds`,
//! `miroir_session_wait_timeout_total`, `miroir_session_pin_cleared_total`,
//! `miroir_session_lost_total`.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use miroir_pipeline::Stack;
//! use miroir_pipeline::node::Scores;
//! use miroir_store::memory;
//! use miroir_layers::index::{SessionPinningLayer, SessionPinningOptions};
//!
//! let stores = memory::open();
//! let scores = Arc::new(Scores::default());
//! let layer = SessionPinningLayer::new(&stores, scores, SessionPinningOptions::default());
//! let stack = Stack::<miroir_pipeline::index::Request>::new().push(layer);
//! assert_eq!(stack.describe().layers, ["session_pinning"]);
//! ```

mod headers;
mod layer;
#[cfg(test)]
mod tests;

use std::time::Duration;

use miroir_core::options::{Capability, Faults, Validate, milliseconds, seconds};
use serde::{Deserialize, Serialize};

pub use headers::{Session, SessionStale};
pub use layer::SessionPinningLayer;

/// What a read does while the session's last write is not done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitStrategy {
    /// Waits for it.
    #[default]
    Block,
    /// Reads from the group that had the write first, as it is.
    RoutePin,
}

/// `session_pinning`: how sessions work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionPinningOptions {
    /// Whether `X-Miroir-Session` has an effect. True by default.
    pub enabled: bool,
    /// How long a session lives after its last write. 15 min by default.
    #[serde(rename = "ttl_seconds", with = "seconds")]
    pub ttl: Duration,
    /// Sessions remembered; beyond that the oldest are forgotten.
    pub max_sessions: usize,
    /// What a read does while the session's last write is not done.
    pub wait_strategy: WaitStrategy,
    /// How long a read waits at most. 5 s by default.
    #[serde(rename = "max_wait_ms", with = "milliseconds")]
    pub max_wait: Duration,
}

impl Default for SessionPinningOptions {
    /// Waits up to five seconds; 100,000 sessions for a quarter of an hour.
    fn default() -> Self {
        Self {
            enabled: true,
            ttl: Duration::from_mins(15),
            max_sessions: 100_000,
            wait_strategy: WaitStrategy::Block,
            max_wait: Duration::from_secs(5),
        }
    }
}

impl Validate for SessionPinningOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[
            ("ttl_seconds", self.ttl.is_zero()),
            ("max_sessions", self.max_sessions == 0),
            ("max_wait_ms", self.max_wait.is_zero()),
        ]);
    }
}

impl Capability for SessionPinningOptions {
    fn enabled(&self) -> bool {
        self.enabled
    }
}
