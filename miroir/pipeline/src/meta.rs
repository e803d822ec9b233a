//! What travels up with every answer.

use std::sync::Arc;

use miroir_api::{GroupId, TaskUid};
use uuid::Uuid;

use crate::cluster::settings::IndexSettings;
use crate::quota::Quota;
use miroir_core::merge::HitOptions;
use miroir_core::routing::ShardSet;

/// What the client sees of the hits of one query of a federated search.
#[derive(Clone, Debug)]
pub struct Part {
    /// Paging, scores and fields, as the client asked for them.
    pub hits: HitOptions,
    /// Primary key of the index; `None` while it has none.
    pub primary_key: Option<String>,
    /// Settings of the index, as of the version the query was answered under.
    pub settings: Arc<IndexSettings>,
    /// Whether hits hold attributes that the client may not see, so that they are taken out.
    pub project: bool,
}

/// A change that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Uid of the task that carries it out.
    pub task: TaskUid,
    /// The first group that has all of it on a quorum; of a change of documents only.
    pub group: Option<GroupId>,
}

/// Facts about how an answer came about. Rendered as response headers by the edge.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Meta {
    /// Shards that no node answered for; `None` if the answer is complete.
    pub missing_shards: Option<ShardSet>,
    /// Groups in which a write missed its quorum or a replica, ascending; empty for reads.
    pub degraded_groups: Vec<GroupId>,
    /// Settings version of the index the answer was made under; `None` where no one index is
    /// concerned.
    pub settings_version: Option<u64>,
    /// Whether a settings broadcast was in flight.
    pub settings_in_flight: bool,
    /// What was accepted, for a change; `None` for a read.
    pub accepted: Option<Accepted>,
    /// Whether the wait for a session's last write ended without it, so that it may be missing.
    pub session_stale: bool,
    /// Whether this is the stored answer to an earlier request with the same `Idempotency-Key`.
    pub replayed: bool,
    /// Whether settings were being changed while the search was explained.
    pub settings_pending: bool,
    /// Number of nodes that were asked; 0 for what Miroir answers itself.
    pub nodes: usize,
    /// What the client sees of the hits, for one query of a federated search; `None` otherwise.
    pub part: Option<Arc<Part>>,
    /// The query that each hit belongs to, for a federated search; `None` otherwise.
    pub origins: Option<Arc<[usize]>>,
    /// Uids in the body that belong to this answer alone; a copy of the answer needs others.
    pub uids: Vec<Uuid>,
    /// `Content-Type` of the body; `None` for `application/json`.
    pub content_type: Option<&'static str>,
    /// What is left of the rate limit the request was counted by; `None` without one.
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
