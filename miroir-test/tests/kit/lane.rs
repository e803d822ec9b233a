//! Writes in the lane of their index: their deadline, their quorum, their order.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use miroir_core::quorum::WriteQuorum;
use miroir_pipeline::cluster::ClusterState;
use miroir_store::TaskQuery;
use miroir_test::cluster::{Shape, SimCluster};
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
