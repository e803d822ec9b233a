//! Repairs of a simulated cluster while clients write, and what goes wrong with them.

use std::time::Duration;

use http::Method;
use miroir_api::ShardId;
use miroir_core::quorum::WriteQuorum;
use miroir_core::routing::shard_of;
use miroir_core::topology::NodeStatus;
use miroir_test::cluster::{Answer, Shape, SimCluster};
use miroir_test::faults::Fault;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::failures::{status, until};

const DOCUMENTS: &str = "/indexes/main/documents";
const PATIENCE: Duration = Duration::from_mins(5);
const SHAPE: Shape =
    Shape { shards: 6, groups: 1, rf: 2, nodes_per_group: 3, quorum: WriteQuorum::Auto };

async fn write(cluster: &SimCluster, documents: Value) -> Answer {
    cluster.request(Method::POST, DOCUMENTS, Some(documents)).await
}

async fn must(cluster: &SimCluster, method: Method, path: &str, body: Value) {
    let answer = cluster.request(method, path, Some(body)).await;
    assert_eq!(answer.status, 202, "{path}: {}", answer.body);
    let task = answer.body["taskUid"].as_u64().unwrap();
    assert_eq!(cluster.wait(task, PATIENCE).await.as_deref(), Some("succeeded"), "{path}");
}

fn documents(numbers: std::ops::Range<u32>, v: u32) -> Value {
    numbers.map(|n| json!({"id": format!("d{n}"), "v": v})).collect()
}

async fn filled(seed: u64, count: u32) -> SimCluster {
    let cluster = SimCluster::new(seed, SHAPE).await;
    must(&cluster, Method::POST, "/indexes", json!({"uid": "main", "primaryKey": "id"})).await;
    for first in (0..count).step_by(200) {
        let some = documents(first..count.min(first + 200), 0);
        must(&cluster, Method::POST, DOCUMENTS, some).await;
    }
    cluster.quiesce(PATIENCE).await.unwrap();
    cluster
}

fn stale(cluster: &SimCluster, index: &str) -> usize {
    let stale = cluster.miroir().cluster.state.staleness.load();
    stale.rows().filter(|row| row.index == index).count()
}

async fn away(cluster: &SimCluster, at: usize) {
    cluster.nodes[at].suffer(Fault::Crash);
    until("the node counts as failed", || status(cluster, at) == NodeStatus::Failed).await;
}

fn slow(milliseconds: std::ops::Range<u64>) -> Fault {
    Fault::SlowTasks {
        from: Duration::from_millis(milliseconds.start),
        to: Duration::from_millis(milliseconds.end),
    }
}

/// What each owner of a document has under its id.
fn held(cluster: &SimCluster, index: &str, id: &str) -> Vec<Value> {
    let shard = shard_of(id.as_bytes(), SHAPE.shards);
    let topology = cluster.miroir().cluster.state.membership.topology();
    let placement = topology.placement(SHAPE.shards);
    let owners: Vec<_> = placement.write_targets(shard).map(|(_, node)| node.clone()).collect();
    let of = |node: &&miroir_test::node::FakeNode| owners.contains(node.id());
    let shown = |node: &miroir_test::node::FakeNode| {
        node.inspect(|disk| {
            let index = disk.indexes.get(index);
            index.and_then(|i| i.documents.get(id)).map_or(Value::Null, |d| d["v"].clone())
        })
    };
    cluster.nodes.iter().filter(of).map(shown).collect()
}

/// All owners of all documents have the same.
fn alike(cluster: &SimCluster, count: u32) {
    for n in 0..count {
        let held = held(cluster, "main", &format!("d{n}"));
        assert!(held.windows(2).all(|two| two[0] == two[1]), "d{n}: {held:?}");
    }
}

