//! Documents that were checked, and what nodes are told of them.

use http::Method as Verb;

use super::Scatter;
use super::document_tasks::{About, touch};
use super::order::{Added, Lookup, OrderChange};
use super::plan::Batch;
use crate::index::{Method, Request};
use crate::node::Call;
use miroir_core::documents::{self, Arrivals};
use miroir_core::routing::ShardSet;
use miroir_store::NewTask;

/// Bytes that a document of a node has besides the client's, at most.
const RESERVED_BYTES: usize = 128;

/// Documents that were checked, and what is to be done with them.
#[derive(Clone, Debug)]
pub(super) struct Addition {
    pub(super) method: Method,
    /// Whether documents of unknown ids are left out.
    pub(super) skip_creation: bool,
    /// The primary key.
    pub(super) key: String,
    pub(super) prepared: documents::Prepared,
    /// Its task, but for what is known when it is sent.
    pub(super) task: NewTask,
}

impl Addition {
    /// The shards that the documents belong to.
    pub(super) fn touched(&self, shards: u32) -> ShardSet {
        ShardSet::from_iter(self.prepared.documents.iter().map(|document| document.shard), shards)
    }

    /// Bytes of a node's call with all of it, at most.
    pub(super) fn bytes(&self) -> usize {
        let sizes = self.prepared.documents.iter().map(|document| document.document.bytes.len());
        sizes.map(|bytes| bytes + RESERVED_BYTES).sum()
    }
}

/// What nodes are told of an addition, and what it is about.
pub(super) fn calls(
    scatter: &Scatter,
    request: &Request,
    addition: &Addition,
) -> (About, Vec<Batch>) {
    let (state, index) = (&scatter.state, &request.index);
    let Addition { method, skip_creation, key, prepared, .. } = addition;
    let mut query = format!("?primaryKey={}", crate::query::encode(key));
    if *skip_creation {
        query.push_str("&skipCreation=true");
    }
    let verb = if *method == Method::Replace { Verb::POST } else { Verb::PUT };
    let path = format!("/indexes/{}/documents{query}", index.physical);
    let touched = addition.touched(index.shards);
    let placement = request.topology.placement(index.shards);
    let stamped = state.options.document_order.enabled;
    let ids = || prepared.documents.iter().map(|document| document.id.as_str());
    let lookup =
        stamped.then(|| Lookup::new(scatter, request, index, ids().map(str::to_owned).collect()));
    let (mut batches, mut slots) = (Vec::new(), Vec::new());
    for node in request.topology.nodes() {
        let shards = placement.owned_by(&node.id).intersection(&touched);
        if shards.is_empty() {
            continue;
        }
        let most = state.options.scatter.node_body_bytes;
        let owned = |shard| shards.contains(shard);
        let bodies = documents::payloads_for(prepared, index.shards, &[], stamped, most, owned);
        let call = |body| Call::change(verb.clone(), "documents_post", path.clone()).json(body);
        let (mut calls, mut parts, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for body in bodies {
            calls.push(call(body.bytes));
            parts.push(ShardSet::from_iter(body.shards, index.shards));
            places.push(body.slots);
        }
        slots.push(places);
        let parts = if calls.len() > 1 { parts } else { Vec::new() };
        batches.push(Batch { node: node.id.clone(), shards, calls, parts });
    }
    let blind = *method == Method::Replace && !skip_creation;
    let touch = touch(state, index, ids(), blind);
    let order = lookup.map(|lookup| {
        let ids = ids().map(Arrivals::hash).collect();
        OrderChange::Added(Added { ids, lookup, creates: !skip_creation, slots })
    });
    (About { shards: touched, touch, teaches: None, order }, batches)
}
