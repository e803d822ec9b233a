//! Configuration: one [`Config`] from a YAML file (under a top-level `miroir:`), the environment
//! and the command line, in this order of precedence, lowest first.
//!
//! - `MIROIR__SERVER__PORT=7701` overrides the key `server.port`; so does `--set server.port=7701`.
//! - The secrets `master_key`, `node_master_key` and `admin.api_key` also come from
//!   `MIROIR_MASTER_KEY`, `MIROIR_NODE_MASTER_KEY` and `MIROIR_ADMIN_API_KEY`.
//! - Unknown keys are errors that name the key, wherever they come from.
//! - [`Config::validate`] collects what the blocks say of themselves and holds the rules between them,
//!   [`Config::warnings`] what is allowed but probably not meant.
//!
//! A block is the options of what it configures, which stand beside that; see [`miroir::options`].

mod blocks;
mod capabilities;
mod error;
mod flags;
mod listener_tls;
mod load;
mod read;
mod schema;
mod text;
mod validate;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod validate_tests;

use miroir::broadcast::drift::DriftOptions;
use miroir::keys::MasterKey;
use miroir::node::ClientOptions;
use miroir::node::HealthOptions;
use miroir::options::Faults;
use miroir::quorum::WriteQuorum;
use miroir::routing::Selection;
use miroir::runtime::{LeaderElectionOptions, PeerDiscoveryOptions};
use miroir::store::TaskRegistryOptions;
use miroir::tls::ClientTlsOptions;
use miroir::{
    AntiEntropyOptions, ClusterOptions, DocumentOrderOptions, ExplainOptions, FacetingOptions,
    FilterLimits, MultiSearchOptions, RestoreOptions, ScatterOptions, SettingsBroadcastOptions,
    TopologyOptions, VectorSearchOptions, WebhookOptions, WriteCombiningOptions,
};
use miroir_layers::RateLimits;
use miroir_layers::index::{
    QueryCoalescingOptions, QueryPlannerOptions, SessionPinningOptions, TenantAffinityOptions,
};
use miroir_layers::leaf::{FailoverOptions, HedgeOptions, QueryQuarantineOptions};
use miroir_layers::node::{BreakerOptions, LimitOptions};
use miroir_layers::operation::{AliasOptions, IdempotencyOptions, ShadowOptions};
use serde::{Deserialize, Serialize};
use serde_yaml_ng::{Mapping, Value};

pub use self::blocks::*;
pub use self::capabilities::Capabilities;
pub use self::error::ConfigErrors;
pub use self::flags::Flags;
pub use self::listener_tls::ListenerTlsOptions;
pub use miroir::options::{AutoBool, ConfigError, REDACTED, Secret};

