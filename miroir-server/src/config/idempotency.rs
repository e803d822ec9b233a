//! `idempotency`: a change that is sent twice is made once.

use serde::{Deserialize, Serialize};

use super::duration::Seconds;

/// `idempotency`: a change that is sent twice is made once (`Idempotency-Key`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdempotencyConfig {
    /// Whether the header has an effect.
    pub enabled: bool,
    /// How long a key is known.
    pub ttl_seconds: Seconds,
    /// Keys remembered; beyond that the oldest are forgotten.
    pub max_cached_keys: usize,
}

impl Default for IdempotencyConfig {
    fn default() -> Self {
        Self { enabled: true, ttl_seconds: Seconds(86_400), max_cached_keys: 1_000_000 }
    }
}
