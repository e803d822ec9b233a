//! `docs/layers.md` is written from what layers declare: `cargo xtask docs` writes it (by
//! `MIROIR_WRITE_DOCS=1`), this test fails while it is stale.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use miroir_layers::index::{
    CoalesceLayer, QueryPlannerLayer, SessionLayer, StampLayer, TenantLayer,
};
use miroir_layers::leaf::{FailoverLayer, HedgeLayer};
use miroir_layers::node::{
    BreakerLayer, CredentialsLayer, DeadlineLayer, FaultLayer, LimitLayer, LoadLayer, MetricsLayer,
};
use miroir_layers::operation::{
    AliasLayer, AuthorizeLayer, IdempotencyLayer, OperationLimitLayer, ShadowLayer,
};
use miroir_pipeline::Placed;

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

fn row<L: Placed>(stage: &str, file: &str, out: &mut String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(stage).join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (summary, context) = (plain(&section(&text, "")), plain(&section(&text, "Context")));
    assert!(!summary.is_empty() && !context.is_empty(), "{}", path.display());
    let inside: Vec<String> = L::INSIDE_OF.iter().map(|name| format!("`{name}`")).collect();
    let inside = inside.join(", ");
    writeln!(out, "| {stage} | `{}` | {inside} | {context} | {summary} |", L::NAME).unwrap();
}

#[test]
fn every_layer_has_its_row() {
    let mut page = HEAD.to_owned();
    let out = &mut page;
    row::<AuthorizeLayer>("operation", "authorize/mod.rs", out);
    row::<OperationLimitLayer>("operation", "rate_limit/mod.rs", out);
    row::<IdempotencyLayer>("operation", "idempotency/mod.rs", out);
    row::<ShadowLayer>("operation", "shadow/mod.rs", out);
    row::<AliasLayer>("operation", "alias/mod.rs", out);
    row::<SessionLayer>("index", "session/mod.rs", out);
    row::<TenantLayer>("index", "tenant/mod.rs", out);
    row::<StampLayer>("index", "stamp.rs", out);
    row::<QueryPlannerLayer>("index", "planner/mod.rs", out);
    row::<CoalesceLayer>("index", "coalesce/mod.rs", out);
    row::<HedgeLayer>("leaf", "hedge/mod.rs", out);
    row::<FailoverLayer>("leaf", "failover/mod.rs", out);
    row::<MetricsLayer>("node", "metrics.rs", out);
    row::<BreakerLayer>("node", "breaker/mod.rs", out);
    row::<LoadLayer>("node", "load.rs", out);
    row::<DeadlineLayer>("node", "deadline.rs", out);
    row::<LimitLayer>("node", "limit.rs", out);
    row::<CredentialsLayer>("node", "credentials.rs", out);
    row::<FaultLayer>("node", "fault.rs", out);

    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/layers.md");
    if std::env::var_os("MIROIR_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/layers.md is stale: run `cargo xtask docs`");
}
