//! Dispatch, the boundary from leaves to nodes: covers shards with nodes, encodes HTTP.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use miroir_api::{NodeId, ShardId};
use tokio::time::Instant;

use super::{Failed, Page, Question, Request, Response, Scoped, ScopedMany, Target};
use crate::cluster::{ScatterOptions, Staleness};
use crate::error::{Error, ErrorKind, NodeFailure, Retry};
use crate::explain::{Called, Explain};
use crate::gather;
use crate::node::{Call, Pool, Scores};
use miroir_core::documents;
use miroir_core::routing::{Cover, Leaf, ShardSet, Tier, cover_with_fallback};
use miroir_core::topology::Topology;
use miroir_core::view::{Route, StaleMap};
use miroir_store::IndexEntry;

/// Writes may carry large bodies; they get this many times a read's patience.
const WRITE_PATIENCE: u32 = 6;

/// The base service of the leaf stage. Always ready; waiting happens in `call`.
#[derive(Clone, Debug)]
pub struct Dispatch {
    pool: Pool,
    scores: Arc<Scores>,
    options: ScatterOptions,
    staleness: Option<Arc<Staleness>>,
}

impl Dispatch {
    /// Dispatches to these nodes; `options` say how long a node call may take.
    pub fn new(pool: Pool, scores: Arc<Scores>, options: ScatterOptions) -> Self {
        Self { pool, scores, options, staleness: None }
    }

    /// Looks here whether a node lost its disk while it was asked: a read that was planned before does
    /// not count then. Without it, every answer counts.
    #[must_use]
    pub fn with_staleness(mut self, staleness: Arc<Staleness>) -> Self {
        self.staleness = Some(staleness);
        self
    }

    /// Whether it is on record since a read was planned that a node lost the index: the answer may be
    /// of a disk that is not to be believed.
    fn is_lost_since(&self, node: &NodeId, request: &Request) -> bool {
        let index = &request.index.physical;
        self.staleness.as_ref().is_some_and(|staleness| {
            staleness.load().lacks_index(index, node) && !request.stale.lacks_index(index, node)
        })
    }
}

/// Which nodes to ask for which shards, given who is well. Deterministic for equal inputs.
///
/// What the route's standings exclude is used only where no other group holds the shard either; a
/// node whose breaker is open, or that is suspected not to answer, only where nobody else does.
pub fn choose(
    topology: &Topology,
    index: &IndexEntry,
    stale: &StaleMap,
    route: &Route,
    shards: &ShardSet,
    avoid: &[NodeId],
    scores: &Scores,
) -> Cover {
    let placement = topology.placement(index.shards);
    let standings = &*route.standings;
    // As a rule nobody is unreadable or closed out, and nothing is stale.
    let unreadable: Vec<&NodeId> =
        topology.nodes().filter(|node| !node.is_readable()).map(|node| &node.id).collect();
    let shunned = scores.shunned();
    let alive = |node: &NodeId, shard| {
        !avoid.contains(node)
            && !unreadable.contains(&node)
            && !stale.is_stale(&index.physical, node, shard)
    };
    let well = |node: &NodeId, shard| alive(node, shard) && !shunned.contains(node);
    let worth = |node: &NodeId, shard| standings.tier(node) != Tier::Excluded && well(node, shard);
    let fill = |wanted: &ShardSet, usable: &dyn Fn(&NodeId, ShardId) -> bool| {
        cover_with_fallback(&placement, &route.groups, wanted, route.rotation, standings, usable)
    };
    let mut cover = if standings.excludes() { fill(shards, &worth) } else { fill(shards, &well) };
    for usable in [&well as &dyn Fn(&NodeId, ShardId) -> bool, &alive] {
        if cover.missing.is_empty() {
            return cover;
        }
        let rest = fill(&cover.missing, usable);
        cover.missing = rest.missing;
        cover.leaves.extend(rest.leaves);
        cover.leaves.sort_unstable_by(|a, b| a.node.cmp(&b.node));
    }
    cover
}

/// A filter, as JSON, that says what `client` says and is about `shards` of `total` only.
pub fn narrow(client: Option<&[u8]>, shards: &ShardSet, total: u32) -> Vec<u8> {
    let mut text = String::with_capacity(24 + 8 * shards.len());
    text.push_str("\"_miroir_shard IN [");
    for (at, shard) in shards.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push('\'');
        text.push_str(&documents::shard_value(shard.0, total));
        text.push('\'');
    }
    text.push_str("]\"");
    let mut out = Vec::with_capacity(text.len() + client.map_or(0, <[u8]>::len) + 4);
    match client.map(<[u8]>::trim_ascii) {
        None => out.extend_from_slice(text.as_bytes()),
        // An outer array is a conjunction; the shards become one more member.
        Some(array) if array.first() == Some(&b'[') => {
            out.push(b'[');
            out.extend_from_slice(text.as_bytes());
            let rest = array[1..].trim_ascii_start();
            if rest.first() != Some(&b']') {
                out.push(b',');
            }
            out.extend_from_slice(rest);
        }
        Some(string) => {
            out.push(b'[');
            out.extend_from_slice(text.as_bytes());
            out.push(b',');
            out.extend_from_slice(string);
            out.push(b']');
        }
    }
    out
}

