//! Without HTTP: typed operations go into the pipeline, typed answers come out.

#[path = "common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Nodes, Result, write};
use miroir::operation::{Operation, Request};
use miroir::query::{Original, RawObject, Search};
use miroir::{Context, Miroir};
use serde_json::{Value, json};
use tower::ServiceExt;

/// A search of an index.
fn search(index: &str, body: &Value) -> Request {
    let text = body.to_string();
    let search = Search { body: RawObject::parse(text.as_bytes()), ..Search::default() };
    Request {
        op: Operation::Search { index: index.to_owned(), search: Arc::new(search) },
        // Needed where a key has to be judged; nobody asks for one here.
        actions: &[],
        // The same as text, should a node have something to say about it.
        original: Arc::new(Original {
            method: http::Method::POST,
            path: "/search".to_owned(),
            query: None,
            body: text.into(),
            content_type: Some("application/json".to_owned()),
            metadata: false,
        }),
        cx: Context::client("example", Duration::from_secs(10)),
    }
}

/// Runs the example and answers what it prints.
pub(crate) async fn run(arguments: Vec<String>) -> Result<String> {
    let nodes = Nodes::get(arguments).await?;
    let mut builder = Miroir::builder().node_key(&nodes.key).shards(8);
    for (at, url) in nodes.urls.iter().enumerate() {
        builder = builder.node(&format!("node-{at}"), url, 0);
    }
    let miroir = builder.build().await?;
    miroir.spawn_workers();
    let api = miroir.http(Duration::from_secs(30));
    let films = json!([{"id": 1, "title": "Stalker"}, {"id": 2, "title": "Solaris"}]);
    write(&api, "POST", "/indexes/films/documents", &films).await?;

    let answer = miroir
        .cluster
        .operations
        .clone()
        .oneshot(search("films", &json!({"q": "solaris"})))
        .await?;
    miroir.shutdown().await;
    let body: Value = serde_json::from_slice(&answer.body)?;
    Ok(format!("{} from {} nodes", body["hits"][0]["title"], answer.meta.nodes))
}

#[tokio::main]
async fn main() -> Result<()> {
    println!("{}", run(std::env::args().skip(1).collect()).await?);
    Ok(())
}
