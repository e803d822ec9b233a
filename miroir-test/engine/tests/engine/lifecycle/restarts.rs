//! Nodes and Miroir itself end and start again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use miroir_api::NodeId;
use miroir_control::Miroir;
use miroir_core::topology::NodeStatus;
use miroir_engine::{EngineNode, EngineOptions};
use serde_json::{Value, json};

use super::{Pair, Plan, documents};

use crate::support::{Answer, Api, KEY, Rng, corpus, nodes};

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn start_at(dir: &Path, port: u16) -> EngineNode {
    let options = EngineOptions { dir: dir.to_owned(), port, master_key: Some(KEY.to_owned()) };
    EngineNode::start(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_dies_and_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let dir: PathBuf = root.path().join("node-1");
    let plan = Plan::new(16, 1, 3, 2);
    let plain_node = EngineNode::start_temp(KEY).await.unwrap();
    let mut nodes = nodes(2).await;
    nodes.insert(1, start_at(&dir, 0).await);
    let port: u16 = nodes[1].url().rsplit(':').next().unwrap().parse().unwrap();
    let running = plan.build(&nodes).await;
    running.spawn_workers();
    let (plain, miroir) = (Api::node(&plain_node), Api::miroir(&running));
    let mut pair = Pair { plain, miroir, running, plain_node, nodes };

    let mut rng = Rng(21);
    let list = corpus::documents(&mut rng, 80);
    pair.json("POST", "/indexes/books/documents?primaryKey=id", &json!(list)).await;
    pair.json("PATCH", "/indexes/books/settings", &json!({"sortableAttributes": ["number"]})).await;
    let query = json!({"q": "", "sort": ["number:asc"], "limit": 1000});
    let ids = |answer: &Answer| -> Vec<Value> {
        answer.body["hits"].as_array().unwrap().iter().map(|hit| hit["id"].clone()).collect()
    };
    let expected = ids(&pair.plain.search("books", &query).await);

    pair.nodes.remove(1).kill();
    // From the first moment on, before anybody has noticed.
    for _ in 0..50 {
        let found = pair.miroir.search("books", &query).await;
        assert_eq!(found.status, 200, "{}", found.body);
        assert_eq!(found.header("x-miroir-degraded"), None);
        assert_eq!(ids(&found), expected);
    }
    let node = NodeId::new("node-1").unwrap();
    let shared = Arc::clone(&pair.running.cluster.state);
    until("the node counts as failed", async || {
        shared.membership.topology().node(&node).unwrap().status() == NodeStatus::Failed
    })
    .await;

    let more: Vec<Value> =
        (0..40).map(|at| json!({"id": format!("late-{at}"), "number": 20_000 + at})).collect();
    let docs = "/indexes/books/documents";
    let accepted = pair.miroir.json("POST", docs, &json!(more)).await;
    assert!(
        accepted.header("x-miroir-degraded").is_some_and(|h| h.contains("groups=0")),
        "{accepted:?}"
    );
    let task = pair.miroir.finish(accepted).await;
    assert_eq!(task["status"], "succeeded", "{task}");
    pair.plain.succeed("POST", docs, &json!(more)).await;
    // How many were deleted is an estimate while a replica is down: only the documents are compared.
    let gone = json!([1, 2, "doc-3", "late-0"]);
    pair.miroir.succeed("POST", &format!("{docs}/delete-batch"), &gone).await;
    pair.plain.succeed("POST", &format!("{docs}/delete-batch"), &gone).await;
    pair.json("PUT", docs, &json!([{"id": 4, "title": "changed meanwhile"}])).await;
    pair.same_documents("books").await;
    assert!(!shared.staleness.load().is_empty());

    pair.nodes.insert(1, start_at(&dir, port).await);
    until("the node has caught up", async || {
        shared.membership.topology().node(&node).unwrap().status() == NodeStatus::Active
            && shared.staleness.load().is_empty()
    })
    .await;
    pair.same_documents("books").await;
    pair.same_stats("books").await;
    // Document by document: every one is on two nodes, and both say the same.
    let mut copies = std::collections::BTreeMap::<String, u32>::new();
    for node in &pair.nodes {
        for text in documents(&Api::node(node), "books").await {
            *copies.entry(text).or_default() += 1;
        }
    }
    assert_eq!(copies.len(), pair.same_documents("books").await);
    assert!(copies.values().all(|count| *count == 2), "{copies:?}");
    let settings = Api::node(&pair.nodes[1]).get("/indexes/books/settings").await.expect(200);
    assert_eq!(settings["sortableAttributes"], json!(["number"]));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_miroir_forgets_nothing() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("miroir.db");
    let nodes = nodes(3).await;
    let build = async || {
        let stores =
            miroir_store_sqlite::open(&path, miroir_store_sqlite::Options::default()).unwrap();
        let mut builder =
            Miroir::builder().node_key(KEY).shards(16).replication_factor(2).stores(stores);
        for (at, node) in nodes.iter().enumerate() {
            builder = builder.node(&format!("node-{at}"), &node.url(), 0);
        }
        builder.build().await.unwrap()
    };

    // Nothing polls in this one: whatever it accepts, it does not see the end of.
    let first = build().await;
    let api = Api::miroir(&first);
    let created = api.json("POST", "/indexes", &json!({"uid": "books", "primaryKey": "id"})).await;
    let created = created.expect(202)["taskUid"].as_u64().unwrap();
    let mut rng = Rng(4);
    let list = corpus::documents(&mut rng, 50);
    let added = api.json("POST", "/indexes/books/documents", &json!(list)).await;
    let added = added.expect(202)["taskUid"].as_u64().unwrap();
    let task = api.get(&format!("/tasks/{added}")).await.expect(200);
    assert_eq!(task["status"], "enqueued");
    first.shutdown().await;
    drop((api, first));

    let second = build().await;
    second.spawn_workers();
    let api = Api::miroir(&second);
    for uid in [created, added] {
        let task = api.wait(uid).await;
        assert_eq!(task["status"], "succeeded", "{task}");
    }
    assert_eq!(documents(&api, "books").await.len(), 50);
    let next = api.succeed("POST", "/indexes/books/documents", &json!([{"id": "x"}])).await;
    assert!(next["uid"].as_u64().unwrap() > added, "numbers go on: {next}");
    let listed = api.get("/tasks").await.expect(200);
    assert_eq!(listed["total"], 3);
    second.shutdown().await;
}
