//! Tasks that end unlike on the replicas of a shard, or whose end nobody knows.

use std::time::Duration;

use http::Method;
use miroir_core::quorum::WriteQuorum;
use miroir_core::topology::NodeStatus;
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_test::cluster::{Shape, SimCluster};
use miroir_test::faults::Fault;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const DOCUMENTS: &str = "/indexes/main/documents";
const PATIENCE: Duration = Duration::from_mins(5);
const SHARDS: u32 = 6;
const FULL: Fault = Fault::FailsTasks { per_mille: 1000, code: "no_space_left_on_device" };
const FORGETFUL: Fault = Fault::ForgetsTasks { every: Duration::ZERO };

/// Three nodes with two copies of each shard, and an index with so many documents of a length.
async fn filled(seed: u64, count: u32, length: usize) -> SimCluster {
    let shape =
        Shape { shards: SHARDS, groups: 1, rf: 2, nodes_per_group: 3, quorum: WriteQuorum::Auto };
    let cluster = SimCluster::new(seed, shape).await;
    let body = json!({"uid": "main", "primaryKey": "id"});
    let made = cluster.request(Method::POST, "/indexes", Some(body)).await;
    let made = made.body["taskUid"].as_u64().unwrap();
    assert_eq!(cluster.wait(made, PATIENCE).await.as_deref(), Some("succeeded"));
    let text = "x".repeat(length);
    let all = (0..count).map(|n| json!({"id": format!("d{n}"), "text": text})).collect();
    let task = add(&cluster, all).await;
    assert_eq!(cluster.wait(task, PATIENCE).await.as_deref(), Some("succeeded"));
    cluster.quiesce(PATIENCE).await.unwrap();
    cluster
}

async fn add(cluster: &SimCluster, documents: Value) -> u64 {
    let answer = cluster.request(Method::POST, DOCUMENTS, Some(documents)).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.body["taskUid"].as_u64().unwrap()
}

/// How many documents are read, however often it is asked.
async fn count(cluster: &SimCluster) -> usize {
    let mut seen = None;
    for _ in 0..20 {
        let all = Some(json!({"limit": 1000}));
        let answer = cluster.request(Method::POST, &format!("{DOCUMENTS}/fetch"), all).await;
        assert!(answer.complete(), "{answer:?}");
        let now = answer.body["results"].as_array().unwrap().len();
        assert_eq!(*seen.get_or_insert(now), now, "replicas differ");
        sleep(Duration::from_millis(7)).await;
    }
    seen.unwrap()
}

fn rows(cluster: &SimCluster) -> Vec<StaleReplica> {
    cluster.miroir().cluster.state.staleness.load().rows().cloned().collect()
}

