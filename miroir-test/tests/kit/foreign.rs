//! Writes that reach a node past Miroir, or when nobody waits for them any more.

use std::time::Duration;

use http::Method;
use miroir_core::routing::shard_of;
use miroir_core::topology::NodeStatus;
use miroir_test::cluster::SimCluster;
use miroir_test::faults::Fault;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::disks::{
    DOCUMENTS, PATIENCE, documents, end, filled, must, settled, state, status, until,
};

/// Somebody writes to a node: its newest task is looked at within one health check, and a second later
/// what it did.
async fn foreign(cluster: &SimCluster, at: usize, method: Method, path: &str, body: Value) {
    let (status, answer) = cluster.nodes[at].foreign(method, path, &body);
    assert!(status.is_success(), "{path}: {answer}");
    sleep(Duration::from_secs(8)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
}

/// A document that the node owns.
fn owned(cluster: &SimCluster, at: usize) -> String {
    let first =
        |disk: &miroir_test::node::Disk| disk.indexes["main"].documents.keys().next().cloned();
    cluster.nodes[at].inspect(first).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_written_to_a_node_past_miroir_is_undone() {
    let cluster = filled(21, 2, 40).await;
    let id = owned(&cluster, 1);
    let one = format!("{DOCUMENTS}/{id}");
    foreign(&cluster, 1, Method::DELETE, &one, Value::Null).await;
    settled(&cluster, 40).await;
    // A document replaced, one changed, and one of no shard at all.
    let body = json!([{"id": id, "v": 999}, {"id": "stranger", "v": 1}]);
    foreign(&cluster, 1, Method::POST, DOCUMENTS, body).await;
    settled(&cluster, 40).await;
    foreign(&cluster, 2, Method::PUT, DOCUMENTS, json!([{"id": owned(&cluster, 2), "w": 1}])).await;
    settled(&cluster, 40).await;
    let body = json!({"stopWords": ["the"]});
    foreign(&cluster, 0, Method::PATCH, "/indexes/main/settings", body).await;
    settled(&cluster, 40).await;
    foreign(&cluster, 0, Method::DELETE, "/indexes/main", Value::Null).await;
    settled(&cluster, 40).await;
    // What is about no index of Miroir's is not its business.
    foreign(&cluster, 0, Method::POST, "/indexes", json!({"uid": "own", "primaryKey": "id"})).await;
    assert!(cluster.nodes[0].inspect(|disk| disk.indexes.contains_key("own")));
    end(&cluster);
}

/// However many tasks are found at once, what is a stranger's among their documents is deleted once.
#[tokio::test(start_paused = true)]
async fn strangers_are_removed_once_for_all_tasks_that_are_found_together() {
    let cluster = filled(27, 2, 40).await;
    sleep(Duration::from_secs(10)).await;
    for n in 0..30 {
        let body = json!([{"id": format!("stranger{n}"), "v": n}]);
        let _ = cluster.nodes[1].foreign(Method::POST, DOCUMENTS, &body);
    }
    sleep(Duration::from_secs(8)).await;
    settled(&cluster, 40).await;
    let is_one = |task: &&miroir_test::node::Task| {
        task.metadata().is_some_and(|tag| tag.ends_with(":strangers"))
    };
    assert_eq!(cluster.nodes[1].inspect(|disk| disk.tasks.iter().filter(is_one).count()), 1);
    end(&cluster);
}

/// While nobody leads nobody looks, and the next process does before it reads.
#[tokio::test(start_paused = true)]
async fn what_was_written_past_miroir_while_it_was_away_is_noticed_when_it_begins() {
    let cluster = filled(22, 2, 40).await;
    sleep(Duration::from_secs(10)).await;
    cluster.end();
    let one = format!("{DOCUMENTS}/{}", owned(&cluster, 1));
    let _ = cluster.nodes[1].foreign(Method::DELETE, &one, &Value::Null);
    sleep(Duration::from_secs(1)).await;
    cluster.restart().await;
    let index = &state(&cluster).catalog.all()[0].physical;
    assert!(state(&cluster).staleness.load().touches(index, cluster.nodes[1].id()));
    settled(&cluster, 40).await;
    end(&cluster);
}

/// Where there is one copy of a shard there is nothing to compare it with, and it stays read.
#[tokio::test(start_paused = true)]
async fn the_only_copy_of_a_shard_is_not_put_in_doubt() {
    let cluster = filled(23, 1, 40).await;
    let one = format!("{DOCUMENTS}/{}", owned(&cluster, 1));
    foreign(&cluster, 1, Method::DELETE, &one, Value::Null).await;
    assert!(state(&cluster).staleness.load().rows().next().is_none());
    let all = cluster.request(Method::POST, &format!("{DOCUMENTS}/fetch"), Some(json!({}))).await;
    assert_eq!((all.complete(), &all.body["total"]), (true, &json!(39)));
    end(&cluster);
}

/// Of Miroir's own writes none is taken for somebody else's, whatever became of their answers.
#[tokio::test(start_paused = true)]
async fn own_writes_are_nobody_elses() {
    let cluster = filled(24, 2, 40).await;
    must(&cluster, Method::PATCH, "/indexes/main/settings", json!({"stopWords": ["a"]})).await;
    cluster.nodes[1].suffer(Fault::Crash);
    must(&cluster, Method::POST, DOCUMENTS, documents(0..20)).await;
    cluster.nodes[1].suffer(Fault::Heal);
    must(&cluster, Method::POST, DOCUMENTS, documents(20..40)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    let stale = state(&cluster).staleness.load();
    sleep(Duration::from_secs(20)).await;
    assert!(stale.rows().next().is_none());
    let given = state(&cluster).nodes.pool.given().clone();
    for node in &cluster.nodes {
        let tasks = node.inspect(|disk| disk.tasks.len());
        assert_eq!(given.next(node.id()), u32::try_from(tasks).ok(), "{}", node.id());
    }
    settled(&cluster, 40).await;
    end(&cluster);
}

/// What arrived at a node before it went is looked into before the node is read again.
#[tokio::test(start_paused = true)]
async fn what_was_written_past_miroir_before_a_node_went_is_noticed_before_it_is_read() {
    let cluster = filled(25, 2, 40).await;
    sleep(Duration::from_secs(10)).await;
    let id = owned(&cluster, 1);
    let _ = cluster.nodes[1].foreign(Method::DELETE, &format!("{DOCUMENTS}/{id}"), &Value::Null);
    cluster.nodes[1].suffer(Fault::Crash);
    until("it counts as failed", || status(&cluster, 1) == NodeStatus::Failed).await;
    cluster.nodes[1].suffer(Fault::Heal);
    let node = cluster.nodes[1].id();
    let index = state(&cluster).catalog.all()[0].physical.clone();
    until("it is read, and has what was deleted", || {
        let reads = status(&cluster, 1) == NodeStatus::Active
            && !state(&cluster).staleness.load().touches(&index, node);
        let has = cluster.nodes[1].inspect(|disk| disk.indexes[&index].documents.contains_key(&id));
        assert!(has || !reads, "it is read, and lacks {id}");
        has && reads
    })
    .await;
    settled(&cluster, 40).await;
    end(&cluster);
}

/// A replica in doubt that had to wait for another one is not compared with one that has come into
/// doubt since: what that was sent is later than what both agreed on.
#[tokio::test(start_paused = true)]
async fn who_waits_to_be_compared_is_not_compared_with_one_that_is_in_doubt() {
    let cluster = filled(26, 2, 40).await;
    sleep(Duration::from_secs(10)).await;
    let miroir = state(&cluster);
    let entry = miroir.catalog.all()[0].clone();
    let placement = miroir.membership.topology().placement(entry.shards);
    let owners = |id: &str| -> Vec<usize> {
        let at = |node| cluster.nodes.iter().position(|n| n.id() == node).unwrap();
        let shard = shard_of(id.as_bytes(), entry.shards);
        let mut owners: Vec<usize> =
            placement.write_targets(shard).map(|(_, node)| at(node)).collect();
        owners.sort_unstable();
        owners
    };
    let id = (0..40).map(|n| format!("d{n}")).find(|id| owners(id) == [0, 1]).unwrap();
    let write = |at: usize, value: u32| {
        let _ = cluster.nodes[at].foreign(Method::PUT, DOCUMENTS, &json!([{"id": id, "v": value}]));
        // What a check would have seen.
        let newest = cluster.nodes[at].inspect(|disk| disk.tasks.len() - 1);
        miroir.membership.task_uids.saw(cluster.nodes[at].id(), u32::try_from(newest).unwrap());
    };
    cluster.nodes[1].suffer(Fault::Crash);
    until("it counts as failed", || status(&cluster, 1) == NodeStatus::Failed).await;
    must(&cluster, Method::POST, DOCUMENTS, documents(0..40)).await;
    write(0, 777);
    sleep(Duration::from_secs(5)).await;
    cluster.nodes[1].suffer(Fault::Heal);
    let stale = || miroir.staleness.load().touches(&entry.physical, cluster.nodes[1].id());
    until("it is repaired", || status(&cluster, 1) == NodeStatus::Active && !stale()).await;
    write(1, 999);
    sleep(Duration::from_secs(10)).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    for at in [0, 1] {
        let value = cluster.nodes[at]
            .inspect(|disk| disk.indexes[&entry.physical].documents[&id]["v"].as_u64());
        assert_eq!(value, Some(777), "on node {at}");
    }
    end(&cluster);
}