/// Declares [`Config`]. A block is one line: its key, and the options that are its keys.
macro_rules! config {
    (
        keys { $($(#[$key_doc:meta])+ $key:ident: $key_type:ty = $default:expr;)+ }
        blocks { $($(#[$doc:meta])+ $block:ident: $options:ty;)+ }
    ) => {
        /// The whole configuration. `Config::default()` holds every documented default; it has no
        /// nodes and no keys, so it does not validate.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            $($(#[$key_doc])+ pub $key: $key_type,)+
            $($(#[$doc])+ pub $block: $options,)+
            /// Those of capabilities that this program has beside Miroir's; none by default.
            #[serde(skip)]
            pub capabilities: Capabilities,
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    $($key: $default,)+
                    $($block: <$options>::default(),)+
                    capabilities: Capabilities::default(),
                }
            }
        }

        impl Config {
            /// What every block says of itself.
            fn blocks(&self, faults: &mut Faults) {
                $(faults.block(stringify!($block), &self.$block);)+
                self.capabilities.validate(faults);
            }
        }
    };
}

config! {
    keys {
        /// What the server is for; `development` by default.
        env: Environment = <_>::default();
        /// The key clients use; API keys and tenant tokens are derived from it.
        master_key: Secret = <_>::default();
        /// The key used on nodes, where `keys.model` is `separate`.
        node_master_key: Secret = <_>::default();
        /// Whether nodes have a key of their own. They do by default.
        keys: KeysConfig = <_>::default();
        /// Number of shards of a new index; an index keeps its number.
        shards: u32 = 64;
        /// Copies of a shard inside each replica group, on as many nodes.
        replication_factor: u32 = 1;
        /// Independent groups, each holding every shard.
        replica_groups: u32 = 1;
        /// The nodes, each with a stable id; none by default.
        nodes: Vec<NodeConfig> = Vec::new();
        /// How many replicas of a shard have to acknowledge a write; `auto` by default.
        write_quorum: WriteQuorum = <_>::default();
    }
    blocks {
        /// The nodes of the configuration and those of the store.
        topology: TopologyOptions;
        /// Shared state.
        task_store: TaskStoreConfig;
        /// The operator's API.
        admin: AdminConfig;
        /// Node checks.
        health: HealthOptions;
        /// Reads over several nodes.
        scatter: ScatterOptions;
        /// Exact facet counts.
        faceting: FacetingOptions;
        /// Ties and lists in the order in which documents came.
        document_order: DocumentOrderOptions;
        /// Small writes that go to nodes together.
        write_combining: WriteCombiningOptions;
        /// Moves of shards.
        rebalancer: RebalancerConfig;
        /// Listeners and the limits of the edge.
        server: ServerConfig;
        /// The client of each node.
        connection_pool_per_node: ClientOptions;
        /// TLS to nodes with an `https://` address.
        node_tls: ClientTlsOptions;
        /// Sparing a node that fails.
        breaker: BreakerOptions;
        /// Calls in flight to one node.
        node_limit: LimitOptions;
        /// Asking another replica.
        failover: FailoverOptions;
        /// Asking another replica of a slow node.
        hedging: HedgeOptions;
        /// Refusing a question that a node did not survive.
        query_quarantine: QueryQuarantineOptions;
        /// Which replica of a shard is asked.
        replica_selection: Selection;
        /// Asking only the shards that can match.
        query_planner: QueryPlannerOptions;
        /// One scatter for identical reads.
        query_coalescing: QueryCoalescingOptions;
        /// Miroir's own tasks.
        task_registry: TaskRegistryOptions;
        /// Applying settings on every node.
        settings_broadcast: SettingsBroadcastOptions;
        /// Finding changed settings.
        settings_drift_check: DriftOptions;
        /// Comparing replicas that should be equal.
        anti_entropy: AntiEntropyOptions;
        /// Several searches in one request.
        multi_search: MultiSearchOptions;
        /// Searches by vector.
        vector_search: VectorSearchOptions;
        /// Telling others of finished tasks.
        webhooks: WebhookOptions;
        /// Names that stand for indexes.
        aliases: AliasOptions;
        /// Reads of a session show its writes.
        session_pinning: SessionPinningOptions;
        /// A change that is sent twice is made once.
        idempotency: IdempotencyOptions;
        /// Showing what a search would do.
        explain: ExplainOptions;
        /// Repeating reads at other clusters.
        shadow: ShadowOptions;
        /// A tenant's reads go to one replica group.
        tenant_affinity: TenantAffinityOptions;
        /// How many requests an address, an API key and a tenant may make.
        rate_limit: RateLimits;
        /// Changing the number of shards.
        resharding: ReshardingConfig;
        /// Other pods.
        peer_discovery: PeerDiscoveryOptions;
        /// TLS to pods with an `https://` address.
        peer_tls: ClientTlsOptions;
        /// Which pod runs the elected workers.
        leader_election: LeaderElectionOptions;
        /// Export of traces.
        tracing: TracingConfig;
    }
}

/// Keys that are read and checked, but have no effect in this version: later ones need them, and a
/// configuration that has them already stays valid.
pub const NOT_IN_EFFECT: &[&str] = &[
    "rebalancer.max_concurrent_migrations",
    "rebalancer.migration_timeout_s",
    "rebalancer.migration_batch_size",
    "resharding",
    "settings_broadcast.strategy",
    "task_registry.redis_pool_max",
];

impl Config {
    /// Whether other pods may use the same store.
    pub fn is_shared(&self) -> bool {
        self.task_store.backend == TaskStoreBackend::Redis
            && self.leader_election.enabled != AutoBool::Off
    }

    /// The key nodes are called with.
    #[must_use]
    pub fn node_key(&self) -> Option<&str> {
        match self.keys.model {
            KeyModel::Separate => self.node_master_key.get(),
            KeyModel::Shared => self.master_key.get(),
        }
    }

    /// What the stages share.
    #[must_use]
    pub fn cluster(&self) -> ClusterOptions {
        ClusterOptions {
            shards: self.shards,
            topology: self.topology,
            write_quorum: self.write_quorum,
            scatter: self.scatter,
            faceting: self.faceting,
            document_order: self.document_order,
            anti_entropy: self.anti_entropy,
            restore: RestoreOptions {
                after: self.rebalancer.restore_after,
                place: self.rebalancer.auto_restore,
                takes_back: self.rebalancer.auto_rebalance_on_recovery,
            },
            write_combining: self.write_combining,
            replica_selection: self.replica_selection,
            settings_broadcast: self.settings_broadcast,
            multi_search: self.multi_search,
            vector_search: self.vector_search,
            webhooks: self.webhooks.clone(),
            explain: self.explain,
            max_body: self.server.max_body_bytes,
            filters: FilterLimits {
                conditions: self.server.max_filter_conditions,
                bytes: self.server.max_filter_bytes,
            },
            max_unanswered_writes: self.server.max_unanswered_write_bytes,
            master_key: self.master_key.get().and_then(MasterKey::new),
        }
    }

    /// The effective configuration as YAML under `miroir:`, secrets redacted: what
    /// `--check-config` prints.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let written = "the configuration holds only what YAML can write";
        let mut tree = serde_yaml_ng::to_value(self).expect(written);
        if let Value::Mapping(tree) = &mut tree {
            self.capabilities.write(tree).expect("it was read with these blocks");
        }
        let file = Mapping::from_iter([(Value::from("miroir"), tree)]);
        serde_yaml_ng::to_string(&file).expect(written)
    }
}
