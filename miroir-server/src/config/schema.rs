//! Which keys exist: a configuration in which every list has one element and every secret is set,
//! written as a YAML tree. Files and overrides are checked against it before serde reads them, so
//! that all unknown keys are reported at once and with their path.

use std::time::Duration;

use miroir_api::GroupId;
use miroir_layers::RateLimits;
use miroir_layers::operation::ShadowTargetOptions;
use miroir_layers::operation::shadow::ShadowOperation;
use serde_yaml_ng::{Mapping, Value};

use super::{Config, ConfigError, NodeConfig, Secret};

/// Blocks the product knows that this version does not have.
const UNAVAILABLE: &[&str] = &[
    "admin_ui",
    "canaries",
    "canary_runner",
    "cdc",
    "dump_import",
    "hpa",
    "ilm",
    "rollover_policies",
    "search_ui",
    "ttl",
];

/// Stands for any key, in a block whose keys are names of the operator's choice.
const ANY: &str = "*";

/// The tree of all keys. Leaves are values of the right YAML kind (durations are numbers).
pub(super) fn tree() -> Value {
    let node = NodeConfig { id: "id".to_owned(), address: "http".to_owned(), replica_group: 0 };
    let mut all = Config {
        master_key: Secret::new("set"),
        node_master_key: Secret::new("set"),
        nodes: vec![node],
        ..Config::default()
    };
    all.admin.api_key = Secret::new("set");
    all.task_store.url = Secret::new("set");
    all.scatter.node_timeout = Some(Duration::from_secs(1));
    all.peer_discovery.peers = vec!["miroir-0".to_owned()];
    all.shadow.targets = vec![ShadowTargetOptions {
        name: "staging".to_owned(),
        url: "http://host".to_owned(),
        api_key_env: "KEY".to_owned(),
        sample_rate: 0.5,
        operations: vec![ShadowOperation::Search],
    }];
    all.tenant_affinity.static_map.insert(ANY.to_owned(), GroupId(0));
    all.tenant_affinity.dedicated_groups = vec![GroupId(0)];
    let rate = Some("1/day".parse().expect("a rate"));
    let network = "10.0.0.0/8".parse().expect("a network");
    all.rate_limit = RateLimits {
        per_ip: rate,
        per_key: rate,
        per_tenant: rate,
        trusted_proxies: vec![network],
        exempt: vec![network],
        ..RateLimits::default()
    };
    all.webhooks.allowed_networks = vec![network];
    all.resharding.allowed_windows = vec!["02:00-06:00 UTC".to_owned()];
    serde_yaml_ng::to_value(all).expect("the configuration holds only what YAML can write")
}

/// Removes from `value` what `schema` does not know, reporting it, and keys without a value, which
/// mean their default.
pub(super) fn check(value: &mut Value, schema: &Value, errors: &mut Vec<ConfigError>) {
    walk(value, schema, schema, "", errors);
}

fn walk(
    value: &mut Value,
    schema: &Value,
    root: &Value,
    path: &str,
    errors: &mut Vec<ConfigError>,
) {
    match schema {
        Value::Mapping(known) => {
            let Value::Mapping(given) = value else {
                let problem = format!("expected a block of keys, found {}", kind(value));
                errors.push(ConfigError::new(place(path), problem, "see the documented keys"));
                *value = Value::Mapping(Mapping::new());
                return;
            };
            given.retain(|key, inner| {
                let Some(name) = key.as_str() else {
                    let problem = format!("keys are words, found {}", kind(key));
                    errors.push(ConfigError::new(place(path), problem, "remove it"));
                    return false;
                };
                let Some(inner_schema) = known.get(name).or_else(|| known.get(ANY)) else {
                    errors.push(unknown(root, known, path, name));
                    return false;
                };
                if inner.is_null() {
                    return false;
                }
                walk(inner, inner_schema, root, &join(path, name), errors);
                true
            });
        }
        Value::Sequence(element) => {
            let Value::Sequence(given) = value else {
                let problem = format!("expected a list, found {}", kind(value));
                errors.push(ConfigError::new([path], problem, "write `[…]` or lines with `- `"));
                *value = Value::Sequence(Vec::new());
                return;
            };
            for (position, inner) in given.iter_mut().enumerate() {
                walk(inner, &element[0], root, &format!("{path}[{position}]"), errors);
            }
        }
        _ => {}
    }
}

