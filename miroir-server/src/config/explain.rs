//! `explain`: showing what a search would do.

use serde::{Deserialize, Serialize};

/// `explain`: showing what a search would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExplainConfig {
    /// Whether searches are explained.
    pub enabled: bool,
    /// Warnings of one explanation at most.
    pub max_warnings: usize,
    /// Whether `?execute=true` is allowed.
    pub allow_execute_parameter: bool,
}

impl Default for ExplainConfig {
    fn default() -> Self {
        Self { enabled: true, max_warnings: 20, allow_execute_parameter: true }
    }
}