/// Adds the restriction to some shards to a request body.
pub fn restrict(scoped: &Scoped, only: Option<(&ShardSet, u32)>) -> Bytes {
    let filter = match (only, scoped.filter.as_deref()) {
        (None, None) => return scoped.body.clone(),
        (None, Some(filter)) => filter.to_vec(),
        (Some((shards, total)), client) => narrow(client, shards, total),
    };
    let body = scoped.body.trim_ascii_end();
    let open = body.strip_suffix(b"}").unwrap_or(body);
    let mut out = Vec::with_capacity(open.len() + filter.len() + 12);
    out.extend_from_slice(open);
    if open.trim_ascii() != b"{" {
        out.push(b',');
    }
    out.extend_from_slice(b"\"filter\":");
    out.extend_from_slice(&filter);
    out.push(b'}');
    Bytes::from(out)
}

/// The body of a multi-search of one index.
fn bundle(many: &ScopedMany, index: &str, only: Option<(&ShardSet, u32)>) -> Bytes {
    let name = serde_json::Value::from(index).to_string();
    let mut out = Vec::from(&b"{\"queries\":["[..]);
    for (at, query) in many.queries.iter().enumerate() {
        out.extend_from_slice(if at > 0 { b",{\"indexUid\":" } else { b"{\"indexUid\":" });
        out.extend_from_slice(name.as_bytes());
        let body = restrict(query, only);
        let members = body.trim_ascii();
        let members = members.strip_prefix(b"{").unwrap_or(members);
        if members.trim_ascii() != b"}" {
            out.push(b',');
        }
        out.extend_from_slice(members);
    }
    out.push(b']');
    if let Some(federation) = &many.federation {
        out.extend_from_slice(b",\"federation\":");
        out.extend_from_slice(federation);
    }
    out.push(b'}');
    Bytes::from(out)
}

/// Whether a body is a JSON object. All but short ones are only looked at from outside: whoever
/// decodes them sees the rest.
fn is_object(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    let framed = body.starts_with(b"{") && body.ends_with(b"}");
    framed && (body.len() > 512 || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok())
}

/// Whether a node says that it has no such index.
pub fn lacks_index(error: &Error) -> bool {
    #[derive(serde::Deserialize)]
    struct Code {
        code: String,
    }
    let ErrorKind::Verbatim { status: StatusCode::NOT_FOUND, body } = error.kind() else {
        return false;
    };
    serde_json::from_slice::<Code>(body).is_ok_and(|body| body.code == "index_not_found")
}

fn address(request: &Request, node_shards: Option<&ShardSet>) -> Call {
    match &request.question {
        Question::Plain(call) => Call::clone(call),
        Question::Scoped(scoped) => {
            let only = node_shards.map(|shards| (shards, request.index.shards));
            let path = format!("/indexes/{}{}", request.index.physical, scoped.path);
            let call =
                Call::read(Method::POST, scoped.operation, path).json(restrict(scoped, only));
            if scoped.sort_values { call.with_sort_values() } else { call }
        }
        Question::Many(many) => {
            let only = node_shards.map(|shards| (shards, request.index.shards));
            Call::read(Method::POST, many.operation, "/multi-search").json(bundle(
                many,
                &request.index.physical,
                only,
            ))
        }
    }
}

impl Dispatch {
    async fn send(&self, node: &NodeId, call: &Call, request: &Request) -> Result<Bytes, Error> {
        let timeout = match &request.target {
            Target::Exactly(_) => self.options.call_timeout() * WRITE_PATIENCE,
            Target::Cover { .. } => self.options.read_timeout(request.cx.deadline.remaining()),
        };
        let http = call.request(&request.cx, timeout)?;
        let answer = match Call::accept(node, self.pool.send(node, http).await?) {
            Err(error) if lacks_index(&error) && matches!(request.target, Target::Cover { .. }) => {
                // The catalogue has it: another replica may, too.
                return Err(error.retryable());
            }
            answer => answer?,
        };
        if matches!(request.target, Target::Cover { .. }) && self.is_lost_since(node, request) {
            return Err(Error::node(node, NodeFailure::LostDisk));
        }
        // Every answer to a read is a JSON object: garbage must reach another replica, not the client.
        if matches!(request.target, Target::Cover { .. }) && !is_object(&answer) {
            return Err(Error::node(node, NodeFailure::Garbage));
        }
        Ok(answer)
    }

