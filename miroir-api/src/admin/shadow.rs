//! `GET /_miroir/shadow/diff`.

use serde::{Deserialize, Serialize};

/// In what two answers to one request differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShadowKind {
    /// Other hits, or hits with other contents.
    Hits,
    /// The hits that both have are in another order.
    Ranking,
    /// The shadow took longer than is tolerated.
    Latency,
    /// One side failed and the other did not, or they failed in different ways.
    Error,
}

impl ShadowKind {
    /// All kinds, in the order in which a difference lists them.
    pub const ALL: [Self; 4] = [Self::Hits, Self::Ranking, Self::Latency, Self::Error];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hits => "hits",
            Self::Ranking => "ranking",
            Self::Latency => "latency",
            Self::Error => "error",
        }
    }

    /// The kind of this name on the wire; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Differences, oldest first, and what was compared in all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShadowDiffs {
    /// Differences that are still remembered.
    pub diffs: Vec<ShadowDiff>,
    /// Give it as `since_id` to get what comes after these.
    pub next_since_id: u64,
    /// Every target since the start of this process.
    pub targets: Vec<ShadowTarget>,
}

/// One request to which primary and shadow gave different answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowDiff {
    /// Grows with every difference; begins again when the process does.
    pub id: u64,
    /// When the answers were compared, as RFC 3339 in UTC.
    pub at: String,
    /// Name of the shadow, as in `shadow.targets[].name`.
    pub target: String,
    /// What was asked, for example `search`.
    pub operation: String,
    /// The index; absent where there are several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub index: Option<String>,
    /// The request that both sides were sent.
    pub request: ShadowRequest,
    /// In what the answers differ.
    pub kinds: Vec<ShadowKind>,
    /// Which hits differ, if any do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hits: Option<ShadowHits>,
    /// Kendall's tau of the hits that both have: 1 the same order, -1 the reverse. Of several lists
    /// the lowest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kendall_tau: Option<f64>,
    /// Status, error and time of the cluster that answered the client.
    pub primary: ShadowSide,
    /// Status, error and time of the shadow cluster.
    pub shadow: ShadowSide,
}

/// A request as it can be sent again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowRequest {
    /// HTTP method, in capital letters.
    pub method: String,
    /// Path with the query string, as it was sent to the shadow.
    pub path: String,
    /// The beginning of the body.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub body: String,
    /// Whether the body goes on.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub truncated: bool,
}

/// Hits that differ. The lists hold the first few ids, the counts are of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShadowHits {
    /// How many the shadow lacks.
    pub missing_count: usize,
    /// How many only the shadow has.
    pub extra_count: usize,
    /// How many both have, with other contents.
    pub changed_count: usize,
    /// Those that the shadow lacks.
    pub missing: Vec<String>,
    /// Those that only the shadow has.
    pub extra: Vec<String>,
    /// Ids of hits that both have, with other contents.
    pub changed: Vec<String>,
}

/// Status, error and time of one of the two answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowSide {
    /// HTTP status; absent where there was no answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// The error's code, or why there was no answer: `timeout`, `connect`, `too_large`, ….
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

/// What was sent to one target since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowTarget {
    /// Name of the target, as in `shadow.targets[].name`.
    pub target: String,
    /// Requests that were chosen to be repeated, those of `dropped` and `in_flight` included.
    pub sampled: u64,
    /// Those that were not sent or not compared, because too many were under way or the answer was
    /// too large.
    pub dropped: u64,
    /// Requests that the target has not answered yet.
    pub in_flight: u64,
    /// Requests whose two answers were compared.
    pub compared: u64,
    /// Those that differ in anything.
    pub different: u64,
    /// Compared requests that differ, by kind; a request may count under several.
    pub kinds: ShadowCounts,
}

/// Numbers of requests whose answers differ, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowCounts {
    /// Requests with a difference of [`ShadowKind::Hits`].
    pub hits: u64,
    /// Requests with a difference of [`ShadowKind::Ranking`].
    pub ranking: u64,
    /// Requests with a difference of [`ShadowKind::Latency`].
    pub latency: u64,
    /// Requests with a difference of [`ShadowKind::Error`].
    pub error: u64,
}

impl ShadowCounts {
    /// The counter of a kind.
    pub fn of(&mut self, kind: ShadowKind) -> &mut u64 {
        match kind {
            ShadowKind::Hits => &mut self.hits,
            ShadowKind::Ranking => &mut self.ranking,
            ShadowKind::Latency => &mut self.latency,
            ShadowKind::Error => &mut self.error,
        }
    }
}
