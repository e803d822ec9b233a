//! `cargo xtask tidy`: rules of the repository that the compiler does not know.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::build::{cargo, root};
use crate::{Failure, Outcome};

/// Longest Rust file.
const LINES: usize = 600;
/// Lines of an integration test.
const SUITE_LINES: usize = 900;
/// Length from which a Rust file is named.
const LONG: usize = 500;

/// Sections every layer's module documentation has.
const HEADINGS: [&str; 6] = ["Stage", "Order", "Context", "Errors", "Metrics", "Example"];

/// Which of the workspace's crates each may depend on, tests and build scripts aside.
const DIRECTION: &[(&str, &[&str])] = &[
    ("miroir-api", &[]),
    ("miroir", &["miroir-api"]),
    ("miroir-layers", &["miroir-api", "miroir"]),
    ("miroir-store-redis", &["miroir-api", "miroir"]),
    ("miroir-store-sqlite", &["miroir-api", "miroir"]),
    ("miroir-test", &["miroir-api", "miroir"]),
    ("miroir-engine", &[]),
    (
        "miroir-server",
        &["miroir-api", "miroir", "miroir-layers", "miroir-store-redis", "miroir-store-sqlite"],
    ),
    ("miroir-ctl", &["miroir-api"]),
    ("xtask", &[]),
];

/// Texts that belong to one machine, in halves so that this file does not hold them.
const FORBIDDEN: &[(&str, &str)] = &[
    ("/op", "t/"),
    ("/wor", "k/"),
    ("/roo", "t/"),
    ("/home", "/"),
    ("index.crates", ".io"),
    ("static.crates", ".io"),
    ("registry.npmjs", ".org"),
    ("files.pythonhosted", ".org"),
    ("pypi", ".org"),
    ("proxy.golang", ".org"),
    ("ghcr", ".io/"),
    ("docker", ".io/"),
];

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// Checks everything and prints what is wrong.
pub(crate) fn run() -> Outcome<()> {
    let mut found = Findings::default();
    for name in tracked()? {
        let Ok(text) = std::fs::read_to_string(root().join(&name)) else {
            // Deleted but still listed, or not text.
            continue;
        };
        forbidden(&name, &text, &mut found);
        if Path::new(&name).extension().is_some_and(|extension| extension == "rs") {
            source(&name, &text, &mut found);
        }
    }
    direction(&mut found)?;
    for line in &found.warnings {
        println!("warning: {line}");
    }
    for line in &found.errors {
        println!("error: {line}");
    }
    match found.errors.len() {
        0 => Ok(()),
        count => Err(format!("tidy found {count} error(s)").into()),
    }
}

/// Files of the repository: what Git tracks or would.
fn tracked() -> Outcome<Vec<String>> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    if !output.status.success() {
        return Err("git lists no files: is this a checkout?".into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn forbidden(name: &str, text: &str, found: &mut Findings) {
    if name.ends_with("Cargo.lock") {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        for (head, tail) in FORBIDDEN {
            let word = format!("{head}{tail}");
            // A path from the root is a machine's; the same letters inside another path are not.
            let alone = line.match_indices(&word).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !word.starts_with('/') || before.is_none_or(|c| !c.is_alphanumeric() && c != '.')
            });
            if alone {
                found.errors.push(format!("{name}:{}: names `{word}`", number + 1));
            }
        }
    }
}

fn source(name: &str, text: &str, found: &mut Findings) {
    // Attributes of the whole file may come first.
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        found.errors.push(format!("{name}: does not begin with module documentation (`//!`)"));
    }
    let lines = text.lines().count();
    // A suite reads from top to bottom; it may be longer than what it tests.
    let most = if name.contains("/tests/") { SUITE_LINES } else { LINES };
    if lines > most {
        found.errors.push(format!("{name}: {lines} lines; split it (at most {most})"));
    } else if lines > LONG {
        found.warnings.push(format!("{name}: {lines} lines"));
    }
    layer(name, text, found);
    clones(name, text, found);
}

/// The documentation of a layer's module.
fn layer(name: &str, text: &str, found: &mut Findings) {
    let Some(rest) = name.strip_prefix("miroir-layers/src/") else { return };
    let parts: Vec<&str> = rest.split('/').collect();
    // stage/layer.rs or stage/layer/mod.rs.
    let module = matches!(parts.as_slice(), [_, file] if *file != "mod.rs")
        || matches!(parts.as_slice(), [_, _, "mod.rs"]);
    let is_layer =
        text.lines().any(|line| line.trim_start().starts_with("impl") && line.contains("Layer<"));
    if !module || !is_layer {
        return;
    }
    let missing: Vec<&str> = HEADINGS
        .into_iter()
        .filter(|heading| !text.lines().any(|line| line.trim_end() == format!("//! # {heading}")))
        .collect();
    if !missing.is_empty() {
        found.errors.push(format!("{name}: no section {} in its docs", missing.join(", ")));
    }
}

