//! Each fault of a node alone.

use serde_json::json;

use super::*;

const FULL: &str = "no_space_left_on_device";

fn node() -> FakeNode {
    FakeNode::new(NodeId::new("n0").expect("a valid id"), 1)
}

fn post(node: &FakeNode, path: &str, body: &Value) -> Value {
    let (status, answer) = node.foreign(Method::POST, path, body);
    assert!(status.is_success(), "{path}: {answer}");
    answer
}

fn get(node: &FakeNode, path: &str) -> Value {
    node.foreign(Method::GET, path, &Value::Null).1
}

/// Adds a document and lets time pass: the task.
async fn add(node: &FakeNode, id: u32, after: Duration) -> Value {
    let uid = enqueue(node, id);
    tokio::time::sleep(after).await;
    get(node, &format!("/tasks/{uid}"))
}

fn enqueue(node: &FakeNode, id: u32) -> Value {
    let path = "/indexes/m/documents?primaryKey=id";
    post(node, path, &json!([{"id": id}]))["taskUid"].clone()
}

#[tokio::test(start_paused = true)]
async fn tasks_that_wait_fail_for_a_reason_of_the_nodes_own() {
    let node = node();
    let waits = enqueue(&node, 1);
    node.suffer(Fault::Crash);
    node.suffer(Fault::FailsTasks { per_mille: 1000, code: FULL });
    node.suffer(Fault::Heal);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let task = get(&node, &format!("/tasks/{waits}"));
    assert_eq!((&task["status"], &task["error"]["code"]), (&json!("failed"), &json!(FULL)));
    assert_eq!(get(&node, "/indexes/m")["code"], "index_not_found");
    node.suffer(Fault::Mend);
    assert_eq!(add(&node, 1, Duration::from_secs(1)).await["status"], "succeeded");
    assert_eq!(node.fired()["fails tasks"], 1);
}

#[tokio::test(start_paused = true)]
async fn finished_tasks_are_forgotten_and_the_newest_number_stays() {
    let node = node();
    node.suffer(Fault::ForgetsTasks { every: Duration::ZERO });
    for id in 0..3 {
        let task = add(&node, id, Duration::from_secs(1)).await;
        assert_eq!(task["code"], "task_not_found");
    }
    let list = get(&node, "/tasks?limit=1");
    assert_eq!(list["results"][0]["type"], "taskDeletion");
    assert!(list["from"].as_u64() > Some(3), "{list}");
    assert_eq!(get(&node, "/indexes/m/stats")["numberOfDocuments"], 3);
    let slowly = Fault::ForgetsTasks { every: Duration::from_mins(1) };
    node.suffer(slowly);
    assert_eq!(add(&node, 4, Duration::from_secs(1)).await["status"], "succeeded");
}

#[tokio::test(start_paused = true)]
async fn tasks_take_as_long_as_they_are_told() {
    let node = node();
    node.suffer(Fault::SlowTasks { from: Duration::from_secs(5), to: Duration::from_secs(6) });
    assert_eq!(add(&node, 1, Duration::from_secs(4)).await["status"], "enqueued");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(get(&node, "/tasks/0")["status"], "succeeded");
    assert_eq!(node.fired()["slow tasks"], 1);
}

