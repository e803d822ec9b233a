//! `aliases`: names that stand for indexes.

use serde::{Deserialize, Serialize};

/// `aliases`: names that stand for indexes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AliasesConfig {
    /// Whether names are looked up among them.
    pub enabled: bool,
    /// What an alias stood for before is kept this many times.
    pub history_retention: usize,
    /// Whether an alias may only stand for indexes that exist.
    pub require_target_exists: bool,
}

impl Default for AliasesConfig {
    fn default() -> Self {
        Self { enabled: true, history_retention: 10, require_target_exists: true }
    }
}
