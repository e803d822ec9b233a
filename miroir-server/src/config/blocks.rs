//! The blocks of the configuration that are the server's own; the others are the options of what
//! they configure. Every struct refuses unknown keys and fills absent ones from its `Default`; a
//! snapshot test holds the documented defaults.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use miroir::options::{Faults, Secret, Validate, hours, milliseconds, seconds};
use miroir::topology::AutoRestore;
use miroir::{ClusterOptions, FilterLimits, RestoreOptions};
use miroir_api::meili::DEFAULT_DOCS_BASE;
use miroir_layers::edge::AdmissionOptions;
use serde::{Deserialize, Serialize};

use super::listener_tls::ListenerTlsOptions;
use super::text::{is_docs_base, is_window};

/// One Meilisearch node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Stable id, never used again for another node: placement hashes it.
    pub id: String,
    /// Base address, `http://host:port` or `https://host:port`.
    pub address: String,
    /// The group this node belongs to, from 0 to `replica_groups` − 1.
    #[serde(default)]
    pub replica_group: u32,
}

/// `env`: what the server is for, as Meilisearch means it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// A short master key, or none, draws a warning.
    #[default]
    Development,
    /// The master key has at least 16 bytes.
    Production,
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
    /// Kind of store; `sqlite` by default.
    pub backend: TaskStoreBackend,
    /// File of the `sqlite` backend; a relative path starts at the working directory.
    pub path: PathBuf,
    /// Address of the `redis` backend, `redis://[[user]:password@]host[:port][/database]`, or
    /// `rediss://…` for TLS. A secret, because it may hold a password.
    pub url: Secret,
    /// What the names of all keys in Redis begin with.
    pub key_prefix: String,
    /// How long connecting to Redis may take.
    #[serde(rename = "connect_timeout_ms", with = "milliseconds")]
    pub connect_timeout: Duration,
    /// How long Redis may take to answer one command.
    #[serde(rename = "response_timeout_ms", with = "milliseconds")]
    pub response_timeout: Duration,
}

impl Default for TaskStoreConfig {
    fn default() -> Self {
        Self {
            backend: TaskStoreBackend::Sqlite,
            path: "miroir.db".into(),
            url: Secret::default(),
            key_prefix: "miroir:".to_owned(),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(5),
        }
    }
}

impl Validate for TaskStoreConfig {
    fn validate(&self, faults: &mut Faults) {
        if self.backend == TaskStoreBackend::Sqlite {
            faults.when(
                self.path.as_os_str().is_empty(),
                &["path"],
                "is empty",
                "name the file that holds the state",
            );
            faults.when(
                self.url.is_set(),
                &["backend", "url"],
                "the `sqlite` backend has no address",
                "set `task_store.backend: redis`, or remove `task_store.url`",
            );
            return;
        }
        faults.when(
            !self.url.is_set(),
            &["backend", "url"],
            "the `redis` backend has no address",
            "set `task_store.url` to redis://host:6379, or use the `sqlite` backend",
        );
        // The text itself is not shown: it may hold a password.
        if let Some(Err(problem)) = self.url.get().map(miroir_store_redis::address) {
            faults.when(
                true,
                &["url"],
                problem.to_string(),
                "write it as redis://[[user]:password@]host[:port][/database], or rediss:// for TLS",
            );
        }
        faults.when(
            self.key_prefix.is_empty(),
            &["key_prefix"],
            "is empty",
            "use `miroir:`, or another text that no other user of this Redis begins its keys with",
        );
        faults.positive(&[
            ("connect_timeout_ms", self.connect_timeout.is_zero()),
            ("response_timeout_ms", self.response_timeout.is_zero()),
        ]);
    }
}

/// `admin`: the operator's API under `/_miroir`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Whether the API is served. True by default.
    pub enabled: bool,
    /// Bearer token that the API asks for; empty by default.
    pub api_key: Secret,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { enabled: true, api_key: Secret::default() }
    }
}

impl Validate for AdminConfig {}

/// `rebalancer`: moves of shards between nodes. How much is moved at a time has no effect in this
/// version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RebalancerConfig {
    /// How long a node has to be away before its copies are made anew elsewhere.
    #[serde(rename = "restore_after_s", with = "seconds")]
    pub restore_after: Duration,
    /// Where they are made anew: on a `spare`, or `spread` over the group where there is none; `off`.
    pub auto_restore: AutoRestore,
    /// Whether a node that comes back before its new copies are read keeps its shards.
    pub auto_rebalance_on_recovery: bool,
    /// Shards moved at one time.
    pub max_concurrent_migrations: u32,
    /// How long the move of one shard may take.
    #[serde(rename = "migration_timeout_s", with = "seconds")]
    pub migration_timeout: Duration,
    /// Documents per page of a move.
    pub migration_batch_size: u32,
}

