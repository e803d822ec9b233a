//! Three nodes, sixteen shards, two copies of each: one search endpoint.

#[path = "common/mod.rs"]
pub(crate) mod common;

use common::{MASTER_KEY, Nodes, Result, call, write};
use miroir::Miroir;
use serde_json::json;

/// Runs the example and answers what it prints.
pub(crate) async fn run(arguments: Vec<String>) -> Result<String> {
    let nodes = Nodes::get(arguments).await?;
    let mut builder = Miroir::builder()
        .node_key(&nodes.key)
        .master_key(MASTER_KEY)
        .shards(16)
        .replication_factor(2);
    for (at, url) in nodes.urls.iter().enumerate() {
        builder = builder.node(&format!("node-{at}"), url, 0);
    }
    let miroir = builder.build().await?;
    miroir.spawn_workers();

    let api = miroir.client_api();
    let movies = json!([
        {"id": 1, "title": "The Third Man"}, {"id": 2, "title": "Man on Wire"},
        {"id": 3, "title": "Metropolis"}, {"id": 4, "title": "The Thin Man"},
    ]);
    write(&api, "POST", "/indexes/movies/documents", &movies).await?;
    let query = json!({"q": "thrid man", "limit": 1});
    let found = call(&api, "POST", "/indexes/movies/search", &query).await?;
    miroir.shutdown().await;
    Ok(format!("{} of {}", found["hits"][0]["title"], found["estimatedTotalHits"]))
}

#[tokio::main]
async fn main() -> Result<()> {
    println!("{}", run(std::env::args().skip(1).collect()).await?);
    Ok(())
}
