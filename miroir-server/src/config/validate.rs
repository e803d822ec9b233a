//! The rules between keys.

use std::collections::BTreeMap;

use super::error::ConfigError;
use super::text::{is_docs_base, is_window, normal_address};
use super::{Config, KeyModel, REDACTED, Secret, Switch, TaskStoreBackend, WriteQuorum};

/// Most shards an index may have: what a shard id in a reserved field can say with room to grow.
const MAX_SHARDS: u32 = 16_384;

/// Shortest key accepted, in bytes; the limit Meilisearch has in production.
const MIN_KEY_BYTES: usize = 16;

struct Findings(Vec<ConfigError>);

impl Findings {
    /// Reports `keys` when `broken`.
    fn when(&mut self, broken: bool, keys: &[&str], problem: impl Into<String>, remedy: &str) {
        if broken {
            self.0.push(ConfigError::new(keys.iter().copied(), problem, remedy));
        }
    }

    /// Reports every key whose value is zero.
    fn positive(&mut self, values: &[(&str, bool)]) {
        for (key, zero) in values {
            self.when(*zero, &[key], "must not be 0", "use at least 1, or remove the key");
        }
    }
}

impl Config {
    /// Checks the rules between keys.
    ///
    /// # Errors
    /// Every broken rule, each with its keys and the remedy.
    pub fn validate(&self) -> Result<(), Vec<ConfigError>> {
        let mut found = Findings(Vec::new());
        self.keys(&mut found);
        self.layout(&mut found);
        self.nodes(&mut found);
        self.listeners(&mut found);
        self.times(&mut found);
        self.calls(&mut found);
        found.0.extend(self.replica_selection.problems());
        self.work(&mut found);
        self.store(&mut found);
        found.0.extend(self.shadow.check());
        found.0.extend(self.tenant_affinity.check(self));
        found.0.extend(self.rate_limit.check(self));
        self.not_in_this_version(&mut found);
        if found.0.is_empty() { Ok(()) } else { Err(found.0) }
    }

