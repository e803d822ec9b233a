//! `query_coalescing`: one scatter for identical reads in flight.

use serde::{Deserialize, Serialize};

use super::duration::Millis;
use super::error::ConfigError;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryCoalescingConfig {
    /// Whether it is done.
    pub enabled: bool,
    /// How long after its beginning a scatter may be joined.
    pub window_ms: Millis,
    /// How many may wait for one scatter.
    pub max_subscribers: usize,
    /// How many different queries may be in flight; others are not shared.
    pub max_pending_queries: usize,
}

impl Default for QueryCoalescingConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            window_ms: Millis(50),
            max_subscribers: 1000,
            max_pending_queries: 10_000,
        }
    }
}

impl QueryCoalescingConfig {
    /// Every value that shares nothing although sharing is switched on.
    pub(super) fn check(&self) -> impl Iterator<Item = ConfigError> {
        [
            ("query_coalescing.window_ms", self.window_ms.is_zero()),
            ("query_coalescing.max_subscribers", self.max_subscribers == 0),
            ("query_coalescing.max_pending_queries", self.max_pending_queries == 0),
        ]
        .into_iter()
        .filter(|(_, zero)| self.enabled && *zero)
        .map(|(key, _)| {
            let remedy = "use at least 1, or set query_coalescing.enabled to false";
            ConfigError::new([key], "must not be 0", remedy)
        })
    }
}
