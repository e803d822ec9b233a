//! Asks owners for the stamps of documents that they have.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Method;
use miroir_core::documents::{self, Arrivals, ORDER, RawDocument, Stamp};
use miroir_core::hints::Hints;
use miroir_core::routing::{Leaf, ShardSet, shard_of};
use miroir_core::topology::Topology;
use miroir_store::IndexEntry;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

use super::super::Scatter;
use crate::cluster::document_order::{Asking, Found, IDS};
use crate::context::Context;
use crate::error::Error;
use crate::gather;
use crate::index::Request;
use crate::leaf::{self, Question, Target};
use crate::node::Call;

/// A write of fewer documents is looked up together with others.
const FEW: usize = 100;

/// A look-up that is under way.
#[derive(Debug)]
pub(in crate::index::scatter) struct Lookup(AbortOnDropHandle<Found>);

impl Lookup {
    /// Looks for documents with these ids among those of the request's index.
    pub(in crate::index::scatter) fn new(
        scatter: &Scatter,
        request: &Request,
        index: &Arc<IndexEntry>,
        ids: Vec<String>,
    ) -> Self {
        let mut cx = request.cx.clone();
        cx.explain = None;
        let asker = Asker {
            scatter: scatter.clone(),
            index: Arc::clone(index),
            topology: Arc::clone(&request.topology),
            cx,
        };
        Self(AbortOnDropHandle::new(tokio::spawn(asker.find(ids))))
    }

    /// What was found.
    pub(super) async fn found(&mut self) -> Found {
        (&mut self.0).await.unwrap_or_default()
    }
}

/// Asks about one index.
#[derive(Clone)]
struct Asker {
    scatter: Scatter,
    index: Arc<IndexEntry>,
    topology: Arc<Topology>,
    cx: Context,
}

/// The part of a node's answer that is read.
#[derive(Deserialize)]
struct Listing<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}

impl Asker {
    async fn find(self, ids: Vec<String>) -> Found {
        let ids = self.scatter.state.document_order.may_exist(&self.index, ids);
        // No node has made it, or has any document.
        if ids.is_empty() {
            return outcome("new", Found::default());
        }
        // What is on its way to such an index is remembered here.
        let catalog = &self.scatter.state.catalog;
        if catalog.is_provisional(&self.index) || self.index.primary_key.is_none() {
            return outcome("unmade", Found::default());
        }
        if ids.len() < FEW {
            return self.find_with_others(ids).await;
        }
        let mut found = HashMap::new();
        for ids in ids.chunks(IDS) {
            let (more, silent) = self.ask(ids).await;
            found.extend(more);
            // Each question has its time; a write does not wait for all of them in vain.
            if silent {
                break;
            }
        }
        Arc::new(found)
    }

    async fn find_with_others(self, ids: Vec<String>) -> Found {
        let wait = self.scatter.state.options.document_order.lookup;
        let order = Arc::clone(&self.scatter.state.document_order);
        let (answer, asking) = order.want(self.index.incarnation, ids);
        if let Some(asking) = asking {
            // It goes on for others when this write has its answer.
            tokio::spawn(self.ask_for_all(asking));
        }
        match tokio::time::timeout(wait, answer).await {
            Ok(Ok(found)) => found,
            _ => Found::default(),
        }
    }

    async fn ask_for_all(self, asking: Asking) {
        while let Some(batch) = asking.next() {
            let (found, _) = self.ask(&batch.ids).await;
            batch.answer(&Arc::new(found));
        }
    }

    /// Asks one replica of each shard for the ids in it. Also says whether one did not answer in time.
    async fn ask(&self, ids: &[String]) -> (HashMap<u64, Stamp>, bool) {
        let (state, shards) = (&self.scatter.state, self.index.shards);
        let placed: Vec<_> = ids.iter().map(|id| (shard_of(id.as_bytes(), shards), id)).collect();
        let wanted = ShardSet::from_iter(placed.iter().map(|(shard, _)| *shard), shards);
        let sequence = state.reads.next_sequence();
        let route = state.reads.route(&self.topology, &Hints::default(), sequence);
        let stale = state.staleness.load();
        let scores = &state.nodes.scores;
        let cover = leaf::choose(&self.topology, &self.index, &stale, &route, &wanted, &[], scores);
        let asked = cover.leaves.into_iter().map(|leaf| {
            let ids = placed.iter().filter(|(shard, _)| leaf.shards.contains(*shard));
            let ids: Vec<&str> = ids.map(|(_, id)| id.as_str()).collect();
            let request = leaf::Request::new(
                Target::Cover {
                    shards: leaf.shards.clone(),
                    avoid: Vec::new(),
                    chosen: Some(leaf.clone()),
                },
                Question::Plain(Arc::new(self.call(&ids))),
                Arc::clone(&self.index),
                Arc::clone(&self.topology),
                Arc::clone(&stale),
                route.clone(),
                self.cx.clone(),
            );
            self.ask_leaf(leaf, request)
        });
        let (mut found, mut silent) = (HashMap::new(), false);
        for answer in gather::all(asked).await {
            match answer {
                Some(stamps) => found.extend(stamps),
                None => silent = true,
            }
        }
        (found, silent)
    }

    fn call(&self, ids: &[&str]) -> Call {
        let path = format!("/indexes/{}/documents/fetch", self.index.physical);
        let key = self.index.primary_key.as_deref().unwrap_or_default();
        let top = key.split('.').next().unwrap_or_default();
        let body = json!({"ids": ids, "fields": [key, top, ORDER], "limit": ids.len()});
        Call::read(Method::POST, "documents_fetch", path).json(body.to_string())
    }

    /// What one leaf says; `None` if it does not answer in time.
    async fn ask_leaf(&self, leaf: Leaf, request: leaf::Request) -> Option<Vec<(u64, Stamp)>> {
        let state = &self.scatter.state;
        if state.document_order.is_silent(&leaf.node) {
            return outcome("skipped", Some(Vec::new()));
        }
        let answer = self.scatter.leaves.clone().oneshot(request).boxed();
        match tokio::time::timeout(state.options.document_order.lookup, answer).await {
            Ok(Ok(answer)) => {
                outcome("answered", Some(self.read(&answer.pages).unwrap_or_default()))
            }
            // It has not made the index, or cannot be asked: it is as if it had no document.
            Ok(Err(_)) => outcome("failed", Some(Vec::new())),
            Err(_) => {
                state.document_order.silence(&leaf.node);
                outcome("silent", None)
            }
        }
    }

    fn read(&self, pages: &[leaf::Page]) -> Result<Vec<(u64, Stamp)>, Error> {
        let key = self.index.primary_key.as_deref().unwrap_or_default();
        let mut found = Vec::new();
        for page in pages {
            let listing: Listing<'_> = Call::parse_borrowed(&page.node, &page.body)?;
            for document in listing.results {
                let bytes = Bytes::copy_from_slice(document.get().as_bytes());
                let Ok(document) = RawDocument::new(&bytes) else { continue };
                if let Ok(id) = documents::extract_id(&document, key) {
                    found.push((Arrivals::hash(id.as_str()), documents::stamp_of(&document)));
                }
            }
        }
        Ok(found)
    }
}

fn outcome<T>(outcome: &'static str, value: T) -> T {
    metrics::counter!("miroir_document_order_lookups_total", "outcome" => outcome).increment(1);
    value
}
