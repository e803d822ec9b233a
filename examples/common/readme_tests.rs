//! The library example of the README, over nodes of this process.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use miroir::Miroir;
use serde_json::json;
use tower::ServiceExt;

use crate::quickstart::common::{MASTER_KEY, Nodes, call, write};

/// The calls that the README's example is made of, in their order.
fn of_the_readme() -> Vec<&'static str> {
    let readme = include_str!("../../README.md");
    let code = readme.split("```rust\n").nth(1).expect("a library example");
    let code = code.split_once("```").expect("its end").0;
    let calls =
        code.split(['.', ':']).filter_map(|text| text.split_once('(').map(|(name, _)| name));
    calls
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_pipeline_refuses_strangers_and_outlives_a_node() {
    let builder = ["builder", "node", "node", "node", "replication_factor", "node_key", "var"];
    let rest = ["master_key", "var", "build", "spawn_workers", "client_api"];
    assert_eq!(of_the_readme(), [&builder[..], &rest[..]].concat());

    let mut nodes = Nodes::get(Vec::new()).await.unwrap();
    let miroir = Miroir::builder()
        .node("a", &nodes.urls[0], 0)
        .node("b", &nodes.urls[1], 0)
        .node("c", &nodes.urls[2], 0)
        .replication_factor(2)
        .node_key(&nodes.key)
        .master_key(MASTER_KEY)
        .build()
        .await
        .unwrap();
    miroir.spawn_workers();
    let service = miroir.client_api();

    let stranger = Request::get("/indexes").body(Full::<Bytes>::default()).unwrap();
    let answer = service.clone().oneshot(stranger).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);

    let documents: Vec<_> = (0..200).map(|id| json!({"id": id, "title": "film"})).collect();
    write(&service, "POST", "/indexes/films/documents", &json!(documents)).await.unwrap();
    nodes.kill(1);
    let search = json!({"q": "film", "limit": 200});
    let found = call(&service, "POST", "/indexes/films/search", &search).await.unwrap();
    let hits = found["hits"].as_array().expect("hits");
    let ids: BTreeSet<i64> = hits.iter().filter_map(|hit| hit["id"].as_i64()).collect();
    assert_eq!((hits.len(), ids.len()), (200, 200), "every document, each once");
    miroir.shutdown().await;
}
