//! A layer of your own, twice: as a named type with options and a place, and from an async function.
//!
//! `docs/write-a-layer.md` goes through it step by step.

#[path = "common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Nodes, Result, call, write};
use miroir::context::Origin;
use miroir::explain::Audience;
use miroir::hints::Priority;
use miroir::index::{Operation, Request};
use miroir::stack::LayerName;
use miroir::stage::{Middleware, Next, Ready, Reply, from_fn};
use miroir::{Builder, Error, Placed, Stack, StageService};
use miroir_api::GroupId;
use serde_json::json;
use tokio::sync::Semaphore;

/// How deep pages of search results may lie.
#[derive(Clone, Copy, Debug)]
pub struct DeepPagesOptions {
    /// From this hit on a page counts as deep. Default: 100.
    pub deep: usize,
    /// Pages that end behind this hit are refused. Default: 10,000.
    pub max_depth: usize,
    /// Deep pages under way at one time, in this process; further ones wait. Default: 4.
    pub at_once: usize,
    /// The replica group that deep pages are read from, if it can serve them. Default: any.
    pub group: Option<GroupId>,
}

impl Default for DeepPagesOptions {
    fn default() -> Self {
        Self { deep: 100, max_depth: 10_000, at_once: 4, group: None }
    }
}

/// Keeps deep pages from slowing everybody else. Clones share their places.
#[derive(Clone, Debug)]
#[must_use]
pub struct DeepPagesLayer {
    options: DeepPagesOptions,
    places: Arc<Semaphore>,
}

impl DeepPagesLayer {
    /// Bounds pages with these options.
    pub fn new(options: DeepPagesOptions) -> Self {
        Self { options, places: Arc::new(Semaphore::new(options.at_once)) }
    }
}

impl Placed for DeepPagesLayer {
    const NAME: &'static str = "deep_pages";
    /// What that one refuses needs no place.
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<ClosedIndexes>()];
}

miroir::layer!(DeepPagesLayer);

impl Middleware<Request> for DeepPagesLayer {
    fn call<S: StageService<Request>>(
        &self,
        mut request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        // Not this layer's business: untouched, and at no cost.
        let Some(depth) = depth(&request).filter(|depth| *depth > self.options.deep) else {
            return next.pass(request);
        };
        if depth > self.options.max_depth {
            metrics::counter!("deep_pages_refused_total").increment(1);
            return Reply::refused(too_deep(self.options.max_depth));
        }
        if let Some(group) = self.options.group {
            request.hints.group(group, Self::NAME, Priority::Prefer);
        }
        if let Some(explain) = &request.cx.explain {
            explain.fact("deep_page", json!(depth), Audience::Everybody);
        }
        let (places, next) = (Arc::clone(&self.places), next.take());
        Reply::boxed(async move {
            let _place = request.cx.deadline.run(places.acquire()).await?;
            next.run(request).await
        })
    }
}

/// Where the page that a client asks for ends; `None` for what is no page of a search.
fn depth(request: &Request) -> Option<usize> {
    let Operation::Search(search) = &request.op else { return None };
    if request.cx.origin != Origin::Client {
        return None;
    }
    let body = search.body.as_ref()?;
    let number = |name| body.read::<usize>(name).ok().flatten();
    Some(number("offset").unwrap_or(0).saturating_add(number("limit").unwrap_or(20)))
}

fn too_deep(most: usize) -> Error {
    let message = format!("Pages end at hit {most} here. Narrow the search with a filter.");
    Error::api("invalid_search_offset", message)
}

/// The name of the short layer below, so that others can stand inside of it.
struct ClosedIndexes;

impl Placed for ClosedIndexes {
    const NAME: &'static str = "closed_indexes";
}