#[tokio::test(start_paused = true)]
async fn long_bodies_are_refused_as_meilisearch_does() {
    let node = node();
    let send = |length: usize| {
        let body = json!([{"id": "x".repeat(length)}]);
        node.foreign(Method::POST, "/indexes/m/documents?primaryKey=id", &body)
    };
    assert_eq!(send(BODY_LIMIT - 20).0, StatusCode::ACCEPTED);
    let (status, error) = send(BODY_LIMIT);
    assert_eq!(
        (status, &error["code"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &"payload_too_large".into())
    );
    node.suffer(Fault::BodyLimit(50));
    assert_eq!(send(60).0, StatusCode::PAYLOAD_TOO_LARGE);
    node.suffer(Fault::Mend);
    assert_eq!(send(60).0, StatusCode::ACCEPTED);
    assert_eq!(node.fired()["body limit"], 2);
}

#[tokio::test(start_paused = true)]
async fn tasks_are_canceled_and_deleted() {
    let node = node();
    for id in 0..3 {
        enqueue(&node, id);
    }
    let answer = post(&node, "/tasks/cancel?uids=1,2", &Value::Null);
    assert_eq!((&answer["type"], &answer["indexUid"]), (&"taskCancelation".into(), &Value::Null));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let statuses = |node: &FakeNode| -> Vec<Value> {
        let list = get(node, "/tasks?reverse=true");
        list["results"].as_array().unwrap().iter().map(|task| task["status"].clone()).collect()
    };
    assert_eq!(statuses(&node), ["succeeded", "canceled", "canceled", "succeeded"]);
    assert_eq!(get(&node, "/tasks/2")["canceledBy"], 3);
    assert_eq!(get(&node, "/indexes/m/stats")["numberOfDocuments"], 1);
    node.foreign(Method::DELETE, "/tasks?statuses=canceled", &Value::Null);
    assert_eq!(statuses(&node), ["succeeded", "succeeded", "succeeded"]);
    assert_eq!(get(&node, "/tasks/4")["details"]["deletedTasks"], 2);
    let (status, refusal) = node.foreign(Method::DELETE, "/tasks", &Value::Null);
    assert_eq!((status.as_u16(), &refusal["code"]), (400, &"missing_task_filters".into()));
}

#[tokio::test(start_paused = true)]
async fn disks_are_exchanged_and_older_ones_come_back() {
    let (first, second) = (node(), node());
    add(&first, 1, Duration::from_secs(1)).await;
    first.suffer(Fault::KeepCopy);
    add(&first, 2, Duration::from_secs(1)).await;
    let uid = "6062abda-a5aa-4414-ac91-ecd7944c0f81";
    let key = json!({"uid": uid, "actions": ["version"], "indexes": ["*"], "expiresAt": null});
    post(&first, "/keys", &key);
    first.swap_disks(&second);
    assert_eq!(get(&first, "/indexes/m")["code"], "index_not_found");
    assert_eq!(get(&second, "/indexes/m/stats")["numberOfDocuments"], 2);
    assert_eq!(get(&second, &format!("/keys/{uid}"))["uid"], uid);
    first.suffer(Fault::OldDisk);
    assert_eq!(get(&first, "/indexes/m/stats")["numberOfDocuments"], 1);
    assert_eq!(get(&first, &format!("/keys/{uid}"))["code"], "api_key_not_found");
}

#[tokio::test(start_paused = true)]
async fn keys_have_the_uid_that_their_maker_gives_them() {
    let node = node();
    let uid = "6062abda-a5aa-4414-ac91-ecd7944c0f81";
    let key = json!({
        "uid": uid, "name": "a", "actions": ["version"], "indexes": ["*"], "expiresAt": null,
    });
    assert_eq!(node.foreign(Method::POST, "/keys", &key).0, StatusCode::CREATED);
    let (status, again) = node.foreign(Method::POST, "/keys", &key);
    assert_eq!((status.as_u16(), &again["code"]), (409, &"api_key_already_exists".into()));
    let path = format!("/keys/{uid}");
    node.foreign(Method::PATCH, &path, &json!({"name": "b"}));
    assert_eq!(get(&node, &path)["name"], "b");
    assert_eq!(get(&node, "/keys")["total"], 1);
    let (status, body) = node.foreign(Method::DELETE, &path, &Value::Null);
    assert_eq!((status.as_u16(), body), (204, Value::Null));
    assert_eq!(node.foreign(Method::GET, &path, &Value::Null).0, StatusCode::NOT_FOUND);
    node.without_keys();
    let (status, refusal) = node.foreign(Method::GET, &path, &Value::Null);
    assert_eq!((status.as_u16(), &refusal["code"]), (401, &"missing_master_key".into()));
}

/// What a real node does with two primary keys.
#[tokio::test(start_paused = true)]
async fn an_index_with_documents_keeps_its_primary_key() {
    let node = node();
    add(&node, 1, Duration::from_secs(1)).await;
    let rekey =
        |key: &str| node.foreign(Method::PATCH, "/indexes/m", &json!({"primaryKey": key})).1;
    let other = rekey("other")["taskUid"].clone();
    let same = rekey("id")["taskUid"].clone();
    let path = "/indexes/m/documents?primaryKey=other";
    let documents = post(&node, path, &json!([{"id": 2, "other": 2}]))["taskUid"].clone();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let code = |uid: &Value| get(&node, &format!("/tasks/{uid}"))["error"]["code"].clone();
    assert_eq!(code(&other), "index_primary_key_already_exists");
    assert_eq!(code(&same), Value::Null);
    assert_eq!(code(&documents), "index_primary_key_already_exists");
    assert_eq!(get(&node, "/indexes/m/stats")["numberOfDocuments"], 1);
}
