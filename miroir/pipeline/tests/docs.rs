//! `docs/api-compatibility.md`, `docs/errors.md` and `docs/openapi.json` are written from the tables in the code:
//! `cargo xtask docs` writes them (by `MIROIR_WRITE_DOCS=1`), this test fails while they are stale.

mod openapi;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use miroir_api::meili::OWN;
use miroir_pipeline::http::{
    routes::{Route, Treatment},
    table,
};

const BEGIN: &str = "<!-- written by `cargo xtask docs` from the route table: begin -->\n";
const END: &str = "<!-- end -->\n";

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

/// Writes the file if asked to; fails if it is not as it should be.
fn check(name: &str, wanted: &str) {
    let path = file(name);
    if std::env::var_os("MIROIR_WRITE_DOCS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/{name} is stale: run `cargo xtask docs`");
}

fn row(routes: &[Route]) -> String {
    let methods: Vec<&str> = routes.iter().map(|route| route.method.as_str()).collect();
    let first = &routes[0];
    let keys: Vec<String> = first.actions.iter().map(|action| format!("`{action}`")).collect();
    let keys = if keys.is_empty() { "none".to_owned() } else { keys.join(" and ") };
    let treatment = first.treatment.as_str();
    let (methods, path, note) = (methods.join("`, `"), first.path, first.note);
    format!("| `{methods}` | `{path}` | {keys} | {treatment} | {note} |\n")
}

fn routes() -> String {
    let mut out = String::from(
        "| method | path | key action | treatment | what differs |\n| --- | --- | --- | --- | --- |\n",
    );
    let mut paths: Vec<&'static str> = Vec::new();
    let mut by_path: BTreeMap<&'static str, Vec<Route>> = BTreeMap::new();
    for route in table() {
        if !by_path.contains_key(route.path) {
            paths.push(route.path);
        }
        by_path.entry(route.path).or_default().push(route);
    }
    for path in paths {
        // Methods of one path that are served alike share a line.
        let mut lines: Vec<Vec<Route>> = Vec::new();
        for route in &by_path[path] {
            let alike = |line: &&mut Vec<Route>| {
                let (a, b) = (&line[0], route);
                a.actions == b.actions && a.treatment == b.treatment && a.note == b.note
            };
            match lines.iter_mut().find(alike) {
                Some(line) => line.push(route.clone()),
                None => lines.push(vec![route.clone()]),
            }
        }
        for line in &lines {
            out.push_str(&row(line));
        }
    }
    out
}

#[test]
fn the_route_table_is_documented() {
    let text = std::fs::read_to_string(file("api-compatibility.md")).unwrap();
    let (head, rest) = text.split_once(BEGIN).expect("the begin marker");
    let (_, tail) = rest.split_once(END).expect("the end marker");
    check("api-compatibility.md", &format!("{head}{BEGIN}{}{END}{tail}", routes()));
}

#[test]
fn refused_routes_say_why() {
    for route in table() {
        assert!(
            route.treatment != Treatment::Refused || !route.note.is_empty(),
            "{} {}",
            route.method,
            route.path
        );
    }
}

#[test]
fn every_own_error_has_a_page() {
    let mut out = String::from(
        "# Error codes of Miroir\n\nErrors have Meilisearch's shape, `{message, code, type, link}`. \
         Codes without the prefix `miroir_` are Meilisearch's and explained in its documentation.\n",
    );
    for own in OWN {
        let class = serde_json::to_value(own.error_type).unwrap();
        let class = class.as_str().unwrap();
        let (code, status, text) = (own.code, own.status, own.text);
        write!(out, "\n## {code}\n\n`{status}`, type `{class}`. {text}\n").unwrap();
    }
    check("errors.md", &out);
}

#[test]
fn the_api_is_described_for_programs() {
    let mut text = serde_json::to_string_pretty(&openapi::document()).unwrap();
    text.push('\n');
    check("openapi.json", &text);
}
