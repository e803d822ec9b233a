//! What the catalogue notes of ids' letters, before any node has a document of the kind.

use std::time::Duration;

use http::Method;
use miroir_api::IndexUid;
use miroir_core::documents::IdCase;
use miroir_core::quorum::WriteQuorum;
use miroir_test::cluster::{Shape, SimCluster};
use miroir_test::faults::Fault;
use serde_json::{Value, json};

const DOCUMENTS: &str = "/indexes/main/documents";
const SHAPE: Shape =
    Shape { shards: 6, groups: 1, rf: 1, nodes_per_group: 3, quorum: WriteQuorum::Auto };

async fn id_case(cluster: &SimCluster) -> Option<IdCase> {
    let name = IndexUid::new("main").unwrap();
    cluster.stores.indexes.get(&name).await.unwrap().map(|entry| entry.id_case)
}

async fn add(cluster: &SimCluster, ids: Value) -> u16 {
    let documents: Value =
        ids.as_array().unwrap().iter().map(|id| json!({"id": id, "Other": "aZ"})).collect();
    cluster.request(Method::POST, DOCUMENTS, Some(documents)).await.status
}

#[tokio::test(start_paused = true)]
async fn the_case_of_ids_is_noted_and_stays() {
    let cluster = SimCluster::new(1, SHAPE).await;
    let made = json!({"uid": "main", "primaryKey": "id"});
    let made = cluster.request(Method::POST, "/indexes", Some(made)).await;
    let task = made.body["taskUid"].as_u64().unwrap();
    cluster.wait(task, Duration::from_secs(30)).await;
    assert_eq!(id_case(&cluster).await, Some(IdCase::NONE));
    let lower = IdCase { lower: true, upper: false };
    for (ids, noted) in [
        (json!([1, "2", "-3_"]), IdCase::NONE),
        (json!([4, "b", "5"]), lower),
        // A payload of which no document is taken.
        (json!(["C", "not an id"]), lower),
        (json!(["d", 6]), lower),
        (json!(["E"]), IdCase::ANY),
        (json!([7]), IdCase::ANY),
    ] {
        assert_eq!(add(&cluster, ids.clone()).await, 202, "{ids}");
        assert_eq!(id_case(&cluster).await, Some(noted), "{ids}");
    }
    let cleared = cluster.request(Method::DELETE, DOCUMENTS, None).await;
    assert_eq!((cleared.status, id_case(&cluster).await), (202, Some(IdCase::ANY)));
}

/// Whether a node took the write or not is not waited for.
#[tokio::test(start_paused = true)]
async fn the_case_of_ids_is_noted_before_nodes_are_asked() {
    let cluster = SimCluster::new(2, SHAPE).await;
    let made = json!({"uid": "main", "primaryKey": "id"});
    let made = cluster.request(Method::POST, "/indexes", Some(made)).await;
    let task = made.body["taskUid"].as_u64().unwrap();
    cluster.wait(task, Duration::from_secs(30)).await;
    // The index's settings are known from now on.
    assert_eq!(add(&cluster, json!([1, 2, 3])).await, 202);
    assert_eq!(id_case(&cluster).await, Some(IdCase::NONE));
    for node in &cluster.nodes {
        node.suffer(Fault::Crash);
    }
    let ids: Value = (0..50).map(|at| json!(format!("x{at}"))).collect();
    assert_ne!(add(&cluster, ids).await, 202);
    assert_eq!(id_case(&cluster).await, Some(IdCase { lower: true, upper: false }));
}
