//! What travels up with every answer.

use miroir_api::GroupId;

use crate::routing::ShardSet;

/// Facts about how an answer came about. Rendered as response headers by the edge.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Meta {
    /// Shards nobody answered for.
    pub missing_shards: Option<ShardSet>,
    /// Groups in which a write missed its quorum or a replica.
    pub degraded_groups: Vec<GroupId>,
    /// Settings version of the index.
    pub settings_version: Option<u64>,
    /// Whether a settings broadcast was in flight.
    pub settings_in_flight: bool,
    /// Nodes that took part.
    pub nodes: usize,
}

impl Meta {
    /// The value of `X-Miroir-Degraded`; `None` when nothing is missing.
    pub fn degraded(&self) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(shards) = self.missing_shards.as_ref().filter(|s| !s.is_empty()) {
            parts.push(format!("shards={}", crate::error::list(shards)));
        }
        if !self.degraded_groups.is_empty() {
            let groups: Vec<String> = self.degraded_groups.iter().map(|g| g.to_string()).collect();
            parts.push(format!("groups={}", groups.join(",")));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
