//! Configuration: one [`Config`] from a YAML file (under a top-level `miroir:`), the environment
//! and the command line, in this order of precedence, lowest first.
//!
//! - `MIROIR__SERVER__PORT=7701` overrides the key `server.port`; so does `--set server.port=7701`.
//! - The secrets `master_key`, `node_master_key` and `admin.api_key` also come from
//!   `MIROIR_MASTER_KEY`, `MIROIR_NODE_MASTER_KEY` and `MIROIR_ADMIN_API_KEY`.
//! - Unknown keys are errors that name the key, wherever they come from.
//! - [`Config::validate`] holds the rules between keys, [`Config::warnings`] what is allowed but
//!   probably not meant.

mod aliases;
mod blocks;
mod duration;
mod error;
mod explain;
mod flags;
mod idempotency;
mod load;
mod query_coalescing;
mod query_planner;
mod rate_limit;
mod replica_selection;
mod resilience;
mod schema;
mod searches;
mod secret;
mod session_pinning;
mod shadow;
mod switch;
mod tenant_affinity;
mod text;
mod validate;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod validate_tests;

use serde::{Deserialize, Serialize};

pub use self::aliases::AliasesConfig;
pub use self::blocks::*;
pub use self::duration::{Hours, Millis, Seconds};
pub use self::error::{ConfigError, ConfigErrors};
pub use self::explain::ExplainConfig;
pub use self::flags::Flags;
pub use self::idempotency::IdempotencyConfig;
pub use self::query_coalescing::QueryCoalescingConfig;
pub use self::query_planner::QueryPlannerConfig;
pub use self::rate_limit::{Network, RateLimitBackend, RateLimitConfig, RateText};
pub use self::replica_selection::{ReplicaSelectionConfig, SelectionStrategy};
pub use self::resilience::{BreakerConfig, FailoverConfig, NodeLimitConfig};
pub use self::searches::{HedgingConfig, MergeStrategy, MultiSearchConfig, VectorSearchConfig};
pub use self::secret::{REDACTED, Secret};
pub use self::session_pinning::{SessionPinningConfig, WaitStrategy};
pub(crate) use self::shadow::base;
pub use self::shadow::{ShadowConfig, ShadowOperation, ShadowTargetConfig};
pub use self::switch::Switch;
pub use self::tenant_affinity::{TenantAffinityConfig, TenantFallback, TenantMode};

