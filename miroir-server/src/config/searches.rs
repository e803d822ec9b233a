//! The blocks of the configuration that are about searches.

use serde::{Deserialize, Serialize};

use super::duration::Millis;

/// `hedging`: asking another replica where a node takes longer than usual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HedgingConfig {
    /// Whether it is done.
    pub enabled: bool,
    /// How many times the 95th percentile of a node's latency is waited.
    pub p95_trigger_multiplier: f64,
    /// The least that is waited.
    pub min_trigger_ms: Millis,
    /// Hedges for one query.
    pub max_hedges_per_query: u32,
    /// Whether replicas of other groups may answer.
    pub cross_group_fallback: bool,
    /// Hedges in percent of all calls to nodes.
    pub budget_percent: u32,
}

impl Default for HedgingConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            p95_trigger_multiplier: 1.2,
            min_trigger_ms: Millis(15),
            max_hedges_per_query: 2,
            cross_group_fallback: true,
            budget_percent: 5,
        }
    }
}

/// `multi_search`: several searches in one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiSearchConfig {
    /// Whether `/multi-search` is served.
    pub enabled: bool,
    /// Queries a request may have.
    pub max_queries_per_batch: usize,
    /// How long one request may take.
    pub total_timeout_ms: Millis,
    /// How long one of its queries may take.
    pub per_query_timeout_ms: Millis,
}

impl Default for MultiSearchConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            max_queries_per_batch: 100,
            total_timeout_ms: Millis(30_000),
            per_query_timeout_ms: Millis(30_000),
        }
    }
}

/// How the keyword and the semantic half of a hybrid search become one list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeStrategy {
    /// As Meilisearch does.
    #[default]
    Details,
    /// By `(1 - ratio) * relevancy + ratio * similarity`.
    Convex,
    /// By the positions in both lists (reciprocal rank fusion).
    Rrf,
}

/// `vector_search`: searches by vector and hybrid searches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VectorSearchConfig {
    /// Whether they are served.
    pub enabled: bool,
    /// Each node is asked for this many times the hits that are needed.
    pub over_fetch_factor: u32,
    /// How the halves of a hybrid search become one list.
    pub merge_strategy: MergeStrategy,
    /// `semanticRatio` of a hybrid search that does not say.
    pub hybrid_alpha_default: f32,
    /// How little the first positions stand out, where `merge_strategy` is `rrf`.
    pub rrf_k: u32,
}

impl Default for VectorSearchConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            over_fetch_factor: 3,
            merge_strategy: MergeStrategy::Details,
            hybrid_alpha_default: 0.5,
            rrf_k: 60,
        }
    }
}
