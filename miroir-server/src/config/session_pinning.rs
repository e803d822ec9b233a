//! `session_pinning`: reads of a session show its writes.

use serde::{Deserialize, Serialize};

use super::duration::{Millis, Seconds};

/// What a read does while the session's last write is not done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitStrategy {
    /// Waits for it.
    #[default]
    Block,
    /// Reads from the group that had it first, as it is.
    RoutePin,
}

/// `session_pinning`: reads of a session show its writes (`X-Miroir-Session`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionPinningConfig {
    /// Whether the header has an effect.
    pub enabled: bool,
    /// How long a session lives after its last write.
    pub ttl_seconds: Seconds,
    /// Sessions remembered; beyond that the oldest are forgotten.
    pub max_sessions: usize,
    /// What a read does while the session's last write is not done.
    pub wait_strategy: WaitStrategy,
    /// How long a read waits at most.
    pub max_wait_ms: Millis,
}

impl Default for SessionPinningConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            ttl_seconds: Seconds(900),
            max_sessions: 100_000,
            wait_strategy: WaitStrategy::Block,
            max_wait_ms: Millis(5_000),
        }
    }
}
