//! What all reads share: plan a cover, ask its leaves in parallel, ask a node for its own words.

use std::sync::Arc;

use miroir_api::NodeId;
use tower::ServiceExt;
use twox_hash::XxHash64;

use super::freshness::{SettingsInFlight, SettingsVersion};
use super::{Scatter, cover, explained, gaps};
use crate::cluster::UnavailableShardPolicy;
use crate::error::{Error, ErrorKind, NodeFailure};
use crate::extension::Extension;
use crate::gather;
use crate::index::Request;
use crate::leaf::{self, Page, Question, Target};
use crate::meta::Meta;
use crate::node_errors;
use miroir_core::routing::{Cover, Leaf, ShardSet};
use miroir_core::view::Route;

/// What came back from the leaves.
#[derive(Debug)]
pub struct Gathered {
    /// Pages, ordered by node.
    pub pages: Vec<Page>,
    /// Shards nobody answered for.
    pub missing: ShardSet,
}

/// Hashes what identifies a query, leaving its paging out.
///
/// Hits that no rule tells apart come in a node's private order. Pages of one query therefore have
/// to come from the same replicas: the rotation among replicas is keyed by the query, so distinct
/// queries spread evenly and the pages of one query stay together.
pub fn fingerprint(index: &str, parts: &[&[u8]]) -> u64 {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(index.as_bytes());
    for part in parts {
        bytes.push(0);
        bytes.extend_from_slice(part);
    }
    XxHash64::oneshot(0, &bytes)
}

/// The shards a read is about: all that can match, as far as layers know.
pub fn shards(request: &Request) -> ShardSet {
    let hint = request.hints.shards.as_ref();
    hint.map_or_else(|| ShardSet::full(request.index.shards), |hint| hint.value.clone())
}

/// Which groups and replicas to try, best first. `sequence` is equal for equal queries.
pub fn route(scatter: &Scatter, request: &Request, sequence: u64) -> Route {
    scatter.state.reads.route(&request.topology, &request.hints, sequence)
}

/// Asks for these shards, each exactly once, with one leaf per planned node.
///
/// Where a node has not made the index yet, or not prepared it, Scatter waits a little and begins anew.
///
/// # Errors
/// What a node says of the request; missing shards are an error only if the policy says so.
pub async fn gather(
    scatter: &Scatter,
    request: &Request,
    shards: &ShardSet,
    question: Question,
    route: &Route,
) -> Result<Gathered, Error> {
    match gather_once(scatter, request, shards, question, route).await {
        Ok(gathered) => {
            gaps::note(request, &gathered.missing);
            Ok(gathered)
        }
        // The catalogue has it: its tasks are ahead on nodes that nobody can stand in for.
        Err(error) if node_errors::is_unprepared(&error) || leaf::lacks_index(&error) => {
            Err(Error::shards_unavailable(shards.clone()).and(Unprepared))
        }
        Err(error) => Err(error),
    }
}

/// A node has made the index and not prepared it yet, or has still to make it: the read is worth another
/// try as a whole. In the error of a read, for Scatter.
#[derive(Debug)]
pub(super) struct Unprepared;

impl Extension for Unprepared {}

/// Asks what one node answered for another question: that node, or those that stand in for it.
/// Shards that nobody answers for are missing in what comes back, and are no error of their own.
///
/// # Errors
/// What a node says of the request; missing shards only if the policy says so.
pub async fn gather_of(
    scatter: &Scatter,
    request: &Request,
    page: &Page,
    question: Question,
    route: &Route,
) -> Result<Gathered, Error> {
    match ask(scatter, request, cover_of(request, page), question, route).await {
        Ok(gathered) => {
            gaps::note(request, &gathered.missing);
            Ok(gathered)
        }
        Err(error) => {
            gaps::go_on_without(scatter, request, &page.shards, &error)?;
            match error.kind() {
                ErrorKind::Verbatim { .. } | ErrorKind::Api(_) => Err(error),
                _ => Ok(Gathered { pages: Vec::new(), missing: page.shards.clone() }),
            }
        }
    }
}

/// The same for a question whose answer can be done without: `None` where not all of the node's shards
/// answer.
pub(super) async fn try_of(
    scatter: &Scatter,
    request: &Request,
    page: &Page,
    question: Question,
    route: &Route,
) -> Option<Vec<Page>> {
    let gathered = ask(scatter, request, cover_of(request, page), question, route).await.ok()?;
    gathered.missing.is_empty().then_some(gathered.pages)
}

/// What one node answered for, to be asked again.
fn cover_of(request: &Request, page: &Page) -> Cover {
    let leaf = Leaf { node: page.node.clone(), shards: page.shards.clone(), exact: false };
    Cover { leaves: vec![leaf], missing: ShardSet::empty(request.index.shards) }
}

async fn gather_once(
    scatter: &Scatter,
    request: &Request,
    shards: &ShardSet,
    question: Question,
    route: &Route,
) -> Result<Gathered, Error> {
    let state = &scatter.state;
    let plan = leaf::choose(
        &request.topology,
        &request.index,
        &request.stale,
        route,
        shards,
        &request.hints.avoid,
        &state.nodes.scores,
    );
    if let Some(explain) = &request.cx.explain {
        explained::planned(explain, scatter, request, shards, route, &plan);
    }
    metrics::histogram!("miroir_scatter_fan_out_size").record(plan.leaves.len() as f64);
    ask(scatter, request, plan, question, route).await
}