fn end(cluster: &SimCluster) {
    cluster.life().end();
    cluster.miroir().cluster.state.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn writes_go_on_while_a_replica_with_a_large_backlog_is_repaired() {
    let cluster = filled(41, 200).await;
    for node in &cluster.nodes {
        node.suffer(slow(200..400));
    }
    // Every node has its queue full for a while.
    for n in 0..30 {
        assert_eq!(write(&cluster, documents(n..n + 3, 1)).await.status, 202);
    }
    away(&cluster, 1).await;
    for n in 0..20 {
        assert_eq!(write(&cluster, documents(10 * n..10 * n + 2, 2)).await.status, 202);
    }
    cluster.nodes[1].suffer(Fault::Heal);
    until("the node is back", || status(&cluster, 1) != NodeStatus::Failed).await;
    assert!(stale(&cluster, "main") > 0);
    let (mut writes, mut slowest) = (0, Duration::ZERO);
    while stale(&cluster, "main") > 0 {
        let begun = Instant::now();
        let number = 7 * writes % 200;
        let answer = match writes % 4 {
            0 => {
                cluster
                    .request(Method::PUT, DOCUMENTS, Some(documents(number..number + 1, 3)))
                    .await
            }
            1 => {
                let path = format!("{DOCUMENTS}/d{number}");
                cluster.request(Method::DELETE, &path, None).await
            }
            _ => write(&cluster, documents(number..number + 2, writes)).await,
        };
        assert_eq!(answer.status, 202, "{}", answer.body);
        slowest = slowest.max(begun.elapsed());
        writes += 1;
        assert!(writes < 3000, "it never ends");
        sleep(Duration::from_millis(500)).await;
    }
    assert!(slowest <= Duration::from_secs(2), "{slowest:?}");
    assert!(writes > 10, "{writes}");
    cluster.quiesce(PATIENCE).await.unwrap();
    alike(&cluster, 202);
    end(&cluster);
}

/// Documents that a node was given or told to delete since its task `first`.
fn given(cluster: &SimCluster, at: usize, first: usize) -> u64 {
    cluster.nodes[at].inspect(|disk| {
        let tasks = disk.tasks.iter().filter(|task| task.uid as usize >= first);
        let count = |task: Value| {
            let details = &task["details"];
            details["receivedDocuments"].as_u64().unwrap_or(0)
                + details["deletedDocuments"].as_u64().unwrap_or(0)
        };
        tasks.map(|task| count(task.view())).sum()
    })
}

#[tokio::test(start_paused = true)]
async fn a_repair_writes_only_what_differs() {
    let cluster = filled(42, 1000).await;
    away(&cluster, 1).await;
    must(&cluster, Method::POST, DOCUMENTS, documents(0..30, 1)).await;
    must(&cluster, Method::POST, &format!("{DOCUMENTS}/delete-batch"), json!(["d40", "d41"])).await;
    let first = cluster.nodes[1].inspect(|disk| disk.tasks.len());
    cluster.nodes[1].suffer(Fault::Heal);
    until("the node is repaired", || stale(&cluster, "main") == 0).await;
    let ids = (0..30).chain([40, 41]).map(|n| format!("d{n}"));
    let topology = cluster.miroir().cluster.state.membership.topology();
    let placement = topology.placement(SHAPE.shards);
    let owned = placement.owned_by(cluster.nodes[1].id());
    let differ = ids.filter(|id| owned.contains(shard_of(id.as_bytes(), SHAPE.shards))).count();
    assert_eq!(given(&cluster, 1, first), differ as u64);
    alike(&cluster, 1000);
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_killed_in_the_middle_of_a_copy_begins_again_and_loses_nothing() {
    for cut in [900, 1700, 2900] {
        let cluster = filled(43, 600).await;
        cluster.nodes[1].suffer(Fault::Crash);
        cluster.nodes[1].wipe();
        cluster.nodes[1].suffer(slow(300..900));
        cluster.nodes[1].suffer(Fault::Heal);
        for round in 0..4 {
            sleep(Duration::from_millis(cut)).await;
            cluster.restart().await;
            let answer = write(&cluster, documents(round * 5..round * 5 + 5, round)).await;
            assert_eq!(answer.status, 202, "{}", answer.body);
        }
        cluster.quiesce(PATIENCE).await.unwrap();
        alike(&cluster, 600);
        end(&cluster);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_the_source_failed_is_on_both_sides_or_on_none() {
    for seed in 44..48 {
        let cluster = filled(seed, 60).await;
        away(&cluster, 1).await;
        must(&cluster, Method::POST, DOCUMENTS, documents(0..60, 1)).await;
        cluster.nodes[1].suffer(slow(500..900));
        cluster.nodes[1].suffer(Fault::Heal);
        until("the node is back", || status(&cluster, 1) != NodeStatus::Failed).await;
        for at in [0, 2] {
            cluster.nodes[at].suffer(Fault::FailsTasks { per_mille: 1000, code: "io_error" });
        }
        let answer = write(&cluster, documents(0..60, 2)).await;
        sleep(Duration::from_millis(700)).await;
        for at in [0, 2] {
            cluster.nodes[at].suffer(Fault::Mend);
        }
        if answer.status == 202 {
            cluster.wait(answer.body["taskUid"].as_u64().unwrap(), PATIENCE).await;
        }
        cluster.quiesce(PATIENCE).await.unwrap();
        alike(&cluster, 60);
        end(&cluster);
    }
}

#[tokio::test(start_paused = true)]
async fn documents_of_any_size_are_copied_in_bodies_that_the_node_takes() {
    let cluster = filled(49, 0).await;
    let text = "x".repeat(150_000);
    for n in 0..50 {
        let one = json!([{"id": format!("d{n}"), "v": 1, "text": text}]);
        must(&cluster, Method::POST, DOCUMENTS, one).await;
    }
    cluster.nodes[1].suffer(Fault::Crash);
    cluster.nodes[1].wipe();
    cluster.nodes[1].suffer(Fault::BodyLimit(1_000_000));
    cluster.nodes[1].suffer(Fault::Heal);
    until("the loss is noticed", || stale(&cluster, "main") > 0).await;
    until("the node is rebuilt", || stale(&cluster, "main") == 0).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    alike(&cluster, 50);
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn a_document_that_a_node_never_takes_holds_up_its_own_index_only() {
    let cluster = filled(50, 20).await;
    let other = json!({"uid": "other", "primaryKey": "id"});
    must(&cluster, Method::POST, "/indexes", other).await;
    away(&cluster, 1).await;
    let large: Value = (0..6)
        .map(|n| json!({"id": format!("d{n}"), "v": 2, "text": "x".repeat(20_000)}))
        .collect();
    must(&cluster, Method::POST, DOCUMENTS, large).await;
    must(&cluster, Method::POST, "/indexes/other/documents", documents(0..20, 3)).await;
    cluster.nodes[1].suffer(Fault::BodyLimit(10_000));
    cluster.nodes[1].suffer(Fault::Heal);
    until("the other index is repaired", || stale(&cluster, "other") == 0).await;
    sleep(Duration::from_secs(30)).await;
    assert!(stale(&cluster, "main") > 0);
    // Nobody waits for it.
    let begun = Instant::now();
    assert_eq!(write(&cluster, documents(10..12, 4)).await.status, 202);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    cluster.nodes[1].suffer(Fault::Mend);
    until("the index is repaired", || stale(&cluster, "main") == 0).await;
    cluster.quiesce(PATIENCE).await.unwrap();
    alike(&cluster, 20);
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_queue_failed_while_nobody_looked_is_not_read_as_if_it_had_not() {
    let cluster = filled(51, 40).await;
    cluster.nodes[1].suffer(slow(8_000..9_000));
    let answer = write(&cluster, documents(0..40, 1)).await;
    assert_eq!(answer.status, 202);
    cluster.nodes[1].suffer(Fault::FailsTasks { per_mille: 1000, code: "no_space_left_on_device" });
    away(&cluster, 1).await;
    let task = answer.body["taskUid"].as_u64().unwrap();
    assert_eq!(cluster.wait(task, PATIENCE).await.as_deref(), Some("succeeded"));
    cluster.nodes[1].suffer(Fault::Heal);
    until("the queue is worked off", || cluster.nodes[1].inspect(|disk| disk.idle())).await;
    cluster.nodes[1].suffer(Fault::Mend);
    for _ in 0..400 {
        for n in [0, 13, 26, 39] {
            let path = format!("{DOCUMENTS}/d{n}");
            let answer = cluster.request(Method::GET, &path, None).await;
            assert_eq!((answer.status, &answer.body["v"]), (200, &json!(1)), "d{n}");
        }
        sleep(Duration::from_millis(50)).await;
    }
    cluster.quiesce(PATIENCE).await.unwrap();
    alike(&cluster, 40);
    end(&cluster);
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_of_a_replica_that_is_copied_to_counts_for_nothing() {
    let cluster = filled(52, 60).await;
    away(&cluster, 1).await;
    must(&cluster, Method::POST, DOCUMENTS, documents(0..60, 1)).await;
    cluster.nodes[1].suffer(slow(20_000..30_000));
    cluster.nodes[1].suffer(Fault::Heal);
    until("the node is back", || status(&cluster, 1) != NodeStatus::Failed).await;
    away(&cluster, 0).await;
    let topology = cluster.miroir().cluster.state.membership.topology();
    let placement = topology.placement(SHAPE.shards);
    let (zero, one) = (cluster.nodes[0].id(), cluster.nodes[1].id());
    let both = |shard: ShardId| {
        let owners: Vec<_> = placement.write_targets(shard).map(|(_, node)| node).collect();
        owners.contains(&zero) && owners.contains(&one)
    };
    let id = (0..60)
        .map(|n| format!("d{n}"))
        .find(|id| both(shard_of(id.as_bytes(), SHAPE.shards)))
        .unwrap();
    let answer = write(&cluster, json!([{"id": id, "v": 9}])).await;
    assert_eq!((answer.status, answer.code()), (503, "miroir_no_quorum"));
    cluster.nodes[1].suffer(Fault::Mend);
    cluster.quiesce(PATIENCE).await.unwrap();
    alike(&cluster, 60);
    end(&cluster);
}
