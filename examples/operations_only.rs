//! Without HTTP: typed operations go into the pipeline, typed answers come out.

#[path = "common/mod.rs"]
mod common;

use common::{MASTER_KEY, Nodes, Result, write};
use miroir::Miroir;
use miroir::context::Principal;
use miroir::operation::Request;
use serde_json::{Value, json};
use tower::ServiceExt;

/// Runs the example and answers what it prints.
pub(crate) async fn run(arguments: Vec<String>) -> Result<String> {
    let nodes = Nodes::get(arguments).await?;
    let mut builder = Miroir::builder().node_key(&nodes.key).master_key(MASTER_KEY).shards(8);
    for (at, url) in nodes.urls.iter().enumerate() {
        builder = builder.node(&format!("node-{at}"), url, 0);
    }
    let miroir = builder.build().await?;
    miroir.spawn_workers();
    let api = miroir.client_api();
    let films = json!([{"id": 1, "title": "Stalker"}, {"id": 2, "title": "Solaris"}]);
    write(&api, "POST", "/indexes/films/documents", &films).await?;

    let mut search = Request::search("films", &json!({"q": "solaris"}));
    // Who asks: without a principal it would be refused.
    search.cx.principal = Principal::MasterKey;
    let answer = miroir.cluster().operations.clone().oneshot(search).await?;
    miroir.shutdown().await;
    let body: Value = serde_json::from_slice(&answer.body)?;
    Ok(format!("{} from {} nodes", body["hits"][0]["title"], answer.meta.nodes))
}

#[tokio::main]
async fn main() -> Result<()> {
    println!("{}", run(std::env::args().skip(1).collect()).await?);
    Ok(())
}