/// Asks the leaves of a cover.
async fn ask(
    scatter: &Scatter,
    request: &Request,
    plan: Cover,
    question: Question,
    route: &Route,
) -> Result<Gathered, Error> {
    let state = &scatter.state;
    let calls = plan.leaves.into_iter().map(|planned| {
        let target = Target::Cover {
            shards: planned.shards.clone(),
            avoid: request.hints.avoid.clone(),
            chosen: Some(planned),
        };
        let leaf = leaf::Request::new(
            target,
            question.clone(),
            Arc::clone(&request.index),
            Arc::clone(&request.topology),
            Arc::clone(&request.stale),
            route.clone(),
            request.cx.clone(),
        );
        scatter.leaves.clone().oneshot(leaf)
    });
    let mut out = Gathered { pages: Vec::new(), missing: plan.missing };
    let (mut last, mut calls) = (None, calls);
    let mut answers = Vec::new();
    // If a node does not survive it, the others are not asked.
    if question.is_heavy()
        && let Some(first) = calls.next()
    {
        answers.push(Ok(first.await?));
    }
    answers.extend(gather::all(calls).await);
    for answer in answers {
        let answer = answer?;
        out.pages.extend(answer.pages);
        out.missing.union_with(&answer.missing);
        for failed in answer.failed {
            out.missing.union_with(&failed.shards);
            last = Some(failed.error);
        }
    }
    if !out.missing.is_empty() {
        // Accepted, but not made yet on nodes that nobody can stand in for.
        if let Some(error) =
            last.as_ref().filter(|e| matches!(e.kind(), ErrorKind::Verbatim { .. }))
        {
            return Err(error.clone());
        }
        metrics::counter!("miroir_scatter_partial_responses_total").increment(1);
        if state.options.scatter.unavailable_shard_policy == UnavailableShardPolicy::Error
            || out.pages.is_empty()
        {
            tracing::warn!(index = %request.index.name, cause = ?last.map(|e| e.label()), "no replica for some shards");
            return Err(Error::shards_unavailable(out.missing));
        }
    }
    out.pages.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(out)
}

/// The same read without some nodes, and with nothing missing yet. `None` where shards would be
/// missing that are not now.
pub fn elsewhere(scatter: &Scatter, request: &Request, without: Vec<NodeId>) -> Option<Request> {
    let before = cover::missing(scatter, request);
    let mut request = request.clone();
    request.hints.avoid.extend(without);
    request.cx.insert(gaps::Gaps::default());
    (cover::missing(scatter, &request) == before).then_some(request)
}

/// Whether one node holds all of an index and nothing else of it is asked.
pub fn whole(scatter: &Scatter, request: &Request, shards: &ShardSet, route: &Route) -> bool {
    let plan = leaf::choose(
        &request.topology,
        &request.index,
        &request.stale,
        route,
        shards,
        &request.hints.avoid,
        &scatter.state.nodes.scores,
    );
    plan.leaves.len() == 1 && shards.len() == request.index.shards as usize
}

/// The facts about a read that travel up: what any of its rounds lacked, and the nodes of `gathered`.
pub fn meta(scatter: &Scatter, request: &Request, gathered: &Gathered) -> Meta {
    let in_flight = scatter.state.broadcasts.is_in_flight(&request.index.physical);
    let mut meta =
        Meta { missing_shards: gaps::all(request), nodes: gathered.pages.len(), ..Meta::default() };
    meta.insert(SettingsVersion(request.index.settings_version));
    meta.mark(in_flight, SettingsInFlight)
}

/// Asks one node the client's own question, for its words about it.
///
/// # Errors
/// Always: the node's answer if it refuses, an internal error if it does not.
pub async fn refusal(scatter: &Scatter, request: &Request) -> Error {
    let prefix = format!("/indexes/{}", request.index.physical);
    let mut call = request.original.to_node_call(&prefix);
    node_errors::hide(&mut call);
    // A node of a group that is not for this request is not asked either.
    let groups = request.topology.complete_groups().map(|group| group.id);
    let open = request.hints.order(groups, 0);
    let of = |node: &NodeId| request.topology.node(node).is_some_and(|n| open.contains(&n.group));
    match scatter.state.nodes.call_any_of(of, &call, &request.cx).await {
        Ok(_) => {
            tracing::error!(path = %request.original.path, "a node takes what Miroir cannot read");
            Error::internal("a node takes what Miroir cannot read")
        }
        Err(error) => node_errors::scrub(error, &request.index),
    }
}

/// What a node complains of in the client's own question. Nodes stop reading a filter where nothing
/// is left to find, so that one may take what another one refuses: they are asked in turn.
pub async fn complaint(scatter: &Scatter, request: &Request) -> Option<Error> {
    let state = &scatter.state;
    let mut call = request.original.to_node_call(&format!("/indexes/{}", request.index.physical));
    node_errors::hide(&mut call);
    for node in state.nodes.any() {
        match state.nodes.call(&node, &call, &request.cx).await {
            Err(error) if matches!(error.kind(), ErrorKind::Verbatim { .. }) => {
                return Some(node_errors::scrub(error, &request.index));
            }
            // It may have been the question.
            Err(error) if error.node_failure().is_some_and(NodeFailure::was_sent) => return None,
            _ => {}
        }
    }
    None
}
