//! Settings versions of nodes.

use futures_util::future::join_all;
use miroir_api::NodeId;
use miroir_store::Stores;

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a node id")
}

/// Versions only grow; indexes are apart; the list is ordered by node.
pub async fn versions_never_go_back(stores: &Stores) {
    let versions = &stores.settings_versions;
    assert_eq!(versions.list("a").await.unwrap(), []);
    for (name, version) in [("n2", 0), ("n10", 3), ("n1", 7), ("n10", 2), ("n10", 3), ("n1", 8)] {
        versions.set("a", &node(name), version).await.unwrap();
    }
    versions.set("b", &node("n1"), 1 << 53).await.unwrap();
    let expected = vec![(node("n1"), 8), (node("n10"), 3), (node("n2"), 0)];
    assert_eq!(versions.list("a").await.unwrap(), expected);

    versions.forget("a").await.unwrap();
    versions.forget("unknown").await.unwrap();
    assert_eq!(versions.list("a").await.unwrap(), []);
    assert_eq!(versions.list("b").await.unwrap(), [(node("n1"), 1 << 53)]);
    // A new index of the same name begins anew.
    versions.set("a", &node("n1"), 1).await.unwrap();
    assert_eq!(versions.list("a").await.unwrap(), [(node("n1"), 1)]);
}

/// Of concurrent versions the highest stays, and nobody sees it sink.
pub async fn the_highest_of_a_race_stays(stores: &Stores) {
    let setters = (0..40_u64).map(|caller| {
        let versions = stores.settings_versions.clone();
        tokio::spawn(async move {
            let version = caller * 7 % 40;
            versions.set("a", &node("n"), version).await.unwrap();
            let seen = versions.list("a").await.unwrap();
            assert!(seen[0].1 >= version, "{seen:?} after {version}");
        })
    });
    for setter in join_all(setters).await {
        setter.unwrap();
    }
    assert_eq!(stores.settings_versions.list("a").await.unwrap(), [(node("n"), 39)]);
}
