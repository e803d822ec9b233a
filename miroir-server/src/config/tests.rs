//! Defaults, round trips, layers and unknown keys.

use std::time::Duration;

use clap::Parser;
use miroir::{BroadcastStrategy, UnavailableShardPolicy};
use proptest::prelude::*;
use serde_yaml_ng::Value;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

fn flags(arguments: &[&str]) -> Flags {
    Cli::parse_from(std::iter::once(&"miroir-server").chain(arguments)).flags
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn layered(yaml: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Config {
    Config::from_sources(Some(yaml), environment(variables), &flags(arguments))
        .unwrap_or_else(|errors| panic!("{errors}"))
}

/// The messages for a file, one per fault.
fn faults(yaml: &str) -> Vec<String> {
    match Config::from_yaml(yaml) {
        Ok(config) => panic!("accepted as {config:?}"),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

fn faults_of(variables: &[(&str, &str)], arguments: &[&str]) -> Vec<String> {
    match Config::from_sources(None, environment(variables), &flags(arguments)) {
        Ok(config) => panic!("accepted as {config:?}"),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

/// The lines of a snapshot in the folder of this one, without the module's name.
macro_rules! pinned {
    ($name:literal, $text:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!($name, $text);
        });
    };
}

#[test]
fn defaults_are_those_documented() {
    pinned!("config_defaults", Config::default().to_yaml());
}

#[test]
fn a_file_with_every_key_means_what_it_meant() {
    let config = Config::from_yaml(include_str!("fixtures/every_key.yaml")).unwrap();
    assert_eq!(config.validate(), Ok(()));
    let yaml = config.to_yaml();
    assert_eq!(yaml.matches(REDACTED).count(), 4, "{yaml}");
    pinned!("config_every_key", yaml);
}

#[test]
fn the_file_with_every_key_leaves_out_none() {
    fn missing(schema: &Value, given: &Value, path: &str, found: &mut Vec<String>) {
        match (schema, given) {
            (Value::Mapping(schema), Value::Mapping(given)) if !schema.contains_key("*") => {
                for (key, inner) in schema {
                    let path = format!("{path}.{}", key.as_str().unwrap());
                    match given.get(key) {
                        Some(given) => missing(inner, given, &path, found),
                        None => found.push(path),
                    }
                }
            }
            (Value::Sequence(schema), Value::Sequence(given)) if !given.is_empty() => {
                missing(&schema[0], &given[0], path, found);
            }
            _ => {}
        }
    }
    let file: Value = serde_yaml_ng::from_str(include_str!("fixtures/every_key.yaml")).unwrap();
    let mut found = Vec::new();
    missing(&schema::tree(), &file["miroir"], "miroir", &mut found);
    assert_eq!(found, [] as [&str; 0]);
}

#[test]
fn everything_wrong_with_a_file_is_listed_at_once() {
    let config = Config::from_yaml(include_str!("fixtures/every_fault.yaml")).unwrap();
    let mut found: Vec<_> = match config.validate() {
        Ok(()) => panic!("accepted"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    };
    // Which of two blocks is checked first is nobody's business.
    found.sort();
    pinned!("config_every_fault", found.join("\n"));
}

#[test]
fn absent_empty_and_null_mean_default() {
    for yaml in ["", "---", "miroir:", "miroir: {}", "miroir:\n  server:\n  shards:\n  nodes:\n"] {
        assert_eq!(Config::from_yaml(yaml).as_ref(), Ok(&Config::default()), "{yaml:?}");
    }
    assert_eq!(layered("", &[], &[]), Config::default());
}

#[test]
fn a_full_file_is_read() {
    let config = Config::from_yaml(
        "miroir:
  master_key: a-long-enough-client-key
  node_master_key: a-long-enough-node-key
  shards: 16
  replication_factor: 2
  replica_groups: 1
  write_quorum: majority
  nodes:
    - { id: a, address: 'http://a:7700', replica_group: 0 }
    - { id: b, address: 'http://b:7700' }
  task_store: { backend: sqlite, path: /var/lib/miroir/state.db }
  admin: { enabled: true, api_key: a-long-enough-admin-key }
  health: { interval_ms: 1s, timeout_ms: 500ms }
  scatter: { node_timeout_ms: 250, unavailable_shard_policy: error }
  settings_broadcast: { strategy: sequential, verify_timeout_s: 2m }
  resharding: { allowed_windows: ['22:00-04:00 UTC'], retain_old_index_hours: 2days }
  leader_election: { enabled: false }
",
    )
    .unwrap();
    assert_eq!(config.validate(), Ok(()));
    assert_eq!(config.write_quorum, WriteQuorum::Majority);
    assert_eq!(config.nodes[1].replica_group, 0);
    assert_eq!(config.health.interval, Duration::from_secs(1));
    assert_eq!(config.health.unhealthy_threshold, 3, "the rest of a block keeps its defaults");
    assert_eq!(config.scatter.unavailable_shard_policy, UnavailableShardPolicy::Error);
    assert_eq!(config.settings_broadcast.strategy, BroadcastStrategy::Sequential);
    assert_eq!(config.settings_broadcast.verify_timeout, Duration::from_mins(2));
    assert_eq!(config.resharding.retain_old_index, Duration::from_hours(48));
    assert_eq!(config.leader_election.enabled, AutoBool::Off);
    assert_eq!(config.master_key.expose(), "a-long-enough-client-key");
}

#[test]
fn merge_keys_and_anchors_work() {
    let config = Config::from_yaml(
        "miroir:
  health: { interval_ms: &t 3s, timeout_ms: *t }
  nodes:
    - &first { id: a, address: 'http://a', replica_group: 1 }
    - { <<: *first, id: b }
",
    )
    .unwrap();
    assert_eq!((config.nodes[1].id.as_str(), config.nodes[1].replica_group), ("b", 1));
    assert_eq!(config.health.timeout, Duration::from_secs(3));
}

#[test]
fn the_printed_configuration_shows_no_secret() {
    let mut config = Config {
        master_key: Secret::new("client-key-client-key"),
        node_master_key: Secret::new("node-key-node-key-1"),
        ..Config::default()
    };
    config.admin.api_key = Secret::new("admin-key-admin-key");
    for text in [config.to_yaml(), format!("{config:?}")] {
        assert!(!text.contains("-key-"), "{text}");
        assert_eq!(text.matches(REDACTED).count(), 3, "{text}");
    }
}

#[test]
fn unknown_keys_are_named_with_path_and_suggestion() {
    assert_eq!(
        faults(
            "miroir:\n  server: { prot: 1, bidn: x }\n  shrads: 3\n  nodes: [{id: a, adress: b}]\n"
        ),
        [
            "`server.prot`: unknown key; did you mean `port`?",
            "`server.bidn`: unknown key; did you mean `bind`?",
            "`shrads`: unknown key; did you mean `shards`?",
            "`nodes[0].adress`: unknown key; did you mean `address`?",
            "`nodes[0]`: missing field `address`",
        ],
    );
}

#[test]
fn a_key_in_the_wrong_block_is_pointed_to_the_right_one() {
    assert_eq!(
        faults("miroir: { max_body_bytes: 1 }"),
        ["`max_body_bytes`: unknown key; did you mean `server.max_body_bytes`?"],
    );
    assert_eq!(
        faults("server: { port: 1 }\nmiroir: {}"),
        ["`server`: unknown top-level key; everything belongs under a top-level `miroir:`"],
    );
    let far = faults("miroir: { faceting: { zzzzzzzz: 1 } }");
    assert_eq!(far, ["`faceting.zzzzzzzz`: unknown key; known here: node_max_values"]);
}

#[test]
fn blocks_of_other_versions_say_so() {
    for block in ["canaries", "cdc", "search_ui", "ttl"] {
        let faults = faults(&format!("miroir: {{ {block}: {{ enabled: true }} }}"));
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("not available in this version"), "{faults:?}");
        assert!(faults[0].contains(block), "{faults:?}");
    }
}

#[test]
fn values_of_the_wrong_kind_are_all_named() {
    let found = faults(
        "miroir:
  shards: many
  write_quorum: most
  scatter: { node_timeout_ms: soon, retry_on_timeout: 3 }
  server: 7700
  nodes: none
  leader_election: { enabled: perhaps }
  master_key: 12345678901234567890
",
    );
    for (key, word) in [
        ("`shards`", "invalid type"),
        ("`write_quorum`", "`majority`"),
        ("`scatter.node_timeout_ms`", "not a duration"),
        ("`scatter.retry_on_timeout`", "boolean"),
        ("`server`", "expected a block"),
        ("`nodes`", "expected a list"),
        ("`leader_election.enabled`", "`auto`, `true` or `false`"),
        ("`master_key`", "must be text"),
    ] {
        assert!(
            found.iter().any(|fault| fault.starts_with(key) && fault.contains(word)),
            "{key} {word}: {found:#?}",
        );
    }
    assert_eq!(found.len(), 8, "{found:#?}");
    assert!(!found.concat().contains("1234567890"), "a secret is never quoted");
}

#[test]
fn broken_files_are_refused() {
    assert!(faults("miroir: [")[0].contains("not valid YAML"));
    assert!(faults("just text")[0].contains("top-level `miroir:`"));
    assert!(faults("miroir: { 1: 2 }")[0].contains("keys are words"));
    assert!(faults("miroir: { shards: 1, shards: 2 }")[0].contains("duplicate"));
    let missing = Config::load(&flags(&["--config", "/nonexistent/miroir.yaml"])).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/miroir.yaml"), "{missing}");
}

#[test]
fn later_layers_win() {
    let yaml = "miroir: { server: { port: 1, metrics_port: 2, request_timeout_ms: 9 } }";
    let variables =
        [("MIROIR__SERVER__PORT", "11"), ("MIROIR__SERVER__METRICS_PORT", "12"), ("PATH", "/bin")];
    let file = layered(yaml, &[], &[]).server;
    assert_eq!((file.port, file.metrics_port), (1, 2));
    let env = layered(yaml, &variables, &[]).server;
    assert_eq!(
        (env.port, env.metrics_port, env.request_timeout),
        (11, 12, Duration::from_millis(9))
    );
    let set = layered(yaml, &variables, &["--set", "server.port=21", "--set=miroir.shards=7"]);
    assert_eq!((set.server.port, set.server.metrics_port, set.shards), (21, 12, 7));
    let arguments =
        ["--port", "31", "--set", "server.port=21", "--bind", "::1", "--metrics-port", "32"];
    let own = layered(yaml, &variables, &arguments).server;
    assert_eq!((own.port, own.metrics_port), (31, 32));
    assert_eq!(own.bind.to_string(), "::1");
}

#[test]
fn overrides_take_the_kind_of_their_key() {
    let config = layered(
        "",
        &[
            ("MIROIR__SCATTER__NODE_TIMEOUT_MS", "2s"),
            ("MIROIR__SCATTER__RETRY_ON_TIMEOUT", "false"),
            ("MIROIR__NODE_MASTER_KEY", "12345678901234567890"),
            ("MIROIR__TRACING__SAMPLE_RATE", "0.5"),
            ("MIROIR__LEADER_ELECTION__ENABLED", "true"),
            ("MIROIR__NODES__0__ID", "1"),
            ("MIROIR__NODES__0__ADDRESS", "http://a"),
            ("MIROIR__RESHARDING__ALLOWED_WINDOWS", "['01:00-02:00']"),
        ],
        &[
            "--set",
            "nodes.1.id=b",
            "--set",
            "nodes.1.address=http://b",
            "--set",
            "task_store.path=7",
        ],
    );
    assert_eq!(config.scatter.node_timeout, Some(Duration::from_secs(2)));
    assert!(!config.scatter.retry_on_timeout);
    assert_eq!(config.node_master_key.expose(), "12345678901234567890");
    assert_eq!(config.tracing.sample_rate, 0.5);
    assert_eq!(config.leader_election.enabled, AutoBool::On);
    assert_eq!(config.nodes[0].id, "1");
    assert_eq!(config.nodes[1].address, "http://b");
    assert_eq!(config.resharding.allowed_windows, ["01:00-02:00"]);
    assert_eq!(config.task_store.path, std::path::Path::new("7"));
}

#[test]
fn nodes_can_be_one_variable() {
    let config = layered(
        "miroir: { nodes: [{id: old, address: 'http://old'}] }",
        &[("MIROIR__NODES", "[{id: a, address: 'http://a'}, {id: b, address: 'http://b'}]")],
        &[],
    );
    assert_eq!(config.nodes.len(), 2);
    assert_eq!(config.nodes[1].id, "b");
}

#[test]
fn secrets_come_from_the_environment() {
    let config = layered(
        "miroir: { master_key: from-the-file }",
        &[
            ("MIROIR_MASTER_KEY", "from-the-environment"),
            ("MIROIR__MASTER_KEY", "less-specific"),
            ("MIROIR_NODE_MASTER_KEY", "node"),
            ("MIROIR_ADMIN_API_KEY", "admin"),
        ],
        &[],
    );
    assert_eq!(config.master_key.expose(), "from-the-environment");
    assert_eq!(config.node_master_key.expose(), "node");
    assert_eq!(config.admin.api_key.expose(), "admin");
    let kept = layered("miroir: { master_key: file }", &[("MIROIR_MASTER_KEY", "")], &[]);
    assert_eq!(kept.master_key.expose(), "file", "an empty variable is an absent one");
}

#[test]
fn what_orchestrators_inject_is_ignored() {
    let config =
        layered("", &[("MIROIR_PORT", "tcp://10.0.0.1:7700"), ("MIROIR_LOG", "debug")], &[]);
    assert_eq!(config, Config::default());
}

#[test]
fn wrong_overrides_name_their_origin() {
    assert_eq!(
        faults_of(&[("MIROIR__SERVER__PROT", "1")], &[]),
        ["`MIROIR__SERVER__PROT`, `server.prot`: unknown key; did you mean `port`?"],
    );
    let block = faults_of(&[("MIROIR__SERVER", "1")], &[]);
    assert!(block[0].contains("is a block") && block[0].contains("max_body_bytes"), "{block:?}");
    assert!(faults_of(&[], &["--set", "shards.deep=1"])[0].contains("has no key `deep`"));
    assert!(faults_of(&[], &["--set", "nodes.3.id=a"])[0].contains("not a position"));
    assert!(faults_of(&[], &["--set", "nodes=a"])[0].contains("is a list"));
    assert!(faults_of(&[], &["--set", "nodes=[{idd: a}]"])[0].contains("`nodes[0].idd`"));
    let secret = faults_of(&[], &["--set", "secret-value"]);
    assert!(secret[0].contains("key.path=value") && !secret[0].contains("secret-value"));
    assert!(faults_of(&[], &["--set", "shards=lots"])[0].starts_with("`shards`: invalid type"));
    assert_eq!(faults_of(&[("MIROIR__A", "1"), ("MIROIR__B", "1")], &["--set", "zz=1"]).len(), 3);
}

#[test]
fn flags_parse() {
    let all = flags(&["--config", "a.yaml", "--check-config", "--describe-stack"]);
    assert_eq!(all.config.as_deref(), Some(std::path::Path::new("a.yaml")));
    assert!(all.check_config && all.describe_stack);
    assert!(Cli::try_parse_from(["x", "--port", "70000"]).is_err());
    assert!(Cli::try_parse_from(["x", "--bind", "nowhere"]).is_err());
}

fn some_config() -> impl Strategy<Value = Config> {
    let node = ("[a-z0-9.-]{1,12}", "[ -~é]{0,20}", 0..9u32)
        .prop_map(|(id, address, replica_group)| NodeConfig { id, address, replica_group });
    (
        (any::<u32>(), any::<u32>(), prop::collection::vec(node, 0..4)),
        (any::<u64>(), any::<u64>(), any::<u16>(), any::<bool>()),
        (0..3usize, 0..3usize, "[ -~]{0,20}", prop::num::f64::NORMAL),
    )
        .prop_map(
            |((shards, rf, nodes), (ms, s, port, flag), (quorum, switch, text, rate))| {
                let mut config =
                    Config { shards, replication_factor: rf, nodes, ..Config::default() };
                config.scatter.node_timeout = Some(Duration::from_millis(ms));
                config.task_registry.ttl = Duration::from_secs(s);
                config.resharding.retain_old_index = Duration::from_hours((s ^ ms) / 3_600);
                config.server.port = port;
                config.admin.enabled = flag;
                config.write_quorum =
                    [WriteQuorum::Auto, WriteQuorum::Majority, WriteQuorum::Any][quorum];
                config.leader_election.enabled =
                    [AutoBool::Auto, AutoBool::On, AutoBool::Off][switch];
                config.tracing.endpoint = text.clone();
                config.resharding.allowed_windows = vec![text.clone()];
                config.task_store.path = text.into();
                config.tracing.sample_rate = rate;
                config
            },
        )
}

proptest! {
    #[test]
    fn round_trip(config in some_config()) {
        let yaml = config.to_yaml();
        let again = Config::from_yaml(&yaml).map_err(|errors| TestCaseError::fail(errors.to_string()))?;
        prop_assert_eq!(&again, &config);
        prop_assert_eq!(again.to_yaml(), yaml);
        let _ = (config.validate(), config.warnings());
    }

    #[test]
    fn no_text_panics(text in ".{0,200}") {
        if let Ok(config) = Config::from_yaml(&text) {
            let _ = (config.validate(), config.warnings());
        }
    }

    #[test]
    fn no_yaml_panics(
        lines in prop::collection::vec(
            ("(  |    |      )?", "(miroir|server|nodes|port|shards|- id|- |&a|<<|scatter|task_store|path)",
             "(: |:)?", "([ -~]{0,12}|\\[|\\{|\\*a|!t x|1e999|-1|\\.nan|\\||~|'é')"),
            0..12,
        ),
        variable in "[A-Z_0-9]{0,20}",
        path in "[a-z_.0-9]{0,20}",
        value in "[ -~]{0,20}",
    ) {
        let lines: Vec<_> = lines.iter().map(|(a, b, c, d)| format!("{a}{b}{c}{d}")).collect();
        let body = lines.join("\n");
        let set = Flags { set: vec![format!("{path}={value}")], ..Flags::default() };
        for text in [body.clone(), format!("miroir:\n{body}")] {
            let env = [(format!("MIROIR__{variable}"), value.clone())];
            if let Ok(config) = Config::from_sources(Some(&text), env, &set) {
                let _ = (config.validate(), config.warnings(), config.to_yaml());
            }
        }
    }
}
