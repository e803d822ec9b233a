//! A stack of one's own, without the server: some of Miroir's layers, left out and put together as
//! one likes, and layers of tower that know nothing of Miroir, in every stage.

#[path = "common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Nodes, Result, call, write};
use miroir::keyring::Keyring;
use miroir::node::Scores;
use miroir::store::memory;
use miroir::{Builder, Stack};
use miroir_layers::index::{
    QueryCoalescingLayer, QueryPlannerLayer, SessionPinningLayer, SessionPinningOptions,
};
use miroir_layers::leaf::{FailoverLayer, HedgeLayer, HedgeOptions};
use miroir_layers::node::{BreakerLayer, BreakerOptions, LoadLayer};
use miroir_layers::operation::{IdempotencyLayer, IdempotencyOptions};
use serde_json::json;
use tower::limit::ConcurrencyLimitLayer;

/// Runs the example and answers what it prints.
pub(crate) async fn run(arguments: Vec<String>) -> Result<String> {
    let nodes = Nodes::get(arguments).await?;
    // What layers share: stores, and how nodes are doing.
    let (stores, scores) = (memory::open(), Arc::new(Scores::default()));
    // Nobody is asked for a key here.
    let keyring = Arc::new(Keyring::new(None));
    let (read, hedged, fed) = (Arc::clone(&scores), Arc::clone(&scores), Arc::clone(&scores));

    let operations = Stack::new()
        .push_named("at_most_64", ConcurrencyLimitLayer::new(64))
        .push(IdempotencyLayer::new(&stores, keyring, IdempotencyOptions::default()));
    let indexes = Stack::new()
        .push_named("at_most_32", ConcurrencyLimitLayer::new(32))
        .push(SessionPinningLayer::new(&stores, read, SessionPinningOptions::default()))
        .push(QueryPlannerLayer::default())
        .push(QueryCoalescingLayer::default());
    // Without `load` in the node stage this would not be built: hedges go by its figures.
    let leaves = Stack::new()
        .push_named("at_most_256", ConcurrencyLimitLayer::new(256))
        .push(HedgeLayer::new(hedged, HedgeOptions::default()))
        .push(FailoverLayer::default());
    let mut builder = Builder::bare()
        .shards(8)
        .node_key(&nodes.key)
        .stores(stores)
        .scores(scores)
        .operations(operations)
        .indexes(indexes)
        .leaves(leaves)
        .node_layers(move |node| {
            Stack::new()
                .push(BreakerLayer::new(&fed, node, BreakerOptions::default()))
                .push(LoadLayer::new(&fed, node))
                .push_named("at_most_16", ConcurrencyLimitLayer::new(16))
        });
    for (at, url) in nodes.urls.iter().enumerate() {
        builder = builder.node(&format!("node-{at}"), url, 0);
    }
    let miroir = builder.build().await?;
    miroir.spawn_workers();
    let api = miroir.http(Duration::from_secs(30));
    write(&api, "POST", "/indexes/films/documents", &json!([{"id": 1, "title": "M"}])).await?;
    let found = call(&api, "POST", "/indexes/films/search", &json!({"q": "m"})).await?;
    miroir.shutdown().await;
    Ok(found["hits"][0]["title"].to_string())
}

#[tokio::main]
async fn main() -> Result<()> {
    println!("{}", run(std::env::args().skip(1).collect()).await?);
    Ok(())
}
