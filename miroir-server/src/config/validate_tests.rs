//! One case per rule.

use std::time::Duration;

use miroir_layers::RateLimitBackend;

use super::*;

fn node(id: &str, address: &str, replica_group: u32) -> NodeConfig {
    NodeConfig { id: id.to_owned(), address: address.to_owned(), replica_group }
}

/// Two nodes, all keys: validates.
fn good() -> Config {
    let mut config = Config {
        master_key: Secret::new("client-key-of-good-length"),
        node_master_key: Secret::new("node-key-of-good-length"),
        nodes: vec![node("a", "http://a:7700", 0), node("b", "http://b:7700", 0)],
        ..Config::default()
    };
    config.admin.api_key = Secret::new("admin-key-of-good-length");
    config
}

fn redis(config: &mut Config, url: &str) {
    config.task_store.backend = TaskStoreBackend::Redis;
    config.task_store.url = Secret::new(url);
}

/// A change to a good configuration.
type Change = fn(&mut Config);

fn messages(change: Change) -> Vec<String> {
    let mut config = good();
    change(&mut config);
    match config.validate() {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_good_configuration_has_neither_errors_nor_warnings() {
    assert_eq!(good().validate(), Ok(()));
    assert_eq!(good().warnings(), [] as [&str; 0]);
}

#[test]
fn defaults_alone_lack_nodes_and_keys_only() {
    let errors = Config::default().validate().unwrap_err();
    let keys: Vec<_> = errors.iter().flat_map(|error| &error.keys).collect();
    assert_eq!(keys, ["admin.api_key", "master_key", "server.bind", "nodes"]);
}

/// Every rule reports once, names all keys of the rule, and says what to do.
#[test]
fn rules() {
    let cases: &[(Change, &str, &str)] = &[
        (|c| c.nodes.clear(), "`nodes`: there are none", "at least one"),
        (|c| c.nodes[1].id = "a".into(), "`nodes[0].id`, `nodes[1].id`: both are \"a\"", "own"),
        (|c| c.nodes[1].id = String::new(), "`nodes[1].id`: is not a usable id", "letters"),
        (|c| c.nodes[1].id = "a b".into(), "`nodes[1].id`: is not a usable id", "letters"),
        (
            |c| c.nodes[1].address = "http://A:7700/".into(),
            "`nodes[0].address`, `nodes[1].address`: both are http://a:7700",
            "once",
        ),
        (
            |c| c.nodes[0].address = "a:7700".into(),
            "`nodes[0].address`: has neither `http://` nor `https://`",
            "host:port",
        ),
        (
            |c| c.nodes[0].address = String::new(),
            "`nodes[0].address`: is not an address",
            "host:port",
        ),
        (
            |c| c.nodes[1].address = "https://A:7700".into(),
            "`nodes[0].address`, `nodes[1].address`: both are https://a:7700",
            "once",
        ),
        (
            |c| c.nodes[0].address = "http://a/x".into(),
            "`nodes[0].address`: has a path",
            "host:port",
        ),
        (
            |c| c.nodes[0].address = "http://a?x".into(),
            "`nodes[0].address`: has a path",
            "host:port",
        ),
        (
            |c| c.nodes[0].address = "http://a:99999".into(),
            "`nodes[0].address`: has a port",
            "host:port",
        ),
        (
            |c| c.nodes[0].address = "http://u:p@a".into(),
            "`nodes[0].address`: holds credentials",
            "",
        ),
        (
            |c| c.nodes.push(node("c", "http://c", 1)),
            "`nodes[2].replica_group`, `replica_groups`: group 1 does not exist",
            "raise replica_groups",
        ),
        (
            |c| c.replica_groups = 2,
            "`replication_factor`, `nodes`: group 1 has 0 node(s)",
            "add nodes",
        ),
        (|c| c.replica_groups = 3, "`replica_groups`, `nodes`: 3 groups, but 2 node(s)", "lower"),
        (
            |c| c.replication_factor = 3,
            "`replication_factor`, `nodes`: group 0 has 2 node(s), but each shard needs 3",
            "lower replication_factor",
        ),
        (|c| c.shards = 0, "`shards`: 0 shards", "1 to 16384"),
        (|c| c.shards = 16_385, "`shards`: 16385 shards", "1 to 16384"),
        (|c| c.replication_factor = 0, "`replication_factor`: must not be 0", "at least 1"),
        (
            |c| c.scatter.node_timeout = Some(Duration::from_millis(30_001)),
            "`scatter.node_timeout_ms`, `server.request_timeout_ms`: a call to a node may take 30001ms",
            "smaller",
        ),
        (
            |c| c.health.timeout = Duration::from_millis(5_001),
            "`health.timeout_ms`, `health.interval_ms`",
            "smaller",
        ),
        (
            |c| c.server.metrics_port = 7_700,
            "`server.port`, `server.metrics_port`: both are 7700",
            "own",
        ),
        (|c| c.server.max_body_bytes = 0, "`server.max_body_bytes`: must not be 0", ""),
        (
            |c| (c.env, c.master_key) = (Environment::Production, Secret::default()),
            "`master_key`: is missing",
            "MIROIR_MASTER_KEY",
        ),
        (
            |c| (c.env, c.master_key) = (Environment::Production, Secret::new("short")),
            "`master_key`: is 5 bytes long",
            "openssl",
        ),
        (
            |c| c.master_key = Secret::default(),
            "`master_key`, `server.bind`: there is no key, and 0.0.0.0 is reached",
            "MIROIR_MASTER_KEY",
        ),
        (|c| c.master_key = Secret::new(REDACTED), "`master_key`: holds the mark", "environment"),
        (|c| c.node_master_key = Secret::new(REDACTED), "`node_master_key`: holds the mark", ""),
        (
            |c| c.node_master_key = c.master_key.clone(),
            "`node_master_key`, `master_key`: are the same",
            "`keys.model: shared`",
        ),
        (
            |c| c.admin.api_key = c.master_key.clone(),
            "`admin.api_key`, `master_key`: are the same",
            "a key of their own",
        ),
        (
            |c| c.admin.api_key = c.node_master_key.clone(),
            "`admin.api_key`, `node_master_key`: are the same",
            "a key of their own",
        ),
        (
            |c| c.keys.model = KeyModel::Shared,
            "`keys.model`, `node_master_key`: nodes are called with `master_key`",
            "remove `node_master_key`",
        ),
        (
            |c| c.admin.api_key = Secret::default(),
            "`admin.api_key`: is missing",
            "MIROIR_ADMIN_API_KEY",
        ),
        (
            |c| c.leader_election.lease_ttl = Duration::from_secs(3),
            "`leader_election.lease_ttl_s`, `leader_election.renew_interval_s`: a lease of 3s",
            "three times",
        ),
        (
            |c| c.connection_pool_per_node.max_idle = 129,
            "`connection_pool_per_node.max_idle`, `connection_pool_per_node.max_total`: 129",
            "smaller",
        ),
        (
            |c| c.breaker.open = Duration::from_millis(30_001),
            "`breaker.max_open_ms`, `breaker.open_ms`",
            "larger",
        ),
        (|c| c.breaker.failure_threshold = 0, "`breaker.failure_threshold`: must not be 0", ""),
        (|c| c.node_limit.background = 0, "`node_limit.background`: must not be 0", ""),
        (|c| c.failover.max_attempts = 0, "`failover.max_attempts`: must not be 0", ""),
        (|c| c.failover.budget_percent = 101, "`failover.budget_percent`: 101", "0 to 100"),
        (
            |c| c.hedging.max_hedges_per_query = 0,
            "`hedging.max_hedges_per_query`: must not be 0",
            "",
        ),
        (|c| c.hedging.budget_percent = 101, "`hedging.budget_percent`: 101", "0 to 100"),
        (
            |c| c.hedging.p95_trigger_multiplier = f64::NAN,
            "`hedging.p95_trigger_multiplier`: NaN",
            "1 to 100",
        ),
        (
            |c| c.hedging.p95_trigger_multiplier = 0.5,
            "`hedging.p95_trigger_multiplier`: 0.5",
            "1 to 100",
        ),
        (
            |c| c.replica_selection.error_weight = -1.0,
            "`replica_selection.error_weight`: -1 is not a weight",
            "0 to 1000",
        ),
        (
            |c| c.replica_selection.exploration_epsilon = f64::NAN,
            "`replica_selection.exploration_epsilon`: NaN is not a share",
            "0 to 1",
        ),
        (
            |c| c.replica_selection.ewma_half_life = Duration::ZERO,
            "`replica_selection.ewma_half_life_ms`: must not be 0",
            "",
        ),
        (
            |c| c.query_planner.max_pk_literals_narrowable = 0,
            "`query_planner.max_pk_literals_narrowable`: 0 is not a number of ids",
            "1 to 65536",
        ),
        (
            |c| c.query_coalescing.max_subscribers = 0,
            "`query_coalescing.max_subscribers`: must not be 0",
            "query_coalescing.enabled",
        ),
        (
            |c| c.server.docs_base_url = "docs.example.com".into(),
            "`server.docs_base_url`: \"docs.example.com\" is neither an address nor a path",
            "https://host/path",
        ),
        (
            |c| c.server.docs_base_url = "//docs.example.com/a#b".into(),
            "`server.docs_base_url`: \"//docs.example.com/a#b\"",
            "https://host/path",
        ),
        (|c| c.faceting.node_max_values = 0, "`faceting.node_max_values`: must not be 0", ""),
        (
            |c| c.resharding.allowed_windows = vec!["02:00-06:00 UTC".into(), "2-6".into()],
            "`resharding.allowed_windows[1]`: \"2-6\" is not a window",
            "02:00-06:00 UTC",
        ),
        (
            |c| c.task_store.backend = TaskStoreBackend::Redis,
            "`task_store.backend`, `task_store.url`: the `redis` backend has no address",
            "set `task_store.url`",
        ),
        (
            |c| c.task_store.url = Secret::new("redis://r"),
            "`task_store.backend`, `task_store.url`: the `sqlite` backend has no address",
            "redis",
        ),
        (|c| redis(c, "r:6379"), "`task_store.url`: is not the address of a Redis", "redis://"),
        (
            |c| {
                redis(c, "redis://r");
                c.task_store.key_prefix = String::new();
            },
            "`task_store.key_prefix`: is empty",
            "miroir:",
        ),
        (
            |c| {
                redis(c, "redis://r");
                c.task_store.response_timeout = Duration::ZERO;
            },
            "`task_store.response_timeout_ms`: must not be 0",
            "",
        ),
        (|c| c.task_store.path = "".into(), "`task_store.path`: is empty", "file"),
        (
            |c| c.tracing.enabled = true,
            "`tracing.enabled`: export of traces is not available",
            "false",
        ),
        (
            |c| c.multi_search.max_queries_per_batch = 0,
            "`multi_search.max_queries_per_batch`: must not be 0",
            "",
        ),
        (
            |c| c.vector_search.over_fetch_factor = 0,
            "`vector_search.over_fetch_factor`: must not be 0",
            "",
        ),
        (
            |c| c.vector_search.hybrid_alpha_default = 1.5,
            "`vector_search.hybrid_alpha_default`: 1.5 is not a share",
            "0 to 1",
        ),
        (|c| c.tracing.sample_rate = f64::NAN, "`tracing.sample_rate`: NaN", "0 to 1"),
        (|c| c.tracing.sample_rate = 1.1, "`tracing.sample_rate`: 1.1", "0 to 1"),
    ];
    for (change, problem, remedy) in cases {
        let found = messages(*change);
        assert_eq!(found.len(), 1, "{problem}: {found:#?}");
        assert!(found[0].starts_with(problem), "{problem}: {found:#?}");
        let (_, after) = found[0].split_once("; ").expect("every message has a remedy");
        assert!(after.contains(remedy), "{remedy}: {found:#?}");
    }
}

#[test]
fn values_at_the_edge_of_a_rule_are_accepted() {
    let cases: &[Change] = &[
        |c| c.shards = 1,
        |c| c.shards = 16_384,
        |c| c.replication_factor = 2,
        |c| {
            c.replica_groups = 2;
            c.nodes[1].replica_group = 1;
        },
        |c| c.scatter.node_timeout = Some(Duration::from_secs(30)),
        |c| c.connection_pool_per_node.max_idle = 128,
        |c| c.leader_election.lease_ttl = Duration::from_secs(4),
        |c| {
            c.leader_election.lease_ttl = Duration::from_secs(1);
            c.leader_election.enabled = AutoBool::Off;
        },
        |c| {
            c.server.port = 0;
            c.server.metrics_port = 0;
        },
        |c| {
            c.admin.enabled = false;
            c.admin.api_key = Secret::default();
        },
        |c| {
            c.env = Environment::Production;
            c.master_key = Secret::new("exactly-16-bytes");
        },
        |c| c.master_key = Secret::new("masterKey"),
        |c| {
            c.master_key = Secret::default();
            c.server.bind = "127.0.0.1".parse().unwrap();
        },
        |c| c.node_master_key = Secret::new("short"),
        |c| c.nodes[0].address = "http://[::1]:7701/".into(),
        |c| c.nodes[0].address = "http://a:7701".into(),
        |c| c.failover.enabled = false,
        |c| c.hedging.enabled = false,
        |c| {
            c.query_planner.enabled = false;
            c.query_planner.max_pk_literals_narrowable = 0;
        },
        |c| {
            c.query_coalescing.enabled = false;
            c.query_coalescing.window = Duration::ZERO;
        },
        |c| redis(c, "redis://r"),
        |c| {
            redis(c, "rediss://user:word@r:6380/2");
            c.task_store.path = "".into();
        },
        |c| c.resharding.allowed_windows = vec!["22:30-04:00".into()],
        |c| c.server.docs_base_url = "https://docs.example.com/miroir/".into(),
        |c| c.server.docs_base_url = "/".into(),
    ];
    for (position, change) in cases.iter().enumerate() {
        assert_eq!(messages(*change), [] as [&str; 0], "case {position}");
    }
}

#[test]
fn every_zero_that_would_stop_the_server_is_refused() {
    let zeroed = Config {
        shards: 0,
        replication_factor: 0,
        replica_groups: 0,
        health: HealthOptions {
            interval: Duration::ZERO,
            timeout: Duration::ZERO,
            unhealthy_threshold: 0,
            recovery_threshold: 0,
        },
        ..good()
    };
    let found: Vec<_> = zeroed.validate().unwrap_err().into_iter().flat_map(|e| e.keys).collect();
    for key in [
        "shards",
        "replication_factor",
        "replica_groups",
        "health.interval_ms",
        "health.timeout_ms",
        "health.unhealthy_threshold",
        "health.recovery_threshold",
    ] {
        assert!(found.iter().any(|other| other == key), "{key}: {found:?}");
    }
}

#[test]
fn an_address_with_credentials_is_not_repeated() {
    for change in [
        (|c| c.nodes[0].address = "http://user:hunter2@a".into()) as Change,
        |c| redis(c, "redis://:hunter2@r:port"),
        |c| redis(c, "http://:hunter2@r"),
    ] {
        let found = messages(change);
        assert!(!found.is_empty() && !found.concat().contains("hunter2"), "{found:?}");
    }
    let mut config = good();
    redis(&mut config, "redis://:hunter2@r");
    let shown = format!("{config:?} {}", config.to_yaml());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn warnings() {
    let cases: &[(Change, &str)] = &[
        (|c| c.node_master_key = Secret::default(), "MIROIR_NODE_MASTER_KEY"),
        (|c| c.master_key = Secret::new("masterKey"), "`master_key`: has 9 bytes"),
        (
            |c| {
                c.master_key = Secret::default();
                c.server.bind = "127.0.0.1".parse().unwrap();
            },
            "`master_key`: is not set, so WHOEVER",
        ),
        (
            |c| {
                c.keys.model = KeyModel::Shared;
                c.node_master_key = Secret::default();
            },
            "`keys.model`",
        ),
        (|c| redis(c, "redis://r:6379"), "`task_store.url`: has neither TLS nor a password"),
        (|c| redis(c, "redis://:hunter2@r"), "`task_store.url`: has no TLS"),
        (|c| redis(c, "rediss://r"), "`task_store.url`: has no password"),
        (|c| c.tenant_affinity.enabled = true, "`tenant_affinity.enabled`, `replica_groups`"),
        (|c| c.shards = 1, "some nodes stay empty"),
        (|c| c.node_limit.interactive = 97, "more calls than there are connections"),
        (
            |c| {
                c.replication_factor = 3;
                c.write_quorum = WriteQuorum::Any;
            },
            "one node alone",
        ),
    ];
    for (change, part) in cases {
        let mut config = good();
        change(&mut config);
        let found = config.warnings();
        assert_eq!(found.len(), 1, "{part}: {found:?}");
        assert!(found[0].contains(part), "{part}: {found:?}");
    }
}

#[test]
fn a_redis_that_nobody_else_reaches_is_no_warning() {
    for url in [
        "redis://localhost",
        "redis://127.0.0.1:6380/2",
        "redis://[::1]",
        "redis+unix:///run/redis.sock",
        "rediss://miroir:hunter2@r",
    ] {
        let mut config = good();
        redis(&mut config, url);
        assert_eq!(config.warnings(), [""; 0], "{url}");
    }
}

#[test]
fn the_model_says_which_key_opens_the_nodes() {
    let mut config = good();
    assert_eq!(config.node_key(), Some("node-key-of-good-length"));
    config.node_master_key = Secret::default();
    assert_eq!(config.node_key(), None);
    config.keys.model = KeyModel::Shared;
    assert_eq!(config.node_key(), Some("client-key-of-good-length"));
    assert!(config.validate().is_ok());
    config.node_master_key = config.master_key.clone();
    assert!(config.validate().is_ok());
}

/// Limits addresses, over Redis.
fn limited(config: &mut Config) {
    redis(config, "redis://r");
    config.rate_limit.enabled = true;
    config.rate_limit.per_ip = Some("1/day".parse().unwrap());
}

#[test]
fn requests_are_counted_where_all_pods_can_see_it() {
    let fine: &[Change] = &[
        limited,
        |c| {
            limited(c);
            c.task_store = TaskStoreConfig::default();
        },
        |c| {
            limited(c);
            c.rate_limit.backend = RateLimitBackend::Redis;
        },
        |c| {
            limited(c);
            c.rate_limit.backend = RateLimitBackend::Local;
            c.leader_election.enabled = AutoBool::Off;
        },
        |c| {
            limited(c);
            c.rate_limit.per_tenant = c.rate_limit.per_ip;
            c.tenant_affinity.enabled = true;
        },
        |c| {
            limited(c);
            c.rate_limit.backend = RateLimitBackend::Local;
            c.rate_limit.enabled = false;
        },
    ];
    for (position, change) in fine.iter().enumerate() {
        assert_eq!(messages(*change), [] as [&str; 0], "case {position}");
    }
    let cases: &[(Change, &str, &str)] = &[
        (
            |c| {
                limited(c);
                c.rate_limit.backend = RateLimitBackend::Local;
            },
            "`rate_limit.backend`, `leader_election.enabled`",
            "backend: redis",
        ),
        (
            |c| {
                limited(c);
                c.rate_limit.backend = RateLimitBackend::Redis;
                c.task_store = TaskStoreConfig::default();
            },
            "`rate_limit.backend`, `task_store.backend`",
            "no Redis",
        ),
        (
            |c| {
                limited(c);
                c.rate_limit.per_tenant = c.rate_limit.per_ip;
            },
            "`rate_limit.per_tenant`, `tenant_affinity.enabled`",
            "told apart",
        ),
    ];
    for (change, keys, words) in cases {
        let found = messages(*change);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(keys) && found[0].contains(words), "{found:?}");
    }
}
