//! Single failures of a simulated cluster, each with what must hold while it lasts and afterwards.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use miroir_api::{IndexUid, NodeId};
use miroir_control::broadcast::drift::DriftCheck;
use miroir_control::runtime::{self, Peers};
use miroir_core::quorum::WriteQuorum;
use miroir_core::topology::NodeStatus;
use miroir_pipeline::context::Principal;
use miroir_test::cluster::{Answer, Shape, SimCluster};
use miroir_test::faults::Fault;
use miroir_test::history::History;
use miroir_test::node::FakeNode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

const DOCUMENTS: &str = "/indexes/main/documents";
const PATIENCE: Duration = Duration::from_mins(5);

fn shape(groups: u32, rf: u32) -> Shape {
    Shape { shards: 6, groups, rf, nodes_per_group: 3, quorum: WriteQuorum::Auto }
}

async fn must(cluster: &SimCluster, method: Method, path: &str, body: Value) -> Answer {
    let answer = cluster.request(method, path, Some(body)).await;
    assert_eq!(answer.status, 202, "{path}: {}", answer.body);
    let task = answer.body["taskUid"].as_u64().unwrap();
    let status = cluster.wait(task, Duration::from_secs(30)).await;
    assert_eq!(status.as_deref(), Some("succeeded"), "{path}");
    answer
}

fn documents(numbers: std::ops::Range<u32>) -> Value {
    numbers.map(|n| json!({"id": format!("d{n}"), "v": n, "text": "word"})).collect()
}

/// A cluster whose index `main` has these documents.
async fn filled(seed: u64, shape: Shape, count: u32) -> SimCluster {
    let cluster = SimCluster::new(seed, shape).await;
    must(&cluster, Method::POST, "/indexes", json!({"uid": "main", "primaryKey": "id"})).await;
    must(&cluster, Method::PATCH, "/indexes/main/settings", json!({"stopWords": ["the"]})).await;
    must(&cluster, Method::POST, DOCUMENTS, documents(0..count)).await;
    cluster
}

/// Every way of reading must give exactly so many documents and say that none is missing.
async fn complete(cluster: &SimCluster, count: usize, when: &str) {
    let all = Some(json!({"limit": 1000}));
    let fetched = cluster.request(Method::POST, &format!("{DOCUMENTS}/fetch"), all).await;
    assert!(fetched.complete(), "{when}: {fetched:?}");
    assert_eq!(fetched.body["results"].as_array().unwrap().len(), count, "{when}");
    let body = Some(json!({"q": "word", "limit": 1000}));
    let found = cluster.request(Method::POST, "/indexes/main/search", body).await;
    assert!(found.complete(), "{when}: {found:?}");
    assert_eq!(found.body["hits"].as_array().unwrap().len(), count, "{when}");
}

pub(super) fn status(cluster: &SimCluster, at: usize) -> NodeStatus {
    let topology = cluster.miroir().cluster.state.membership.topology();
    topology.node(cluster.nodes[at].id()).unwrap().status()
}

pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The cluster is quiet, and every node holds exactly what it owns.
async fn settled(cluster: &SimCluster, count: u32) {
    cluster.quiesce(PATIENCE).await.unwrap();
    complete(cluster, count as usize, "in the end").await;
    let history = History::default();
    for n in 0..count {
        let pending = history.begin(&[format!("d{n}")], Some(u64::from(n)));
        history.acknowledged(&pending);
    }
    history.check_nodes(cluster, "main");
    history.check_catalogue(cluster, false);
    assert_eq!(history.violations(), Vec::<String>::new());
}

