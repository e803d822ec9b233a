//! `query_planner`: asking only the shards a filter on the primary key can match in.

use serde::{Deserialize, Serialize};

use super::error::ConfigError;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryPlannerConfig {
    /// Whether it is done.
    pub enabled: bool,
    /// A filter that allows more ids than this is asked of all shards.
    pub max_pk_literals_narrowable: usize,
    /// Whether every plan is logged.
    pub log_plans: bool,
}

impl Default for QueryPlannerConfig {
    fn default() -> Self {
        Self { enabled: true, max_pk_literals_narrowable: 128, log_plans: false }
    }
}

/// More ids than this take longer to look at than they save.
const MOST_LITERALS: usize = 65_536;

impl QueryPlannerConfig {
    pub(super) fn check(&self) -> Option<ConfigError> {
        let most = self.max_pk_literals_narrowable;
        (self.enabled && !(1..=MOST_LITERALS).contains(&most)).then(|| {
            ConfigError::new(
                ["query_planner.max_pk_literals_narrowable"],
                format!("{most} is not a number of ids that can be looked at"),
                "use 1 to 65536, or set query_planner.enabled to false",
            )
        })
    }
}
