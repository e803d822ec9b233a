//! Which configuration can be used: what the blocks say of themselves, and the rules between them.

use std::collections::BTreeMap;

use miroir::node::is_https;
use miroir::options::{Faults, milliseconds};
use miroir::quorum::WriteQuorum;
use miroir_layers::RateLimitBackend;

use super::text::normal_address;
use super::{
    AutoBool, Config, ConfigError, Environment, KeyModel, REDACTED, Secret, TaskStoreBackend,
};

/// Most shards an index may have: what a shard id in a reserved field can say with room to grow.
const MAX_SHARDS: u32 = 16_384;

/// Shortest key accepted, in bytes; the limit Meilisearch has in production. In development it is the
/// operator's alone.
const MIN_KEY_BYTES: usize = 16;

impl Config {
    /// Checks every block, and the rules between them.
    ///
    /// # Errors
    /// Every broken rule, each with its keys and the remedy.
    pub fn validate(&self) -> Result<(), Vec<ConfigError>> {
        let mut found = Faults::default();
        self.keys(&mut found);
        self.layout(&mut found);
        self.nodes(&mut found);
        self.blocks(&mut found);
        self.between(&mut found);
        self.pods(&mut found);
        self.limits(&mut found);
        let found = found.into_vec();
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    /// What is allowed but probably not meant, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut found = Faults::default();
        self.weak_key(&mut found);
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
        self.store_exposed(&mut found);
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
            !self.node_tls.is_default() && !self.nodes.iter().any(|node| is_https(&node.address)),
            &["node_tls", "nodes[].address"],
            "no node's address begins with `https://`, so none is called with TLS",
            "write `https://host:port`, or remove `node_tls`",
        );
        found.when(
            self.server.tls.is_on()
                && self.is_shared()
                && self.peer_discovery.advertise_url.is_empty()
                && self.peer_tls.server_name.is_empty(),
            &["server.tls", "peer_discovery.advertise_url", "peer_tls.server_name"],
            "other pods look for this one's address in its certificate",
            "have the address in it, give each pod an `advertise_url` with a name of its certificate, \
             or name one that all pods' certificates have in `peer_tls.server_name`",
        );
        found.when(
            self.tenant_affinity.enabled && self.replica_groups == 1,
            &["tenant_affinity.enabled", "replica_groups"],
            "there is one group, so all tenants share it",
            "use several groups",
        );
        found.into_vec().iter().map(|warning| warning.to_string()).collect()
    }

    /// What Meilisearch takes in development as well.
    fn weak_key(&self, found: &mut Faults) {
        if self.env == Environment::Production {
            return;
        }
        let bytes = self.master_key.len();
        let (problem, remedy) = if self.master_key.is_set() {
            (
                format!("has {bytes} bytes, so it can be GUESSED: whoever does may do everything"),
                "use a long random key, for example from `openssl rand -base64 32`; \
                 `env: production` insists on 16 bytes",
            )
        } else {
            (
                "is not set, so WHOEVER REACHES THIS SERVER MAY DO EVERYTHING".to_owned(),
                "set MIROIR_MASTER_KEY to at least 16 bytes; `env: production` insists on it",
            )
        };
        found.when(bytes < MIN_KEY_BYTES, &["master_key"], problem, remedy);
    }

    /// What reaches a Redis elsewhere is what the store holds, and may change it.
    fn store_exposed(&self, found: &mut Faults) {
        if self.task_store.backend != TaskStoreBackend::Redis {
            return;
        }
        let Some(Ok(redis)) = self.task_store.url.get().map(miroir_store_redis::exposure) else {
            return;
        };
        let problem = match (redis.tls, redis.password) {
            _ if redis.local => return,
            (true, true) => return,
            (false, false) => {
                "has neither TLS nor a password, so whoever reaches it makes API keys and takes over \
                 tasks"
            }
            (false, true) => {
                "has no TLS, so whoever listens on the way has its password, and makes API keys"
            }
            (true, false) => "has no password, so whoever reaches it makes API keys",
        };
        found.when(
            true,
            &["task_store.url"],
            problem,
            "use rediss://user:password@host, or keep that network closed",
        );
    }

    fn in_group(&self, group: u32) -> usize {
        self.nodes.iter().filter(|node| node.replica_group == group).count()
    }

    fn keys(&self, found: &mut Faults) {
        let production = self.env == Environment::Production;
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
        let master = "set MIROIR_MASTER_KEY to at least 16 bytes";
        key("master_key", &self.master_key, production.then_some(master));
        key("node_master_key", &self.node_master_key, None);
        let admin = "set MIROIR_ADMIN_API_KEY to at least 16 bytes, or admin.enabled to false";
        key("admin.api_key", &self.admin.api_key, self.admin.enabled.then_some(admin));
        found.when(
            !production && !self.master_key.is_set() && !self.server.bind.is_loopback(),
            &["master_key", "server.bind"],
            format!(
                "there is no key, and {} is reached from other machines: everybody there might do \
                 everything",
                self.server.bind
            ),
            "set MIROIR_MASTER_KEY, or listen at 127.0.0.1",
        );
        let operators = self.admin.enabled && self.admin.api_key.is_set();
        found.when(
            operators && self.admin.api_key == self.master_key,
            &["admin.api_key", "master_key"],
            "are the same, so every client with the master key is an operator",
            "give operators a key of their own",
        );
        found.when(
            operators && self.admin.api_key == self.node_master_key,
            &["admin.api_key", "node_master_key"],
            "are the same, so an operator can reach the nodes directly and read every document",
            "give operators a key of their own",
        );
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

    fn layout(&self, found: &mut Faults) {
        found.when(
            self.shards == 0 || self.shards > MAX_SHARDS,
            &["shards"],
            format!("{} shards are not possible", self.shards),
            "use 1 to 16384",
        );
        found.positive(&[
            ("replication_factor", self.replication_factor == 0),
            ("replica_groups", self.replica_groups == 0),
        ]);
    }

    fn nodes(&self, found: &mut Faults) {
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
                    found.when(
                        true,
                        &[&address_key],
                        problem,
                        "write `http://host:port` or `https://host:port`",
                    );
                }
                Ok(address) => {
                    // Nobody listens twice at one port.
                    let place = address.split_once("://").map_or(&*address, |(_, place)| place);
                    if let Some(first) = addresses.insert(place.to_owned(), position) {
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

    fn between(&self, found: &mut Faults) {
        let (node, request) =
            (self.scatter.node_timeout.unwrap_or_default(), self.server.request_timeout);
        let (node_ms, request_ms) = (milliseconds::show(node), milliseconds::show(request));
        found.when(
            node > request,
            &["scatter.node_timeout_ms", "server.request_timeout_ms"],
            format!("a call to a node may take {node_ms}, the whole request only {request_ms}"),
            "make node_timeout_ms the smaller one",
        );
        found.within("tenant_affinity", |found| {
            self.tenant_affinity.validate_groups(self.replica_groups, found);
        });
    }

    /// Pods share a store, and one of them leads.
    fn pods(&self, found: &mut Faults) {
        let elects = self.leader_election.enabled;
        let redis = self.task_store.backend == TaskStoreBackend::Redis;
        let peers = !self.peer_discovery.peers.is_empty();
        found.when(
            elects == AutoBool::On && !redis,
            &["leader_election.enabled", "task_store.backend"],
            "the `sqlite` backend has no other pods to elect a leader among",
            "set `task_store.backend: redis`, or `leader_election.enabled: auto`",
        );
        found.when(
            peers && !redis,
            &["peer_discovery.peers", "task_store.backend"],
            "several pods cannot share the `sqlite` backend",
            "set `task_store.backend: redis`, or run one pod and remove `peer_discovery.peers`",
        );
        let advertised = &self.peer_discovery.advertise_url;
        found.when(
            self.server.tls.is_on() && !advertised.is_empty() && !is_https(advertised),
            &["peer_discovery.advertise_url", "server.tls"],
            "other pods would speak plain HTTP to a listener that speaks TLS",
            "write it as https://host:port",
        );
        found.when(
            peers && elects == AutoBool::Off,
            &["peer_discovery.peers", "leader_election.enabled"],
            "several pods would change things at the same time",
            "set `leader_election.enabled: auto`",
        );
    }

    /// Where requests are counted, and by what.
    fn limits(&self, found: &mut Faults) {
        let limits = &self.rate_limit;
        if !limits.enabled {
            return;
        }
        found.when(
            limits.backend == RateLimitBackend::Local && self.is_shared(),
            &["rate_limit.backend", "leader_election.enabled"],
            "with several pods each would count alone, so that a client may do as many times as much",
            "use `rate_limit.backend: redis`, or, for a single pod, `leader_election.enabled: false`",
        );
        found.when(
            limits.backend == RateLimitBackend::Redis
                && self.task_store.backend != TaskStoreBackend::Redis,
            &["rate_limit.backend", "task_store.backend"],
            "there is no Redis to count in",
            "set `task_store.backend: redis`, or use `rate_limit.backend: local`",
        );
        found.when(
            limits.per_tenant.is_some() && !self.tenant_affinity.enabled,
            &["rate_limit.per_tenant", "tenant_affinity.enabled"],
            "tenants are not told apart",
            "set `tenant_affinity.enabled: true`, or remove `per_tenant`",
        );
    }
}
