//! Dependencies between the workspace's crates point one way.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Findings;

/// A crate, and which of the workspace's crates it may depend on, tests and build scripts apart.
///
/// Every member has a row. A row may stand here before its crate does.
const DIRECTION: &[(&str, &[&str])] = &[
    ("miroir-api", &[]),
    ("miroir-core", &[API]),
    ("miroir-store", &[API, CORE]),
    ("miroir-store-sqlite", &[API, CORE, STORE]),
    ("miroir-store-redis", &[API, CORE, STORE]),
    ("miroir-pipeline", &[API, CORE, STORE]),
    ("miroir-control", &[API, CORE, STORE, PIPELINE]),
    ("miroir-layers", &[API, CORE, STORE, PIPELINE]),
    ("miroir", &[API, CORE, STORE, SQLITE, REDIS, PIPELINE, CONTROL, LAYERS]),
    ("miroir-test", &[API, CORE, STORE, PIPELINE, CONTROL]),
    // An oracle shares no code with what it judges.
    ("miroir-engine", &[]),
    ("miroir-server", &[API, CORE, STORE, SQLITE, REDIS, PIPELINE, CONTROL, LAYERS, "miroir"]),
    ("miroir-ui", &[API]),
    ("miroir-ctl", &[API]),
    ("miroir-examples", ANY),
    ("miroir-benches", ANY),
    ("xtask", &[]),
];

const API: &str = "miroir-api";
const CORE: &str = "miroir-core";
const STORE: &str = "miroir-store";
const SQLITE: &str = "miroir-store-sqlite";
const REDIS: &str = "miroir-store-redis";
const PIPELINE: &str = "miroir-pipeline";
const CONTROL: &str = "miroir-control";
const LAYERS: &str = "miroir-layers";
const ANY: &[&str] = &["*"];

/// A crate, and what it may not use of other people's crates, tests apart.
const HELD_OUT: &[(&str, &[&str])] = &[(
    CORE,
    &["tokio", "tokio-util", "futures-util", "http", "hyper", "tower", "metrics", "rand"],
)];

pub(super) fn check(metadata: &Value, found: &mut Findings) {
    let rules: BTreeMap<&str, &[&str]> = DIRECTION.iter().copied().collect();
    let held_out: BTreeMap<&str, &[&str]> = HELD_OUT.iter().copied().collect();
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let own: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = rules.get(name) else {
            found.errors.push(format!("{name} has no row in xtask/src/tidy/direction.rs"));
            continue;
        };
        let held = held_out.get(name).copied().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            if dependency["kind"] == "dev" {
                continue;
            }
            let may = *allowed == ANY || allowed.contains(&target);
            if held.contains(&target) || (own.contains(&target) && !may) {
                found.errors.push(format!("{name} must not depend on {target}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::errors;
    use super::super::workspace::metadata;
    use super::*;

    /// Two packages, of which the first depends on the second.
    fn pair(from: &str, to: &str, kind: Value) -> Vec<String> {
        let metadata = json!({ "packages": [
            { "name": from, "dependencies": [{ "name": to, "kind": kind }] },
            { "name": to, "dependencies": [{ "name": "serde", "kind": null }] },
        ]});
        errors(|found| check(&metadata, found))
    }

    #[test]
    fn dependencies_point_one_way() {
        assert!(pair("miroir-core", "miroir-api", Value::Null).is_empty());
        assert!(pair("miroir-core", "miroir-test", json!("dev")).is_empty());
        let wrong = pair("miroir-pipeline", "miroir-control", Value::Null);
        assert_eq!(wrong, ["miroir-pipeline must not depend on miroir-control"]);
        assert_eq!(pair("xtask", "miroir", Value::Null).len(), 1);
        assert!(pair("miroir-benches", "miroir-layers", Value::Null).is_empty());
    }

    #[test]
    fn every_member_has_a_row() {
        let wrong = pair("miroir-novel", "miroir-api", Value::Null);
        assert_eq!(wrong, ["miroir-novel has no row in xtask/src/tidy/direction.rs"]);
    }

    #[test]
    fn the_core_does_no_input_or_output() {
        let depends = |on: &str, kind: Value| {
            let dependency = json!({ "name": on, "kind": kind });
            let metadata = json!({ "packages": [{ "name": CORE, "dependencies": [dependency] }] });
            errors(|found| check(&metadata, found))
        };
        assert_eq!(depends("tokio", Value::Null), ["miroir-core must not depend on tokio"]);
        assert!(depends("tokio", json!("dev")).is_empty());
        assert!(depends("serde", Value::Null).is_empty());
    }

    #[test]
    fn this_workspace_points_one_way() {
        let metadata = metadata().unwrap();
        assert_eq!(errors(|found| check(&metadata, found)), Vec::<String>::new());
    }
}
