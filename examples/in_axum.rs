//! The client API inside an axum application, beside its own routes.

#[path = "common/mod.rs"]
mod common;

use axum::Router;
use axum::routing::get;
use common::{MASTER_KEY, Nodes, Result, write};
use miroir::Miroir;
use serde_json::json;

/// The application: its own pages, and the whole client API under `/search-api`.
fn application(miroir: &Miroir) -> Router {
    Router::new()
        .route("/", get(|| async { "my shop" }))
        .nest_service("/search-api", miroir.client_api())
}

async fn start(nodes: &Nodes) -> Result<Miroir> {
    let mut builder = Miroir::builder().node_key(&nodes.key).master_key(MASTER_KEY).shards(8);
    for (at, url) in nodes.urls.iter().enumerate() {
        builder = builder.node(&format!("node-{at}"), url, 0);
    }
    let miroir = builder.build().await?;
    miroir.spawn_workers();
    Ok(miroir)
}

/// Asks the application two questions and answers what it says.
pub(crate) async fn run(arguments: Vec<String>) -> Result<String> {
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    let nodes = Nodes::get(arguments).await?;
    let miroir = start(&nodes).await?;
    let api = miroir.client_api();
    write(&api, "POST", "/indexes/shop/documents", &json!([{"id": 1, "name": "lamp"}])).await?;
    let application = application(&miroir);
    let mut said = Vec::new();
    for path in ["/", "/search-api/indexes/shop/documents/1"] {
        let request = http::Request::get(path)
            .header("authorization", format!("Bearer {MASTER_KEY}"))
            .body(axum::body::Body::empty())?;
        let answer = application.clone().oneshot(request).await?;
        let body = answer.into_body().collect().await?.to_bytes();
        said.push(String::from_utf8(body.to_vec())?);
    }
    miroir.shutdown().await;
    Ok(said.join(" "))
}

#[tokio::main]
async fn main() -> Result<()> {
    // `serve` keeps the application running: `curl http://127.0.0.1:3000/search-api/health`.
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "serve") {
        arguments.remove(0);
        let nodes = Nodes::get(arguments).await?;
        let miroir = start(&nodes).await?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
        axum::serve(listener, application(&miroir)).await?;
        return Ok(());
    }
    println!("{}", run(arguments).await?);
    Ok(())
}
