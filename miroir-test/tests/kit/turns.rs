//! Swaps and renames take their turn among the tasks of their indexes, as on one node.

use std::time::Duration;

use http::Method;
use miroir_core::quorum::WriteQuorum;
use miroir_test::cluster::{Shape, SimCluster};
use miroir_test::faults::Fault;
use serde_json::{Value, json};
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_mins(5);

async fn send(cluster: &SimCluster, method: Method, path: &str, body: Value) -> u64 {
    let answer = cluster.request(method.clone(), path, (!body.is_null()).then_some(body)).await;
    assert!([200, 202].contains(&answer.status), "{method} {path}: {}", answer.body);
    answer.body["taskUid"].as_u64().unwrap()
}

async fn add(cluster: &SimCluster, index: &str, ids: std::ops::Range<u32>) -> u64 {
    let path = format!("/indexes/{index}/documents?primaryKey=id");
    let documents = ids.map(|id| json!({"id": format!("d{id}")})).collect();
    send(cluster, Method::POST, &path, documents).await
}

async fn swap(cluster: &SimCluster) -> u64 {
    let body = json!([{"indexes": ["live", "next"]}]);
    send(cluster, Method::POST, "/swap-indexes", body).await
}

async fn cancel(cluster: &SimCluster, uids: &[u64]) -> Value {
    let uids: Vec<String> = uids.iter().map(u64::to_string).collect();
    let path = format!("/tasks/cancel?uids={}", uids.join(","));
    let task = send(cluster, Method::POST, &path, Value::Null).await;
    assert_eq!(ended(cluster, task).await, "succeeded");
    let task = cluster.request(Method::GET, &format!("/tasks/{task}"), None).await;
    task.body["details"]["canceledTasks"].clone()
}

async fn ended(cluster: &SimCluster, task: u64) -> String {
    cluster.wait(task, PATIENCE).await.unwrap_or_else(|| panic!("task {task}"))
}

async fn status(cluster: &SimCluster, task: u64) -> Value {
    let answer = cluster.request(Method::GET, &format!("/tasks/{task}"), None).await;
    answer.body["status"].clone()
}

/// How many documents an index has; -1: there is no such index.
async fn count(cluster: &SimCluster, index: &str) -> i64 {
    let path = format!("/indexes/{index}/documents");
    let answer = cluster.request(Method::GET, &path, None).await;
    if answer.status == 404 { -1 } else { answer.body["total"].as_i64().unwrap() }
}

/// `live` has two documents, `next` none; from now on nodes are slow.
async fn begin(seed: u64) -> SimCluster {
    let shape =
        Shape { shards: 6, groups: 1, rf: 2, nodes_per_group: 3, quorum: WriteQuorum::Auto };
    let cluster = SimCluster::new(seed, shape).await;
    let made = send(&cluster, Method::POST, "/indexes", json!({"uid": "next"})).await;
    assert_eq!(ended(&cluster, made).await, "succeeded");
    let filled = add(&cluster, "live", 0..2).await;
    assert_eq!(ended(&cluster, filled).await, "succeeded");
    for node in &cluster.nodes {
        let (from, to) = (Duration::from_secs(5), Duration::from_secs(6));
        node.suffer(Fault::SlowTasks { from, to });
    }
    cluster
}