/// The whole configuration. `Config::default()` holds every documented default; it has no nodes
/// and no keys, so it does not validate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The key clients use; API keys and tenant tokens are derived from it.
    pub master_key: Secret,
    /// The key used on nodes, where `keys.model` is `separate`.
    pub node_master_key: Secret,
    /// How the two belong together.
    pub keys: KeysConfig,
    /// S: shards of a new index.
    pub shards: u32,
    /// RF: copies of a shard inside each replica group.
    pub replication_factor: u32,
    /// RG: independent groups, each holding every shard.
    pub replica_groups: u32,
    /// The nodes.
    pub nodes: Vec<NodeConfig>,
    /// Acknowledgements a write needs.
    pub write_quorum: WriteQuorum,
    /// Shared state.
    pub task_store: TaskStoreConfig,
    /// The operator's API.
    pub admin: AdminConfig,
    /// Node checks.
    pub health: HealthConfig,
    /// Reads over several nodes.
    pub scatter: ScatterConfig,
    /// Exact facet counts.
    pub faceting: FacetingConfig,
    /// Moves of shards.
    pub rebalancer: RebalancerConfig,
    /// Listeners and the limits of the edge.
    pub server: ServerConfig,
    /// The client of each node.
    pub connection_pool_per_node: ConnectionPoolConfig,
    /// Sparing a node that fails.
    pub breaker: BreakerConfig,
    /// Calls in flight to one node.
    pub node_limit: NodeLimitConfig,
    /// Asking another replica.
    pub failover: FailoverConfig,
    /// Asking another replica of a slow node.
    pub hedging: HedgingConfig,
    /// Which replica of a shard is asked.
    pub replica_selection: ReplicaSelectionConfig,
    /// Asking only the shards that can match.
    pub query_planner: QueryPlannerConfig,
    /// One scatter for identical reads.
    pub query_coalescing: QueryCoalescingConfig,
    /// Miroir's own tasks.
    pub task_registry: TaskRegistryConfig,
    /// Applying settings on every node.
    pub settings_broadcast: SettingsBroadcastConfig,
    /// Finding changed settings.
    pub settings_drift_check: SettingsDriftCheckConfig,
    /// Several searches in one request.
    pub multi_search: MultiSearchConfig,
    /// Searches by vector.
    pub vector_search: VectorSearchConfig,
    /// Names that stand for indexes.
    pub aliases: AliasesConfig,
    /// Reads of a session show its writes.
    pub session_pinning: SessionPinningConfig,
    /// A change that is sent twice is made once.
    pub idempotency: IdempotencyConfig,
    /// Showing what a search would do.
    pub explain: ExplainConfig,
    /// Repeating reads at other clusters.
    pub shadow: ShadowConfig,
    /// A tenant's reads go to one replica group.
    pub tenant_affinity: TenantAffinityConfig,
    /// How many requests an address, an API key and a tenant may make.
    pub rate_limit: RateLimitConfig,
    /// Changing the number of shards.
    pub resharding: ReshardingConfig,
    /// Other pods.
    pub peer_discovery: PeerDiscoveryConfig,
    /// Which pod runs the elected workers.
    pub leader_election: LeaderElectionConfig,
    /// Export of traces.
    pub tracing: TracingConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            master_key: Secret::default(),
            node_master_key: Secret::default(),
            keys: KeysConfig::default(),
            shards: 64,
            replication_factor: 1,
            replica_groups: 1,
            nodes: Vec::new(),
            write_quorum: WriteQuorum::default(),
            task_store: TaskStoreConfig::default(),
            admin: AdminConfig::default(),
            health: HealthConfig::default(),
            scatter: ScatterConfig::default(),
            faceting: FacetingConfig::default(),
            rebalancer: RebalancerConfig::default(),
            server: ServerConfig::default(),
            connection_pool_per_node: ConnectionPoolConfig::default(),
            breaker: BreakerConfig::default(),
            node_limit: NodeLimitConfig::default(),
            failover: FailoverConfig::default(),
            hedging: HedgingConfig::default(),
            replica_selection: ReplicaSelectionConfig::default(),
            query_planner: QueryPlannerConfig::default(),
            query_coalescing: QueryCoalescingConfig::default(),
            task_registry: TaskRegistryConfig::default(),
            settings_broadcast: SettingsBroadcastConfig::default(),
            settings_drift_check: SettingsDriftCheckConfig::default(),
            multi_search: MultiSearchConfig::default(),
            vector_search: VectorSearchConfig::default(),
            aliases: AliasesConfig::default(),
            session_pinning: SessionPinningConfig::default(),
            idempotency: IdempotencyConfig::default(),
            explain: ExplainConfig::default(),
            shadow: ShadowConfig::default(),
            tenant_affinity: TenantAffinityConfig::default(),
            rate_limit: RateLimitConfig::default(),
            resharding: ReshardingConfig::default(),
            peer_discovery: PeerDiscoveryConfig::default(),
            leader_election: LeaderElectionConfig::default(),
            tracing: TracingConfig::default(),
        }
    }
}

/// Keys that are read and checked, but have no effect in this version: later ones need them, and a
/// configuration that has them already stays valid.
pub const NOT_IN_EFFECT: &[&str] = &["rebalancer", "resharding", "task_registry.redis_pool_max"];

impl Config {
    /// Whether other pods may use the same store.
    pub fn is_shared(&self) -> bool {
        self.task_store.backend == TaskStoreBackend::Redis
            && self.leader_election.enabled != Switch::Off
    }

    /// The key nodes are called with.
    #[must_use]
    pub fn node_key(&self) -> Option<&str> {
        match self.keys.model {
            KeyModel::Separate => self.node_master_key.get(),
            KeyModel::Shared => self.master_key.get(),
        }
    }

    /// The effective configuration as YAML under `miroir:`, secrets redacted: what
    /// `--check-config` prints.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        #[derive(Serialize)]
        struct File<'a> {
            miroir: &'a Config,
        }
        serde_yaml_ng::to_string(&File { miroir: self })
            .expect("the configuration holds only what YAML can write")
    }
}
