//! The blocks of the configuration. Every struct refuses unknown keys and fills absent ones from
//! its `Default`; a snapshot test holds the documented defaults.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use miroir_api::meili::DEFAULT_DOCS_BASE;
use serde::{Deserialize, Serialize};

use super::duration::{Hours, Millis, Seconds};
use super::secret::Secret;
use super::switch::Switch;

/// One Meilisearch node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Stable id, never used again for another node: placement hashes it.
    pub id: String,
    /// Base address, `http://host:port`.
    pub address: String,
    /// The group this node belongs to, from 0 to `replica_groups` − 1.
    #[serde(default)]
    pub replica_group: u32,
}

/// How many owners of a shard have to acknowledge a write inside one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteQuorum {
    /// One at `replication_factor` ≤ 2, the majority above.
    #[default]
    Auto,
    /// `floor(RF / 2) + 1`.
    Majority,
    /// One.
    Any,
}

/// Which key opens the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyModel {
    /// A key of their own, `node_master_key`: no client's key opens a node.
    #[default]
    Separate,
    /// `master_key`, on every node as well: for development. Its holder can go around Miroir.
    Shared,
}

/// `keys`: how the keys of clients and nodes belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeysConfig {
    /// Which key opens the nodes.
    pub model: KeyModel,
}

/// Where shared state lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStoreBackend {
    /// One file beside the process.
    #[default]
    Sqlite,
    /// A Redis or Valkey server: the process has no state of its own.
    Redis,
}

/// `task_store`: shared state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskStoreConfig {
    /// The backend.
    pub backend: TaskStoreBackend,
    /// File of the `sqlite` backend; a relative path starts at the working directory.
    pub path: PathBuf,
    /// Address of the `redis` backend, `redis://[[user]:password@]host[:port][/database]`, or
    /// `rediss://…` for TLS. A secret, because it may hold a password.
    pub url: Secret,
    /// What the names of all keys in Redis begin with.
    pub key_prefix: String,
    /// How long connecting to Redis may take.
    pub connect_timeout_ms: Millis,
    /// How long Redis may take to answer one command.
    pub response_timeout_ms: Millis,
}

impl Default for TaskStoreConfig {
    fn default() -> Self {
        Self {
            backend: TaskStoreBackend::Sqlite,
            path: "miroir.db".into(),
            url: Secret::default(),
            key_prefix: "miroir:".to_owned(),
            connect_timeout_ms: Millis(2_000),
            response_timeout_ms: Millis(5_000),
        }
    }
}

/// `admin`: the operator's API under `/_miroir`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Whether the API is mounted.
    pub enabled: bool,
    /// The operator's key.
    pub api_key: Secret,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { enabled: true, api_key: Secret::default() }
    }
}

/// `health`: node checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// Time between two checks of a node.
    pub interval_ms: Millis,
    /// How long one check may take.
    pub timeout_ms: Millis,
    /// Failures in a row after which a node is unhealthy.
    pub unhealthy_threshold: u32,
    /// Successes in a row after which it is healthy again.
    pub recovery_threshold: u32,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            interval_ms: Millis(5_000),
            timeout_ms: Millis(2_000),
            unhealthy_threshold: 3,
            recovery_threshold: 2,
        }
    }
}

/// What a search answers when no node can serve one of its shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnavailableShardPolicy {
    /// The other shards' hits, and `X-Miroir-Degraded`.
    #[default]
    Partial,
    /// 503 `miroir_shard_unavailable`.
    Error,
}

/// `scatter`: reads over several nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScatterConfig {
    /// How long one call to a node may take.
    pub node_timeout_ms: Millis,
    /// Whether a read that timed out is asked of another replica.
    pub retry_on_timeout: bool,
    /// What is answered when a shard has no replica left.
    pub unavailable_shard_policy: UnavailableShardPolicy,
}

impl Default for ScatterConfig {
    fn default() -> Self {
        Self {
            node_timeout_ms: Millis(5_000),
            retry_on_timeout: true,
            unavailable_shard_policy: UnavailableShardPolicy::Partial,
        }
    }
}

/// `rebalancer`: moves of shards between nodes. Not in effect in this version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RebalancerConfig {
    /// Whether a node that comes back is filled again without an operator.
    pub auto_rebalance_on_recovery: bool,
    /// Shards moved at one time.
    pub max_concurrent_migrations: u32,
    /// How long the move of one shard may take.
    pub migration_timeout_s: Seconds,
    /// Documents per page of a move.
    pub migration_batch_size: u32,
}

impl Default for RebalancerConfig {
    fn default() -> Self {
        Self {
            auto_rebalance_on_recovery: true,
            max_concurrent_migrations: 4,
            migration_timeout_s: Seconds(3_600),
            migration_batch_size: 1_000,
        }
    }
}

/// `server`: listeners and the limits of the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Port of the client API; 0 lets the system choose.
    pub port: u16,
    /// Address both listeners bind.
    pub bind: IpAddr,
    /// Port of the metrics listener; 0 lets the system choose.
    pub metrics_port: u16,
    /// Largest request body accepted, in bytes.
    pub max_body_bytes: usize,
    /// Requests served at one time; more are refused.
    pub max_concurrent_requests: usize,
    /// How long one request may take.
    pub request_timeout_ms: Millis,
    /// Below which address or path Miroir's error codes are explained: errors link to
    /// `<docs_base_url>/errors#<code>`. `/_miroir` is this server's own page.
    pub docs_base_url: String,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            port: 7_700,
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            metrics_port: 9_090,
            max_body_bytes: 104_857_600,
            max_concurrent_requests: 500,
            request_timeout_ms: Millis(30_000),
            docs_base_url: DEFAULT_DOCS_BASE.to_owned(),
        }
    }
}

