//! What a store is called.

use futures_util::future::join_all;
use miroir_api::{GroupId, NodeId};
use miroir_core::topology::{Layout, Seat};
use miroir_store::Stores;
use miroir_store::records::{CommittedTopology, NodeRecord};

/// Of all that ask at once one makes the name, and all know it by that one.
pub async fn a_store_is_named_once(stores: &Stores) {
    let callers = (0..8).map(|_| {
        let identity = stores.identity.clone();
        tokio::spawn(async move { identity.store_id().await.unwrap() })
    });
    let named: Vec<_> = join_all(callers).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(named, vec![named[0]; 8]);
    // A process that may change nothing knows it as well.
    stores.fence.close();
    assert_eq!(stores.identity.store_id().await.unwrap(), named[0]);
    assert_eq!(named[0].0.get_version_num(), 4);
}

/// What is put of a node replaces what was known of it, and of no other.
pub async fn nodes_are_remembered(stores: &Stores) {
    let node = |name: &str| NodeId::new(name).unwrap();
    assert!(stores.node_records.list().await.unwrap().is_empty());
    let first = NodeRecord { highest: Some(7), identified: true, ..NodeRecord::new(node("b")) };
    stores.node_records.put(first.clone()).await.unwrap();
    let foreign = NodeRecord { foreign: Some(node("b")), ..NodeRecord::new(node("a")) };
    stores.node_records.put(foreign.clone()).await.unwrap();
    assert_eq!(stores.node_records.list().await.unwrap(), [foreign.clone(), first.clone()]);
    let next = first.next_life();
    assert_eq!((next.life, next.highest, next.identified), (1, None, false));
    stores.node_records.put(next.clone()).await.unwrap();
    assert_eq!(stores.node_records.list().await.unwrap(), [foreign, next]);
}

/// Of all that say which nodes there are one is heard, and a change replaces the version it knows.
pub async fn the_topology_is_founded_once(stores: &Stores) {
    let layout = |replication_factor| {
        let (id, address) = (NodeId::new("a").unwrap(), "http://a".to_owned());
        Layout { replication_factor, nodes: vec![Seat { id, group: GroupId(0), address }] }
    };
    assert_eq!(stores.identity.topology().await.unwrap(), None);
    let founders = (1..8).map(|n| {
        let identity = stores.identity.clone();
        tokio::spawn(async move { identity.found_topology(layout(n)).await.unwrap() })
    });
    let founded: Vec<_> = join_all(founders).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(founded, vec![founded[0].clone(); 7]);
    let store = stores.identity.store_id().await.unwrap();
    assert_eq!(founded[0].fingerprint, founded[0].layout.fingerprint(&store.to_string()));
    assert_eq!(founded[0].version, 1);
    let next = |version| CommittedTopology { version, layout: layout(9), ..founded[0].clone() };
    assert!(!stores.identity.commit_topology(next(3), 2).await.unwrap());
    assert!(stores.identity.commit_topology(next(4), 1).await.unwrap());
    let now = stores.identity.topology().await.unwrap().unwrap();
    assert_eq!((now.version, now.layout), (4, layout(9)));
    assert_ne!(now.fingerprint, founded[0].fingerprint);
    assert_eq!(stores.identity.store_id().await.unwrap(), store);
}