/// Runs the example and answers what it prints.
pub(crate) async fn run(arguments: Vec<String>) -> Result<String> {
    let nodes = Nodes::get(arguments).await?;
    let deep_pages = DeepPagesLayer::new(DeepPagesOptions { max_depth: 500, ..Default::default() });
    // The short form: no type, no options.
    let closed = from_fn(|request: Request, next: Next<Request>| async move {
        if request.index.name.as_str().starts_with("closed-") {
            return Err(Error::api("index_not_found", "This index is closed."));
        }
        next.run(request).await
    });
    let layers = Stack::new().push_named(ClosedIndexes::NAME, closed).push(deep_pages);
    let mut builder = Builder::bare().node_key(&nodes.key).shards(8).indexes(layers);
    for (at, url) in nodes.urls.iter().enumerate() {
        builder = builder.node(&format!("node-{at}"), url, 0);
    }
    let miroir = builder.build().await?;
    miroir.spawn_workers();
    let api = miroir.http(Duration::from_secs(30));
    for index in ["open", "closed-books"] {
        write(&api, "POST", "/indexes", &json!({"uid": index, "primaryKey": "id"})).await?;
    }
    let mut said = Vec::new();
    for (index, offset) in [("open", 0), ("open", 200), ("open", 600), ("closed-books", 0)] {
        let path = format!("/indexes/{index}/search");
        let answer = call(&api, "POST", &path, &json!({ "offset": offset })).await?;
        said.push(match answer["message"].as_str() {
            Some(message) => message.to_owned(),
            None => format!("{} hits", answer["estimatedTotalHits"]),
        });
    }
    miroir.shutdown().await;
    Ok(said.join(" | "))
}

#[tokio::main]
async fn main() -> Result<()> {
    println!("{}", run(std::env::args().skip(1).collect()).await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use miroir::Context;
    use miroir::query::{ClientRequest, RawObject, Search, SearchKind};
    use miroir::store::IndexEntry;
    use miroir::topology::{Node, Topology};
    use miroir_api::{IndexUid, NodeId};
    use miroir_test::contract::{cancellation, contract, readiness};
    use miroir_test::layered;

    use super::*;

    /// A search for the page behind `offset`.
    fn page(offset: usize) -> Request {
        let then = time::OffsetDateTime::UNIX_EPOCH;
        let uid = IndexUid::new("films").unwrap();
        let mut body = RawObject::default();
        body.set("offset", &offset);
        let search = Search { kind: SearchKind::Hits, body: Some(body), rules: None };
        let original = ClientRequest::new(http::Method::POST, "/search");
        let id = NodeId::new("a").unwrap();
        let node = Node::new(id, "http://a".to_owned(), GroupId(0));
        Request::new(
            Operation::Search(Arc::new(search)),
            Arc::new(original),
            Arc::new(IndexEntry::new(uid, "films".to_owned(), 1, then)),
            Arc::new(Topology::new(vec![node], 1).unwrap()),
            Arc::default(),
            Context::client("1", Duration::from_secs(5)),
        )
    }

    fn layer() -> DeepPagesLayer {
        let options =
            DeepPagesOptions { at_once: 1, group: Some(GroupId(1)), ..Default::default() };
        DeepPagesLayer::new(options)
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_contract() {
        // Nothing of its business comes out as it went in.
        contract(layer(), || page(0)).await;
        // What is, may change, but must not leak a place.
        readiness(&layer(), || page(1000)).await;
        cancellation(&layer(), || page(1000)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn deep_pages_are_read_one_by_one_from_their_group() {
        let (mut service, mut inner) = layered(layer());
        let first = service.spawn_call(page(1000));
        let exchange = inner.next_request().await;
        let hint = exchange.request().hints.group.clone().unwrap();
        assert_eq!((hint.value, hint.by), (GroupId(1), DeepPagesLayer::NAME));
        let _second = service.spawn_call(page(1000));
        inner.assert_idle().await;
        exchange.fail(Error::overloaded());
        assert!(first.await.is_err());
        inner.next_request().await.fail(Error::overloaded());
    }

    #[tokio::test(start_paused = true)]
    async fn what_lies_too_deep_reaches_no_node() {
        let (mut service, mut inner) = layered(layer());
        let error = service.call(page(20_000)).await.unwrap_err();
        assert_eq!(error.render().0, http::StatusCode::BAD_REQUEST);
        inner.assert_idle().await;
    }
}
