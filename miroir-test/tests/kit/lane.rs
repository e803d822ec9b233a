//! Writes in the lane of their index: their deadline, their quorum, their order.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use miroir_api::IndexUid;
use miroir_core::quorum::WriteQuorum;
use miroir_pipeline::cluster::ClusterState;
use miroir_store::{IndexEntry, TaskQuery};
use miroir_test::cluster::{Answer, NODE_BODY, Shape, SimCluster};
use miroir_test::faults::{Fault, Flaky};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const DOCUMENTS: &str = "/indexes/main/documents";
const SHAPE: Shape =
    Shape { shards: 6, groups: 1, rf: 2, nodes_per_group: 3, quorum: WriteQuorum::Auto };
/// Longer than any request may take.
const TOO_LONG: Duration = Duration::from_secs(70);

fn state(cluster: &SimCluster) -> Arc<ClusterState> {
    Arc::clone(&cluster.miroir().cluster.state)
}

fn documents(from: u32, count: u32) -> Value {
    (from..from + count).map(|n| json!({"id": format!("d{n}"), "v": n, "text": "word"})).collect()
}

/// A cluster whose index `main` has 20 documents, with nothing to do.
async fn filled(seed: u64) -> SimCluster {
    let cluster = SimCluster::new(seed, SHAPE).await;
    let body = json!({"uid": "main", "primaryKey": "id"});
    cluster.request(Method::POST, "/indexes", Some(body)).await;
    let answer = cluster.request(Method::POST, DOCUMENTS, Some(documents(0, 20))).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    cluster.quiesce(Duration::from_mins(1)).await.unwrap();
    cluster
}

async fn tasks(cluster: &SimCluster) -> u64 {
    let query = TaskQuery { limit: 1, ..TaskQuery::default() };
    cluster.stores.tasks.list(query).await.unwrap().total
}

fn node_tasks(cluster: &SimCluster) -> Vec<usize> {
    cluster.nodes.iter().map(|node| node.inspect(|disk| disk.tasks.len())).collect()
}