    async fn run(self, request: Request) -> Result<Response, Error> {
        let (shards, avoid, chosen) = match &request.target {
            Target::Exactly(node) => {
                let call = address(&request, None);
                let body = self.send(node, &call, &request).await?;
                let shards = ShardSet::empty(request.index.shards);
                let page = Page { node: node.clone(), shards: shards.clone(), body };
                return Ok(Response { pages: vec![page], failed: Vec::new(), missing: shards });
            }
            Target::Cover { shards, avoid, chosen } => (shards, avoid, chosen),
        };
        let cover = match chosen {
            Some(leaf) => {
                let missing = ShardSet::empty(request.index.shards);
                Cover { leaves: vec![leaf.clone()], missing }
            }
            None => choose(
                &request.topology,
                &request.index,
                &request.stale,
                &request.route,
                shards,
                avoid,
                &self.scores,
            ),
        };
        let explain = request.cx.explain.as_deref();
        if explain.is_some_and(|explain| !explain.executes()) {
            return Err(Error::explained());
        }
        let again = chosen.is_none();
        let answers = gather::all(cover.leaves.into_iter().map(|leaf| {
            let (this, request) = (&self, &request);
            async move {
                let watch = explain.map(|explain| Watch::new(explain, &leaf, again));
                let call = address(request, (!leaf.exact).then_some(&leaf.shards));
                let result = this.send(&leaf.node, &call, request).await;
                if let Some(watch) = watch {
                    watch.ended(result.as_ref().map_or_else(Error::label, |_| "answered"));
                }
                (leaf, result)
            }
        }))
        .await;
        let mut out = Response { pages: Vec::new(), failed: Vec::new(), missing: cover.missing };
        for (leaf, result) in answers {
            match result {
                Ok(body) => out.pages.push(Page { node: leaf.node, shards: leaf.shards, body }),
                Err(error) if error.retry() == Retry::Never => return Err(error),
                Err(error) => {
                    out.failed.push(Failed { node: leaf.node, shards: leaf.shards, error });
                }
            }
        }
        Ok(out)
    }
}

/// Notes a call at its end, whatever that is.
struct Watch<'a> {
    explain: &'a Explain,
    leaf: Leaf,
    again: bool,
    begun: Instant,
    outcome: &'static str,
}

impl<'a> Watch<'a> {
    fn new(explain: &'a Explain, leaf: &Leaf, again: bool) -> Self {
        let (leaf, begun) = (leaf.clone(), Instant::now());
        Self { explain, leaf, again, begun, outcome: "given_up" }
    }

    fn ended(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let call = Called {
            node: self.leaf.node.clone(),
            shards: self.leaf.shards.clone(),
            again: self.again,
            took: self.begun.elapsed(),
            outcome: self.outcome,
        };
        self.explain.note(|record| record.calls.push(call));
    }
}

crate::service!(Dispatch: Request);

#[cfg(test)]
mod tests {
    use super::*;

    fn scoped(body: &'static str, filter: Option<&'static str>) -> Scoped {
        Scoped {
            path: "/search",
            body: Bytes::from(body),
            filter: filter.map(Bytes::from),
            operation: "search",
            sort_values: false,
        }
    }

    #[test]
    fn shards_are_anded_with_any_filter() {
        let mut shards = ShardSet::empty(4);
        shards.insert(ShardId(0));
        shards.insert(ShardId(2));
        let ours = "_miroir_shard IN ['\u{e000}','\u{e002}']";
        for (filter, expected) in [
            (None, serde_json::json!(ours)),
            (Some("\"a = 1 OR b = 2\""), serde_json::json!([ours, "a = 1 OR b = 2"])),
            (Some(" [ ] "), serde_json::json!([ours])),
            (Some("[[\"a = 1\",\"b = 2\"]]"), serde_json::json!([ours, ["a = 1", "b = 2"]])),
        ] {
            for (body, keys) in [("{}", 1), ("{\"q\":\"x\"}", 2)] {
                let out = restrict(&scoped(body, filter), Some((&shards, 4)));
                let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
                assert_eq!(value["filter"], expected);
                assert_eq!(value.as_object().unwrap().len(), keys);
            }
        }
        let untouched = restrict(&scoped("{\"q\":1}", None), None);
        assert_eq!(untouched, "{\"q\":1}");
        let client = restrict(&scoped("{}", Some("\"a = 1\"")), None);
        assert_eq!(client, "{\"filter\":\"a = 1\"}");
    }

    #[test]
    fn every_query_of_a_bundle_is_restricted() {
        let shards = ShardSet::single(ShardId(1), 4);
        let many = ScopedMany {
            queries: vec![scoped("{}", None), scoped("{\"q\":\"x\"}", Some("\"a = 1\""))],
            federation: Some(Bytes::from_static(b"{\"limit\":0}")),
            operation: "search",
        };
        let ours = "_miroir_shard IN ['\u{e001}']";
        let out: serde_json::Value =
            serde_json::from_slice(&bundle(&many, "a\"b", Some((&shards, 4)))).unwrap();
        let expected = serde_json::json!({
            "queries": [
                {"indexUid": "a\"b", "filter": ours},
                {"indexUid": "a\"b", "q": "x", "filter": [ours, "a = 1"]},
            ],
            "federation": {"limit": 0},
        });
        assert_eq!(out, expected);
        let whole: serde_json::Value = serde_json::from_slice(&bundle(&many, "a", None)).unwrap();
        assert_eq!(whole["queries"][0], serde_json::json!({"indexUid": "a"}));
    }
}