fn end(cluster: &SimCluster) {
    cluster.life().end();
    cluster.miroir().cluster.state.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_empty_is_rebuilt_before_it_is_read() {
    for (seed, shape) in [(1, shape(1, 2)), (2, shape(2, 1)), (3, shape(1, 3))] {
        for noticed in [true, false] {
            let cluster = filled(seed, shape, 40).await;
            cluster.nodes[1].suffer(Fault::Crash);
            if noticed {
                until("the node counts as failed", || status(&cluster, 1) == NodeStatus::Failed)
                    .await;
            }
            cluster.nodes[1].wipe();
            cluster.nodes[1].suffer(Fault::Heal);
            let back = Instant::now();
            while back.elapsed() < Duration::from_secs(20) {
                complete(&cluster, 40, "while it is rebuilt").await;
                sleep(Duration::from_millis(37)).await;
            }
            settled(&cluster, 40).await;
            end(&cluster);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_notices_an_empty_node_before_it_is_acknowledged() {
    let cluster = filled(4, shape(1, 2), 40).await;
    // Too short for any check to notice.
    cluster.nodes[2].suffer(Fault::Crash);
    cluster.nodes[2].wipe();
    cluster.nodes[2].suffer(Fault::Heal);
    let answer = cluster.request(Method::POST, DOCUMENTS, Some(documents(40..60))).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.degraded.as_deref(), Some("groups=0"));
    let task = answer.body["taskUid"].as_u64().unwrap();
    assert_eq!(cluster.wait(task, PATIENCE).await.as_deref(), Some("succeeded"));
    for _ in 0..200 {
        complete(&cluster, 60, "after the write").await;
        sleep(Duration::from_millis(23)).await;
    }
    settled(&cluster, 60).await;
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn a_node_with_an_older_copy_is_rebuilt_before_it_is_read() {
    let cluster = filled(5, shape(1, 2), 30).await;
    must(&cluster, Method::POST, "/indexes", json!({"uid": "gone"})).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    let copy = cluster.nodes[0].inspect(Clone::clone);
    must(&cluster, Method::POST, DOCUMENTS, documents(30..50)).await;
    must(&cluster, Method::PATCH, "/indexes/main/settings", json!({"stopWords": ["a"]})).await;
    let gone = cluster.request(Method::DELETE, "/indexes/gone", None).await;
    cluster.wait(gone.body["taskUid"].as_u64().unwrap(), PATIENCE).await.unwrap();
    cluster.nodes[0].suffer(Fault::Crash);
    until("the node counts as failed", || status(&cluster, 0) == NodeStatus::Failed).await;
    cluster.nodes[0].restore(copy);
    cluster.nodes[0].suffer(Fault::Heal);
    for _ in 0..300 {
        complete(&cluster, 50, "while it is rebuilt").await;
        sleep(Duration::from_millis(31)).await;
    }
    settled(&cluster, 50).await;
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_over_an_empty_node_notices() {
    let cluster = filled(6, shape(1, 2), 40).await;
    cluster.nodes[1].suffer(Fault::Crash);
    cluster.nodes[1].wipe();
    cluster.nodes[1].suffer(Fault::Heal);
    cluster.restart().await;
    for _ in 0..300 {
        complete(&cluster, 40, "after the start").await;
        sleep(Duration::from_millis(31)).await;
    }
    settled(&cluster, 40).await;
    end(&cluster);
}

/// What is asked of a cluster and cut off.
async fn ask(cluster: &SimCluster, number: usize) {
    let other = json!([{"id": "x"}]);
    let _ = match number {
        0 => cluster.request(Method::POST, "/indexes", Some(json!({"uid": "other"}))).await,
        1 => cluster.request(Method::POST, "/indexes/other/documents", Some(other)).await,
        2 => {
            let body = Some(json!({"stopWords": ["x"]}));
            cluster.request(Method::PATCH, "/indexes/other/settings", body).await
        }
        _ => cluster.request(Method::DELETE, "/indexes/main", None).await,
    };
}

/// The process dies, or the client goes away, after every 400 microseconds of making and deleting
/// an index, with one node down in every third run.
#[tokio::test(start_paused = true)]
async fn nothing_is_orphaned_wherever_making_and_deleting_an_index_is_cut_off() {
    for number in 0..4 {
        for cut in 0..20_u64 {
            let cluster = filled(100 + cut, shape(1, 2), 5).await;
            cluster.quiesce(PATIENCE).await.unwrap();
            if cut % 3 == 2 {
                cluster.nodes[1].suffer(Fault::Partition);
            }
            let after = Duration::from_micros(400 * cut);
            let whole = tokio::time::timeout(after, ask(&cluster, number)).await;
            if cut % 2 == 0 {
                cluster.restart().await;
            }
            sleep(Duration::from_millis(300)).await;
            let what = format!("request {number} cut off after {after:?}, done: {}", whole.is_ok());
            cluster.quiesce(PATIENCE).await.unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
            let history = History::default();
            history.check_catalogue(&cluster, false);
            assert_eq!(history.violations(), Vec::<String>::new(), "{what}");
            // The name can be used again, or still.
            let body = Some(documents(0..3));
            let answer = cluster.request(Method::POST, "/indexes/other/documents", body).await;
            assert_eq!(answer.status, 202, "{what}: {}", answer.body);
            end(&cluster);
        }
    }
}

fn main_index(cluster: &SimCluster) -> Arc<miroir_store::IndexEntry> {
    cluster.miroir().cluster.state.catalog.get(&IndexUid::new("main").unwrap()).unwrap()
}

fn settings(cluster: &SimCluster, at: usize) -> Value {
    cluster.nodes[at].inspect(|disk| disk.indexes["main"].settings.clone())
}

/// Changes settings of one node behind Miroir's back.
async fn meddle(cluster: &SimCluster, at: usize, words: &str) {
    let request = Request::builder()
        .method(Method::PATCH)
        .uri("/indexes/main/settings")
        .body(Full::new(Bytes::from(json!({"stopWords": [words]}).to_string())))
        .unwrap();
    cluster.nodes[at].clone().oneshot(request).await.unwrap();
    until("the node is idle", || cluster.nodes[at].inspect(|disk| disk.idle())).await;
}

#[tokio::test(start_paused = true)]
async fn settings_changed_behind_miroirs_back_are_mended() {
    let cluster = filled(7, shape(1, 2), 10).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    let shared = Arc::clone(&cluster.miroir().cluster.state);
    let right = settings(&cluster, 0);
    let version = main_index(&cluster).settings_version;
    meddle(&cluster, 0, "drift").await;
    let alone = Peers::alone();
    let look = DriftCheck::new(Arc::clone(&shared), false);
    let mend = DriftCheck::new(Arc::clone(&shared), true);
    runtime::pass(&look, &alone).await;
    assert_ne!(settings(&cluster, 0), right, "asked only to look");
    runtime::pass(&mend, &alone).await;
    assert_eq!(settings(&cluster, 0), right);
    // Seen to be written to past Miroir, the node was compared as well: it would ask one of the others.
    cluster.quiesce(PATIENCE).await.unwrap();
    // Two of three against what was committed: the committed ones are right.
    meddle(&cluster, 1, "drift").await;
    meddle(&cluster, 2, "drift").await;
    runtime::pass(&mend, &alone).await;
    for at in 0..3 {
        assert_eq!(settings(&cluster, at), right, "node {at}");
    }
    assert_eq!(main_index(&cluster).settings_version, version, "nothing was committed");
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn the_drift_check_runs_by_itself() {
    let cluster = filled(8, shape(1, 2), 10).await;
    let right = settings(&cluster, 1);
    meddle(&cluster, 1, "drift").await;
    sleep(Duration::from_mins(6)).await;
    assert_eq!(settings(&cluster, 1), right);
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn an_outage_during_a_broadcast_freezes_nothing() {
    for fault in [Fault::Hang, Fault::Partition, Fault::Crash] {
        let cluster = filled(9, shape(1, 2), 10).await;
        cluster.quiesce(PATIENCE).await.unwrap();
        let before = main_index(&cluster).settings_version;
        let body = Some(json!({"stopWords": ["new"]}));
        let answer = cluster.request(Method::PATCH, "/indexes/main/settings", body).await;
        let task = answer.body["taskUid"].as_u64().unwrap();
        for node in &cluster.nodes {
            node.suffer(fault);
        }
        // Longer than every retry of a repair takes.
        sleep(Duration::from_mins(10)).await;
        for node in &cluster.nodes {
            node.suffer(Fault::Heal);
        }
        assert_eq!(cluster.wait(task, PATIENCE).await.as_deref(), Some("succeeded"), "{fault}");
        let entry = main_index(&cluster);
        assert_eq!(
            (entry.frozen.as_deref(), entry.settings_version),
            (None, before + 1),
            "{fault}"
        );
        cluster.quiesce(PATIENCE).await.unwrap();
        must(&cluster, Method::POST, DOCUMENTS, documents(0..3)).await;
        let words: Vec<Value> =
            (0..3).map(|at| settings(&cluster, at)["stopWords"].clone()).collect();
        assert_eq!(words, vec![json!(["new"]); 3], "{fault}");
        end(&cluster);
    }
}

/// A task of one index is not held up by a broadcast of another that cannot be verified.
#[tokio::test(start_paused = true)]
async fn a_broadcast_that_waits_holds_no_other_task_up() {
    let cluster = filled(10, shape(1, 3), 5).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    let body = Some(json!({"stopWords": ["new"]}));
    let answer = cluster.request(Method::PATCH, "/indexes/main/settings", body).await;
    assert_eq!(answer.status, 202);
    cluster.nodes[0].suffer(Fault::Hang);
    let begun = Instant::now();
    must(&cluster, Method::POST, DOCUMENTS, documents(5..9)).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    cluster.nodes[0].suffer(Fault::Heal);
    settled(&cluster, 9).await;
    end(&cluster);
}

async fn with_floor(cluster: &SimCluster, path: &str, body: Value, floor: &str) -> (u16, Value) {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("content-type", "application/json")
        .header(miroir_api::header::MIN_SETTINGS_VERSION, floor)
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    request.extensions_mut().insert(Principal::MasterKey);
    let response = cluster.miroir().http(PATIENCE).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test(start_paused = true)]
async fn nodes_below_the_demanded_settings_version_are_left_out() {
    let cluster = filled(11, shape(1, 2), 30).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    let version = main_index(&cluster).settings_version;
    assert_eq!(version, 1);
    let search = json!({"q": "word", "limit": 100});
    let fetch = json!({"limit": 100});
    let versions = Arc::clone(&cluster.stores.settings_versions);
    let node = |at: usize| -> NodeId { cluster.nodes[at].id().clone() };
    let paths = [("/indexes/main/search", &search), ("/indexes/main/documents/fetch", &fetch)];
    for (path, body) in paths {
        for floor in ["0", "1"] {
            let (status, answer) = with_floor(&cluster, path, body.clone(), floor).await;
            assert_eq!(status, 200, "{answer}");
        }
        let (status, answer) = with_floor(&cluster, path, body.clone(), "2").await;
        assert_eq!((status, &answer["code"]), (503, &json!("miroir_settings_version_stale")));
    }
    // Two nodes are known to have it: with two copies of each shard they hold everything.
    versions.forget("main").await.unwrap();
    versions.set("main", &node(0), 1).await.unwrap();
    versions.set("main", &node(1), 1).await.unwrap();
    for (path, body) in paths {
        // Were the third asked, this would fail: it answers nothing.
        cluster.nodes[2].suffer(Fault::Hang);
        let begun = Instant::now();
        let (status, answer) = with_floor(&cluster, path, body.clone(), "1").await;
        assert_eq!(status, 200, "{answer}");
        assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
        let list = if path.ends_with("search") { "hits" } else { "results" };
        assert_eq!(answer[list].as_array().unwrap().len(), 30);
        cluster.nodes[2].suffer(Fault::Heal);
    }
    versions.forget("main").await.unwrap();
    versions.set("main", &node(0), 1).await.unwrap();
    let (status, answer) = with_floor(&cluster, paths[0].0, search.clone(), "1").await;
    assert_eq!((status, &answer["code"]), (503, &json!("miroir_settings_version_stale")));
    end(&cluster);
}

/// One node counts what is there whatever waits in its queue. Here an index is made on some nodes
/// before others.
#[tokio::test(start_paused = true)]
async fn statistics_are_there_while_an_index_is_made_on_some_nodes() {
    let cluster = filled(11, shape(1, 1), 20).await;
    let mut uneven = 0;
    for number in 0..20 {
        let body = Some(json!([{"id": "a"}]));
        let path = format!("/indexes/made{number}/documents");
        let answer = cluster.request(Method::POST, &path, body).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let task = format!("/tasks/{}", answer.body["taskUid"]);
        let end = Instant::now() + PATIENCE;
        loop {
            let name = format!("made{number}");
            let has = |node: &&FakeNode| node.inspect(|disk| disk.indexes.contains_key(&name));
            let made = cluster.nodes.iter().filter(has).count();
            uneven += u32::from((1..cluster.nodes.len()).contains(&made));
            let answer = cluster.request(Method::GET, "/stats", None).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert_eq!(answer.body["indexes"]["main"]["numberOfDocuments"], 20);
            let task = cluster.request(Method::GET, &task, None).await;
            if task.body["status"] == "succeeded" {
                break;
            }
            assert!(Instant::now() < end, "{}", task.body);
            sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(uneven > 0, "no index was ever on some nodes only");
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn a_write_without_quorum_is_a_task_that_failed_in_a_batch() {
    let cluster = filled(8, shape(1, 1), 10).await;
    for node in &cluster.nodes {
        node.suffer(Fault::Crash);
    }
    let refused = cluster.request(Method::POST, DOCUMENTS, Some(documents(10..20))).await;
    assert_eq!((refused.status, refused.code()), (503, "miroir_no_quorum"));
    let newest = |path: &'static str| cluster.request(Method::GET, path, None);
    let tasks = newest("/tasks?limit=1").await.body;
    let task = &tasks["results"][0];
    assert_eq!(
        (&task["status"], &task["error"]["code"]),
        (&json!("failed"), &json!(refused.code()))
    );
    assert!(task["startedAt"].is_string() && task["finishedAt"].is_string(), "{task}");
    let batches = newest("/batches?limit=1").await.body;
    assert_eq!((&batches["from"], &batches["results"][0]["uid"]), (&task["uid"], &task["uid"]));
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn what_any_node_can_answer_is_answered_while_one_is_down() {
    for down in 0..3 {
        let cluster = filled(9, shape(1, 2), 10).await;
        // Nobody has noticed yet.
        cluster.nodes[down].suffer(Fault::Crash);
        let answer = cluster.request(Method::GET, "/version", None).await;
        assert_eq!(answer.status, 200, "{down}: {answer:?}");
        let settings = Some(json!({"stopWords": ["a"]}));
        let answer = cluster.request(Method::PATCH, "/indexes/fresh/settings", settings).await;
        assert_eq!(answer.status, 202, "{down}: {answer:?}");
        let task = answer.body["taskUid"].as_u64().unwrap();
        assert_eq!(cluster.wait(task, PATIENCE).await.as_deref(), Some("succeeded"), "{down}");
        end(&cluster);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_while_a_node_is_down_is_counted_once() {
    for down in 0..3 {
        let cluster = filled(10, shape(1, 2), 60).await;
        let settings = json!({"filterableAttributes": ["text"]});
        must(&cluster, Method::PATCH, "/indexes/main/settings", settings).await;
        cluster.nodes[down].suffer(Fault::Crash);
        until("it counts as failed", || status(&cluster, down) == NodeStatus::Failed).await;
        must(&cluster, Method::PUT, DOCUMENTS, json!([{"id": "d3", "text": "a"}])).await;
        let ids: Vec<String> = (10..27).map(|n| format!("d{n}")).collect();
        for (method, path, body, count) in [
            (Method::POST, format!("{DOCUMENTS}/delete"), json!({"filter": "text = a"}), 1),
            (Method::POST, format!("{DOCUMENTS}/delete-batch"), json!(ids), 17),
            (Method::DELETE, format!("{DOCUMENTS}/d2"), Value::Null, 1),
            (Method::POST, format!("{DOCUMENTS}/delete"), json!({"filter": ["text = word"]}), 41),
            (Method::DELETE, DOCUMENTS.to_owned(), Value::Null, 0),
        ] {
            let uid = must(&cluster, method, &path, body).await.body["taskUid"].clone();
            let task = cluster.request(Method::GET, &format!("/tasks/{uid}"), None).await.body;
            assert_eq!(task["details"]["deletedDocuments"], count, "{down}: {task}");
        }
        cluster.nodes[down].suffer(Fault::Heal);
        settled(&cluster, 0).await;
        end(&cluster);
    }
}
