//! An index that is deleted and made again is another index: nothing that was decided on the first
//! reaches the second, whatever the clocks say.

use std::time::Duration;

use http::Method;
use miroir_api::IndexUid;
use miroir_core::quorum::WriteQuorum;
use miroir_store::IndexEntry;
use miroir_test::cluster::{Answer, Shape, SimCluster};
use miroir_test::faults::Fault;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_mins(5);

async fn cluster(seed: u64) -> SimCluster {
    let quorum = WriteQuorum::Auto;
    SimCluster::new(seed, Shape { shards: 6, groups: 1, rf: 2, nodes_per_group: 3, quorum }).await
}

async fn accepted(cluster: &SimCluster, method: Method, path: &str, body: Option<Value>) -> u64 {
    let answer = cluster.request(method.clone(), path, body).await;
    assert_eq!(answer.status, 202, "{method} {path}: {}", answer.body);
    answer.body["taskUid"].as_u64().unwrap()
}

async fn ended(cluster: &SimCluster, task: u64) -> Value {
    cluster.wait(task, PATIENCE).await.unwrap();
    cluster.request(Method::GET, &format!("/tasks/{task}"), None).await.body
}

async fn get(cluster: &SimCluster, path: &str) -> Answer {
    cluster.request(Method::GET, path, None).await
}

#[tokio::test(start_paused = true)]
async fn settings_of_a_deleted_index_do_not_reach_the_one_made_again() {
    for seed in 0..8 {
        let cluster = cluster(seed).await;
        let index = json!({"uid": "m", "primaryKey": "id"});
        let made = accepted(&cluster, Method::POST, "/indexes", Some(index.clone())).await;
        ended(&cluster, made).await;
        let hidden = json!({"displayedAttributes": ["id"], "searchableAttributes": ["title"]});
        let set = accepted(&cluster, Method::PATCH, "/indexes/m/settings", Some(hidden)).await;
        accepted(&cluster, Method::DELETE, "/indexes/m", None).await;
        let made = accepted(&cluster, Method::POST, "/indexes", Some(index)).await;
        assert_eq!(ended(&cluster, made).await["status"], "succeeded");
        ended(&cluster, set).await;
        cluster.quiesce(PATIENCE).await.unwrap();
        for setting in ["displayed-attributes", "searchable-attributes"] {
            let shown = get(&cluster, &format!("/indexes/m/settings/{setting}")).await;
            assert_eq!(shown.body, json!(["*"]), "{setting} with seed {seed}");
        }
        cluster.end();
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_cut_off_is_recovered_whatever_the_clocks_say() {
    for seed in 0..4 {
        let cluster = cluster(seed).await;
        let index = json!({"uid": "m", "primaryKey": "id"});
        let made = accepted(&cluster, Method::POST, "/indexes", Some(index)).await;
        ended(&cluster, made).await;
        // Whoever made the index had a clock that was an hour ahead.
        let state = cluster.miroir().cluster.state;
        let entry = state.catalog.get(&IndexUid::new("m").unwrap()).unwrap();
        let ahead = |old: &IndexEntry| IndexEntry {
            created_at: old.created_at + Duration::from_hours(1),
            ..old.clone()
        };
        state.catalog.change(&entry, ahead).await.unwrap().unwrap();
        // One node hangs while it is written to, and then the process dies.
        cluster.nodes[1].suffer(Fault::Hang);
        let documents: Value = (0..30).map(|n| json!({"id": n})).collect();
        let write = cluster.request(Method::POST, "/indexes/m/documents", Some(documents));
        assert!(timeout(Duration::from_millis(100), write).await.is_err(), "it is under way");
        cluster.restart().await;
        cluster.nodes[1].suffer(Fault::Crash);
        sleep(Duration::from_secs(5)).await;
        cluster.quiesce(PATIENCE).await.unwrap();
        let copies: usize =
            cluster.nodes.iter().map(|n| n.inspect(|d| d.indexes["m"].documents.len())).sum();
        assert_eq!(copies, 60, "every document is on two nodes, with seed {seed}");
        cluster.end();
    }
}
