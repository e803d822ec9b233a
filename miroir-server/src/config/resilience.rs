//! `breaker`, `node_limit`, `failover`: what becomes of nodes that fail.

use serde::{Deserialize, Serialize};

use super::duration::Millis;

/// `breaker`: sparing a node that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// Whether nodes have a breaker.
    pub enabled: bool,
    /// Failures in a row that open it.
    pub failure_threshold: u32,
    /// How long it stays open the first time; doubles with every probe that fails.
    pub open_ms: Millis,
    /// Upper bound of that time.
    pub max_open_ms: Millis,
    /// Probes that have to succeed before it closes.
    pub half_open_probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            failure_threshold: 5,
            open_ms: Millis(1_000),
            max_open_ms: Millis(30_000),
            half_open_probes: 1,
        }
    }
}

/// `node_limit`: calls in flight to one node, one lane per class of traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeLimitConfig {
    /// Whether calls are limited.
    pub enabled: bool,
    /// Calls made for clients.
    pub interactive: usize,
    /// Calls of workers: repairs, moves, checks.
    pub background: usize,
}

impl Default for NodeLimitConfig {
    fn default() -> Self {
        Self { enabled: true, interactive: 96, background: 32 }
    }
}

/// `failover`: asking another replica after a failed read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FailoverConfig {
    /// Whether a failed read is asked elsewhere.
    pub enabled: bool,
    /// Attempts per leaf, the first included.
    pub max_attempts: u32,
    /// Further attempts allowed, in percent of all leaves: bounds the load a failing cluster puts
    /// on the nodes that are left.
    pub budget_percent: u32,
}

impl Default for FailoverConfig {
    fn default() -> Self {
        Self { enabled: true, max_attempts: 3, budget_percent: 20 }
    }
}
