//! What travels up with every answer.

use std::sync::Arc;

use miroir_api::{GroupId, TaskUid};
use uuid::Uuid;

use crate::cluster::settings::IndexSettings;
use crate::quota::Quota;
use miroir_core::merge::HitOptions;
use miroir_core::routing::ShardSet;

/// What the client is to see of the hits of a federated search's query.
#[derive(Clone, Debug)]
pub struct Part {
    /// What the client asked for.
    pub hits: HitOptions,
    /// The index's primary key.
    pub primary_key: Option<String>,
    /// The index's settings.
    pub settings: Arc<IndexSettings>,
    /// Whether hits tell of attributes the client may not see.
    pub project: bool,
}

/// A change that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its task.
    pub task: TaskUid,
    /// The first group that has all of it on a quorum; of a change of documents only.
    pub group: Option<GroupId>,
}

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
    /// Of a change: what was accepted.
    pub accepted: Option<Accepted>,
    /// Whether a session's last write was waited for in vain, and may be missing.
    pub session_stale: bool,
    /// Whether this was answered before, to the same request.
    pub replayed: bool,
    /// Whether the search that was explained came while settings were being changed.
    pub settings_pending: bool,
    /// Nodes that took part.
    pub nodes: usize,
    /// Of a federated search's query: what the client is to see of its hits.
    pub part: Option<Arc<Part>>,
    /// Of a federated search: which query each hit is of.
    pub origins: Option<Arc<[usize]>>,
    /// Uids in the body that are of this answer alone.
    pub uids: Vec<Uuid>,
    /// What the body is, if it is not JSON.
    pub content_type: Option<&'static str>,
    /// What is left of the limit the request was counted by.
    pub quota: Option<Quota>,
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