/// Sets the key at `path` (dots between names, numbers for positions in lists) to `text`, read as
/// the kind of value the key has. `origin` names the variable or flag in errors.
pub(super) fn set(
    value: &mut Value,
    schema: &Value,
    origin: &str,
    path: &str,
    text: &str,
) -> Result<(), ConfigError> {
    let root = schema;
    let (mut value, mut schema) = (value, schema);
    let mut done = String::new();
    for name in path.split('.') {
        match schema {
            Value::Mapping(known) => {
                let Some(inner) = known.get(name).or_else(|| known.get(ANY)) else {
                    let mut error = unknown(root, known, &done, name);
                    error.keys.insert(0, origin.to_owned());
                    return Err(error);
                };
                if !value.is_mapping() {
                    *value = Value::Mapping(Mapping::new());
                }
                let map = value.as_mapping_mut().expect("made a mapping above");
                value = map.entry(Value::String(name.to_owned())).or_insert(Value::Null);
                schema = inner;
                done = join(&done, name);
            }
            Value::Sequence(element) => {
                if !value.is_sequence() {
                    *value = Value::Sequence(Vec::new());
                }
                let list = value.as_sequence_mut().expect("made a sequence above");
                let position = name.parse::<usize>().ok().filter(|at| *at <= list.len());
                let Some(position) = position else {
                    return Err(ConfigError::new(
                        [origin.to_owned(), done],
                        format!("`{name}` is not a position in this list"),
                        format!("use 0 to {}", list.len()),
                    ));
                };
                if position == list.len() {
                    list.push(Value::Null);
                }
                value = &mut list[position];
                schema = &element[0];
                done = format!("{done}[{position}]");
            }
            _ => {
                return Err(ConfigError::new(
                    [origin.to_owned(), done],
                    format!("is a single value and has no key `{name}`"),
                    "drop the last part of the path",
                ));
            }
        }
    }
    *value = match schema {
        Value::Mapping(known) => {
            let names: Vec<_> = known.keys().filter_map(Value::as_str).collect();
            return Err(ConfigError::new(
                [origin.to_owned(), done],
                "is a block, not a single value",
                format!("set one of its keys: {}", names.join(", ")),
            ));
        }
        Value::Sequence(_) => match serde_yaml_ng::from_str::<Value>(text) {
            Ok(list @ Value::Sequence(_)) => {
                let mut list = list;
                let mut errors = Vec::new();
                walk(&mut list, schema, root, &done, &mut errors);
                if let Some(mut error) = errors.pop() {
                    error.keys.insert(0, origin.to_owned());
                    return Err(error);
                }
                list
            }
            _ => {
                return Err(ConfigError::new(
                    [origin.to_owned(), done],
                    "is a list",
                    "write it as `[a, b]`",
                ));
            }
        },
        // What is not of the key's kind stays text: "5s" is a duration, and serde names the rest.
        Value::Bool(_) => {
            text.trim().parse().map_or_else(|_| Value::String(text.to_owned()), Value::Bool)
        }
        Value::Number(_) => match serde_yaml_ng::from_str::<Value>(text) {
            Ok(number @ Value::Number(_)) => number,
            _ => Value::String(text.to_owned()),
        },
        _ => Value::String(text.to_owned()),
    };
    Ok(())
}

fn unknown(root: &Value, known: &Mapping, path: &str, name: &str) -> ConfigError {
    let full = join(path, name);
    if path.is_empty() && UNAVAILABLE.contains(&name) {
        return ConfigError::new(
            [full],
            "belongs to a capability that is not available in this version",
            "remove the block",
        );
    }
    let close = known
        .keys()
        .filter_map(Value::as_str)
        .map(|other| (strsim::damerau_levenshtein(&name.to_lowercase(), other), other))
        .filter(|(distance, other)| *distance <= (other.len().max(name.len()) / 3).max(1))
        .min();
    if let Some((_, other)) = close {
        return ConfigError::new([full], "unknown key", format!("did you mean `{other}`?"));
    }
    let mut elsewhere = Vec::new();
    find(root, name, "", &mut elsewhere);
    if let [only] = elsewhere.as_slice() {
        return ConfigError::new([full], "unknown key", format!("did you mean `{only}`?"));
    }
    let names: Vec<_> = known.keys().filter_map(Value::as_str).collect();
    ConfigError::new([full], "unknown key", format!("known here: {}", names.join(", ")))
}

/// The paths of blocks that have a key `name`.
fn find(schema: &Value, name: &str, path: &str, found: &mut Vec<String>) {
    if let Value::Mapping(known) = schema {
        for (key, inner) in known {
            let Some(key) = key.as_str() else { continue };
            let full = join(path, key);
            find(inner, name, &full, found);
            if key == name {
                found.push(full);
            }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn place(path: &str) -> [&str; 1] {
    [if path.is_empty() { "miroir" } else { path }]
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a block of keys",
        Value::Tagged(_) => "a tag",
    }
}
