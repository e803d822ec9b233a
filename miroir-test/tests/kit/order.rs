//! Ties and lists come in the order in which documents first came, and pages fit together whatever
//! became of the replicas.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use miroir_core::quorum::WriteQuorum;
use miroir_core::topology::NodeStatus;
use miroir_test::cluster::{Shape, SimCluster};
use miroir_test::faults::Fault;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::failures::{status, until};

const DOCUMENTS: &str = "/indexes/main/documents";
const PATIENCE: Duration = Duration::from_mins(5);
const SHAPE: Shape =
    Shape { shards: 6, groups: 1, rf: 2, nodes_per_group: 3, quorum: WriteQuorum::Auto };

/// The `n`th id to come: none of them is where sorting would put it.
fn id(n: u32) -> String {
    format!("d{}", n * 7919 % 10_007)
}

fn documents(numbers: impl IntoIterator<Item = u32>, v: u32) -> Value {
    numbers.into_iter().map(|n| json!({"id": id(n), "v": v, "text": "same"})).collect()
}

async fn send(cluster: &SimCluster, method: Method, path: &str, body: Option<Value>) -> u64 {
    let answer = cluster.request(method, path, body).await;
    assert_eq!(answer.status, 202, "{path}: {}", answer.body);
    answer.body["taskUid"].as_u64().unwrap()
}

async fn add(cluster: &SimCluster, documents: Value) -> u64 {
    send(cluster, Method::POST, DOCUMENTS, Some(documents)).await
}

async fn cluster(seed: u64) -> SimCluster {
    let cluster = SimCluster::new(seed, SHAPE).await;
    let body = json!({"uid": "main", "primaryKey": "id"});
    let task = send(&cluster, Method::POST, "/indexes", Some(body)).await;
    assert_eq!(cluster.wait(task, PATIENCE).await.as_deref(), Some("succeeded"));
    cluster
}

fn ids(list: &Value) -> Vec<String> {
    let ids = list.as_array().unwrap().iter().map(|document| document["id"].as_str().unwrap());
    ids.map(str::to_owned).collect()
}

