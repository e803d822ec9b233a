//! A stack of one's own, without the server: some of Miroir's layers, left out and put together as
//! one likes, and layers of tower that know nothing of Miroir, in every stage.

#[path = "common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Nodes, Result, call, write};
use miroir::node::{self, Client, ClientOptions, Scores};
use miroir::store::memory;
use miroir::topology::Node;
use miroir::{Builder, Stack, index, leaf, operation};
use miroir_layers::index::{
    QueryCoalescingLayer, QueryPlannerLayer, SessionPinningLayer, SessionPinningOptions,
};
use miroir_layers::leaf::{FailoverLayer, HedgeLayer, HedgeOptions};
use miroir_layers::node::{BreakerLayer, BreakerOptions, CredentialsLayer, LoadLayer};
use miroir_layers::operation::{IdempotencyLayer, IdempotencyOptions};
use serde_json::json;
use tower::limit::ConcurrencyLimitLayer;

/// Runs the example and answers what it prints.
pub(crate) async fn run(arguments: Vec<String>) -> Result<String> {
    let nodes = Nodes::get(arguments).await?;
    // What layers share: stores, and how nodes are doing.
    let (stores, scores) = (memory::open(), Arc::new(Scores::default()));
    let fed = Arc::clone(&scores);
    let pinned = SessionPinningOptions::default();
    let credentials = CredentialsLayer::new(&nodes.key)?;

    let mut builder = Builder::bare()
        .shards(8)
        .stores(stores.clone())
        .scores(Arc::clone(&scores))
        .operations(
            Stack::<operation::Request>::new()
                .push_named("at_most_64", ConcurrencyLimitLayer::new(64))
                .push(IdempotencyLayer::new(&stores, IdempotencyOptions::default()))
                .boxed(),
        )
        .indexes(
            Stack::<index::Request>::new()
                .push_named("at_most_32", ConcurrencyLimitLayer::new(32))
                .push(SessionPinningLayer::new(&stores, Arc::clone(&scores), pinned))
                .push(QueryPlannerLayer::default())
                .push(QueryCoalescingLayer::default())
                .boxed(),
        )
        .leaves(
            Stack::<leaf::Request>::new()
                .push_named("at_most_256", ConcurrencyLimitLayer::new(256))
                .push(HedgeLayer::new(Arc::clone(&scores), HedgeOptions::default()))
                .push(FailoverLayer::default())
                .boxed(),
        )
        .node_stack(Arc::new(move |node: &Node| {
            let client = Client::new(node.id.clone(), &node.address, ClientOptions::default());
            Stack::<node::Request>::new()
                .push(BreakerLayer::new(&fed, &node.id, BreakerOptions::default()))
                .push(LoadLayer::new(&fed, &node.id))
                .push_named("at_most_16", ConcurrencyLimitLayer::new(16))
                .push(credentials.clone())
                .build(client)
        }));
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
