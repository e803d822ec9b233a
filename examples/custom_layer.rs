//! A layer of your own, twice: from an async function, and as a named type with a place.

#[path = "common/mod.rs"]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Nodes, Result, call, write};
use miroir::index::{Operation, Request};
use miroir::stack::LayerName;
use miroir::stage::{Middleware, Next, Ready, Reply, from_fn};
use miroir::{Error, Miroir, Placed, Stack, StageService};
use serde_json::json;

/// What the short layer below is called.
struct ClosedIndexes;

impl Placed for ClosedIndexes {
    const NAME: &'static str = "closed_indexes";
}

/// Counts searches. As a type it can be configured, documented and told where it belongs.
#[derive(Clone, Debug, Default)]
struct CountSearches(Arc<AtomicUsize>);

impl Placed for CountSearches {
    const NAME: &'static str = "count_searches";
    /// What the other layer refuses is not counted.
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<ClosedIndexes>()];
}

miroir::layer!(CountSearches);

impl Middleware<Request> for CountSearches {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        if matches!(request.op, Operation::Search(_)) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        next.pass(request)
    }
}

/// Runs the example and answers what it prints.
pub(crate) async fn run(arguments: Vec<String>) -> Result<String> {
    let nodes = Nodes::get(arguments).await?;
    let counter = CountSearches::default();
    let layer = counter.clone();
    let mut builder =
        Miroir::builder().node_key(&nodes.key).shards(8).indexes(Arc::new(move |base| {
            // The short form: no type of its own but for its name.
            let closed = from_fn(|request: Request, next: Next<Request>| async move {
                if request.index.name.as_str().starts_with("closed-") {
                    return Err(Error::api("index_not_found", "This index is closed."));
                }
                next.run(request).await
            });
            Stack::new().push_named(ClosedIndexes::NAME, closed).push(layer.clone()).build(base)
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