/// `connection_pool_per_node`: the client of each node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionPoolConfig {
    /// Idle connections kept.
    pub max_idle: usize,
    /// Connections in use at one time; calls beyond that wait.
    pub max_total: usize,
    /// How long an idle connection is kept.
    pub idle_timeout_s: Seconds,
}

impl Default for ConnectionPoolConfig {
    fn default() -> Self {
        Self { max_idle: 32, max_total: 128, idle_timeout_s: Seconds(60) }
    }
}

/// `task_registry`: Miroir's own tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskRegistryConfig {
    /// Tasks kept in memory.
    pub cache_size: usize,
    /// Connections to the `redis` backend.
    pub redis_pool_max: u32,
    /// How long a finished task is kept.
    pub ttl_seconds: Seconds,
    /// Time between two prunings.
    pub prune_interval_s: Seconds,
}

impl Default for TaskRegistryConfig {
    fn default() -> Self {
        Self {
            cache_size: 10_000,
            redis_pool_max: 50,
            ttl_seconds: Seconds(604_800),
            prune_interval_s: Seconds(300),
        }
    }
}

/// `resharding`: changing the number of shards of an index. Not in effect in this version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReshardingConfig {
    /// Whether an operator may reshard.
    pub enabled: bool,
    /// Source shards copied at one time.
    pub backfill_concurrency: u32,
    /// Documents per page of the copy.
    pub backfill_batch_size: u32,
    /// Upper bound of the copy in documents per second; 0 means none.
    pub throttle_docs_per_sec: u32,
    /// Whether both indexes are compared before the cut-over.
    pub verify_before_swap: bool,
    /// How long the old index is kept.
    pub retain_old_index_hours: Hours,
    /// Times of day in which a reshard may start, as `"02:00-06:00 UTC"`; none means always.
    pub allowed_windows: Vec<String>,
}

impl Default for ReshardingConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            backfill_concurrency: 4,
            backfill_batch_size: 1_000,
            throttle_docs_per_sec: 0,
            verify_before_swap: true,
            retain_old_index_hours: Hours(48),
            allowed_windows: Vec::new(),
        }
    }
}

/// `peer_discovery`: other pods of the same service. In effect where the store is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerDiscoveryConfig {
    /// Name of the headless service that resolves to the pods.
    pub service_name: String,
    /// Time between two look-ups.
    pub refresh_interval_s: Seconds,
    /// The names of all pods (`POD_NAME`), this one among them, where there is no such service.
    pub peers: Vec<String>,
    /// Where other pods reach this one, `http://host:port`. Empty: at `POD_IP`, or the address of
    /// `server.bind`, and the port of `server.port`.
    pub advertise_url: String,
}

impl Default for PeerDiscoveryConfig {
    fn default() -> Self {
        Self {
            service_name: "miroir-headless".to_owned(),
            refresh_interval_s: Seconds(15),
            peers: Vec::new(),
            advertise_url: String::new(),
        }
    }
}

/// `leader_election`: which pod changes things, and runs what one pod runs for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaderElectionConfig {
    /// Whether a pod is elected; `auto` elects one where the store is shared. `false` is for a single
    /// pod over a store of its own.
    pub enabled: Switch,
    /// How long a lease lives without renewal. As long a pod answers reads without hearing from the
    /// store, and so long the leader waits for one that died when it changes what all must know.
    pub lease_ttl_s: Seconds,
    /// Time between two renewals.
    pub renew_interval_s: Seconds,
}

impl Default for LeaderElectionConfig {
    fn default() -> Self {
        Self { enabled: Switch::Auto, lease_ttl_s: Seconds(10), renew_interval_s: Seconds(3) }
    }
}

/// `tracing`: export of traces over OTLP. Known, but refused by validation in this version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracingConfig {
    /// Whether traces are exported.
    pub enabled: bool,
    /// Address of the collector.
    pub endpoint: String,
    /// `service.name` of the traces.
    pub service_name: String,
    /// Share of requests traced, from 0 to 1.
    pub sample_rate: f64,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            endpoint: String::new(),
            service_name: "miroir".to_owned(),
            sample_rate: 0.1,
        }
    }
}

/// `faceting`: exact facet counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FacetingConfig {
    /// Least `maxValuesPerFacet` set on nodes; ten times the client's value where that is more.
    pub node_max_values: u32,
}

impl Default for FacetingConfig {
    fn default() -> Self {
        Self { node_max_values: 1_000 }
    }
}

/// How settings reach the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BroadcastStrategy {
    /// Propose to all nodes, verify on all, then commit.
    #[default]
    TwoPhase,
    /// One node after the other.
    Sequential,
}

/// `settings_broadcast`: applying settings on every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsBroadcastConfig {
    /// The protocol.
    pub strategy: BroadcastStrategy,
    /// How long the nodes may take until they show the new settings.
    pub verify_timeout_s: Seconds,
    /// How often diverging nodes are asked again.
    pub max_repair_retries: u32,
    /// Whether the index refuses writes when the repair failed.
    pub freeze_writes_on_unrepairable: bool,
}

impl Default for SettingsBroadcastConfig {
    fn default() -> Self {
        Self {
            strategy: BroadcastStrategy::TwoPhase,
            verify_timeout_s: Seconds(60),
            max_repair_retries: 3,
            freeze_writes_on_unrepairable: true,
        }
    }
}

/// `settings_drift_check`: finding settings changed behind Miroir's back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsDriftCheckConfig {
    /// Time between two passes.
    pub interval_s: Seconds,
    /// Whether the committed settings are applied again.
    pub auto_repair: bool,
}

impl Default for SettingsDriftCheckConfig {
    fn default() -> Self {
        Self { interval_s: Seconds(300), auto_repair: true }
    }
}