impl Default for RebalancerConfig {
    fn default() -> Self {
        Self {
            restore_after: RestoreOptions::default().after,
            auto_restore: AutoRestore::default(),
            auto_rebalance_on_recovery: true,
            max_concurrent_migrations: 4,
            migration_timeout: Duration::from_hours(1),
            migration_batch_size: 1_000,
        }
    }
}

impl Validate for RebalancerConfig {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[
            ("restore_after_s", self.restore_after.is_zero()),
            ("max_concurrent_migrations", self.max_concurrent_migrations == 0),
            ("migration_timeout_s", self.migration_timeout.is_zero()),
            ("migration_batch_size", self.migration_batch_size == 0),
        ]);
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
    /// Address the metrics listener binds; that of `bind` by default. Whoever reaches it reads names
    /// of indexes, aliases and tenants, and how much they are used.
    pub metrics_bind: Option<IpAddr>,
    /// Port of the metrics listener; 0 lets the system choose.
    pub metrics_port: u16,
    /// Largest request body accepted, in bytes.
    pub max_body_bytes: usize,
    /// Conditions that a filter may have; the literals of an `IN` do not count. 2000 by default.
    pub max_filter_conditions: usize,
    /// Bytes that a filter may have. 160,000 by default.
    pub max_filter_bytes: usize,
    /// Bytes of writes held for nodes that have not taken them; more wait, and are refused in the end.
    pub max_unanswered_write_bytes: usize,
    /// Requests served at one time; more are refused.
    pub max_concurrent_requests: usize,
    /// How long one request may take.
    #[serde(rename = "request_timeout_ms", with = "milliseconds")]
    pub request_timeout: Duration,
    /// Below which address or path Miroir's error codes are explained: errors link to
    /// `<docs_base_url>/errors#<code>`. `/_miroir` is this server's own page.
    pub docs_base_url: String,
    /// TLS of the listener of both APIs. The metrics listener has none.
    pub tls: ListenerTlsOptions,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            port: 7_700,
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            metrics_bind: None,
            metrics_port: 9_090,
            max_body_bytes: ClusterOptions::default().max_body,
            max_filter_conditions: FilterLimits::default().conditions,
            max_filter_bytes: FilterLimits::default().bytes,
            max_unanswered_write_bytes: ClusterOptions::default().max_unanswered_writes,
            max_concurrent_requests: AdmissionOptions::default().max_concurrent_requests,
            request_timeout: Duration::from_secs(30),
            docs_base_url: DEFAULT_DOCS_BASE.to_owned(),
            tls: ListenerTlsOptions::default(),
        }
    }
}

impl ServerConfig {
    /// What the layer is told that counts requests.
    #[must_use]
    pub fn admission(&self) -> AdmissionOptions {
        AdmissionOptions { max_concurrent_requests: self.max_concurrent_requests }
    }
}

impl Validate for ServerConfig {
    fn validate(&self, faults: &mut Faults) {
        faults.when(
            self.port == self.metrics_port && self.port != 0,
            &["port", "metrics_port"],
            format!("both are {}", self.port),
            "give each listener a port of its own",
        );
        faults.positive(&[
            ("max_body_bytes", self.max_body_bytes == 0),
            ("max_filter_conditions", self.max_filter_conditions == 0),
            ("max_filter_bytes", self.max_filter_bytes == 0),
            ("max_unanswered_write_bytes", self.max_unanswered_write_bytes == 0),
            ("request_timeout_ms", self.request_timeout.is_zero()),
        ]);
        self.admission().validate(faults);
        faults.block("tls", &self.tls);
        faults.when(
            !is_docs_base(&self.docs_base_url),
            &["docs_base_url"],
            format!("{:?} is neither an address nor a path", self.docs_base_url),
            "write https://host/path, or leave it out: this server has the page itself",
        );
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
    #[serde(rename = "retain_old_index_hours", with = "hours")]
    pub retain_old_index: Duration,
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
            retain_old_index: Duration::from_hours(48),
            allowed_windows: Vec::new(),
        }
    }
}

impl Validate for ReshardingConfig {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[
            ("backfill_concurrency", self.backfill_concurrency == 0),
            ("backfill_batch_size", self.backfill_batch_size == 0),
        ]);
        for (position, window) in self.allowed_windows.iter().enumerate() {
            faults.when(
                !is_window(window),
                &[&format!("allowed_windows[{position}]")],
                format!("\"{window}\" is not a window"),
                "write it as `02:00-06:00 UTC`",
            );
        }
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

impl Validate for TracingConfig {
    fn validate(&self, faults: &mut Faults) {
        faults.when(
            !(0.0..=1.0).contains(&self.sample_rate),
            &["sample_rate"],
            format!("{} is not a share", self.sample_rate),
            "use 0 to 1",
        );
        faults.when(
            self.enabled,
            &["enabled"],
            "export of traces is not available in this version",
            "set it to false",
        );
    }
}
