//! Small writes that come together go to nodes together, and each stays what it is.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use miroir_core::quorum::WriteQuorum;
use miroir_test::cluster::{Answer, Shape, SimCluster};
use miroir_test::faults::Fault;
use serde_json::{Value, json};

const DOCUMENTS: &str = "/indexes/main/documents";
const PATIENCE: Duration = Duration::from_mins(5);
const SHAPE: Shape =
    Shape { shards: 6, groups: 1, rf: 2, nodes_per_group: 3, quorum: WriteQuorum::Auto };
/// Writes that come at once.
const WRITES: u64 = 40;

/// A cluster whose index had a document, which says how its ids are written.
async fn cluster(seed: u64) -> SimCluster {
    let cluster = SimCluster::new(seed, SHAPE).await;
    let first = Some(json!([{"id": "gone"}]));
    cluster.request(Method::POST, &format!("{DOCUMENTS}?primaryKey=id"), first).await;
    cluster.request(Method::DELETE, &format!("{DOCUMENTS}/gone"), None).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    cluster
}

/// Tasks of documents that nodes have.
fn on_nodes(cluster: &SimCluster) -> usize {
    let of_documents = |task: &miroir_test::node::Task| {
        let kind = task.view()["type"].as_str().unwrap().to_owned();
        kind.starts_with("document") && !task.is_deleted
    };
    let count = |disk: &miroir_test::node::Disk| {
        disk.tasks.iter().filter(|task| of_documents(task)).count()
    };
    cluster.nodes.iter().map(|node| node.inspect(count)).sum()
}

/// Sends a write of each document at once; their tasks' uids.
async fn at_once(cluster: &SimCluster, documents: Vec<Value>) -> Vec<u64> {
    let sent = documents.into_iter().enumerate().map(|(n, document)| {
        let path = format!("{DOCUMENTS}?customMetadata=m{n}");
        async move { cluster.request(Method::POST, &path, Some(json!([document]))).await }
    });
    let answers: Vec<Answer> = join_all(sent).await;
    let uid = |answer: &Answer| {
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["taskUid"].as_u64().unwrap()
    };
    answers.iter().map(uid).collect()
}

fn numbered(v: u64) -> Vec<Value> {
    (0..WRITES).map(|n| json!({"id": format!("d{}", n * 7919 % 10_007), "v": v, "n": n})).collect()
}

async fn listed(cluster: &SimCluster) -> Vec<Value> {
    let body = json!({"limit": 1000});
    let answer = cluster.request(Method::POST, &format!("{DOCUMENTS}/fetch"), Some(body)).await;
    assert!(answer.complete(), "{}", answer.body);
    answer.body["results"].as_array().unwrap().clone()
}