    /// What is allowed but probably not meant, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut found = Findings(Vec::new());
        let shared = self.keys.model == KeyModel::Shared;
        found.when(
            !shared && !self.node_master_key.is_set(),
            &["node_master_key"],
            "is not set, so nodes are called without a key",
            "start the nodes with a master key and set MIROIR_NODE_MASTER_KEY",
        );
        found.when(
            shared,
            &["keys.model"],
            "is `shared`, so whoever has the master key can reach the nodes directly",
            "give nodes a key of their own and use `separate`",
        );
        found.when(
            self.admin.enabled
                && self.admin.api_key.is_set()
                && self.admin.api_key == self.master_key,
            &["admin.api_key", "master_key"],
            "are the same, so every client with the master key is an operator",
            "give operators a key of their own",
        );
        let largest = self.nodes.iter().map(|node| self.in_group(node.replica_group)).max();
        found.when(
            largest.is_some_and(|nodes| {
                u64::from(self.shards) * u64::from(self.replication_factor) < nodes as u64
            }),
            &["shards"],
            "fewer copies of shards than nodes in a group, so some nodes stay empty",
            "use more shards",
        );
        let lanes = self.node_limit.interactive.saturating_add(self.node_limit.background);
        found.when(
            self.node_limit.enabled && lanes > self.connection_pool_per_node.max_total,
            &["node_limit", "connection_pool_per_node.max_total"],
            "both lanes together allow more calls than there are connections",
            "lower a lane or raise max_total",
        );
        found.when(
            self.write_quorum == WriteQuorum::Any && self.replication_factor > 2,
            &["write_quorum", "replication_factor"],
            "with `any`, a write is acknowledged while one node alone has it",
            "use `auto`, unless losing that node may lose the write",
        );
        found.when(
            self.tenant_affinity.enabled && self.replica_groups == 1,
            &["tenant_affinity.enabled", "replica_groups"],
            "there is one group, so all tenants share it",
            "use several groups",
        );
        found.0.into_iter().map(|warning| warning.to_string()).collect()
    }

    fn in_group(&self, group: u32) -> usize {
        self.nodes.iter().filter(|node| node.replica_group == group).count()
    }

    fn keys(&self, found: &mut Findings) {
        let mut key = |key: &str, secret: &Secret, missing: Option<&str>| {
            if let Some(remedy) = missing {
                found.when(!secret.is_set(), &[key], "is missing", remedy);
            }
            // A printed configuration used as a file would make this a well-known key.
            found.when(
                secret.get() == Some(REDACTED),
                &[key],
                "holds the mark that stands for a secret, not a secret",
                "put the key itself there, or remove the line and use the environment",
            );
            found.when(
                missing.is_some()
                    && secret.is_set()
                    && secret.len() < MIN_KEY_BYTES
                    && secret.get() != Some(REDACTED),
                &[key],
                format!("is {} bytes long; the least is {MIN_KEY_BYTES}", secret.len()),
                "use a long random key, for example from `openssl rand -base64 32`",
            );
        };
        key("master_key", &self.master_key, Some("set MIROIR_MASTER_KEY to at least 16 bytes"));
        key("node_master_key", &self.node_master_key, None);
        let admin = "set MIROIR_ADMIN_API_KEY to at least 16 bytes, or admin.enabled to false";
        key("admin.api_key", &self.admin.api_key, self.admin.enabled.then_some(admin));
        let (set, same) = (self.node_master_key.is_set(), self.node_master_key == self.master_key);
        found.when(
            self.keys.model == KeyModel::Separate && set && same,
            &["node_master_key", "master_key"],
            "are the same, so a client that learns one can reach the nodes directly",
            "give nodes a key of their own, or say that this is meant with `keys.model: shared`",
        );
        found.when(
            self.keys.model == KeyModel::Shared && set && !same,
            &["keys.model", "node_master_key"],
            "nodes are called with `master_key`, and `node_master_key` is another one",
            "remove `node_master_key`, or use `separate`",
        );
    }

    fn layout(&self, found: &mut Findings) {
        found.when(
            self.shards == 0 || self.shards > MAX_SHARDS,
            &["shards"],
            format!("{} shards are not possible", self.shards),
            "use 1 to 16384",
        );
        found.positive(&[
            ("replication_factor", self.replication_factor == 0),
            ("replica_groups", self.replica_groups == 0),
            ("faceting.node_max_values", self.faceting.node_max_values == 0),
        ]);
    }

    fn nodes(&self, found: &mut Findings) {
        if self.nodes.is_empty() {
            found.when(true, &["nodes"], "there are none", "list at least one node");
            return;
        }
        let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
        let mut addresses: BTreeMap<String, usize> = BTreeMap::new();
        for (position, node) in self.nodes.iter().enumerate() {
            let id_key = format!("nodes[{position}].id");
            let address_key = format!("nodes[{position}].address");
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            found.when(
                node.id.is_empty() || node.id.len() > 128 || !node.id.chars().all(legal),
                &[&id_key],
                "is not a usable id",
                "use 1 to 128 letters, digits, `-`, `_` or `.`",
            );
            if let Some(first) = ids.insert(&node.id, position) {
                found.when(
                    true,
                    &[&format!("nodes[{first}].id"), &id_key],
                    format!("both are \"{}\"", node.id),
                    "give every node an id of its own",
                );
            }
            match normal_address(&node.address) {
                // The address itself is not shown: it may hold credentials.
                Err(problem) => {
                    found.when(true, &[&address_key], problem, "write `http://host:port`");
                }
                Ok(address) => {
                    if let Some(first) = addresses.insert(address.clone(), position) {
                        found.when(
                            true,
                            &[&format!("nodes[{first}].address"), &address_key],
                            format!("both are {address}"),
                            "list every node once",
                        );
                    }
                }
            }
            found.when(
                node.replica_group >= self.replica_groups,
                &[&format!("nodes[{position}].replica_group"), "replica_groups"],
                format!(
                    "group {} does not exist; {} group(s) are numbered from 0",
                    node.replica_group, self.replica_groups,
                ),
                "correct the number or raise replica_groups",
            );
        }
        // More groups than nodes cannot be filled; one message is enough for all of them.
        if self.replica_groups as usize > self.nodes.len() {
            found.when(
                true,
                &["replica_groups", "nodes"],
                format!("{} groups, but {} node(s)", self.replica_groups, self.nodes.len()),
                "add nodes or lower replica_groups",
            );
            return;
        }
        for group in 0..self.replica_groups {
            let nodes = self.in_group(group);
            found.when(
                nodes < self.replication_factor.max(1) as usize,
                &["replication_factor", "nodes"],
                format!(
                    "group {group} has {nodes} node(s), but each shard needs {} in every group",
                    self.replication_factor.max(1),
                ),
                "add nodes to the group or lower replication_factor",
            );
        }
    }

    fn listeners(&self, found: &mut Findings) {
        let server = &self.server;
        found.when(
            server.port == server.metrics_port && server.port != 0,
            &["server.port", "server.metrics_port"],
            format!("both are {}", server.port),
            "give each listener a port of its own",
        );
        found.positive(&[
            ("server.max_body_bytes", server.max_body_bytes == 0),
            ("server.max_concurrent_requests", server.max_concurrent_requests == 0),
            ("server.request_timeout_ms", server.request_timeout_ms.is_zero()),
        ]);
        found.when(
            !is_docs_base(&server.docs_base_url),
            &["server.docs_base_url"],
            format!("{:?} is neither an address nor a path", server.docs_base_url),
            "write https://host/path, or leave it out: this server has the page itself",
        );
    }

    fn times(&self, found: &mut Findings) {
        let (node, request) = (self.scatter.node_timeout_ms, self.server.request_timeout_ms);
        found.when(
            node > request,
            &["scatter.node_timeout_ms", "server.request_timeout_ms"],
            format!("a call to a node may take {node}, the whole request only {request}"),
            "make node_timeout_ms the smaller one",
        );
        let health = &self.health;
        found.when(
            health.timeout_ms > health.interval_ms,
            &["health.timeout_ms", "health.interval_ms"],
            format!(
                "a check may take {}, the next starts after {}",
                health.timeout_ms, health.interval_ms
            ),
            "make timeout_ms the smaller one",
        );
        let lease = &self.leader_election;
        found.when(
            lease.enabled != Switch::Off && lease.lease_ttl_s <= lease.renew_interval_s,
            &["leader_election.lease_ttl_s", "leader_election.renew_interval_s"],
            format!(
                "a lease of {} ends before it is renewed after {}",
                lease.lease_ttl_s, lease.renew_interval_s,
            ),
            "make lease_ttl_s about three times renew_interval_s",
        );
        found.when(
            lease.enabled == Switch::On && self.task_store.backend != TaskStoreBackend::Redis,
            &["leader_election.enabled", "task_store.backend"],
            "the `sqlite` backend has no other pods to elect a leader among",
            "set `task_store.backend: redis`, or `leader_election.enabled: auto`",
        );
        let peers = &self.peer_discovery;
        found.when(
            !peers.peers.is_empty() && self.task_store.backend != TaskStoreBackend::Redis,
            &["peer_discovery.peers", "task_store.backend"],
            "several pods cannot share the `sqlite` backend",
            "set `task_store.backend: redis`, or run one pod and remove `peer_discovery.peers`",
        );
        found.when(
            !peers.peers.is_empty() && lease.enabled == Switch::Off,
            &["peer_discovery.peers", "leader_election.enabled"],
            "several pods would change things at the same time",
            "set `leader_election.enabled: auto`",
        );
        let advertised = peers.advertise_url.as_str();
        found.when(
            !advertised.is_empty()
                && advertised.parse::<http::Uri>().ok().is_none_or(|url| {
                    url.scheme_str() != Some("http")
                        || url.host().is_none()
                        || url.path_and_query().is_some_and(|path| path.as_str() != "/")
                }),
            &["peer_discovery.advertise_url"],
            "is not an address of a pod",
            "write it as http://host:port, or leave it out",
        );
        let breaker = &self.breaker;
        found.when(
            breaker.enabled && breaker.max_open_ms < breaker.open_ms,
            &["breaker.max_open_ms", "breaker.open_ms"],
            format!(
                "the bound {} is below the first time {}",
                breaker.max_open_ms, breaker.open_ms
            ),
            "make max_open_ms the larger one",
        );
        found.positive(&[
            ("scatter.node_timeout_ms", node.is_zero()),
            ("health.interval_ms", health.interval_ms.is_zero()),
            ("health.timeout_ms", health.timeout_ms.is_zero()),
            ("breaker.open_ms", breaker.enabled && breaker.open_ms.is_zero()),
            (
                "settings_broadcast.verify_timeout_s",
                self.settings_broadcast.verify_timeout_s.is_zero(),
            ),
            ("settings_drift_check.interval_s", self.settings_drift_check.interval_s.is_zero()),
            ("peer_discovery.refresh_interval_s", self.peer_discovery.refresh_interval_s.is_zero()),
            ("leader_election.renew_interval_s", lease.renew_interval_s.is_zero()),
            ("task_registry.ttl_seconds", self.task_registry.ttl_seconds.is_zero()),
            ("task_registry.prune_interval_s", self.task_registry.prune_interval_s.is_zero()),
            ("rebalancer.migration_timeout_s", self.rebalancer.migration_timeout_s.is_zero()),
        ]);
    }

    fn calls(&self, found: &mut Findings) {
        let pool = &self.connection_pool_per_node;
        found.when(
            pool.max_idle > pool.max_total,
            &["connection_pool_per_node.max_idle", "connection_pool_per_node.max_total"],
            format!("{} idle connections of {} in all", pool.max_idle, pool.max_total),
            "make max_idle the smaller one",
        );
        found.when(
            self.failover.budget_percent > 100,
            &["failover.budget_percent"],
            format!("{} is more than 100 percent", self.failover.budget_percent),
            "use 0 to 100",
        );
        let hedging = &self.hedging;
        found.when(
            hedging.budget_percent > 100,
            &["hedging.budget_percent"],
            format!("{} is more than 100 percent", hedging.budget_percent),
            "use 0 to 100",
        );
        let multiplier = hedging.p95_trigger_multiplier;
        found.when(
            !(1.0..=100.0).contains(&multiplier),
            &["hedging.p95_trigger_multiplier"],
            format!("{multiplier} times the usual time is not what a hedge can wait"),
            "use 1 to 100",
        );
        found.positive(&[
            ("connection_pool_per_node.max_total", pool.max_total == 0),
            ("health.unhealthy_threshold", self.health.unhealthy_threshold == 0),
            ("health.recovery_threshold", self.health.recovery_threshold == 0),
            (
                "breaker.failure_threshold",
                self.breaker.enabled && self.breaker.failure_threshold == 0,
            ),
            (
                "breaker.half_open_probes",
                self.breaker.enabled && self.breaker.half_open_probes == 0,
            ),
            ("node_limit.interactive", self.node_limit.enabled && self.node_limit.interactive == 0),
            ("node_limit.background", self.node_limit.enabled && self.node_limit.background == 0),
            ("failover.max_attempts", self.failover.enabled && self.failover.max_attempts == 0),
            ("hedging.max_hedges_per_query", hedging.enabled && hedging.max_hedges_per_query == 0),
        ]);
    }

    fn work(&self, found: &mut Findings) {
        found.0.extend(self.query_planner.check());
        found.0.extend(self.query_coalescing.check());
        found.positive(&[
            ("task_registry.cache_size", self.task_registry.cache_size == 0),
            (
                "rebalancer.max_concurrent_migrations",
                self.rebalancer.max_concurrent_migrations == 0,
            ),
            ("rebalancer.migration_batch_size", self.rebalancer.migration_batch_size == 0),
            ("session_pinning.ttl_seconds", self.session_pinning.ttl_seconds.is_zero()),
            ("session_pinning.max_sessions", self.session_pinning.max_sessions == 0),
            ("session_pinning.max_wait_ms", self.session_pinning.max_wait_ms.is_zero()),
            ("idempotency.ttl_seconds", self.idempotency.ttl_seconds.is_zero()),
            ("idempotency.max_cached_keys", self.idempotency.max_cached_keys == 0),
            ("multi_search.max_queries_per_batch", self.multi_search.max_queries_per_batch == 0),
            ("multi_search.total_timeout_ms", self.multi_search.total_timeout_ms.is_zero()),
            ("multi_search.per_query_timeout_ms", self.multi_search.per_query_timeout_ms.is_zero()),
            ("vector_search.over_fetch_factor", self.vector_search.over_fetch_factor == 0),
            ("vector_search.rrf_k", self.vector_search.rrf_k == 0),
            ("resharding.backfill_concurrency", self.resharding.backfill_concurrency == 0),
            ("resharding.backfill_batch_size", self.resharding.backfill_batch_size == 0),
        ]);
        found.when(
            !(0.0..=1.0).contains(&self.vector_search.hybrid_alpha_default),
            &["vector_search.hybrid_alpha_default"],
            format!("{} is not a share", self.vector_search.hybrid_alpha_default),
            "use a number from 0 to 1",
        );
        for (position, window) in self.resharding.allowed_windows.iter().enumerate() {
            found.when(
                !is_window(window),
                &[&format!("resharding.allowed_windows[{position}]")],
                format!("\"{window}\" is not a window"),
                "write it as `02:00-06:00 UTC`",
            );
        }
        found.when(
            !(0.0..=1.0).contains(&self.tracing.sample_rate),
            &["tracing.sample_rate"],
            format!("{} is not a share", self.tracing.sample_rate),
            "use 0 to 1",
        );
    }

    fn store(&self, found: &mut Findings) {
        let store = &self.task_store;
        let sqlite = store.backend == TaskStoreBackend::Sqlite;
        found.when(
            sqlite && store.path.as_os_str().is_empty(),
            &["task_store.path"],
            "is empty",
            "name the file that holds the state",
        );
        found.when(
            sqlite && store.url.is_set(),
            &["task_store.backend", "task_store.url"],
            "the `sqlite` backend has no address",
            "set `task_store.backend: redis`, or remove `task_store.url`",
        );
        if sqlite {
            return;
        }
        found.when(
            !store.url.is_set(),
            &["task_store.backend", "task_store.url"],
            "the `redis` backend has no address",
            "set `task_store.url` to redis://host:6379, or use the `sqlite` backend",
        );
        // The text itself is not shown: it may hold a password.
        if let Some(Err(problem)) = store.url.get().map(miroir_store_redis::address) {
            found.when(
                true,
                &["task_store.url"],
                problem.to_string(),
                "write it as redis://[[user]:password@]host[:port][/database], or rediss:// for TLS",
            );
        }
        found.when(
            store.key_prefix.is_empty(),
            &["task_store.key_prefix"],
            "is empty",
            "use `miroir:`, or another text that no other user of this Redis begins its keys with",
        );
        found.positive(&[
            ("task_store.connect_timeout_ms", store.connect_timeout_ms.0 == 0),
            ("task_store.response_timeout_ms", store.response_timeout_ms.0 == 0),
        ]);
    }

    fn not_in_this_version(&self, found: &mut Findings) {
        found.when(
            self.tracing.enabled,
            &["tracing.enabled"],
            "export of traces is not available in this version",
            "set it to false",
        );
    }
}
