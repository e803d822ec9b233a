//! Tasks: how they fail, wait, end and outlive the process.

use miroir_engine::EngineNode;
use serde_json::{Value, json};

use super::{Http, TempDir, node};

#[tokio::test(flavor = "multi_thread")]
async fn tasks_fail_with_the_codes_of_a_node() {
    let (node, http) = node().await;
    let fails = async |method: &str, path: &str, body: Value, code: &str| {
        let task = http.write(method, path, body).await;
        assert_eq!(task["status"], "failed", "{task}");
        assert_eq!(task["error"]["code"], code, "{task}");
        task
    };
    let task = fails("DELETE", "/indexes/none", Value::Null, "index_not_found").await;
    assert_eq!(task["details"], json!({ "deletedDocuments": 0 }));
    fails("DELETE", "/indexes/none/documents/1", Value::Null, "index_not_found").await;
    let no_id = "index_primary_key_no_candidate_found";
    let task = fails("POST", "/indexes/a/documents", json!([{ "x": 1 }]), no_id).await;
    assert_eq!(task["details"], json!({ "receivedDocuments": 1, "indexedDocuments": 0 }));
    assert_eq!(http.get("/indexes/a").await.1["primaryKey"], Value::Null);
    let two = json!([{ "pid": 1, "bidid": 2, "qid": 3 }]);
    let task =
        fails("POST", "/indexes/a/documents", two, "index_primary_key_multiple_candidates_found")
            .await;
    assert!(task["error"]["message"].as_str().unwrap().contains("found 3 fields"), "{task}");
    http.succeed("POST", "/indexes/a/documents?primaryKey=id", json!([{ "id": 1 }])).await;
    fails("POST", "/indexes", json!({ "uid": "a" }), "index_already_exists").await;
    let task = fails(
        "POST",
        "/indexes/a/documents",
        json!([{ "id": 2 }, { "id": 1.0 }]),
        "invalid_document_id",
    )
    .await;
    assert!(
        task["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("Document identifier `1.0` is invalid."),
        "{task}"
    );
    fails("POST", "/indexes/a/documents", json!([{ "x": 2 }]), "missing_document_id").await;
    let other_key = "index_primary_key_already_exists";
    fails("POST", "/indexes/a/documents?primaryKey=other", json!([{ "other": 2 }]), other_key)
        .await;
    http.succeed("PUT", "/indexes/a/settings/sortable-attributes", json!(["_geo"])).await;
    fails(
        "POST",
        "/indexes/a/documents",
        json!([{ "id": 2, "_geo": "x" }]),
        "invalid_document_geo_field",
    )
    .await;
    let task = fails(
        "POST",
        "/indexes/a/documents/delete",
        json!({ "filter": "x = 1" }),
        "invalid_document_filter",
    )
    .await;
    assert!(
        task["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("Index `a`: Attribute `x` is not filterable")
    );
    assert_eq!(http.get("/indexes/a/documents").await.1["total"], 1);
    let (status, error) =
        http.json("POST", "/indexes/a/documents/delete", json!({ "filter": "x ==" })).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_document_filter")));
    let (status, error) = http.get("/tasks/999").await;
    assert_eq!((status, &error["code"]), (404, &json!("task_not_found")));
    node.stop().await;
}

/// Tasks that share an indexing transaction keep their own details and failures.
#[tokio::test(flavor = "multi_thread")]
async fn batched_tasks_are_independent() {
    let (node, http) = node().await;
    http.succeed("PUT", "/indexes/b/settings/sortable-attributes", json!(["_geo"])).await;
    http.succeed("POST", "/indexes/b/documents", json!([{ "id": 0 }])).await;
    let mut uids = Vec::new();
    for n in 1..=20 {
        let body = match n {
            7 => json!([{ "id": n }, { "id": true }]),
            13 => json!([{ "id": n, "_geo": { "lat": "north", "lng": 1 } }]),
            _ => json!([{ "id": n, "n": n }, { "id": n, "n": n + 1 }]),
        };
        let (_, summary) = http.json("POST", "/indexes/b/documents", body).await;
        uids.push(summary["taskUid"].as_u64().unwrap());
    }
    for (at, uid) in uids.into_iter().enumerate() {
        let task = http.wait(uid).await;
        let expected = match at + 1 {
            7 => ("failed", 0, json!("invalid_document_id")),
            13 => ("failed", 0, json!("invalid_document_geo_field")),
            _ => ("succeeded", 1, Value::Null),
        };
        assert_eq!(task["status"], expected.0, "{task}");
        assert_eq!(task["details"]["indexedDocuments"], expected.1, "{task}");
        assert_eq!(task["error"].get("code").cloned().unwrap_or_default(), expected.2, "{task}");
    }
    assert_eq!(http.get("/indexes/b/stats").await.1["numberOfDocuments"], 19);
    assert_eq!(http.get("/indexes/b/documents/20").await.1["n"], 21);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn task_lists_cancelation_and_deletion() {
    let (node, http) = node().await;
    for uid in ["a", "b", "a"] {
        let (_, summary) = http.json("POST", "/indexes", json!({ "uid": uid })).await;
        http.wait(summary["taskUid"].as_u64().unwrap()).await;
    }
    let uids = |list: &Value| -> Vec<u64> {
        list["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["uid"].as_u64().unwrap())
            .collect()
    };
    let (_, list) = http.get("/tasks?limit=2").await;
    assert_eq!(
        (uids(&list), &list["from"], &list["next"], &list["total"]),
        (vec![2, 1], &json!(2), &json!(0), &json!(3))
    );
    let (_, list) = http.get("/tasks?reverse=true&from=1").await;
    assert_eq!(uids(&list), [1, 2]);
    assert_eq!(uids(&http.get("/tasks?statuses=FAILED&indexUids=a").await.1), [2]);
    assert_eq!(uids(&http.get("/tasks?uids=0,2,40&limit=3").await.1), [2, 0]);
    assert_eq!(uids(&http.get("/tasks?types=indexDeletion").await.1), [0_u64; 0]);
    let (status, error) = http.get("/tasks?types=nope").await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_task_types")));
    let (status, error) = http.json("POST", "/tasks/cancel", Value::Null).await;
    assert_eq!((status, &error["code"]), (400, &json!("missing_task_filters")));

    let task = http.succeed("DELETE", "/tasks?uids=2", Value::Null).await;
    assert_eq!(
        task["details"],
        json!({ "matchedTasks": 1, "deletedTasks": 1, "originalFilter": "?uids=2" })
    );
    assert_eq!(http.get("/tasks/2").await.0, 404);

    // Cancelation ends what still waits; tasks that were already done stay as they are.
    let documents: Vec<Value> =
        (0..500).map(|n| json!({ "id": n, "text": format!("document number {n}") })).collect();
    let mut written = Vec::new();
    for uid in ["c", "d", "c", "d", "c", "d"] {
        let (_, summary) =
            http.json("POST", &format!("/indexes/{uid}/documents"), json!(documents)).await;
        written.push(summary["taskUid"].as_u64().unwrap());
    }
    let task =
        http.succeed("POST", "/tasks/cancel?statuses=enqueued,processing", Value::Null).await;
    let mut canceled = 0;
    for uid in written {
        let other = http.wait(uid).await;
        if other["status"] == "canceled" {
            canceled += 1;
            assert_eq!(other["canceledBy"], task["uid"]);
            assert_eq!(other["details"]["indexedDocuments"], 0);
        } else {
            assert_eq!(other["status"], "succeeded", "{other}");
        }
    }
    assert_eq!(task["details"]["canceledTasks"], canceled);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_and_restart_with_pending_tasks() {
    let dir = TempDir::new();
    let node = EngineNode::start(dir.options()).await.unwrap();
    let http = Http::new(&node);
    http.succeed("PUT", "/indexes/k/settings/sortable-attributes", json!(["n"])).await;
    http.succeed("POST", "/indexes/k/documents", json!([{ "id": 0, "n": 0 }])).await;
    let mut last = 0;
    for batch in 0..8 {
        let documents: Vec<Value> = (1..=200)
            .map(|n| json!({ "id": batch * 200 + n, "n": n, "text": format!("some text about topic {n}") }))
            .collect();
        let method = if batch % 2 == 0 { "POST" } else { "PUT" };
        let (status, summary) = http.json(method, "/indexes/k/documents", json!(documents)).await;
        assert_eq!(status, 202);
        last = summary["taskUid"].as_u64().unwrap();
    }
    node.kill();

    let node = EngineNode::start(dir.options()).await.unwrap();
    let http = Http::new(&node);
    assert_eq!(http.get("/tasks/0").await.1["status"], "succeeded");
    let task = http.wait(last).await;
    assert_eq!(
        (&task["status"], &task["details"]["indexedDocuments"]),
        (&json!("succeeded"), &json!(200))
    );
    assert_eq!(http.get("/indexes/k/stats").await.1["numberOfDocuments"], 1601);
    assert_eq!(http.get("/indexes/k/settings/sortable-attributes").await.1, json!(["n"]));
    let (_, list) = http.get("/tasks?limit=100").await;
    assert_eq!(list["total"], 10);
    assert!(
        list["results"].as_array().unwrap().iter().all(|task| task["status"] == "succeeded"),
        "{list}"
    );
    node.stop().await;

    // A graceful stop keeps everything too, and uids go on.
    let node = EngineNode::start(dir.options()).await.unwrap();
    let http = Http::new(&node);
    assert_eq!(http.get("/indexes/k/documents/1600").await.1["n"], 200);
    let task = http.succeed("DELETE", "/indexes/k/documents/1600", Value::Null).await;
    assert_eq!(task["uid"], 10);
    node.stop().await;
}