async fn tasks(cluster: &SimCluster, query: &str) -> Vec<Value> {
    let path = format!("/tasks?limit=1000&types=documentAdditionOrUpdate&{query}");
    let answer = cluster.request(Method::GET, &path, None).await;
    answer.body["results"].as_array().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn writes_that_come_together_go_together_and_keep_what_is_their_own() {
    let cluster = cluster(1).await;
    let before = on_nodes(&cluster);
    let uids = at_once(&cluster, numbered(0)).await;
    assert_eq!(uids.iter().collect::<BTreeSet<_>>().len(), WRITES as usize);
    cluster.quiesce(PATIENCE).await.unwrap();
    let on_nodes = on_nodes(&cluster) - before;
    assert!(on_nodes < WRITES as usize / 2, "{on_nodes} calls");
    for (n, uid) in uids.iter().enumerate() {
        let task = cluster.request(Method::GET, &format!("/tasks/{uid}"), None).await.body;
        assert_eq!(task["status"], "succeeded", "{task}");
        assert_eq!(task["customMetadata"], format!("m{n}"));
        assert_eq!(task["details"], json!({"receivedDocuments": 1, "indexedDocuments": 1}));
    }
    // In the order of their tasks.
    let mut came: Vec<(u64, u64)> = uids.iter().copied().zip(0..).collect();
    came.sort_unstable();
    let list = listed(&cluster).await;
    let numbers: Vec<u64> = list.iter().map(|document| document["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, came.into_iter().map(|(_, n)| n).collect::<Vec<_>>());
    cluster.end();
}

/// Whoever has the later uid wins, on every replica.
#[tokio::test(start_paused = true)]
async fn of_writes_of_one_document_the_last_task_wins() {
    let cluster = cluster(2).await;
    let same = (0..WRITES).map(|n| json!({"id": "same", "n": n})).collect();
    let uids = at_once(&cluster, same).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    let last = uids.iter().zip(0_u64..).max().unwrap().1;
    assert_eq!(listed(&cluster).await, [json!({"id": "same", "n": last})]);
    let kept: Vec<Value> = cluster
        .nodes
        .iter()
        .filter_map(|node| {
            node.inspect(|disk| Some(disk.indexes["main"].documents.get("same")?["n"].clone()))
        })
        .collect();
    assert_eq!(kept, [json!(last), json!(last)]);
    cluster.end();
}

/// What all nodes refuse of several goes alone, and leaves no trace in the registry.
#[tokio::test(start_paused = true)]
async fn what_is_too_much_for_nodes_together_goes_alone() {
    let cluster = cluster(3).await;
    for node in &cluster.nodes {
        node.suffer(Fault::BodyLimit(300));
    }
    let uids = at_once(&cluster, numbered(0)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    let all = tasks(&cluster, "").await;
    assert_eq!(all.len(), WRITES as usize + 1, "and the first");
    assert!(all.iter().all(|task| task["status"] == "succeeded"), "{all:?}");
    assert_eq!(listed(&cluster).await.len(), WRITES as usize);
    assert!(uids.iter().max() > Some(&(WRITES + 1)), "some went together before: {uids:?}");
    assert_eq!(cluster.miroir().cluster.state.staleness.load().rows().count(), 0);
    cluster.end();
}

/// A task of a node is canceled for all that have it, or not at all.
#[tokio::test(start_paused = true)]
async fn writes_that_went_together_are_canceled_together_or_not_at_all() {
    let cluster = cluster(4).await;
    let slow = Fault::SlowTasks { from: Duration::from_mins(1), to: Duration::from_mins(2) };
    for node in &cluster.nodes {
        node.suffer(slow);
    }
    let first = at_once(&cluster, numbered(0)).await;
    let last = *first.iter().max().unwrap();
    let cancel = async |query: String| {
        let answer = cluster.request(Method::POST, &format!("/tasks/cancel?{query}"), None).await;
        assert!(answer.status < 300, "{}", answer.body);
        let uid = answer.body["taskUid"].as_u64().unwrap();
        cluster.wait(uid, PATIENCE).await.unwrap();
        cluster.request(Method::GET, &format!("/tasks/{uid}"), None).await.body
    };
    // One of those that wait together with others.
    let one = cancel(format!("uids={last}")).await;
    assert_eq!(one["details"]["canceledTasks"], 0, "{one}");
    let all = cancel("types=documentAdditionOrUpdate".to_owned()).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    let canceled = tasks(&cluster, "statuses=canceled").await.len();
    let done = tasks(&cluster, "statuses=succeeded").await.len();
    assert_eq!(all["details"]["canceledTasks"], canceled, "{all}");
    assert!(canceled > 0 && canceled + done == WRITES as usize + 1, "{canceled} and {done}");
    assert_eq!(listed(&cluster).await.len(), done - 1);
    cluster.end();
}

/// A process that ends while they are on their way leaves each of them done or undone, everywhere.
#[tokio::test(start_paused = true)]
async fn a_process_that_ends_leaves_no_half_of_them() {
    for after in [1, 3, 5, 8, 12, 20, 40] {
        let cluster = cluster(after).await;
        {
            let cut = tokio::time::sleep(Duration::from_millis(after));
            let writes = numbered(after)
                .into_iter()
                .map(|document| cluster.request(Method::POST, DOCUMENTS, Some(json!([document]))));
            tokio::select! {
                _ = join_all(writes) => {}
                () = cut => {}
            }
        }
        cluster.restart().await;
        cluster.quiesce(PATIENCE).await.unwrap();
        let done = tasks(&cluster, "statuses=succeeded").await.len();
        let list = listed(&cluster).await;
        assert_eq!(list.len() + 1, done, "after {after} ms");
        for document in &list {
            let id = document["id"].as_str().unwrap();
            let copies = cluster.nodes.iter().filter(|node| {
                node.inspect(|disk| disk.indexes["main"].documents.contains_key(id))
            });
            assert_eq!(copies.count(), 2, "{id} after {after} ms");
        }
        cluster.end();
    }
}
