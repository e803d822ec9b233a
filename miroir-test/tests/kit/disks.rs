//! Disks that are not what a node had: another node's, an older copy, an empty one.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use miroir_api::NodeId;
use miroir_control::replicas::discard_disk;
use miroir_core::quorum::WriteQuorum;
use miroir_core::topology::NodeStatus;
use miroir_pipeline::cluster::ClusterState;
use miroir_store::records::NodeRecord;
use miroir_test::cluster::{Answer, Shape, SimCluster};
use miroir_test::faults::Fault;
use miroir_test::history::History;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::{Instant, sleep};

pub(super) const DOCUMENTS: &str = "/indexes/main/documents";
pub(super) const PATIENCE: Duration = Duration::from_mins(5);

fn shape(rf: u32) -> Shape {
    Shape { shards: 6, groups: 1, rf, nodes_per_group: 3, quorum: WriteQuorum::Auto }
}

pub(super) async fn must(cluster: &SimCluster, method: Method, path: &str, body: Value) -> u64 {
    let answer = cluster.request(method, path, Some(body)).await;
    assert!(matches!(answer.status, 200 | 202), "{path}: {}", answer.body);
    let task = answer.body["taskUid"].as_u64().unwrap();
    let status = cluster.wait(task, PATIENCE).await;
    assert_eq!(status.as_deref(), Some("succeeded"), "{path}");
    task
}

pub(super) fn documents(numbers: std::ops::Range<u32>) -> Value {
    numbers.map(|n| json!({"id": format!("d{n}"), "v": n})).collect()
}

pub(super) async fn filled(seed: u64, rf: u32, count: u32) -> SimCluster {
    let cluster = SimCluster::new(seed, shape(rf)).await;
    fill(&cluster, count).await;
    cluster
}

/// As [`filled`], by three pods.
pub(super) async fn filled_by_pods(seed: u64, rf: u32, count: u32) -> SimCluster {
    let cluster = SimCluster::several(seed, shape(rf), 3).await;
    until("a pod leads", || cluster.leader().is_some()).await;
    fill(&cluster, count).await;
    cluster
}

