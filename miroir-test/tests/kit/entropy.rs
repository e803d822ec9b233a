//! Replicas that differ though nobody knows why: found, judged and mended.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use miroir_control::replicas::anti_entropy::{AntiEntropy, Counts};
use miroir_control::runtime::{Peers, pass};
use miroir_core::routing::shard_of;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::cluster::anti_entropy::{Became, Difference};
use miroir_test::cluster::SimCluster;
use miroir_test::node::Disk;
use serde_json::json;
use tokio::time::sleep;

use crate::disks::{
    DOCUMENTS, documents, end, filled, filled_by_pods, must, settled, state, until,
};

const SHARDS: u32 = 6;

/// One pass over all documents, and all that it found looked into.
async fn compared(state: &Arc<ClusterState>) -> Vec<Difference> {
    pass(&AntiEntropy::new(Arc::clone(state)), &Peers::alone()).await;
    until("everything was looked into", || state.comparisons.is_idle()).await;
    // The last one is being looked into.
    sleep(Duration::from_secs(20)).await;
    state.comparisons.differences()
}

fn lose(cluster: &SimCluster, at: usize, id: &str) {
    let lost = cluster.nodes[at]
        .tamper(|disk| disk.indexes.get_mut("main").and_then(|index| index.documents.remove(id)));
    assert!(lost.is_some(), "n{at} has no {id}");
}

fn change(cluster: &SimCluster, at: usize, id: &str, v: u32) {
    cluster.nodes[at].tamper(|disk| {
        let index = disk.indexes.get_mut("main").unwrap();
        index.documents.get_mut(id).unwrap().insert("v".to_owned(), json!(v));
    });
}

/// Gives a node a document that was never written.
fn make_up(cluster: &SimCluster, at: usize, id: &str) {
    cluster.nodes[at].tamper(|disk| {
        let index = disk.indexes.get_mut("main").unwrap();
        let shard = |id: &str| shard_of(id.as_bytes(), SHARDS);
        let like = index.documents.keys().find(|other| shard(other) == shard(id)).unwrap();
        let mut made = index.documents[like].clone();
        made.insert("id".to_owned(), json!(id));
        index.documents.insert(id.to_owned(), made);
    });
}

/// A document that a node owns.
fn owned(cluster: &SimCluster, at: usize) -> String {
    cluster.nodes[at].inspect(|disk| disk.indexes["main"].documents.keys().next().cloned().unwrap())
}

fn became(found: &[Difference], id: &str) -> Became {
    found.iter().find(|found| &*found.id == id).unwrap_or_else(|| panic!("{id}: {found:?}")).became
}

#[tokio::test(start_paused = true)]
async fn what_the_majority_has_is_what_all_have_after_a_pass() {
    let cluster = filled(601, 3, 40).await;
    let state = state(&cluster);
    assert_eq!(compared(&state).await, [], "nothing differs");
    lose(&cluster, 1, "d1");
    change(&cluster, 1, "d2", 999);
    make_up(&cluster, 2, "ghost");
    let found = compared(&state).await;
    for id in ["d1", "d2", "ghost"] {
        assert_eq!(became(&found, id), Became::Mended);
    }
    assert_eq!(found.len(), 3, "{found:?}");
    settled(&cluster, 40).await;
    // What was overwritten and deleted is still to be had.
    let kept = state.comparisons.kept(miroir_store::clock::now());
    let texts: Vec<&str> = kept.iter().map(|kept| kept.document.get()).collect();
    assert!(texts.len() == 2 && texts.iter().any(|text| text.contains("999")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("ghost")), "{texts:?}");
    end(&cluster);
}

/// Of two replicas one that lost a document is wrong, and nobody knows which of two versions is right.
#[tokio::test(start_paused = true)]
async fn of_two_replicas_the_one_that_has_a_document_is_right() {
    let cluster = filled(602, 2, 40).await;
    let state = state(&cluster);
    let lost = owned(&cluster, 0);
    let last = |disk: &Disk| disk.indexes["main"].documents.iter().last().map(|(id, _)| id.clone());
    let changed = cluster.nodes[1].inspect(last).unwrap();
    assert_ne!(lost, changed);
    lose(&cluster, 0, &lost);
    change(&cluster, 1, &changed, 999);
    let found = compared(&state).await;
    assert_eq!(became(&found, &lost), Became::Mended);
    assert_eq!(became(&found, &changed), Became::Ambiguous);
    assert!(found.iter().all(|found| found.id.starts_with('d')) && found.len() == 2, "{found:?}");
    // Whoever writes the document again decides.
    let v: u32 = changed[1..].parse().unwrap();
    must(&cluster, Method::POST, DOCUMENTS, json!([{"id": changed, "v": v}])).await;
    settled(&cluster, 40).await;
    assert_eq!(compared(&state).await.len(), 2, "nothing new");
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn counts_find_a_lost_document_without_reading_all() {
    let cluster = filled(603, 2, 40).await;
    let state = state(&cluster);
    let lost = owned(&cluster, 2);
    lose(&cluster, 2, &lost);
    pass(&Counts::new(Arc::clone(&state)), &Peers::alone()).await;
    sleep(Duration::from_secs(20)).await;
    let found = state.comparisons.differences();
    assert_eq!((found.len(), became(&found, &lost)), (1, Became::Mended));
    settled(&cluster, 40).await;
    end(&cluster);
}

/// While clients write, two listings hardly ever agree; nothing of that is a difference.
#[tokio::test(start_paused = true)]
async fn writes_under_way_are_no_differences_and_are_not_lost_to_a_repair() {
    let cluster = Arc::new(filled(604, 3, 40).await);
    let state = state(&cluster);
    let writes = {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move {
            for round in 1_u32.. {
                let some = (0..40).map(|n| json!({"id": format!("d{n}"), "v": round})).collect();
                cluster.request(Method::POST, DOCUMENTS, Some(some)).await;
                sleep(Duration::from_millis(50)).await;
            }
        })
    };
    for _ in 0..3 {
        assert_eq!(compared(&state).await, []);
    }
    // A document that nobody writes is mended meanwhile.
    must(&cluster, Method::POST, DOCUMENTS, json!([{"id": "d99", "v": 99}])).await;
    lose(&cluster, 1, "d99");
    let found = compared(&state).await;
    assert_eq!((found.len(), became(&found, "d99")), (1, Became::Mended), "{found:?}");
    writes.abort();
    must(&cluster, Method::POST, DOCUMENTS, documents(0..40)).await;
    must(&cluster, Method::DELETE, &format!("{DOCUMENTS}/d99"), json!(null)).await;
    settled(&cluster, 40).await;
    end(&cluster);
}

/// Any pod compares; the one that leads mends.
#[tokio::test(start_paused = true)]
async fn what_a_pod_finds_that_does_not_lead_is_mended_by_the_one_that_does() {
    let cluster = filled_by_pods(605, 2, 40).await;
    let leader = cluster.leader().unwrap();
    let lost = owned(&cluster, 0);
    lose(&cluster, 0, &lost);
    let follower = cluster.pod((leader + 1) % 3).cluster.state;
    pass(&AntiEntropy::new(Arc::clone(&follower)), &Peers::alone()).await;
    let found = || cluster.pod(leader).cluster.state.comparisons.differences();
    until("the leader knows", || !found().is_empty()).await;
    assert_eq!(became(&found(), &lost), Became::Mended);
    assert_eq!(follower.comparisons.differences(), []);
    settled(&cluster, 40).await;
    for pod in 0..3 {
        cluster.pod(pod).cluster.state.stop.cancel();
    }
    end(&cluster);
}
