//! Tasks that are canceled, deleted and listed as batches, on engine nodes behind Miroir.

use miroir_control::Miroir;
use miroir_layers::leaf::failover::FailoverLayer;
use miroir_pipeline::ClusterOptions;
use miroir_pipeline::Stack;
use serde_json::{Value, json};

use crate::support::{Api, KEY, nodes};

async fn start(copies: u32) -> (Miroir, Api, Vec<miroir_engine::EngineNode>) {
    let nodes = nodes(3).await;
    let mut builder = Miroir::builder()
        .node_key(KEY)
        .options(ClusterOptions { shards: 16, ..ClusterOptions::default() })
        .replication_factor(copies)
        .leaves(Stack::new().push(FailoverLayer::default()));
    for (at, node) in nodes.iter().enumerate() {
        builder = builder.node(&format!("node-{at}"), &node.url(), 0);
    }
    let running = builder.build().await.unwrap();
    running.spawn_workers();
    let api = Api::miroir(&running);
    (running, api, nodes)
}

/// Sends a request about tasks and answers its ended task.
async fn about_tasks(api: &Api, method: &str, path: &str) -> Value {
    let accepted = api.raw(method, path, "", "").await.expect(200);
    assert_eq!(accepted["status"], "enqueued");
    api.wait(accepted["taskUid"].as_u64().unwrap()).await
}

fn some_documents(round: usize) -> Value {
    let text = "some words that take a node a while to index ".repeat(40);
    (0..60)
        .map(|n| json!({"id": round * 1000 + n, "round": round, "text": format!("{text} {n}")}))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelation_is_all_or_nothing_and_says_what_it_did() {
    for copies in [1, 2] {
        let (running, api, nodes) = start(copies).await;
        api.succeed("POST", "/indexes", &json!({"uid": "a", "primaryKey": "id"})).await;
        let mut writes = Vec::new();
        for round in 0..12 {
            let path = "/indexes/a/documents";
            let accepted = api.json("POST", path, &some_documents(round)).await.expect(202);
            writes.push(accepted["taskUid"].as_u64().unwrap());
        }
        let path = "/tasks/cancel?statuses=enqueued,processing&indexUids=a";
        let canceling = about_tasks(&api, "POST", path).await;
        assert_eq!(canceling["status"], "succeeded", "{canceling}");
        assert_eq!(canceling["type"], "taskCancelation");
        let mut canceled = 0;
        let mut written = 0;
        for write in writes {
            let task = api.wait(write).await;
            match task["status"].as_str().unwrap() {
                "canceled" => {
                    canceled += 1;
                    assert_eq!(task["canceledBy"], canceling["uid"], "{task}");
                    assert_eq!(task["batchUid"], canceling["uid"], "{task}");
                    assert_eq!(task["details"]["indexedDocuments"], 0, "{task}");
                    assert_eq!(task["error"], Value::Null);
                }
                "succeeded" => written += 60,
                _ => {
                    assert_eq!(task["error"]["code"], "miroir_canceled_in_part", "{task}");
                    // Some of its documents are there: they are counted by what they say.
                    let round = task["uid"].as_u64().unwrap();
                    assert!(round > 0);
                    let found = api.get("/indexes/a/stats").await.expect(200);
                    written = found["numberOfDocuments"].as_u64().unwrap();
                    canceled = u64::MAX;
                    break;
                }
            }
        }
        if canceled != u64::MAX {
            assert_eq!(canceling["details"]["canceledTasks"], canceled, "{canceling}");
            let batch = api.get(&format!("/batches/{}", canceling["uid"])).await.expect(200);
            assert_eq!(batch["stats"]["totalNbTasks"], canceled + 1);
        }
        let stats = api.get("/indexes/a/stats").await.expect(200);
        assert_eq!(stats["numberOfDocuments"], written, "{copies} copies");
        running.shutdown().await;
        for node in nodes {
            node.kill();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_forgets_what_is_over() {
    let (running, api, nodes) = start(2).await;
    api.succeed("POST", "/indexes", &json!({"uid": "a", "primaryKey": "id"})).await;
    let write = api.succeed("POST", "/indexes/a/documents", &some_documents(0)).await;
    let deletion = about_tasks(&api, "DELETE", "/tasks?types=documentAdditionOrUpdate").await;
    let details = json!({
        "matchedTasks": 1, "deletedTasks": 1, "originalFilter": "?types=documentAdditionOrUpdate",
    });
    assert_eq!((&deletion["status"], &deletion["details"]), (&json!("succeeded"), &details));
    let gone = api.get(&format!("/tasks/{}", write["uid"])).await;
    assert_eq!((gone.status, &gone.body["code"]), (404, &json!("task_not_found")));
    let gone = api.get(&format!("/batches/{}", write["uid"])).await;
    assert_eq!((gone.status, &gone.body["code"]), (404, &json!("batch_not_found")));
    // One that the nodes are still at is over first, as on one node.
    let write = api.json("POST", "/indexes/a/documents", &some_documents(1)).await.expect(202);
    let deletion = about_tasks(&api, "DELETE", &format!("/tasks?uids={}", write["taskUid"])).await;
    assert_eq!(deletion["details"]["deletedTasks"], 1);
    assert_eq!(api.get(&format!("/tasks/{}", write["taskUid"])).await.status, 404);
    let stats = api.get("/indexes/a/stats").await.expect(200);
    assert_eq!(stats["numberOfDocuments"], 120, "and it was done");
    let none = about_tasks(&api, "DELETE", "/tasks?uids=4294967290").await;
    assert_eq!(none["details"]["deletedTasks"], 0);
    for (method, path) in [("POST", "/tasks/cancel"), ("DELETE", "/tasks")] {
        let refused = api.raw(method, path, "", "").await.expect(400);
        assert_eq!(refused["code"], "missing_task_filters");
        let refused = api.raw(method, &format!("{path}?uids=a"), "", "").await.expect(400);
        assert_eq!(refused["code"], "invalid_task_uids");
    }
    running.shutdown().await;
    for node in nodes {
        node.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_tasks_follow_a_swap() {
    let (running, api, nodes) = start(1).await;
    for name in ["a", "b"] {
        api.succeed("POST", "/indexes", &json!({"uid": name, "primaryKey": "id"})).await;
    }
    api.succeed("POST", "/indexes/a/documents", &json!([{"id": 1}])).await;
    api.succeed("POST", "/swap-indexes", &json!([{"indexes": ["a", "b"]}])).await;
    let tasks = api.get("/tasks?indexUids=b").await.expect(200);
    let kinds: Vec<&str> =
        tasks["results"].as_array().unwrap().iter().map(|t| t["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["documentAdditionOrUpdate", "indexCreation"]);
    // The swap is about `b` too: it is counted and not shown.
    assert_eq!(tasks["total"], 3);
    running.shutdown().await;
    for node in nodes {
        node.kill();
    }
}