/// All pages of what a request finds, page by page.
async fn pages(cluster: &SimCluster, path: &str, results: &str, query: &Value) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let mut body = query.clone();
        body["offset"] = all.len().into();
        body["limit"] = 7.into();
        let answer = cluster.request(Method::POST, path, Some(body)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let page = ids(&answer.body[results]);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Lists and searches that tell no documents apart.
async fn all_ways(cluster: &SimCluster) -> Vec<Vec<String>> {
    let (search, fetch) = ("/indexes/main/search", "/indexes/main/documents/fetch");
    vec![
        pages(cluster, fetch, "results", &json!({})).await,
        pages(cluster, fetch, "results", &json!({"fields": ["id"]})).await,
        pages(cluster, search, "hits", &json!({})).await,
        pages(cluster, search, "hits", &json!({"q": "same"})).await,
        pages(cluster, search, "hits", &json!({"q": "same", "attributesToRetrieve": ["id"]})).await,
    ]
}

#[tokio::test(start_paused = true)]
async fn ties_and_lists_come_in_the_order_in_which_documents_came() {
    let cluster = cluster(1).await;
    add(&cluster, documents(0..40, 0)).await;
    // Before the first are carried out: some are new, and some are on their way.
    add(&cluster, documents((20..60).rev(), 1)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    // Owners have them by now.
    add(&cluster, documents([59, 61, 3, 60, 25], 2)).await;
    let body =
        json!([{"id": id(7), "w": 1}, {"id": id(62), "text": "same"}, {"id": id(40), "w": 1}]);
    send(&cluster, Method::PUT, DOCUMENTS, Some(body)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    let came = (0..40).chain((40..60).rev()).chain([61, 60, 62]);
    let came: Vec<String> = came.map(id).collect();
    for found in all_ways(&cluster).await {
        assert_eq!(found, came);
    }
    let shown = cluster.request(Method::GET, &format!("{DOCUMENTS}/{}", id(7)), None).await;
    assert_eq!(shown.body, json!({"id": id(7), "v": 0, "w": 1, "text": "same"}));
    cluster.end();
}

/// Whether an index is made is written down once a second; an update that comes before that finds what
/// the nodes have.
#[tokio::test(start_paused = true)]
async fn an_update_right_after_the_first_documents_keeps_its_place() {
    for index in ["made", "by-documents"] {
        let cluster = cluster(6).await;
        if index == "made" {
            let body = json!({"uid": index, "primaryKey": "id"});
            send(&cluster, Method::POST, "/indexes", Some(body)).await;
        }
        let path = format!("/indexes/{index}/documents");
        let body = Some(documents(0..12, 0));
        for (method, body) in
            [(Method::POST, body), (Method::PUT, Some(json!([{"id": id(5), "w": 1}])))]
        {
            let task = send(&cluster, method, &path, body).await;
            let ended = cluster.wait(task, PATIENCE).await;
            assert_eq!(ended.as_deref(), Some("succeeded"));
        }
        let listed = cluster.request(Method::GET, &path, None).await;
        let came: Vec<String> = (0..12).map(id).collect();
        assert_eq!(ids(&listed.body["results"]), came, "{index}");
        cluster.end();
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_that_was_deleted_comes_for_the_first_time_again() {
    let cluster = cluster(2).await;
    add(&cluster, documents(0..30, 0)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    // Nothing is waited for: owners have the deleted ones still when they come again.
    send(&cluster, Method::DELETE, &format!("{DOCUMENTS}/{}", id(0)), None).await;
    let gone = Some(json!([id(1), id(2)]));
    send(&cluster, Method::POST, &format!("{DOCUMENTS}/delete-batch"), gone).await;
    add(&cluster, documents([2, 0, 5, 1], 1)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    let stamps = |n: u32| stamp(&cluster, &id(n));
    assert!(stamps(29) < stamps(2) && stamps(2) < stamps(0) && stamps(0) < stamps(1));
    assert!(stamps(4) < stamps(5) && stamps(5) < stamps(6));
    send(&cluster, Method::DELETE, DOCUMENTS, None).await;
    add(&cluster, documents([9, 3], 2)).await;
    add(&cluster, documents([8, 9], 3)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    let came: Vec<String> = [9, 3, 8].map(id).into();
    for found in all_ways(&cluster).await {
        assert_eq!(found, came);
    }
    cluster.end();
}

/// The stamp of a document, which is the same on all its owners.
fn stamp(cluster: &SimCluster, id: &str) -> String {
    let stamps = cluster.nodes.iter().filter_map(|node| {
        node.inspect(|disk| Some(disk.indexes["main"].documents.get(id)?["_miroir_order"].clone()))
    });
    let stamps: Vec<Value> = stamps.collect();
    assert!(stamps.len() == 2 && stamps[0] == stamps[1], "{id}: {stamps:?}");
    stamps[0].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn pages_fit_together_before_and_after_repairs_and_rebuilds() {
    let cluster = cluster(3).await;
    for first in [0, 50, 100] {
        add(&cluster, documents(first..first + 50, 0)).await;
    }
    cluster.quiesce(PATIENCE).await.unwrap();
    let all: BTreeSet<String> = (0..150).map(id).collect();
    let came: Vec<String> = (0..150).map(id).collect();
    for found in all_ways(&cluster).await {
        assert_eq!(found, came);
    }
    // A replica that missed documents gets them at the end of its own.
    cluster.nodes[0].suffer(Fault::Crash);
    until("it counts as failed", || status(&cluster, 0) == NodeStatus::Failed).await;
    add(&cluster, documents(150..155, 0)).await;
    send(&cluster, Method::DELETE, &format!("{DOCUMENTS}/{}", id(4)), None).await;
    add(&cluster, documents(155..160, 0)).await;
    cluster.nodes[0].suffer(Fault::Heal);
    cluster.quiesce(PATIENCE).await.unwrap();
    let now: BTreeSet<String> = (0..160).filter(|n| *n != 4).map(id).collect();
    complete(&cluster, &now).await;
    // A lost disk is filled from the others, in their order.
    cluster.nodes[1].suffer(Fault::Crash);
    cluster.nodes[1].wipe();
    cluster.nodes[1].suffer(Fault::Heal);
    cluster.quiesce(PATIENCE).await.unwrap();
    complete(&cluster, &now).await;
    assert!(all.len() == 150);
    cluster.end();
}

async fn complete(cluster: &SimCluster, all: &BTreeSet<String>) {
    for found in all_ways(cluster).await {
        let once: BTreeSet<String> = found.iter().cloned().collect();
        assert_eq!((found.len(), &once), (all.len(), all));
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_hangs_holds_no_write_up_for_longer_than_its_time() {
    let cluster = cluster(4).await;
    add(&cluster, documents(0..60, 0)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    cluster.nodes[2].suffer(Fault::Hang);
    // One waits for the look-up, and for the grace of a replica that does not answer.
    let mut waited = Vec::new();
    for round in 0..6 {
        let begun = Instant::now();
        add(&cluster, documents([round, 20 + round, 40 + round], 1)).await;
        waited.push(begun.elapsed());
    }
    waited.sort();
    assert!(waited[5] < Duration::from_millis(1_200), "{waited:?}");
    assert!(waited[4] < Duration::from_millis(150), "{waited:?}");
    cluster.nodes[2].suffer(Fault::Heal);
    cluster.quiesce(PATIENCE).await.unwrap();
    complete(&cluster, &(0..60).map(id).collect()).await;
    cluster.end();
}
