//! Shards that a read went without, whichever of its rounds it was.
//!
//! A search may ask more than once: for the counts of its words, for values of a facet that a node
//! did not list, for hits that a distinct value hides. An answer that lacks a shard in one of these
//! is as incomplete as one that lacks it in the first.

use miroir_api::NodeId;
use miroir_core::lock::Lock;
use miroir_core::routing::ShardSet;

use super::Scatter;
use crate::cluster::UnavailableShardPolicy;
use crate::error::{Error, ErrorKind};
use crate::extension::Extension;
use crate::index::Request;
use crate::leaf::{Page, lacks_index};
use crate::node_errors;

/// What is missing so far; in the context of a read, below Scatter.
#[derive(Debug, Default)]
pub(super) struct Gaps(Lock<Found>);

#[derive(Debug, Default)]
struct Found {
    missing: Option<ShardSet>,
    silent: Vec<NodeId>,
}

impl Extension for Gaps {}

/// Notes shards that a round of this read went without.
pub(super) fn note(request: &Request, missing: &ShardSet) {
    if missing.is_empty() {
        return;
    }
    let Some(Gaps(gaps)) = request.cx.get() else { return };
    match &mut gaps.lock().missing {
        Some(all) => all.union_with(missing),
        none => *none = Some(missing.clone()),
    }
}

/// All that rounds of this read went without; `None` for nothing.
pub(super) fn all(request: &Request) -> Option<ShardSet> {
    request.cx.get::<Gaps>().and_then(|Gaps(gaps)| gaps.lock().missing.clone())
}

/// The error of a node that was asked about its own page again, which no other node can stand in
/// for: its shards are missing, and it is remembered, so that the search can begin anew without it.
pub(super) fn silent(request: &Request, page: &Page, error: Error) -> Error {
    if is_refusal(&error) {
        return error;
    }
    if let Some(Gaps(gaps)) = request.cx.get() {
        gaps.lock().silent.push(page.node.clone());
    }
    Error::shards_unavailable(page.shards.clone())
}

/// The nodes that did not answer about their own pages again.
pub(super) fn silent_nodes(request: &Request) -> Vec<NodeId> {
    request.cx.get::<Gaps>().map(|Gaps(gaps)| gaps.lock().silent.clone()).unwrap_or_default()
}

/// Whether every node says the same of the question, so that nothing is missing but the answer to it.
fn is_refusal(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Verbatim { .. } => !lacks_index(error) && !node_errors::is_unprepared(error),
        _ => error.is_about_the_request(),
    }
}

/// Goes on without a round about these shards that would have made the answer exact. What it lacked
/// is noted; what nodes refuse leaves the answer as it is.
///
/// # Errors
/// That shards are unavailable, where the policy is not to answer without them.
pub(super) fn go_on_without(
    scatter: &Scatter,
    request: &Request,
    shards: &ShardSet,
    error: &Error,
) -> Result<(), Error> {
    let missing = match error.kind() {
        _ if is_refusal(error) => return Ok(()),
        ErrorKind::Explained => return Err(error.clone()),
        ErrorKind::ShardsUnavailable(missing) => missing,
        _ => shards,
    };
    note(request, missing);
    match scatter.state.options.scatter.unavailable_shard_policy {
        UnavailableShardPolicy::Error => Err(Error::shards_unavailable(missing.clone())),
        UnavailableShardPolicy::Partial => Ok(()),
    }
}