fn end(cluster: &SimCluster) {
    cluster.life().end();
    cluster.miroir().cluster.state.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_index_is_indexing_until_its_task_has_ended() {
    let cluster = filled(3, 2, 1).await;
    let is_indexing = async || {
        let one = cluster.request(Method::GET, "/indexes/main/stats", None).await;
        let all = cluster.request(Method::GET, "/stats", None).await;
        assert_eq!(one.body["isIndexing"], all.body["indexes"]["main"]["isIndexing"]);
        one.body["isIndexing"].as_bool().unwrap()
    };
    assert!(!is_indexing().await);
    // One is slow; what the others say of themselves is not what is asked.
    let (from, to) = (Duration::from_secs(5), Duration::from_secs(6));
    cluster.nodes[0].suffer(Fault::SlowTasks { from, to });
    let task = add(&cluster, (0..30).map(|id| json!({"id": id})).collect()).await;
    let mut seen = 0;
    loop {
        let indexing = is_indexing().await;
        let answer = cluster.request(Method::GET, &format!("/tasks/{task}"), None).await;
        match answer.body["status"].as_str() {
            Some("processing") if seen == 0 => seen = u32::from(indexing),
            Some("processing") => assert!(indexing),
            Some("enqueued") => {}
            _ => break,
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert!(seen > 0 && !is_indexing().await);
    end(&cluster);
}

/// A node goes away with a write in its queue and runs out of room when it works on it: an empty
/// queue does not make it complete.
#[tokio::test(start_paused = true)]
async fn a_node_is_read_again_when_its_tasks_succeeded_and_not_when_its_queue_is_empty() {
    for fails in [true, false] {
        let cluster = filled(21, 20, 1).await;
        let slow = Duration::from_secs(3);
        cluster.nodes[1].suffer(Fault::SlowTasks { from: slow, to: slow });
        let more = (20..40).map(|n| json!({"id": format!("d{n}")})).collect();
        let task = add(&cluster, more).await;
        sleep(Duration::from_millis(100)).await;
        cluster.nodes[1].suffer(Fault::Crash);
        assert_eq!(cluster.wait(task, PATIENCE).await.as_deref(), Some("succeeded"));
        let waits = rows(&cluster);
        assert!(!waits.is_empty());
        assert!(waits.iter().all(|row| row.kind == CatchUp::Pending && row.awaits.len() == 1));
        if fails {
            cluster.nodes[1].suffer(FULL);
        }
        cluster.nodes[1].suffer(Fault::Heal);
        let back = Instant::now();
        let mut copies = false;
        while back.elapsed() < Duration::from_secs(15) {
            assert_eq!(count(&cluster).await, 40);
            copies |= rows(&cluster).iter().any(|row| row.kind == CatchUp::Shard);
        }
        assert_eq!(copies, fails, "what succeeded is not copied");
        cluster.nodes[1].suffer(Fault::Mend);
        cluster.quiesce(PATIENCE).await.unwrap();
        assert_eq!(count(&cluster).await, 40);
        end(&cluster);
    }
}

/// As one whose disk is so full that it cannot note that a task failed: it tries for ever.
#[tokio::test(start_paused = true)]
async fn a_node_that_ends_nothing_holds_up_no_task_and_is_not_read() {
    let cluster = filled(26, 20, 1).await;
    let slow = Duration::from_secs(100);
    cluster.nodes[1].suffer(Fault::SlowTasks { from: slow, to: slow });
    let first = add(&cluster, json!([{"id": "d1", "text": "new"}, {"id": "w"}, {"id": "v"}])).await;
    let begun = Instant::now();
    assert_eq!(cluster.wait(first, PATIENCE).await.as_deref(), Some("succeeded"));
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(55) && took < Duration::from_secs(70), "{took:?}");
    assert!(rows(&cluster).iter().all(|row| row.kind == CatchUp::Pending));
    assert_eq!(count(&cluster).await, 22);
    // Nobody waits a minute again.
    let again = Instant::now();
    let next = (0..20).map(|n| json!({"id": format!("n{n}")})).collect();
    let second = add(&cluster, next).await;
    assert_eq!(cluster.wait(second, PATIENCE).await.as_deref(), Some("succeeded"));
    assert!(again.elapsed() < Duration::from_secs(5), "{:?}", again.elapsed());
    assert_eq!(count(&cluster).await, 42);
    cluster.nodes[1].suffer(Fault::Mend);
    while !rows(&cluster).is_empty() {
        assert!(rows(&cluster).iter().all(|row| row.kind == CatchUp::Pending), "nothing is copied");
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(100)).await;
    }
    cluster.quiesce(PATIENCE).await.unwrap();
    assert_eq!(count(&cluster).await, 42);
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_every_node_forgot_is_neither_done_nor_lost() {
    let cluster = filled(24, 10, 1).await;
    for node in &cluster.nodes {
        node.suffer(FORGETFUL);
    }
    let task = add(&cluster, json!([{"id": "w"}])).await;
    assert_eq!(cluster.wait(task, PATIENCE).await.as_deref(), Some("failed"));
    let told = cluster.request(Method::GET, &format!("/tasks/{task}"), None).await.body;
    assert_eq!(told["error"]["code"], "miroir_outcome_unknown", "{told}");
    // An index shows whether it was made.
    let body = Some(json!({"uid": "other"}));
    let made = cluster.request(Method::POST, "/indexes", body).await.body["taskUid"].as_u64();
    assert_eq!(cluster.wait(made.unwrap(), PATIENCE).await.as_deref(), Some("succeeded"));
    for node in &cluster.nodes {
        node.suffer(Fault::Mend);
    }
    cluster.quiesce(PATIENCE).await.unwrap();
    assert_eq!(count(&cluster).await, 11);
    let topology = cluster.miroir().cluster.state.membership.topology();
    assert!(topology.nodes().all(|node| node.status() == NodeStatus::Active));
    end(&cluster);
}

/// Settings that are canceled while nodes are at work are those of the index where every shard has an
/// owner with them, and what came behind them went by them; else nobody has them.
#[tokio::test(start_paused = true)]
async fn settings_are_canceled_unless_what_comes_behind_them_may_be_done() {
    for (slow, status) in [(1, "succeeded"), (2, "canceled")] {
        let cluster = filled(31, 20, 1).await;
        let (from, to) = (Duration::from_secs(30), Duration::from_secs(40));
        for node in &cluster.nodes[3 - slow..] {
            node.suffer(Fault::SlowTasks { from, to });
        }
        let send = async |method, path: &str, body| {
            let answer = cluster.request(method, path, Some(body)).await;
            answer.body["taskUid"].as_u64().unwrap_or_else(|| panic!("{}", answer.body))
        };
        let text = json!({"filterableAttributes": ["text"]});
        let set = send(Method::PATCH, "/indexes/main/settings", text).await;
        let filter = json!({"filter": "text = x"});
        let deleted = send(Method::POST, &format!("{DOCUMENTS}/delete"), filter).await;
        sleep(Duration::from_secs(5)).await;
        let path = format!("/tasks/cancel?uids={set},{deleted}");
        let canceled = send(Method::POST, &path, Value::Null).await;
        assert_eq!(cluster.wait(canceled, PATIENCE).await.as_deref(), Some("succeeded"));
        assert_eq!(cluster.wait(set, PATIENCE).await.as_deref(), Some(status));
        let ended = cluster.wait(deleted, PATIENCE).await;
        assert_eq!(ended.as_deref() == Some("succeeded"), status == "succeeded", "{ended:?}");
        for node in &cluster.nodes {
            node.suffer(Fault::Mend);
        }
        cluster.quiesce(PATIENCE).await.unwrap();
        let filterable = if slow == 1 { json!(["text"]) } else { json!([]) };
        for _ in 0..10 {
            let path = "/indexes/main/settings/filterable-attributes";
            assert_eq!(cluster.request(Method::GET, path, None).await.body, filterable);
        }
        let on_nodes = cluster
            .nodes
            .iter()
            .map(|node| node.inspect(|disk| disk.indexes["main"].settings.clone()));
        let on_nodes: Vec<Value> =
            on_nodes.map(|all| all["filterableAttributes"].clone()).collect();
        assert!(on_nodes.iter().all(|list| *list == on_nodes[0]), "{on_nodes:?}");
        assert_eq!(on_nodes[0].as_array().unwrap().len(), slow % 2 + 1, "{on_nodes:?}");
        if slow == 1 {
            assert_eq!(count(&cluster).await, 0);
        }
        end(&cluster);
    }
}
