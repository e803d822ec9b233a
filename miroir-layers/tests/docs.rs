//! `docs/layers.md` is written from what layers declare: `cargo xtask docs` writes it (by
//! `MIROIR_WRITE_DOCS=1`), this test fails while it is stale.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use miroir::Placed;
use miroir::stack::LayerName;
use miroir_layers::index::{
    QueryCoalescingLayer, QueryPlannerLayer, ReservedFieldsLayer, SessionPinningLayer,
    TenantAffinityLayer,
};
use miroir_layers::leaf::{FailoverLayer, HedgeLayer};
use miroir_layers::node::{
    BreakerLayer, CredentialsLayer, DeadlineLayer, FaultLayer, LimitLayer, LoadLayer, MetricsLayer,
};
use miroir_layers::operation::{
    AliasLayer, AuthorizeLayer, IdempotencyLayer, RateLimitLayer, ShadowLayer,
};

const HEAD: &str = "# Layers

<!-- written by `cargo xtask docs` from what the layers declare -->

Every capability is a layer of one stage, in `miroir_layers`. A layer can be left out, and put into a stack of your own: `Stack` refuses an order in which a layer stands outside of one it must be inside of, naming both. `miroir-server --describe-stack` and `GET /_miroir/stack` show the server's stacks, outermost first; their order is written in `miroir-server/src/stack.rs`. Layers of the edge (authentication, forwarding, rate limits by address, and what `tower-http` has) are over HTTP and have no place to declare.

| stage | layer | must be inside of | reads and writes of the context | what it does |
| --- | --- | --- | --- | --- |
";

/// The paragraphs of a module's documentation, by heading; the first is under `""`.
fn section(text: &str, heading: &str) -> String {
    let mut current = "";
    let mut out = String::new();
    for line in text.lines().map_while(|line| line.strip_prefix("//!")) {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("# ") {
            current = name;
        } else if current == heading {
            if line.is_empty() && !out.is_empty() {
                break;
            }
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(line);
        }
    }
    out
}

/// Links of rustdoc lead nowhere in a page.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        out.push_str(before);
        let Some((label, behind)) = after.split_once(']') else { break };
        out.push_str(label);
        rest = match behind.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, behind)) => behind,
            None => behind,
        };
    }
    out.push_str(rest);
    out
}

/// Sections every layer's module documentation has.
const HEADINGS: [&str; 6] = ["Stage", "Order", "Context", "Errors", "Metrics", "Example"];

/// A layer as its type and its module's documentation describe it.
struct Row {
    stage: &'static str,
    name: &'static str,
    inside_of: &'static [LayerName],
    context: String,
    summary: String,
}

fn row<L: Placed>(stage: &'static str, file: &str) -> Row {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(stage).join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for heading in HEADINGS {
        let there = text.lines().any(|line| line.trim_end() == format!("//! # {heading}"));
        assert!(there, "{}: no section {heading}", path.display());
    }
    let (summary, context) = (plain(&section(&text, "")), plain(&section(&text, "Context")));
    assert!(!summary.is_empty() && !context.is_empty(), "{}", path.display());
    Row { stage, name: L::NAME, inside_of: L::INSIDE_OF, context, summary }
}

/// All layers of typed stages.
fn rows() -> Vec<Row> {
    vec![
        row::<AuthorizeLayer>("operation", "authorize/mod.rs"),
        row::<RateLimitLayer>("operation", "rate_limit/mod.rs"),
        row::<IdempotencyLayer>("operation", "idempotency/mod.rs"),
        row::<ShadowLayer>("operation", "shadow/mod.rs"),
        row::<AliasLayer>("operation", "alias/mod.rs"),
        row::<SessionPinningLayer>("index", "session_pinning/mod.rs"),
        row::<TenantAffinityLayer>("index", "tenant_affinity/mod.rs"),
        row::<ReservedFieldsLayer>("index", "reserved_fields.rs"),
        row::<QueryPlannerLayer>("index", "query_planner/mod.rs"),
        row::<QueryCoalescingLayer>("index", "query_coalescing/mod.rs"),
        row::<HedgeLayer>("leaf", "hedge/mod.rs"),
        row::<FailoverLayer>("leaf", "failover/mod.rs"),
        row::<MetricsLayer>("node", "metrics.rs"),
        row::<BreakerLayer>("node", "breaker/mod.rs"),
        row::<LoadLayer>("node", "load.rs"),
        row::<DeadlineLayer>("node", "deadline.rs"),
        row::<LimitLayer>("node", "limit.rs"),
        row::<CredentialsLayer>("node", "credentials.rs"),
        row::<FaultLayer>("node", "fault.rs"),
    ]
}

/// That a name is some layer's, the compiler checks; that both stand in one stack, nobody else.
#[test]
fn a_layer_names_layers_of_its_own_stage() {
    let rows = rows();
    for row in &rows {
        for outer in row.inside_of {
            let stands = |other: &Row| other.stage == row.stage && other.name == outer.as_str();
            assert!(rows.iter().any(stands), "{}: no `{outer}` in its stage", row.name);
        }
        let same = |other: &&Row| (other.stage, other.name) == (row.stage, row.name);
        assert_eq!(rows.iter().filter(same).count(), 1, "{}: two layers have it", row.name);
    }
}

#[test]
fn every_layer_has_its_row() {
    let mut page = HEAD.to_owned();
    for Row { stage, name, inside_of, context, summary } in rows() {
        let inside: Vec<String> = inside_of.iter().map(|name| format!("`{name}`")).collect();
        let inside = inside.join(", ");
        writeln!(page, "| {stage} | `{name}` | {inside} | {context} | {summary} |").unwrap();
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/layers.md");
    if std::env::var_os("MIROIR_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/layers.md is stale: run `cargo xtask docs`");
}