async fn fill(cluster: &SimCluster, count: u32) {
    must(cluster, Method::POST, "/indexes", json!({"uid": "main", "primaryKey": "id"})).await;
    must(cluster, Method::POST, DOCUMENTS, documents(0..count)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
}

pub(super) async fn fetched(cluster: &SimCluster) -> Answer {
    let all = Some(json!({"limit": 1000}));
    cluster.request(Method::POST, &format!("{DOCUMENTS}/fetch"), all).await
}

/// Whatever is answered is right, or says what is missing; nothing is there twice.
async fn never_wrong(cluster: &SimCluster, count: usize, how_long: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < how_long {
        let answer = fetched(cluster).await;
        let empty = Vec::new();
        let found = answer.body["results"].as_array().unwrap_or(&empty);
        let ids: BTreeSet<_> = found.iter().map(|document| document["id"].as_str()).collect();
        assert_eq!(ids.len(), found.len(), "a document is there twice: {answer:?}");
        assert!(ids.len() == count || !answer.complete(), "{} of {count}: {answer:?}", ids.len());
        sleep(Duration::from_millis(37)).await;
    }
}

pub(super) fn state(cluster: &SimCluster) -> Arc<ClusterState> {
    cluster.miroir().cluster.state
}

pub(super) fn status(cluster: &SimCluster, at: usize) -> NodeStatus {
    state(cluster).membership.topology().node(cluster.nodes[at].id()).unwrap().status()
}

fn record(cluster: &SimCluster, at: usize) -> NodeRecord {
    state(cluster).lives.get(cluster.nodes[at].id())
}

pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The cluster is quiet, and every node holds exactly what it owns.
pub(super) async fn settled(cluster: &SimCluster, count: u32) {
    cluster.quiesce(PATIENCE).await.unwrap();
    let answer = fetched(cluster).await;
    assert!(answer.complete(), "{answer:?}");
    let history = History::default();
    for n in 0..count {
        let pending = history.begin(&[format!("d{n}")], Some(u64::from(n)));
        history.acknowledged(&pending);
    }
    history.check_nodes(cluster, "main");
    assert_eq!(history.violations(), Vec::<String>::new());
}

pub(super) fn end(cluster: &SimCluster) {
    cluster.life().end();
    state(cluster).stop.cancel();
}

/// Two nodes with each other's disks, before Miroir could see them fail, and after.
async fn swapped(seed: u64, rf: u32, noticed: bool) -> SimCluster {
    let cluster = filled(seed, rf, 40).await;
    for at in [1, 2] {
        cluster.nodes[at].suffer(Fault::Crash);
    }
    if noticed {
        until("they count as failed", || {
            [1, 2].iter().all(|at| status(&cluster, *at) == NodeStatus::Failed)
        })
        .await;
    }
    cluster.nodes[1].swap_disks(&cluster.nodes[2]);
    for at in [1, 2] {
        cluster.nodes[at].suffer(Fault::Heal);
    }
    cluster
}

/// A node that shows another node's key is neither read nor written, and as it was as soon as it has
/// its own disk again: nothing is rebuilt.
#[tokio::test(start_paused = true)]
async fn a_node_with_another_nodes_disk_is_not_used() {
    for (seed, rf, noticed) in [(1, 3, true), (2, 2, true), (3, 3, false), (4, 2, false)] {
        let cluster = swapped(seed, rf, noticed).await;
        never_wrong(&cluster, 40, Duration::from_secs(20)).await;
        for (at, other) in [(1, 2), (2, 1)] {
            assert_eq!(status(&cluster, at), NodeStatus::Failed);
            assert_eq!(record(&cluster, at).foreign.as_ref(), Some(cluster.nodes[other].id()));
            let health = state(&cluster).membership.health.get(cluster.nodes[at].id());
            assert_eq!(health.error.map(|error| error.label()), Some("foreign_disk"));
        }
        // A process that begins anew does not read it first either.
        cluster.restart().await;
        never_wrong(&cluster, 40, Duration::from_secs(10)).await;
        assert_eq!(status(&cluster, 1), NodeStatus::Failed);

        for at in [1, 2] {
            cluster.nodes[at].suffer(Fault::Crash);
        }
        cluster.nodes[1].swap_disks(&cluster.nodes[2]);
        let rows = cluster.stores.replicas.list().await.unwrap();
        assert!(rows.iter().all(|row| row.shard.is_some()), "{rows:?}");
        settled(&cluster, 40).await;
        assert!([1, 2].iter().all(|at| record(&cluster, *at).life == 0));
        end(&cluster);
    }
}

/// A write is what shows that a disk is not what the node had, before any check: nothing is rebuilt on
/// it until its key tells whose it is.
#[tokio::test(start_paused = true)]
async fn another_nodes_disk_is_not_rebuilt_because_its_tasks_count_less() {
    let cluster = filled(6, 3, 40).await;
    for n in 0..9 {
        let body = json!({"uid": format!("own{n}")});
        let _ = cluster.nodes[1].foreign(Method::POST, "/indexes", &body);
    }
    sleep(Duration::from_secs(6)).await;
    cluster.nodes[1].swap_disks(&cluster.nodes[2]);
    let body = Some(json!([{"id": "d0", "v": 0}]));
    assert_eq!(cluster.request(Method::POST, DOCUMENTS, body).await.status, 202);
    let has_all = || {
        cluster.nodes[1].inspect(|disk| {
            let index = disk.indexes.get("main");
            index.is_some_and(|index| index.documents.len() == 40)
        })
    };
    until("the other disk is seen", || {
        assert!(has_all(), "a disk that is node 2's was emptied");
        record(&cluster, 1).foreign.is_some()
    })
    .await;
    for at in [1, 2] {
        cluster.nodes[at].suffer(Fault::Crash);
    }
    cluster.nodes[1].swap_disks(&cluster.nodes[2]);
    settled(&cluster, 40).await;
    end(&cluster);
}

/// An operator who has the disks thrown away gets both nodes rebuilt, with none of the other's
/// documents left on them.
#[tokio::test(start_paused = true)]
async fn a_foreign_disk_is_thrown_away_when_an_operator_says_so() {
    let cluster = swapped(5, 3, true).await;
    until("both are found", || [1, 2].iter().all(|at| record(&cluster, *at).foreign.is_some()))
        .await;
    let own = discard_disk(&state(&cluster), cluster.nodes[0].id()).await.unwrap_err();
    assert!(own.to_string().contains("is its own"), "{own}");
    let none = discard_disk(&state(&cluster), &NodeId::new("nobody").unwrap()).await.unwrap_err();
    assert!(none.to_string().contains("nobody"), "{none}");
    for at in [1, 2] {
        discard_disk(&state(&cluster), cluster.nodes[at].id()).await.unwrap();
        never_wrong(&cluster, 40, Duration::from_secs(20)).await;
    }
    settled(&cluster, 40).await;
    for at in [1, 2] {
        let record = record(&cluster, at);
        assert_eq!((record.life, record.foreign, record.identified), (1, None, true));
    }
    end(&cluster);
}

/// The newest tasks are about other nodes, Miroir begins anew, and the node's numbers go on from
/// where its copy was: what was stored of it tells.
#[tokio::test(start_paused = true)]
async fn an_older_copy_is_noticed_whatever_the_newest_tasks_are_about() {
    let cluster = filled(6, 2, 30).await;
    let before = cluster.nodes[0].inspect(Clone::clone);
    let holds =
        |id: &str| cluster.nodes[0].inspect(|disk| disk.indexes["main"].documents.contains_key(id));
    must(&cluster, Method::POST, DOCUMENTS, documents(30..50)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    let elsewhere = (0..50).find(|n| !holds(&format!("d{n}"))).expect("each node lacks a shard");
    for _ in 0..210 {
        must(&cluster, Method::POST, DOCUMENTS, documents(elsewhere..elsewhere + 1)).await;
    }
    cluster.nodes[0].suffer(Fault::Crash);
    cluster.nodes[0].restore(before);
    cluster.nodes[0].suffer(Fault::Heal);
    cluster.restart().await;
    never_wrong(&cluster, 50, Duration::from_secs(20)).await;
    settled(&cluster, 50).await;
    assert_eq!(record(&cluster, 0).life, 1);
    end(&cluster);
}

/// Nobody has seen that a node was away: who comes back with an older copy is asked what it has before it
/// is asked anything else.
#[tokio::test(start_paused = true)]
async fn an_older_copy_is_not_read_before_the_first_check() {
    let cluster = filled(11, 3, 20).await;
    let before = cluster.nodes[0].inspect(Clone::clone);
    must(&cluster, Method::POST, DOCUMENTS, documents(20..40)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    cluster.nodes[0].suffer(Fault::Crash);
    cluster.nodes[0].restore(before);
    cluster.nodes[0].suffer(Fault::Heal);
    never_wrong(&cluster, 40, Duration::from_secs(20)).await;
    settled(&cluster, 40).await;
    assert_eq!(record(&cluster, 0).life, 1);
    end(&cluster);
}

/// Old tasks are deleted after their node lost its disk: the uids are other tasks' by now, and those
/// stay.
#[tokio::test(start_paused = true)]
async fn uids_of_a_former_life_are_not_given_to_the_next() {
    let cluster = filled(7, 2, 20).await;
    let mut old = Vec::new();
    for n in 0..10 {
        old.push(must(&cluster, Method::POST, DOCUMENTS, documents(n..n + 1)).await.to_string());
    }
    cluster.nodes[0].suffer(Fault::Crash);
    cluster.nodes[0].wipe();
    cluster.nodes[0].suffer(Fault::Heal);
    until("it is found empty", || record(&cluster, 0).life == 1).await;
    for n in 0..10 {
        must(&cluster, Method::POST, DOCUMENTS, documents(n..n + 1)).await;
    }
    settled(&cluster, 20).await;
    let finished = || cluster.nodes[0].inspect(|disk| disk.finished());
    let before = finished();
    assert!(before.len() > 5, "the new life has too few tasks to be hit");
    let path = format!("/tasks?uids={}", old.join(","));
    must(&cluster, Method::DELETE, &path, Value::Null).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    assert_eq!(finished(), before);
    end(&cluster);
}

/// A store that lost its last write of a node does not take the node's new, empty life for the old one.
#[tokio::test(start_paused = true)]
async fn a_life_that_the_store_forgot_is_not_taken_for_the_one_it_knows() {
    let cluster = filled(8, 3, 20).await;
    let known = record(&cluster, 0);
    cluster.nodes[0].suffer(Fault::Crash);
    cluster.nodes[0].wipe();
    cluster.nodes[0].suffer(Fault::Heal);
    until("it has a key of its next life", || {
        record(&cluster, 0).identified && record(&cluster, 0).life == 1
    })
    .await;
    cluster.stores.node_records.put(NodeRecord { highest: None, ..known }).await.unwrap();
    for row in cluster.stores.replicas.list().await.unwrap() {
        cluster.stores.replicas.clear(row).await.unwrap();
    }
    cluster.restart().await;
    never_wrong(&cluster, 20, Duration::from_secs(10)).await;
    settled(&cluster, 20).await;
    assert_eq!(record(&cluster, 0).life, 2);
    end(&cluster);
}

/// Nodes of a version before identity keys get theirs, and nothing is marked or rebuilt.
#[tokio::test(start_paused = true)]
async fn nodes_without_keys_of_a_former_version_are_taken_over() {
    let cluster = filled(9, 2, 20).await;
    cluster.life().end();
    for node in &cluster.nodes {
        let keys: Vec<String> = node.inspect(|disk| disk.keys.keys().cloned().collect());
        for key in keys {
            node.foreign(Method::DELETE, &format!("/keys/{key}"), &Value::Null);
        }
        cluster.stores.node_records.put(NodeRecord::new(node.id().clone())).await.unwrap();
    }
    cluster.restart().await;
    assert!(cluster.stores.replicas.list().await.unwrap().is_empty());
    never_wrong(&cluster, 20, Duration::from_secs(10)).await;
    assert!(cluster.stores.replicas.list().await.unwrap().is_empty());
    for at in 0..3 {
        assert!(record(&cluster, at).identified && record(&cluster, at).life == 0);
        assert_eq!(cluster.nodes[at].inspect(|disk| disk.keys.len()), 1);
    }
    end(&cluster);
}

/// Without a master key nodes keep no keys; numbers and names of indexes still tell.
#[tokio::test(start_paused = true)]
async fn a_node_without_keys_is_told_by_its_numbers() {
    let cluster = SimCluster::new(10, shape(2)).await;
    cluster.nodes.iter().for_each(miroir_test::node::FakeNode::without_keys);
    cluster.restart().await;
    must(&cluster, Method::POST, "/indexes", json!({"uid": "main", "primaryKey": "id"})).await;
    must(&cluster, Method::POST, DOCUMENTS, documents(0..20)).await;
    cluster.nodes[0].suffer(Fault::Crash);
    until("it counts as failed", || status(&cluster, 0) == NodeStatus::Failed).await;
    cluster.nodes[0].wipe();
    cluster.nodes[0].suffer(Fault::Heal);
    never_wrong(&cluster, 20, Duration::from_secs(20)).await;
    settled(&cluster, 20).await;
    assert_eq!((record(&cluster, 0).life, record(&cluster, 0).identified), (1, false));
    end(&cluster);
}
