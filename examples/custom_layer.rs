//! A layer of your own, twice: from an async function, and as a named type with a place.

#[path = "common/mod.rs"]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task;
use std::time::Duration;

use common::{Nodes, Result, call, write};
use miroir::index::{Operation, Request};
use miroir::stage::{Next, StageFuture, from_fn, take_ready};
use miroir::{Error, Miroir, Placed, Stack, StageService};
use serde_json::json;
use tower::{Layer, Service};

/// Counts searches. As a type it can be configured, documented and told where it belongs.
#[derive(Clone, Debug, Default)]
struct CountSearches(Arc<AtomicUsize>);

impl Placed for CountSearches {
    const NAME: &'static str = "count_searches";
    /// What the other layer refuses is not counted.
    const INSIDE_OF: &'static [&'static str] = &["closed_indexes"];
}

impl<S> Layer<S> for CountSearches {
    type Service = Counting<S>;
    fn layer(&self, inner: S) -> Counting<S> {
        Counting { inner, count: Arc::clone(&self.0) }
    }
}

#[derive(Clone, Debug)]
struct Counting<S> {
    inner: S,
    count: Arc<AtomicUsize>,
}

impl<S: StageService<Request>> Service<Request> for Counting<S> {
    type Response = miroir::index::Response;
    type Error = Error;
    type Future = StageFuture<Request>;

    fn poll_ready(
        &mut self,
        cx: &mut task::Context<'_>,
    ) -> task::Poll<std::result::Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if matches!(request.op, Operation::Search(_)) {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        // The service that was asked whether it is ready is the one to call.
        let mut inner = take_ready(&mut self.inner);
        Box::pin(async move { inner.call(request).await })
    }
}

/// Runs the example and answers what it prints.
pub(crate) async fn run(arguments: Vec<String>) -> Result<String> {
    let nodes = Nodes::get(arguments).await?;
    let counter = CountSearches::default();
    let layer = counter.clone();
    let mut builder =
        Miroir::builder().node_key(&nodes.key).shards(8).indexes(Arc::new(move |base| {
            // The short form: no type, no name of its own.
            let closed = from_fn(|request: Request, next: Next<Request>| async move {
                if request.index.name.as_str().starts_with("closed-") {
                    return Err(Error::api("index_not_found", "This index is closed."));
                }
                next.run(request).await
            });
            Stack::new().push_named("closed_indexes", closed).push(layer.clone()).build(base)
        }));
    for (at, url) in nodes.urls.iter().enumerate() {
        builder = builder.node(&format!("node-{at}"), url, 0);
    }
    let miroir = builder.build().await?;
    miroir.spawn_workers();
    let api = miroir.http(Duration::from_secs(30));
    for index in ["open", "closed-books"] {
        write(&api, "POST", "/indexes", &json!({"uid": index, "primaryKey": "id"})).await?;
    }
    for _ in 0..3 {
        call(&api, "POST", "/indexes/open/search", &json!({})).await?;
    }
    let refused = call(&api, "POST", "/indexes/closed-books/search", &json!({})).await?;
    miroir.shutdown().await;
    let count = counter.0.load(Ordering::Relaxed);
    Ok(format!("{count} searches counted; {}", refused["message"]))
}

#[tokio::main]
async fn main() -> Result<()> {
    println!("{}", run(std::env::args().skip(1).collect()).await?);
    Ok(())
}