/// A service that was polled ready is the one to call: a fresh clone is not ready.
fn clones(name: &str, text: &str, found: &mut Findings) {
    let mut function = String::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(at) = line.find("fn ") {
            let name = line[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_');
            function = name.collect();
        }
        let fresh = line.trim_start().starts_with("let mut ")
            && line.contains(concat!("= self.inner", ".clone()"));
        if fresh && function == "call" {
            found.errors.push(format!(
                "{name}:{}: calls a clone that was never polled; swap it with `take_ready`",
                number + 1
            ));
        }
    }
}

/// Dependencies between the workspace's crates.
fn direction(found: &mut Findings) -> Outcome<()> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::from(format!("cargo metadata: {error}")))?;
    found.errors.extend(wrong_dependencies(&metadata));
    Ok(())
}

fn wrong_dependencies(metadata: &Value) -> Vec<String> {
    let rules: BTreeMap<&str, &[&str]> = DIRECTION.iter().copied().collect();
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let own: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut out = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = rules.get(name) else { continue };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            let development = dependency["kind"] == "dev";
            if own.contains(&target) && !development && !allowed.contains(&target) {
                out.push(format!("{name} must not depend on {target}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(check: impl FnOnce(&mut Findings)) -> Vec<String> {
        let mut found = Findings::default();
        check(&mut found);
        found.errors
    }

    #[test]
    fn files_begin_with_their_documentation_and_stay_short() {
        assert_eq!(errors(|f| source("a.rs", "//! What.\nfn a() {}\n", f)).len(), 0);
        assert_eq!(errors(|f| source("a.rs", "#![no_std]\n\n//! What.\n", f)).len(), 0);
        assert_eq!(errors(|f| source("a.rs", "fn a() {}\n", f)).len(), 1);
        let long = format!("//! What.\n{}", "\n".repeat(LINES));
        assert_eq!(errors(|f| source("a.rs", &long, f)).len(), 1);
    }

    #[test]
    fn layers_have_all_sections() {
        let layer = |docs: &str| format!("//! What.\n{docs}\nimpl<S> Layer<S> for A {{}}\n");
        let all = format!("//! # {}\n", HEADINGS.join("\n//! # "));
        let check =
            |name: &str, docs: &str| errors(|found| source(name, &layer(docs), found)).join("; ");
        assert_eq!(check("miroir-layers/src/index/coalesce/mod.rs", &all), "");
        assert!(check("miroir-layers/src/index/coalesce.rs", "").contains("Stage, Order"));
        let one_less = all.replace("//! # Metrics\n", "");
        assert!(check("miroir-layers/src/node/load.rs", &one_less).contains("Metrics"));
        assert_eq!(check("miroir-layers/src/index/mod.rs", ""), "");
        assert_eq!(check("miroir/src/stack.rs", ""), "");
    }

    #[test]
    fn clones_inside_call_are_refused() {
        let body = |function: &str| {
            format!(
                "//! x\nfn {function}(&mut self) {{\n  let mut inner = {};\n}}\n",
                concat!("self.inner", ".clone()")
            )
        };
        assert_eq!(errors(|found| source("a.rs", &body("call"), found)).len(), 1);
        assert_eq!(errors(|found| source("a.rs", &body("other"), found)).len(), 0);
    }

    #[test]
    fn paths_of_machines_are_refused() {
        let word = FORBIDDEN[1].0.to_owned() + FORBIDDEN[1].1;
        assert_eq!(errors(|f| forbidden("a.md", &format!("see {word}main"), f)).len(), 1);
        assert_eq!(errors(|f| forbidden("a.md", &format!("see net{}x", &word[1..]), f)).len(), 0);
        assert_eq!(errors(|f| forbidden("a.md", &format!("see tests{word}x"), f)).len(), 0);
        assert_eq!(errors(|f| forbidden("Cargo.lock", &word, f)).len(), 0);
    }

    #[test]
    fn dependencies_point_one_way() {
        let metadata = |from: &str, to: &str, kind: Value| {
            json!({ "packages": [
                { "name": from, "dependencies": [{ "name": to, "kind": kind }] },
                { "name": to, "dependencies": [{ "name": "serde", "kind": null }] },
            ]})
        };
        assert!(wrong_dependencies(&metadata("miroir", "miroir-api", Value::Null)).is_empty());
        assert!(wrong_dependencies(&metadata("miroir", "miroir-test", json!("dev"))).is_empty());
        let wrong = wrong_dependencies(&metadata("miroir", "miroir-layers", Value::Null));
        assert_eq!(wrong, ["miroir must not depend on miroir-layers"]);
        assert_eq!(wrong_dependencies(&metadata("xtask", "miroir", Value::Null)).len(), 1);
    }

    #[test]
    fn this_workspace_points_one_way() {
        let mut found = Findings::default();
        direction(&mut found).unwrap();
        assert_eq!(found.errors, Vec::<String>::new());
    }
}
