//! Nodes that fail for good, and those that come back.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use miroir_api::{GroupId, NodeId};
use miroir_control::topology::operations::add_spare;
use miroir_core::quorum::WriteQuorum;
use miroir_core::topology::Seat;
use miroir_pipeline::cluster::ClusterState;
use miroir_store::records::{Operation, OperationState};
use miroir_test::cluster::{Shape, SimCluster};
use miroir_test::faults::Fault;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::disks::{DOCUMENTS, PATIENCE, documents, end, must, settled, state};

const SHAPE: Shape =
    Shape { shards: 6, groups: 1, rf: 2, nodes_per_group: 3, quorum: WriteQuorum::Auto };
/// The node that is added as a spare.
const SPARE: usize = 3;
/// The default of `restore_after_s`.
const AFTER: Duration = Duration::from_mins(10);

/// Three nodes with documents, and a spare.
async fn with_spare(seed: u64) -> (SimCluster, Arc<ClusterState>) {
    let cluster = SimCluster::elastic(seed, SHAPE, 0, 1).await;
    must(&cluster, Method::POST, "/indexes", json!({"uid": "main", "primaryKey": "id"})).await;
    must(&cluster, Method::POST, DOCUMENTS, documents(0..40)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    let state = state(&cluster);
    let id = cluster.nodes[SPARE].id().clone();
    let seat = Seat { id, address: format!("http://fake-{SPARE}"), group: GroupId(0) };
    add_spare(&state, seat.clone()).await.unwrap();
    let again = add_spare(&state, seat).await.unwrap_err().to_string();
    assert!(again.contains("shards already"), "{again}");
    (cluster, state)
}

/// Waits for something about the topology for at most half an hour. Returns how long it took.
async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_mins(30), "waited in vain until {what}");
        sleep(Duration::from_millis(100)).await;
    }
    begun.elapsed()
}

fn last(state: &ClusterState) -> Option<Operation> {
    state.committed.load().ended.first().cloned()
}

#[tokio::test(start_paused = true)]
async fn a_spare_takes_the_place_of_a_node_that_stays_away_and_that_one_is_the_next_spare() {
    let (cluster, state) = with_spare(701).await;
    let (gone, spare) = (cluster.nodes[1].id().clone(), cluster.nodes[SPARE].id().clone());
    cluster.nodes[1].suffer(Fault::Crash);
    let begun = until("it begins", || state.committed.load().operation.is_some()).await;
    assert!(begun >= AFTER && begun < AFTER + Duration::from_secs(30), "{begun:?}");
    until("it is over", || last(&state).is_some()).await;
    let operation = last(&state).unwrap();
    assert_eq!(
        (operation.state, operation.restores),
        (OperationState::Committed, Some(gone.clone()))
    );
    let committed = state.committed.load_full();
    let has = |id: &NodeId| committed.layout.nodes.iter().any(|seat| seat.id == *id);
    assert!(has(&spare) && !has(&gone) && committed.spares.is_empty());
    // Two copies of each document, on nodes that are there.
    settled(&cluster, 40).await;
    cluster.nodes[1].suffer(Fault::Heal);
    until("it is a spare", || state.committed.load().spares.contains(&gone)).await;
    assert!(state.committed.load().operation.is_none());
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_before_its_copies_are_read_keeps_its_shards() {
    let (cluster, state) = with_spare(702).await;
    let before = state.committed.load().layout.clone();
    let slow = Fault::SlowTasks { from: Duration::from_mins(2), to: Duration::from_mins(3) };
    cluster.nodes[SPARE].suffer(slow);
    cluster.nodes[1].suffer(Fault::Crash);
    until("it begins", || state.committed.load().operation.is_some()).await;
    cluster.nodes[1].suffer(Fault::Heal);
    until("it is over", || last(&state).is_some()).await;
    assert_eq!(last(&state).unwrap().state, OperationState::RolledBack);
    let committed = state.committed.load_full();
    assert_eq!(committed.layout, before);
    settled(&cluster, 40).await;
    // It came back once, and is waited for longer the next time.
    cluster.nodes[1].suffer(Fault::Crash);
    sleep(AFTER + Duration::from_mins(5)).await;
    assert!(state.committed.load().operation.is_none());
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn nothing_moves_while_two_nodes_are_away_or_where_nobody_else_has_a_shard() {
    let (cluster, state) = with_spare(703).await;
    for at in [0, 1] {
        cluster.nodes[at].suffer(Fault::Crash);
    }
    sleep(AFTER * 3).await;
    assert!(state.committed.load().operation.is_none(), "that is a network");
    // One is back, and lacks what it was not repaired to yet: the other had it alone.
    cluster.nodes[0].suffer(Fault::Heal);
    until("it begins", || state.committed.load().operation.is_some()).await;
    until("it is over", || last(&state).is_some()).await;
    assert_eq!(last(&state).unwrap().restores.as_ref(), Some(cluster.nodes[1].id()));
    settled(&cluster, 40).await;
    end(&cluster);
}
