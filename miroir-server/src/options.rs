//! Configuration, as the library's own options.

use std::sync::Arc;
use std::time::Duration;

use miroir::broadcast::drift::DriftOptions;
use miroir::keys::MasterKey;
use miroir::merge::Fusion;
use miroir::node::ClientOptions;
use miroir::node::HealthOptions;
use miroir::quorum::WriteQuorum;
use miroir::store::{Stores, memory};
use miroir::topology::{Node, NodeStatus, Topology};
use miroir::{
    BroadcastStrategy, ExplainTuning, MultiSearchTuning, Tuning, UnavailableShards,
    VectorSearchTuning,
};
use miroir_api::{GroupId, InvalidNodeId, NodeId};
use miroir_layers::edge::rate_limit::{Limiter, RateLimitOptions};

use crate::BuildError;
use crate::config::{self, Config};

/// How long a connection to a node may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) fn nodes(config: &Config) -> Result<Vec<Node>, InvalidNodeId> {
    let node = |node: &config::NodeConfig| {
        Ok(Node {
            id: NodeId::new(&node.id)?,
            address: node.address.clone(),
            group: GroupId(node.replica_group),
            status: NodeStatus::Active,
        })
    };
    config.nodes.iter().map(node).collect()
}

pub(crate) fn topology(config: &Config) -> Result<Topology, BuildError> {
    Ok(Topology::new(nodes(config)?, config.replication_factor)?)
}

pub(crate) fn health(config: &Config) -> HealthOptions {
    HealthOptions {
        interval: config.health.interval_ms.into(),
        timeout: config.health.timeout_ms.into(),
        unhealthy_threshold: config.health.unhealthy_threshold,
        recovery_threshold: config.health.recovery_threshold,
    }
}

pub(crate) fn drift(config: &Config) -> DriftOptions {
    let check = &config.settings_drift_check;
    DriftOptions { interval: check.interval_s.into(), auto_repair: check.auto_repair }
}

pub(crate) fn client(config: &Config) -> ClientOptions {
    let pool = &config.connection_pool_per_node;
    ClientOptions {
        max_idle: pool.max_idle,
        max_total: pool.max_total,
        idle_timeout: pool.idle_timeout_s.into(),
        connect_timeout: CONNECT_TIMEOUT.min(config.scatter.node_timeout_ms.into()),
        ..ClientOptions::default()
    }
}

/// Where requests are counted.
pub(crate) fn limiter(config: &Config, stores: &Stores) -> Limiter {
    Limiter::new(if config.rate_limit.is_local(config) {
        memory::buckets()
    } else {
        Arc::clone(&stores.buckets)
    })
}

/// What pods show each other so that a request they pass on is counted once: a digest of what only
/// they know. Nothing where there are no others.
fn counted(config: &Config) -> Option<String> {
    let key = config.master_key.get().filter(|_| config.is_shared())?;
    Some(miroir::cluster::tenants::hash_of(format!("miroir rate_limit counted\0{key}").as_bytes()))
}

/// How requests of one address are limited, if they are.
pub(crate) fn edge_limit(config: &Config) -> Option<RateLimitOptions> {
    let options = config.rate_limit.edge()?;
    Some(RateLimitOptions { secret: counted(config), ..options })
}

pub(crate) fn tuning(config: &Config) -> Tuning {
    Tuning {
        shards: config.shards,
        write_quorum: match config.write_quorum {
            config::WriteQuorum::Auto => WriteQuorum::Auto,
            config::WriteQuorum::Majority => WriteQuorum::Majority,
            config::WriteQuorum::Any => WriteQuorum::Any,
        },
        node_timeout: config.scatter.node_timeout_ms.into(),
        unavailable: match config.scatter.unavailable_shard_policy {
            config::UnavailableShardPolicy::Partial => UnavailableShards::Partial,
            config::UnavailableShardPolicy::Error => UnavailableShards::Error,
        },
        node_max_values: config.faceting.node_max_values.into(),
        strategy: match config.settings_broadcast.strategy {
            config::BroadcastStrategy::TwoPhase => BroadcastStrategy::TwoPhase,
            config::BroadcastStrategy::Sequential => BroadcastStrategy::Sequential,
        },
        verify_timeout: config.settings_broadcast.verify_timeout_s.into(),
        max_repair_retries: config.settings_broadcast.max_repair_retries,
        freeze_writes: config.settings_broadcast.freeze_writes_on_unrepairable,
        max_body: config.server.max_body_bytes,
        master_key: config.master_key.get().and_then(MasterKey::new),
        multi_search: MultiSearchTuning {
            enabled: config.multi_search.enabled,
            max_queries: config.multi_search.max_queries_per_batch,
            total_timeout: config.multi_search.total_timeout_ms.into(),
            per_query_timeout: config.multi_search.per_query_timeout_ms.into(),
        },
        vector_search: VectorSearchTuning {
            enabled: config.vector_search.enabled,
            over_fetch: config.vector_search.over_fetch_factor,
            fusion: match config.vector_search.merge_strategy {
                config::MergeStrategy::Details => Fusion::Details,
                config::MergeStrategy::Convex => Fusion::Convex,
                config::MergeStrategy::Rrf => Fusion::Rrf { k: config.vector_search.rrf_k },
            },
            ratio: config.vector_search.hybrid_alpha_default,
        },
        selection: config.replica_selection.selection(),
        explain: ExplainTuning {
            enabled: config.explain.enabled,
            max_warnings: config.explain.max_warnings,
            allow_execute: config.explain.allow_execute_parameter,
        },
        tenant_map: config.tenant_affinity.is_kept(),
    }
}
