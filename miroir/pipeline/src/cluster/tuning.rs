//! Figures that stages need.

use std::time::Duration;

use miroir_core::keys::MasterKey;
use miroir_core::merge::Fusion;
use miroir_core::quorum::WriteQuorum;
use miroir_core::routing::Selection;

/// What a read does when a shard has no replica left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnavailableShards {
    /// Answer with what there is and say what is missing.
    Partial,
    /// Refuse.
    Error,
}

/// How settings reach the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BroadcastStrategy {
    /// All nodes at once, then verify, then commit.
    TwoPhase,
    /// One node after the other.
    Sequential,
}

/// Figures that stages need. Built from the server's configuration.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// S of new indexes.
    pub shards: u32,
    /// When a write is acknowledged.
    pub write_quorum: WriteQuorum,
    /// How long one node call may take.
    pub node_timeout: Duration,
    /// What a read does when a shard has no replica left.
    pub unavailable: UnavailableShards,
    /// Least `maxValuesPerFacet` on nodes.
    pub node_max_values: u64,
    /// How settings reach the nodes.
    pub strategy: BroadcastStrategy,
    /// How long nodes may take to apply settings.
    pub verify_timeout: Duration,
    /// Repairs before an index is frozen.
    pub max_repair_retries: u32,
    /// Whether an unrepairable index refuses writes.
    pub freeze_writes: bool,
    /// Largest documents payload, in bytes.
    pub max_body: usize,
    /// What API keys are derived from; without it there are none and the API is open.
    pub master_key: Option<MasterKey>,
    /// Several searches in one request.
    pub multi_search: MultiSearchTuning,
    /// Searches by vector.
    pub vector_search: VectorSearchTuning,
    /// Whether API keys are of tenants that the store knows. The store must have that table.
    pub tenant_map: bool,
    /// How replicas are chosen.
    pub selection: Selection,
    /// Explaining searches.
    pub explain: ExplainTuning,
}

/// Figures of explaining searches.
#[derive(Clone, Copy, Debug)]
pub struct ExplainTuning {
    /// Whether they are explained.
    pub enabled: bool,
    /// Warnings of one explanation.
    pub max_warnings: usize,
    /// Whether `?execute=true` is allowed.
    pub allow_execute: bool,
}

impl Default for ExplainTuning {
    fn default() -> Self {
        Self { enabled: true, max_warnings: 20, allow_execute: true }
    }
}

/// Figures of multi-search.
#[derive(Clone, Copy, Debug)]
pub struct MultiSearchTuning {
    /// Whether it is served.
    pub enabled: bool,
    /// Queries of one request.
    pub max_queries: usize,
    /// How long one request may take.
    pub total_timeout: Duration,
    /// How long one of its queries may take.
    pub per_query_timeout: Duration,
}

impl Default for MultiSearchTuning {
    fn default() -> Self {
        let patience = Duration::from_secs(30);
        Self {
            enabled: true,
            max_queries: 100,
            total_timeout: patience,
            per_query_timeout: patience,
        }
    }
}

/// Figures of searches by vector.
#[derive(Clone, Copy, Debug)]
pub struct VectorSearchTuning {
    /// Whether they are served.
    pub enabled: bool,
    /// Each leaf is asked for this many times the hits that are needed.
    pub over_fetch: u32,
    /// How the halves of a hybrid search become one list.
    pub fusion: Fusion,
    /// `semanticRatio` of a hybrid search that does not say.
    pub ratio: f32,
}

impl Default for VectorSearchTuning {
    fn default() -> Self {
        Self { enabled: true, over_fetch: 3, fusion: Fusion::Details, ratio: 0.5 }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            shards: 64,
            write_quorum: WriteQuorum::Auto,
            node_timeout: Duration::from_secs(5),
            unavailable: UnavailableShards::Partial,
            node_max_values: 1000,
            strategy: BroadcastStrategy::TwoPhase,
            verify_timeout: Duration::from_mins(1),
            max_repair_retries: 3,
            freeze_writes: true,
            max_body: 104_857_600,
            master_key: None,
            multi_search: MultiSearchTuning::default(),
            vector_search: VectorSearchTuning::default(),
            selection: Selection::default(),
            explain: ExplainTuning::default(),
            tenant_map: false,
        }
    }
}