#[tokio::test(start_paused = true)]
async fn an_index_that_is_filled_and_swapped_in_is_not_seen_half_full() {
    for restarts in [false, true] {
        let cluster = begin(1).await;
        let filled = add(&cluster, "next", 0..10).await;
        let swapped = swap(&cluster).await;
        for _ in 0..8 {
            assert_eq!(status(&cluster, swapped).await, "enqueued");
            assert_eq!((count(&cluster, "live").await, count(&cluster, "next").await), (2, 0));
            sleep(Duration::from_millis(500)).await;
        }
        if restarts {
            cluster.restart().await;
        }
        assert_eq!(ended(&cluster, filled).await, "succeeded");
        assert_eq!(ended(&cluster, swapped).await, "succeeded");
        assert_eq!((count(&cluster, "live").await, count(&cluster, "next").await), (10, 2));
        // The task that came before has the name that its index has now.
        let task = cluster.request(Method::GET, &format!("/tasks/{filled}"), None).await;
        assert_eq!(task.body["indexUid"], "live");
        cluster.end();
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_a_swap_is_about_the_index_that_has_the_name_then() {
    let cluster = begin(2).await;
    let filled = add(&cluster, "next", 0..10).await;
    let swapped = swap(&cluster).await;
    let renamed = send(&cluster, Method::PATCH, "/indexes/next", json!({"uid": "old"})).await;
    let written = add(&cluster, "live", 20..21).await;
    // The write had the names change, so that nothing before it can be undone.
    assert_eq!(cancel(&cluster, &[filled, swapped, renamed]).await, 0);
    for task in [filled, swapped, renamed, written] {
        assert_eq!(ended(&cluster, task).await, "succeeded", "{task}");
    }
    let counts = [count(&cluster, "live").await, count(&cluster, "old").await];
    assert_eq!((counts, count(&cluster, "next").await), ([11, 2], -1));
    cluster.end();
}

#[tokio::test(start_paused = true)]
async fn a_swap_that_waits_is_canceled_or_fails_with_what_it_waits_for() {
    let cluster = begin(3).await;
    let filled = add(&cluster, "next", 0..10).await;
    let swapped = swap(&cluster).await;
    assert_eq!(cancel(&cluster, &[swapped, filled]).await, 2);
    for task in [filled, swapped] {
        assert_eq!(status(&cluster, task).await, "canceled");
    }
    assert_eq!((count(&cluster, "live").await, count(&cluster, "next").await), (2, 0));
    // An index that is made by what is canceled is not there when its new name comes.
    let made = add(&cluster, "brief", 0..3).await;
    let renamed = send(&cluster, Method::PATCH, "/indexes/brief", json!({"uid": "other"})).await;
    assert_eq!(cancel(&cluster, &[made]).await, 1);
    assert_eq!(ended(&cluster, renamed).await, "failed");
    let task = cluster.request(Method::GET, &format!("/tasks/{renamed}"), None).await;
    assert_eq!(task.body["error"]["message"], "Index `brief` not found.");
    assert_eq!((count(&cluster, "brief").await, count(&cluster, "other").await), (-1, -1));
    cluster.end();
}

/// What a later task was decided by is not canceled any more.
#[tokio::test(start_paused = true)]
async fn what_a_later_task_took_for_done_is_not_canceled() {
    let cluster = begin(4).await;
    let made = add(&cluster, "new", 0..3).await;
    let again = send(&cluster, Method::POST, "/indexes", json!({"uid": "new"})).await;
    assert_eq!(cancel(&cluster, &[made]).await, 0);
    assert_eq!(
        (ended(&cluster, made).await, ended(&cluster, again).await),
        ("succeeded".to_owned(), "failed".to_owned())
    );
    let made = add(&cluster, "third", 0..3).await;
    let path = "/indexes/third/documents/d1";
    let deleted = send(&cluster, Method::DELETE, path, Value::Null).await;
    assert_eq!(cancel(&cluster, &[made]).await, 0);
    assert_eq!(ended(&cluster, deleted).await, "succeeded");
    assert_eq!(count(&cluster, "third").await, 2);
    cluster.end();
}

#[tokio::test(start_paused = true)]
async fn documents_that_are_canceled_leave_no_primary_key() {
    let cluster = begin(5).await;
    let first = add(&cluster, "next", 0..3).await;
    let second = add(&cluster, "next", 3..6).await;
    assert_eq!(cancel(&cluster, &[first, second]).await, 2);
    for task in [first, second] {
        assert_eq!(ended(&cluster, task).await, "canceled");
    }
    let index = cluster.request(Method::GET, "/indexes/next", None).await;
    assert_eq!((index.status, &index.body["primaryKey"]), (200, &Value::Null));
    let path = "/indexes/next/documents?primaryKey=isbn";
    let other = send(&cluster, Method::POST, path, json!([{"isbn": "a", "id": 3}])).await;
    assert_eq!(ended(&cluster, other).await, "succeeded");
    assert_eq!(count(&cluster, "next").await, 1);
    cluster.end();
}

/// Which mistakes of a swap one node names: all indexes that are missing, once and sorted, before names
/// that are taken.
#[tokio::test(start_paused = true)]
async fn a_swap_names_all_that_is_wrong_as_one_node_does() {
    let cluster = begin(4).await;
    let (two, three) = ("Indexes `a`, `b` not found.", "Indexes `a`, `b`, `c` not found.");
    let taken = "Cannot rename `live` to `next` as the index already exists. Hint: You can remove \
                 `next` first and then do your remove.";
    let renamed = "The following indexes are being renamed but cannot because their new name \
                   conflicts with an already existing index: `x`, `next`. Renaming doesn't overwrite \
                   the other index name.";
    let made = send(&cluster, Method::POST, "/indexes", json!({"uid": "x"})).await;
    let made_too = send(&cluster, Method::POST, "/indexes", json!({"uid": "y"})).await;
    assert_eq!(ended(&cluster, made).await, "succeeded");
    assert_eq!(ended(&cluster, made_too).await, "succeeded");
    for (pairs, message) in [
        (json!([["b", "live"], ["next", "a"]]), two),
        (json!([["c", "a"], ["x", "b"]]), three),
        (json!([["next", "live"], ["a", "x"]]), "Index `a` not found."),
        (json!([["live", "next", true], ["x", "a"]]), "Index `a` not found."),
        (json!([["live", "next", true]]), taken),
        (json!([["live", "x", true], ["y", "next", true]]), renamed),
        (json!([["a", "b", true]]), "Index `a` not found."),
    ] {
        let swap = |pair: &Value| json!({"indexes": [pair[0], pair[1]], "rename": pair[2] == true});
        let body = pairs.as_array().unwrap().iter().map(swap).collect();
        let task = send(&cluster, Method::POST, "/swap-indexes", body).await;
        assert_eq!(ended(&cluster, task).await, "failed");
        let task = cluster.request(Method::GET, &format!("/tasks/{task}"), None).await;
        assert_eq!(task.body["error"]["message"], message);
    }
}
