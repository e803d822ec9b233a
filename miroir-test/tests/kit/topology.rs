//! Which nodes the cluster has, where store, configuration and nodes do not agree.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use miroir_api::GroupId;
use miroir_control::topology::{accept_store, operations, rebuild};
use miroir_control::{BuildError, Miroir};
use miroir_core::quorum::WriteQuorum;
use miroir_core::topology::{Layout, Seat, Wish};
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_pipeline::cluster::{Bar, ClusterOptions, ClusterState, OnDifference, TopologyOptions};
use miroir_store::records::CommittedTopology;
use miroir_store::{Stores, memory};
use miroir_test::cluster::{Shape, SimCluster};
use miroir_test::faults::Fault;
use serde_json::json;
use tokio::time::sleep;

type Nodes<'a> = &'a [(&'a str, u32, u16)];

/// Builds over nodes at ports on which nobody listens.
async fn build(
    stores: &Stores,
    nodes: Nodes<'_>,
    replication_factor: u32,
    on_difference: OnDifference,
) -> Result<Miroir, BuildError> {
    let topology = TopologyOptions { on_difference };
    let mut builder = Miroir::builder()
        .options(ClusterOptions { topology, ..ClusterOptions::default() })
        .replication_factor(replication_factor)
        .stores(stores.clone());
    for (id, group, port) in nodes {
        builder = builder.node(id, &format!("http://127.0.0.1:{port}"), *group);
    }
    builder.build().await
}

const FOUNDED: Nodes<'static> = &[("a", 0, 1), ("b", 0, 2), ("c", 0, 3)];

#[tokio::test]
async fn a_configuration_with_other_nodes_is_refused_with_each_difference() {
    let stores = memory::open();
    build(&stores, FOUNDED, 2, OnDifference::Refuse).await.unwrap();
    let others: [(Nodes<'_>, u32, &[&str]); 5] = [
        (&[("a", 0, 1), ("b", 0, 2), ("d", 0, 3)], 2, &["node `c`, at http://127.0.0.1:3, `d`"]),
        (&[("a", 0, 1), ("b", 0, 2)], 2, &["lacks node `c`"]),
        (FOUNDED, 3, &["`replication_factor` is 2 and the configuration has 3"]),
        (
            &[("a", 0, 1), ("b", 0, 2), ("c", 1, 3), ("d", 1, 4)],
            2,
            &["node `c` is in group 0", "node `d`, which is new"],
        ),
        (
            &[("a", 0, 1), ("b", 0, 2), ("x", 0, 9)],
            2,
            &["lacks node `c`", "node `x`, which is new"],
        ),
    ];
    for (nodes, replication_factor, says) in others {
        let refused = build(&stores, nodes, replication_factor, OnDifference::Refuse).await;
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("topology.on_difference: use_store"), "{text}");
        assert!(says.iter().all(|says| text.contains(says)), "{text}");
    }
    // Where a node is reached makes no difference.
    build(&stores, &[("c", 0, 7), ("b", 0, 2), ("a", 0, 8)], 2, OnDifference::Refuse)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_stores_nodes_are_used_where_an_operator_says_so() {
    let stores = memory::open();
    build(&stores, FOUNDED, 2, OnDifference::Refuse).await.unwrap();
    let nodes: Nodes<'_> = &[("a", 0, 8), ("b", 1, 2), ("new", 1, 9)];
    let built = build(&stores, nodes, 1, OnDifference::UseStore).await.unwrap();
    let topology = built.cluster.state.membership.topology();
    let found: Vec<_> =
        topology.nodes().map(|n| (n.id.as_str(), n.group.0, n.address.as_str())).collect();
    assert_eq!(
        found,
        [
            ("a", 0, "http://127.0.0.1:8"),
            ("b", 0, "http://127.0.0.1:2"),
            ("c", 0, "http://127.0.0.1:3")
        ]
    );
    assert_eq!(topology.replication_factor(), 2);
}

async fn cluster(seed: u64) -> SimCluster {
    let shape =
        Shape { shards: 6, groups: 1, rf: 2, nodes_per_group: 3, quorum: WriteQuorum::Auto };
    let cluster = SimCluster::new(seed, shape).await;
    let index = Some(json!({"uid": "main", "primaryKey": "id"}));
    assert_eq!(cluster.request(Method::POST, "/indexes", index).await.status, 202);
    let documents: Vec<_> = (0..30).map(|n| json!({"id": n})).collect();
    let added = cluster.request(Method::POST, "/indexes/main/documents", Some(json!(documents)));
    let task = added.await.body["taskUid"].as_u64().unwrap();
    cluster.wait(task, Duration::from_mins(1)).await.unwrap();
    cluster.quiesce(Duration::from_mins(1)).await.unwrap();
    cluster
}

fn state(cluster: &SimCluster) -> Arc<ClusterState> {
    cluster.miroir().cluster.state
}

/// The store gets another version of the same topology, and the next process reads it.
async fn at_version(cluster: &SimCluster, version: u64) {
    let known = cluster.stores.identity.topology().await.unwrap().unwrap();
    let identity = &cluster.stores.identity;
    let expected = known.version;
    let next = CommittedTopology { version, ..known };
    assert!(identity.commit_topology(next, expected).await.unwrap());
    cluster.restart().await;
    sleep(Duration::from_secs(12)).await;
}

async fn codes(cluster: &SimCluster) -> [String; 2] {
    let read = cluster.request(Method::POST, "/indexes/main/search", Some(json!({}))).await;
    let write = cluster.request(Method::POST, "/indexes/main/documents", Some(json!([{"id": 1}])));
    [read.code().to_owned(), write.await.code().to_owned()]
}

#[tokio::test(start_paused = true)]
async fn a_store_behind_its_nodes_answers_nothing_until_it_is_accepted() {
    let cluster = cluster(1).await;
    at_version(&cluster, 3).await;
    let told = |text: &str| {
        cluster.nodes.iter().all(|node| {
            node.inspect(|disk| {
                disk.keys.values().any(|key| key["name"].as_str().is_some_and(|n| n.contains(text)))
            })
        })
    };
    assert!(told("topology 3 "), "nodes are told every version");
    assert_eq!(codes(&cluster).await, ["", ""]);
    let refused = accept_store(&state(&cluster)).await.unwrap_err();
    assert!(refused.to_string().contains("nothing to accept"), "{refused}");

    at_version(&cluster, 1).await;
    assert_eq!(codes(&cluster).await, ["miroir_store_behind", "miroir_store_behind"]);
    assert!(told("topology 3 "), "and not of a lower one");
    assert_eq!(accept_store(&state(&cluster)).await.unwrap(), 4);
    assert_eq!(codes(&cluster).await, ["", ""]);
    sleep(Duration::from_secs(12)).await;
    assert!(told("topology 4 "));
    cluster.restart().await;
    assert_eq!(codes(&cluster).await, ["", ""]);
    cluster.end();
}

#[tokio::test(start_paused = true)]
async fn an_older_store_is_compared_with_what_the_nodes_hold() {
    let cluster = cluster(2).await;
    at_version(&cluster, 3).await;
    at_version(&cluster, 1).await;
    assert!(matches!(state(&cluster).leadership.barred(), Some(Bar::StoreBehind { .. })));
    let found = rebuild(&state(&cluster)).await.unwrap();
    assert_eq!((found.differences, found.version), (Vec::new(), Some(4)));

    // An index that was made after the copy.
    let made = cluster.request(Method::POST, "/indexes", Some(json!({"uid": "later"}))).await;
    cluster.wait(made.body["taskUid"].as_u64().unwrap(), Duration::from_mins(1)).await.unwrap();
    cluster.quiesce(Duration::from_mins(1)).await.unwrap();
    let later = cluster.stores.indexes.list().await.unwrap().remove(0);
    assert_eq!(later.name.as_str(), "later");
    assert!(cluster.stores.indexes.delete(&later.name, later.version).await.unwrap());
    at_version(&cluster, 1).await;
    let found = rebuild(&state(&cluster)).await.unwrap();
    assert_eq!(found.version, None);
    assert_eq!(found.differences.len(), 3, "{:?}", found.differences);
    assert!(found.differences.iter().all(|text| text.contains("does not know")));
    assert_eq!(accept_store(&state(&cluster)).await.unwrap(), 5);
    cluster.end();
}

/// A pod whose store has other nodes, and no later version of them, answers nothing, and nobody waits
/// for it.
#[tokio::test(start_paused = true)]
async fn a_pod_with_other_nodes_than_the_store_answers_nothing() {
    let cluster = cluster(3).await;
    let known = cluster.stores.identity.topology().await.unwrap().unwrap();
    let mut layout: Layout = known.layout.clone();
    let id = miroir_api::NodeId::new("new").unwrap();
    let seat = Seat { id, address: "http://new:7700".to_owned(), ..layout.nodes[0].clone() };
    layout.nodes.push(seat);
    let other = CommittedTopology { layout, ..known };
    assert!(cluster.stores.identity.commit_topology(other, 1).await.unwrap());
    state(&cluster).reload().await.unwrap();
    assert_eq!(codes(&cluster).await, ["miroir_topology_mismatch", "miroir_topology_mismatch"]);
    cluster.end();
}

/// A drained node that joins is filled anew, and one that is removed is asked for nothing more: not while
/// it is the only one that an index's settings can be copied from.
#[tokio::test(start_paused = true)]
async fn a_node_that_alone_has_settings_is_kept() {
    let shape =
        Shape { shards: 6, groups: 1, rf: 2, nodes_per_group: 2, quorum: WriteQuorum::Auto };
    let cluster = SimCluster::elastic(3, shape, 0, 1).await;
    let index = Some(json!({"uid": "main", "primaryKey": "id"}));
    assert_eq!(cluster.request(Method::POST, "/indexes", index).await.status, 202);
    let spare = cluster.nodes[2].id().clone();
    let seat =
        || Seat { id: spare.clone(), address: "http://fake-2".to_owned(), group: GroupId(0) };
    let wait = || cluster.quiesce(Duration::from_mins(1));
    wait().await.unwrap();
    for wish in [Wish::Join(vec![seat()]), Wish::Drain(vec![spare.clone()])] {
        operations::begin(&state(&cluster), &wish, false).await.unwrap();
        while state(&cluster).committed.load().change.is_some() {
            sleep(Duration::from_millis(100)).await;
        }
        wait().await.unwrap();
    }

    for node in &cluster.nodes[..2] {
        node.suffer(Fault::Crash);
    }
    let others = cluster.nodes[..2].iter();
    let missed = others.map(|node| StaleReplica::new(node.id(), "main", None, CatchUp::Shard));
    state(&cluster).staleness.mark(missed.collect()).await.unwrap();
    let joins = Wish::Join(vec![seat()]);
    let (plan, _) = operations::begin(&state(&cluster), &joins, true).await.unwrap();
    assert!(plan.blockers.iter().any(|why| why.contains("settings of index `main`")), "{plan:?}");
    let refused = operations::remove_node(&state(&cluster), &spare).await.unwrap_err();
    assert!(refused.to_string().contains("settings of index `main`"), "{refused}");

    for node in &cluster.nodes[..2] {
        node.suffer(Fault::Heal);
    }
    wait().await.unwrap();
    let (plan, _) = operations::begin(&state(&cluster), &joins, true).await.unwrap();
    assert_eq!(plan.blockers, Vec::<String>::new());
    operations::remove_node(&state(&cluster), &spare).await.unwrap();
}
