//! Indexes that no task makes after all: as on one node, there are none.

use std::time::Duration;

use http::Method;
use miroir_core::quorum::WriteQuorum;
use miroir_test::cluster::{Shape, SimCluster};
use miroir_test::faults::Fault;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_mins(5);
const FULL: &str = "no_space_left_on_device";

async fn cluster(seed: u64) -> SimCluster {
    let quorum = WriteQuorum::Auto;
    SimCluster::new(seed, Shape { shards: 6, groups: 1, rf: 2, nodes_per_group: 3, quorum }).await
}

async fn send(cluster: &SimCluster, method: Method, path: &str, body: Value) -> u64 {
    let answer = cluster.request(method.clone(), path, (!body.is_null()).then_some(body)).await;
    let accepted = if path.starts_with("/tasks") { 200 } else { 202 };
    assert_eq!(answer.status, accepted, "{method} {path}: {}", answer.body);
    answer.body["taskUid"].as_u64().unwrap()
}

/// Whether there is an index, for clients and on how many nodes.
async fn there(cluster: &SimCluster, index: &str) -> (bool, usize) {
    let answer = cluster.request(Method::GET, &format!("/indexes/{index}"), None).await;
    assert!([200, 404].contains(&answer.status), "{}", answer.body);
    let on = |node: &&miroir_test::node::FakeNode| node.inspect(|d| d.indexes.contains_key(index));
    (answer.status == 200, cluster.nodes.iter().filter(on).count())
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_accepted_leaves_no_index() {
    let mut refused = 0;
    for settings in [false, true] {
        for cut in 0..16 {
            let cluster = cluster(cut).await;
            let crash = async {
                sleep(Duration::from_micros(300 * cut)).await;
                cluster.nodes[0].suffer(Fault::Crash);
                cluster.nodes[1].suffer(Fault::Crash);
            };
            let (method, path, body) = if settings {
                (Method::PATCH, "/indexes/x/settings", json!({"stopWords": ["s"]}))
            } else {
                (Method::POST, "/indexes/x/documents", json!([{"id": 1}, {"id": 2}, {"id": 3}]))
            };
            let request = cluster.request(method, path, Some(body));
            let (answer, ()) = tokio::join!(request, crash);
            let found = there(&cluster, "x").await.0;
            cluster.quiesce(PATIENCE).await.unwrap();
            let after = there(&cluster, "x").await;
            if answer.status == 202 {
                assert_eq!((found, after), (true, (true, 3)), "{cut}");
            } else {
                refused += 1;
                assert_eq!((found, after), (false, (false, 0)), "{cut}: {answer:?}");
            }
            cluster.end();
        }
    }
    assert!(refused > 4, "{refused} were refused");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_one_node_fails_is_done_there_later() {
    let cluster = cluster(3).await;
    let made = send(&cluster, Method::POST, "/indexes", json!({"uid": "x"})).await;
    assert_eq!(cluster.wait(made, PATIENCE).await.as_deref(), Some("succeeded"));
    cluster.nodes[1].suffer(Fault::FailsTasks { per_mille: 1000, code: FULL });
    let gone = send(&cluster, Method::DELETE, "/indexes/x", Value::Null).await;
    assert_eq!(cluster.wait(gone, PATIENCE).await.as_deref(), Some("succeeded"));
    assert_eq!(there(&cluster, "x").await, (false, 1));
    cluster.nodes[1].suffer(Fault::Mend);
    cluster.quiesce(PATIENCE).await.unwrap();
    assert_eq!(there(&cluster, "x").await, (false, 0));
    cluster.end();
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_one_node_fails_succeeds_and_the_node_makes_it_later() {
    let cluster = cluster(1).await;
    let full = Fault::FailsTasks { per_mille: 1000, code: FULL };
    cluster.nodes[1].suffer(full);
    let made = send(&cluster, Method::POST, "/indexes", json!({"uid": "x"})).await;
    assert_eq!(cluster.wait(made, PATIENCE).await.as_deref(), Some("succeeded"));
    cluster.quiesce(PATIENCE).await.unwrap();
    assert_eq!(there(&cluster, "x").await, (true, 3));
    for node in &cluster.nodes {
        node.suffer(full);
    }
    let made = send(&cluster, Method::POST, "/indexes", json!({"uid": "y"})).await;
    assert_eq!(cluster.wait(made, PATIENCE).await.as_deref(), Some("failed"));
    assert!(!there(&cluster, "y").await.0, "it failed everywhere");
    cluster.quiesce(PATIENCE).await.unwrap();
    assert_eq!(there(&cluster, "y").await, (false, 0));
    // Its name is free.
    let made = send(&cluster, Method::POST, "/indexes", json!({"uid": "y"})).await;
    assert_eq!(cluster.wait(made, PATIENCE).await.as_deref(), Some("succeeded"));
    cluster.end();
}

#[tokio::test(start_paused = true)]
async fn an_index_whose_making_is_canceled_is_not_there() {
    for settings in [false, true] {
        for more in [false, true] {
            let cluster = cluster(2).await;
            for node in &cluster.nodes {
                let (from, to) = (Duration::from_secs(5), Duration::from_secs(6));
                node.suffer(Fault::SlowTasks { from, to });
            }
            let documents = json!([{"id": 1}, {"id": 2}, {"id": 3}]);
            let task = if settings {
                let body = json!({"stopWords": ["s"]});
                send(&cluster, Method::PATCH, "/indexes/x/settings", body).await
            } else {
                send(&cluster, Method::POST, "/indexes/x/documents", documents.clone()).await
            };
            let path = format!("/tasks/cancel?uids={task}");
            send(&cluster, Method::POST, &path, Value::Null).await;
            let other = if more {
                Some(send(&cluster, Method::POST, "/indexes/x/documents", documents).await)
            } else {
                None
            };
            assert_eq!(cluster.wait(task, PATIENCE).await.as_deref(), Some("canceled"));
            assert_eq!(there(&cluster, "x").await.0, more, "{settings}");
            if let Some(other) = other {
                assert_eq!(cluster.wait(other, PATIENCE).await.as_deref(), Some("succeeded"));
            }
            cluster.quiesce(PATIENCE).await.unwrap();
            assert_eq!(there(&cluster, "x").await, (more, if more { 3 } else { 0 }), "{settings}");
            // What is canceled later takes nothing away.
            let again = send(&cluster, Method::POST, "/indexes", json!({"uid": "x"})).await;
            cluster.wait(again, PATIENCE).await;
            for node in &cluster.nodes {
                let (from, to) = (Duration::from_secs(5), Duration::from_secs(6));
                node.suffer(Fault::SlowTasks { from, to });
            }
            let path = "/indexes/x/documents";
            let last = send(&cluster, Method::POST, path, json!([{"id": 9}])).await;
            let path = format!("/tasks/cancel?uids={last}");
            send(&cluster, Method::POST, &path, Value::Null).await;
            assert_eq!(cluster.wait(last, PATIENCE).await.as_deref(), Some("canceled"));
            assert!(there(&cluster, "x").await.0);
            cluster.end();
        }
    }
}

/// Nodes that have still long to do come to the making of an index late.
#[tokio::test(start_paused = true)]
async fn an_index_that_no_task_has_made_yet_is_not_found_at_once() {
    let cluster = cluster(4).await;
    let slow = Fault::SlowTasks { from: Duration::from_mins(1), to: Duration::from_mins(1) };
    for node in &cluster.nodes {
        node.suffer(slow);
    }
    let path = "/indexes/x/documents";
    let written = send(&cluster, Method::POST, path, json!([{"id": 1}, {"id": 2}])).await;
    // This one is decided without nodes.
    assert_eq!(send(&cluster, Method::POST, path, json!([])).await, written + 1);
    let begun = Instant::now();
    let query = json!({"q": "", "limit": 1});
    let reads = [
        (Method::POST, "/search", Some(query)),
        (Method::GET, "/search?q=a", None),
        (Method::GET, "/documents", None),
        (Method::GET, "/documents/1", None),
        (Method::POST, "/documents/fetch", Some(json!({"ids": [1]}))),
        (Method::GET, "/settings", None),
        (Method::GET, "/settings/stop-words", None),
    ];
    let read = async |(method, path, body): &(Method, &str, Option<Value>)| {
        let path = format!("/indexes/x{path}");
        (cluster.request(method.clone(), &path, body.clone()).await, path)
    };
    for request in &reads {
        let (answer, path) = read(request).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (404, &json!("index_not_found")),
            "{path}"
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(cluster.wait(written, PATIENCE).await.as_deref(), Some("succeeded"));
    for request in &reads[..2] {
        let (answer, path) = read(request).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
    cluster.end();
}

/// Nobody follows the tasks of the making that a first write causes.
#[tokio::test(start_paused = true)]
async fn a_node_that_fails_to_make_an_index_for_a_first_write_makes_it_later() {
    let cluster = cluster(6).await;
    cluster.nodes[1].suffer(Fault::FailsTasks { per_mille: 1000, code: FULL });
    let documents: Value = (0..30).map(|id| json!({"id": id})).collect();
    let written = send(&cluster, Method::POST, "/indexes/x/documents", documents).await;
    assert_eq!(cluster.wait(written, PATIENCE).await.as_deref(), Some("succeeded"));
    assert_eq!(there(&cluster, "x").await, (true, 2));
    cluster.nodes[1].suffer(Fault::Mend);
    cluster.quiesce(PATIENCE).await.unwrap();
    assert_eq!(there(&cluster, "x").await, (true, 3));
    // Nor does anything say it of an index without documents, but the settings that nodes show.
    cluster.nodes[1].suffer(Fault::FailsTasks { per_mille: 1000, code: FULL });
    let empty = send(&cluster, Method::POST, "/indexes/y/documents", json!([])).await;
    assert_eq!(cluster.wait(empty, PATIENCE).await.as_deref(), Some("succeeded"));
    cluster.nodes[1].suffer(Fault::Mend);
    sleep(Duration::from_mins(6)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    assert_eq!(there(&cluster, "y").await, (true, 3));
    cluster.end();
}
