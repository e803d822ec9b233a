//! `docs/layers.md` is written from what layers declare: `cargo xtask docs` writes it (by
//! `MIROIR_WRITE_DOCS=1`), this test fails while it is stale.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use miroir_layers::{edge, index, leaf, node, operation};
use miroir_pipeline::Placed;
use miroir_pipeline::stack::LayerName;

const HEAD: &str = "# Layers

<!-- written by `cargo xtask docs` from what the layers declare -->

Every capability is a layer of one stage, in `miroir_layers::<stage>`. A layer can be left out, and put into a stack of your own: `Stack` refuses an order in which a layer stands outside of one it must be inside of, naming both. `miroir-server --describe-stack` and `GET /_miroir/stack` show the server's stacks, outermost first; their order is written in `miroir/src/order.rs`. A layer is inside of what those are inside of that it names, too. Layers of the edge are over HTTP, so theirs is an `EdgeStack`; `catch_panic` stands there a second time, as `catch_handler`. [How to write a layer](write-a-layer.md).

- *required*: without it answers are wrong, or somebody may do what they may not.
- *recommended*: without it answers are right, and later or less often complete.
- *optional*: a capability that somebody has to want.

";

const PARTS: &str = "
## What they take

Several layers share a part: `Stores` are those of the builder, `Scores` are fed by `load` and read by whoever chooses a node, so there is one for all of them. `hedge` without `load` is not built (`Placed::NEEDS`); the rest of the last column nobody checks.

| stage | layer | constructor | needs |
| --- | --- | --- | --- |
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
    /// `required`, `recommended` or `optional`.
    need: &'static str,
    inside_of: &'static [LayerName],
    context: String,
    summary: String,
    constructor: String,
    /// What must stand elsewhere for it to work.
    needs: &'static str,
}

/// `Type::new(arguments)` as the source of the module has it.
fn constructor(module: &Path, layer: &str) -> String {
    let beside = module.with_file_name("layer.rs");
    let sources = [module.to_owned(), beside];
    let text = sources.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    let text = text.collect::<Vec<_>>().join("\n");
    let (_, own) = text.split_once(&format!("\nimpl {layer} {{")).expect("it has methods");
    let (_, rest) = own.split_once("pub fn new(").expect("it has a constructor");
    let (arguments, _) = rest.split_once(") ->").expect("it returns the layer");
    let arguments = arguments.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{layer}::new({})", arguments.trim_end_matches(','))
}

fn row<L: Placed>(
    stage: &'static str,
    layer: &'static str,
    file: &str,
    need: &'static str,
    needs: &'static str,
) -> Row {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(stage).join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for heading in HEADINGS {
        let there = text.lines().any(|line| line.trim_end() == format!("//! # {heading}"));
        assert!(there, "{}: no section {heading}", path.display());
    }
    let (summary, context) = (plain(&section(&text, "")), plain(&section(&text, "Context")));
    assert!(!summary.is_empty() && !context.is_empty(), "{}", path.display());
    let (name, inside_of) = (L::NAME, L::INSIDE_OF);
    for need in L::NEEDS {
        assert!(needs.contains(&format!("`{}`", need.layer())), "{name} needs {}", need.layer());
    }
    let constructor = constructor(&path, layer);
    Row { stage, name, need, inside_of, context, summary, constructor, needs }
}

macro_rules! rows {
    ($($stage:ident::$layer:ident, $file:literal, $need:literal, $needs:literal;)*) => {
        vec![$(row::<$stage::$layer>(stringify!($stage), stringify!($layer), $file, $need, $needs)),*]
    };
}

/// All layers.
fn rows() -> Vec<Row> {
    rows! {
        edge::CatchPanicLayer, "catch_panic.rs", "recommended", "";
        edge::RequestIdLayer, "request_id.rs", "recommended", "";
        edge::ObserveLayer, "observe.rs", "recommended", "";
        edge::CorsLayer, "cors.rs", "optional", "";
        edge::NegotiateLayer, "negotiate.rs", "recommended", "`compression`, which does what is picked";
        edge::CompressionLayer, "compression.rs", "optional", "`negotiate`, to choose as Meilisearch does";
        edge::DecompressionLayer, "decompression.rs", "recommended", "";
        edge::NormalizeLayer, "normalize.rs", "recommended", "";
        edge::AdmissionLayer, "admission.rs", "recommended", "";
        edge::PodAuthLayer, "pod_auth/mod.rs", "required", "where several pods share a store";
        edge::RateLimitLayer, "rate_limit/mod.rs", "optional", "`Peer` in the request's extensions";
        edge::AuthenticateLayer, "authenticate.rs", "required", "";
        edge::AuditLayer, "audit.rs", "recommended", "`authenticate`, which says who asks";
        edge::ForwardLayer, "forward.rs", "required", "where several pods share a store";
        operation::AuthorizeLayer, "authorize/mod.rs", "required", "`authenticate`, without which nobody may do anything";
        operation::RateLimitLayer, "rate_limit/mod.rs", "optional", "";
        operation::IdempotencyLayer, "idempotency/mod.rs", "optional", "";
        operation::ShadowLayer, "shadow/mod.rs", "optional", "";
        operation::AliasLayer, "alias/mod.rs", "optional", "the cluster's own table";
        index::SessionPinningLayer, "session_pinning/mod.rs", "optional", "`load` with the same `Scores`";
        index::TenantAffinityLayer, "tenant_affinity/mod.rs", "optional", "a tenant in the context: `Decode::tenants`";
        index::ReservedFieldsLayer, "reserved_fields.rs", "required", "";
        index::QueryPlannerLayer, "query_planner/mod.rs", "recommended", "";
        index::QueryCoalescingLayer, "query_coalescing/mod.rs", "optional", "";
        leaf::HedgeLayer, "hedge/mod.rs", "recommended", "`load` with the same `Scores`";
        leaf::FailoverLayer, "failover/mod.rs", "recommended", "";
        leaf::QueryQuarantineLayer, "query_quarantine/mod.rs", "recommended",
            "`load` with the same `Scores`, to know how long calls take";
        node::MetricsLayer, "metrics.rs", "recommended", "";
        node::BreakerLayer, "breaker/mod.rs", "recommended", "the `Scores` that leaves choose by";
        node::LoadLayer, "load.rs", "recommended", "the `Scores` that leaves choose by";
        node::DeadlineLayer, "deadline.rs", "recommended", "";
        node::LimitLayer, "limit/mod.rs", "recommended", "";
        node::CredentialsLayer, "credentials.rs", "required", "where nodes have a key";
        node::FaultLayer, "fault.rs", "optional", "for tests and game days";
    }
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
    let rows = rows();
    let mut page = HEAD.to_owned();
    page += "| stage | layer | | must be inside of | reads and writes of the context | what it does |\n";
    page += "| --- | --- | --- | --- | --- | --- |\n";
    for Row { stage, name, need, inside_of, context, summary, .. } in &rows {
        let inside: Vec<String> = inside_of.iter().map(|name| format!("`{name}`")).collect();
        let inside = inside.join(", ");
        writeln!(page, "| {stage} | `{name}` | {need} | {inside} | {context} | {summary} |")
            .unwrap();
    }
    page += PARTS;
    for Row { stage, name, constructor, needs, .. } in &rows {
        writeln!(page, "| {stage} | `{name}` | `{constructor}` | {needs} |").unwrap();
    }

    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/layers.md");
    if std::env::var_os("MIROIR_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/layers.md is stale: run `cargo xtask docs`");
}