fn end(cluster: &SimCluster) {
    cluster.life().end();
    state(cluster).stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_time_ends_at_the_gate_leaves_no_trace() {
    let cluster = filled(31).await;
    let state = state(&cluster);
    let before = (tasks(&cluster).await, node_tasks(&cluster));
    let gate = state.sequencer.exclusive("main").await;
    let writes = (0..8).map(|n| cluster.request(Method::POST, DOCUMENTS, Some(documents(n, 30))));
    let begun = Instant::now();
    for answer in futures_util::future::join_all(writes).await {
        assert_eq!(answer.code(), "miroir_deadline_exceeded", "{answer:?}");
    }
    assert!(begun.elapsed() < TOO_LONG, "nobody waited for the gate any longer");
    sleep(TOO_LONG).await;
    drop(gate);
    sleep(TOO_LONG).await;
    assert_eq!((tasks(&cluster).await, node_tasks(&cluster)), before);
    assert!(state.staleness.load().is_empty(), "{:?}", state.staleness.load());
    assert!(!state.leadership.has_changes(), "a write is held in memory");
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waited_is_split_by_the_primary_key_of_then() {
    let cluster = SimCluster::new(37, SHAPE).await;
    cluster.request(Method::POST, "/indexes", Some(json!({"uid": "main"}))).await;
    cluster.quiesce(Duration::from_mins(1)).await.unwrap();
    let state = state(&cluster);
    let key = async |key: &str| {
        let entry = state.catalog.get(&IndexUid::new("main").unwrap()).unwrap();
        let change =
            |old: &IndexEntry| IndexEntry { primary_key: Some(key.to_owned()), ..old.clone() };
        state.catalog.change(&entry, change).await.unwrap();
    };
    key("some_id").await;
    let gate = state.sequencer.exclusive("main").await;
    let documents = (0..20).map(|n| json!({"some_id": n, "key": format!("k{n}")})).collect();
    let write = cluster.request(Method::POST, DOCUMENTS, Some(documents));
    let change = async {
        // By then it is planned, and waits.
        sleep(Duration::from_millis(50)).await;
        key("key").await;
        drop(gate);
    };
    let (answer, ()) = tokio::join!(write, change);
    assert_eq!(answer.status, 202, "{answer:?}");
    cluster.quiesce(Duration::from_mins(1)).await.unwrap();
    for n in 0..20 {
        let path = format!("{DOCUMENTS}/k{n}");
        let found = cluster.request(Method::GET, &path, None).await;
        assert_eq!((found.status, &found.body["some_id"]), (200, &json!(n)), "{path}: {found:?}");
    }
    end(&cluster);
}

async fn timed(cluster: &SimCluster, from: u32) -> (Answer, Duration) {
    let begun = Instant::now();
    let answer = cluster.request(Method::POST, DOCUMENTS, Some(documents(from, 6))).await;
    (answer, begun.elapsed())
}

/// Enough writes to know what the nodes usually take.
async fn usual(cluster: &SimCluster) {
    for n in 0..30 {
        assert_eq!(timed(cluster, n).await.0.status, 202);
    }
    cluster.quiesce(Duration::from_mins(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_costs_one_short_wait_and_refuses_nothing() {
    for known in [false, true] {
        let cluster = filled(32).await;
        if known {
            usual(&cluster).await;
        }
        let state = state(&cluster);
        cluster.nodes[1].suffer(Fault::Hang);
        let (first, took) = timed(&cluster, 100).await;
        assert_eq!(first.status, 202, "{first:?}");
        // What it usually takes is known, or nothing is.
        let grace = if known { 150 } else { 1_100 };
        assert!(took < Duration::from_millis(grace), "{took:?}");
        // On record, in the store too, before the client heard of it.
        let rows = cluster.stores.replicas.list().await.unwrap();
        assert!(!rows.is_empty() && rows.iter().all(|row| row.node.as_str() == "n1"), "{rows:?}");
        assert_eq!(rows.len(), state.staleness.load().len());
        for n in 0..40 {
            let (next, took) = timed(&cluster, 200 + n).await;
            assert_eq!(next.status, 202, "{next:?}");
            assert!(took < Duration::from_millis(50), "write {n}: {took:?}");
            let search = Some(json!({"limit": 1000}));
            let path = format!("{DOCUMENTS}/fetch");
            let found = cluster.request(Method::POST, &path, search).await;
            assert!(found.complete(), "{found:?}");
            sleep(Duration::from_millis(500)).await;
        }
        cluster.quiesce(Duration::from_mins(5)).await.unwrap();
        same_on_all(&cluster);
        end(&cluster);
    }
}

/// Every owner of a shard has the same documents.
fn same_on_all(cluster: &SimCluster) {
    let mut copies = std::collections::BTreeMap::<String, Vec<Value>>::new();
    for node in &cluster.nodes {
        node.inspect(|disk| {
            for (id, document) in &disk.indexes["main"].documents {
                copies.entry(id.clone()).or_default().push(Value::Object(document.clone()));
            }
        });
    }
    for (id, copies) in copies {
        assert!(copies.len() == 2 && copies[0] == copies[1], "{id}: {copies:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_acknowledgement_takes_its_mark_away_without_a_copy() {
    let cluster = filled(33).await;
    let state = state(&cluster);
    let mut late = 0;
    for n in 0..60 {
        // It takes every write when it comes, and says so up to two seconds later.
        cluster.nodes[2].suffer(Fault::Flaky(Flaky { slow: 1000, ..Flaky::default() }));
        let heal = async {
            sleep(Duration::from_millis(10)).await;
            cluster.nodes[2].suffer(Fault::Heal);
        };
        let ((answer, took), ()) = tokio::join!(timed(&cluster, 6 * n), heal);
        assert_eq!(answer.status, 202, "{answer:?}");
        assert!(took < Duration::from_millis(1_100), "{took:?}");
        late += usize::from(!state.staleness.load().is_empty());
        sleep(Duration::from_secs(3)).await;
        assert!(state.staleness.load().is_empty(), "{:?}", state.staleness.load());
    }
    assert!(late > 5, "{late} were late");
    cluster.quiesce(Duration::from_mins(1)).await.unwrap();
    // A copy would be a task of the node that no write made.
    let foreign = cluster.nodes[2].inspect(|disk| {
        let views = disk.tasks.iter().map(miroir_test::node::Task::view);
        views
            .filter(|task| {
                task["type"] == "documentAdditionOrUpdate" && task["customMetadata"].is_null()
            })
            .count()
    });
    assert_eq!(foreign, 0, "documents were copied");
    same_on_all(&cluster);
    // And it is on record what the node calls the tasks.
    let query = TaskQuery { limit: 5, ..TaskQuery::default() };
    let newest = cluster.stores.tasks.list(query).await.unwrap().tasks;
    assert!(newest.iter().all(|task| task.status == miroir_api::meili::TaskStatus::Succeeded));
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_all_nodes_are_waited_for() {
    let shape = Shape { quorum: WriteQuorum::Majority, ..SHAPE };
    let cluster = SimCluster::new(34, shape).await;
    let body = json!({"uid": "main", "primaryKey": "id"});
    cluster.request(Method::POST, "/indexes", Some(body)).await;
    cluster.quiesce(Duration::from_mins(1)).await.unwrap();
    cluster.nodes[0].suffer(Fault::Hang);
    let (answer, took) = timed(&cluster, 0).await;
    assert_eq!(answer.code(), "miroir_no_quorum", "{answer:?}");
    assert!(took > Duration::from_secs(2), "given up after {took:?}");
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_planned_anew_where_its_index_changed_before_its_turn() {
    let cluster = SimCluster::new(35, SHAPE).await;
    cluster.request(Method::POST, "/indexes", Some(json!({"uid": "main"}))).await;
    cluster.quiesce(Duration::from_mins(1)).await.unwrap();
    let state = state(&cluster);
    let gate = state.sequencer.exclusive("main").await;
    let body = json!([{"id": "a", "sku_id": "x"}]);
    let query = format!("{DOCUMENTS}?primaryKey=id");
    let write = cluster.request(Method::POST, &query, Some(body));
    let change = async {
        sleep(Duration::from_secs(1)).await;
        let name = IndexUid::new("main").unwrap();
        let rekey = |entry: &miroir_store::IndexEntry| miroir_store::IndexEntry {
            primary_key: Some("sku_id".to_owned()),
            ..entry.clone()
        };
        let listed = state.catalog.get(&name).unwrap();
        state.catalog.change(&listed, rekey).await.unwrap();
        drop(gate);
    };
    let (answer, ()) = tokio::join!(write, change);
    // As on one node, where the key was there first.
    assert_eq!(answer.status, 202, "{answer:?}");
    let task = answer.body["taskUid"].as_u64().unwrap();
    let path = format!("/tasks/{task}");
    assert_eq!(cluster.wait(task, Duration::from_secs(30)).await.as_deref(), Some("failed"));
    let task = cluster.request(Method::GET, &path, None).await;
    assert_eq!(task.body["error"]["code"], "index_primary_key_already_exists", "{task:?}");
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_a_node_takes_at_once_goes_in_several_calls() {
    let cluster = filled(36).await;
    for node in &cluster.nodes {
        node.suffer(Fault::BodyLimit(NODE_BODY + 100));
    }
    let before = node_tasks(&cluster);
    let answer = cluster.request(Method::POST, DOCUMENTS, Some(documents(0, 1000))).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let add = answer.body["taskUid"].as_u64().unwrap();
    let ids: Value = (0..1000).map(|n| json!(format!("d{n}"))).collect();
    let path = format!("{DOCUMENTS}/delete-batch");
    let answer = cluster.request(Method::POST, &path, Some(ids)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let delete = answer.body["taskUid"].as_u64().unwrap();
    for task in [add, delete] {
        assert_eq!(cluster.wait(task, TOO_LONG).await.as_deref(), Some("succeeded"));
    }
    let shown = cluster.request(Method::GET, &format!("/tasks/{add}"), None).await.body;
    assert_eq!(shown["details"], json!({"receivedDocuments": 1000, "indexedDocuments": 1000}));
    let shown = cluster.request(Method::GET, &format!("/tasks/{delete}"), None).await.body;
    assert_eq!(shown["details"]["deletedDocuments"], 1000, "{shown}");
    for (before, after) in before.into_iter().zip(node_tasks(&cluster)) {
        assert!(after > before + 4, "{before} tasks, and then {after}");
    }
    assert!(state(&cluster).staleness.load().is_empty());
    end(&cluster);
}
