//! The index catalogue.

use futures_util::future::join_all;
use miroir_api::IndexUid;
use miroir_store::{IndexChange, IndexEntry, Stores};
use serde_json::json;
use uuid::Uuid;

use super::tasks::at;

fn entry(name: &str, version: u64) -> IndexEntry {
    IndexEntry {
        version,
        ..IndexEntry::new(IndexUid::new(name).expect("an index uid"), name.to_owned(), 16, at(0))
    }
}

/// Every field comes back; the list is ordered by name, bytewise.
pub async fn round_trip(stores: &Stores) {
    let indexes = &stores.indexes;
    assert_eq!(indexes.list().await.unwrap(), []);
    let full = IndexEntry {
        physical: "b-3".to_owned(),
        incarnation: Uuid::now_v7(),
        shards: u32::MAX,
        primary_key: Some("id é".to_owned()),
        updated_at: at(77),
        settings_version: 1 << 53,
        overlay: json!({"z": ["*"], "a": {"maxTotalHits": 5}}).as_object().cloned().unwrap(),
        frozen: Some("a swap".to_owned()),
        making: false,
        provisional: true,
        committed_by: None,
        settings_hash: None,
        ..entry("b", 4)
    };
    assert!(indexes.put(full.clone(), None).await.unwrap());
    for name in ["a", "B", "_", "c"] {
        assert!(indexes.put(entry(name, 1), None).await.unwrap());
    }
    assert_eq!(indexes.get(&full.name).await.unwrap(), Some(full.clone()));
    let unknown = IndexUid::new("A").unwrap();
    assert_eq!(indexes.get(&unknown).await.unwrap(), None, "names are case sensitive");
    let listed = indexes.list().await.unwrap();
    let names: Vec<_> = listed.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["B", "_", "a", "b", "c"]);
    assert_eq!(listed[3], full);
}

/// Of many that create one index, one succeeds and its entry is the one that stays.
pub async fn one_creator_wins(stores: &Stores) {
    let creators = (0..20).map(|shards| {
        let indexes = stores.indexes.clone();
        tokio::spawn(async move {
            let created = indexes.put(IndexEntry { shards, ..entry("a", 1) }, None).await.unwrap();
            created.then_some(shards)
        })
    });
    let winners: Vec<u32> =
        join_all(creators).await.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    let name = IndexUid::new("a").unwrap();
    assert_eq!(stores.indexes.get(&name).await.unwrap().unwrap().shards, winners[0]);
}

/// Read, change, compare-and-set, try again: no increment of many concurrent ones is lost.
pub async fn no_update_is_lost(stores: &Stores) {
    assert!(stores.indexes.put(entry("a", 0), None).await.unwrap());
    let name = IndexUid::new("a").unwrap();
    let writers = (0..8).map(|_| {
        let (indexes, name) = (stores.indexes.clone(), name.clone());
        tokio::spawn(async move {
            for _ in 0..8 {
                loop {
                    let mut entry = indexes.get(&name).await.unwrap().unwrap();
                    let expected = entry.version;
                    entry.version += 1;
                    entry.settings_version += 1;
                    if indexes.put(entry, Some(expected)).await.unwrap() {
                        break;
                    }
                }
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let entry = stores.indexes.get(&name).await.unwrap().unwrap();
    assert_eq!((entry.version, entry.settings_version), (64, 64));
}

/// Several changes are made together or not at all: two entries exchange their names, one goes.
pub async fn changes_are_made_together(stores: &Stores) {
    let indexes = &stores.indexes;
    for (name, version) in [("a", 1), ("b", 2), ("c", 3)] {
        assert!(indexes.put(entry(name, version), None).await.unwrap());
    }
    let before = indexes.list().await.unwrap();
    let change = |name: &str, expected, new: Option<(&str, u64)>| IndexChange {
        name: IndexUid::new(name).unwrap(),
        expected,
        entry: new.map(|(physical, version)| IndexEntry {
            physical: physical.to_owned(),
            ..entry(name, version)
        }),
    };
    let swap = |last| {
        vec![
            change("a", Some(1), Some(("b", 2))),
            change("b", Some(2), Some(("a", 3))),
            change("c", last, None),
            change("d", None, None),
        ]
    };
    for wrong in [None, Some(2), Some(4)] {
        assert!(!indexes.change(swap(wrong)).await.unwrap());
        assert_eq!(indexes.list().await.unwrap(), before, "nothing was changed");
    }
    assert!(!indexes.change(vec![change("a", None, Some(("a", 1)))]).await.unwrap());
    assert!(indexes.change(swap(Some(3))).await.unwrap());
    let after = indexes.list().await.unwrap();
    let names: Vec<_> = after.iter().map(|e| (e.name.as_str(), e.physical.as_str())).collect();
    assert_eq!(names, [("a", "b"), ("b", "a")]);
    assert!(indexes.change(Vec::new()).await.unwrap());
}

/// Only the version that is stored deletes, updates, or makes way for a creation.
pub async fn a_stale_delete_is_refused(stores: &Stores) {
    let indexes = &stores.indexes;
    let name = IndexUid::new("a").unwrap();
    assert!(!indexes.delete(&name, 0).await.unwrap());
    assert!(!indexes.put(entry("a", 2), Some(1)).await.unwrap(), "there is nothing to replace");
    assert_eq!(indexes.get(&name).await.unwrap(), None);

    assert!(indexes.put(entry("a", 3), None).await.unwrap());
    assert!(!indexes.put(entry("a", 9), None).await.unwrap());
    assert!(!indexes.put(entry("a", 9), Some(2)).await.unwrap());
    assert!(!indexes.delete(&name, 2).await.unwrap());
    assert_eq!(indexes.get(&name).await.unwrap(), Some(entry("a", 3)));
    // The version need not be the next one.
    assert!(indexes.put(entry("a", 10), Some(3)).await.unwrap());
    assert!(!indexes.delete(&name, 3).await.unwrap());
    assert!(indexes.delete(&name, 10).await.unwrap());
    assert!(!indexes.delete(&name, 10).await.unwrap());
    assert_eq!(indexes.list().await.unwrap(), []);
    assert!(indexes.put(entry("a", 1), None).await.unwrap());
}
