//! Stale replicas.

use futures_util::future::join_all;
use miroir_api::{NodeId, ShardId};
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_store::Stores;

fn stale(node: &str, index: &str, shard: Option<u32>, kind: CatchUp) -> StaleReplica {
    StaleReplica {
        node: NodeId::new(node).expect("a node id"),
        index: index.to_owned(),
        shard: shard.map(ShardId),
        kind,
        generation: 0,
        awaits: Vec::new(),
    }
}

/// Rows without what the store chose.
async fn rows(stores: &Stores) -> Vec<StaleReplica> {
    let rows = stores.replicas.list().await.unwrap();
    rows.into_iter().map(|row| StaleReplica { generation: 0, ..row }).collect()
}

/// What was marked is listed, ordered by node, index and shard, the index as a whole first.
pub async fn round_trip(stores: &Stores) {
    assert_eq!(rows(stores).await, []);
    let ordered = vec![
        stale("n1", "a", None, CatchUp::Index),
        stale("n1", "a", Some(0), CatchUp::Pending),
        stale("n1", "a", Some(2), CatchUp::Shard),
        stale("n1", "a", Some(10), CatchUp::Shard),
        stale("n1", "b", Some(u32::MAX), CatchUp::Shard),
        stale("n10", "a", None, CatchUp::Deleted),
        stale("n2", "a", Some(0), CatchUp::Shard),
    ];
    let mut shuffled = ordered.clone();
    shuffled.reverse();
    shuffled.swap(1, 4);
    stores.replicas.mark(shuffled).await.unwrap();
    stores.replicas.mark(Vec::new()).await.unwrap();
    assert_eq!(rows(stores).await, ordered);
}

/// A weaker kind does not replace a stronger one, but the miss counts.
pub async fn the_stronger_kind_stays(stores: &Stores) {
    let mut last = 0;
    for (marked, kept) in [
        (CatchUp::Pending, CatchUp::Pending),
        (CatchUp::Shard, CatchUp::Shard),
        (CatchUp::Pending, CatchUp::Shard),
        (CatchUp::Deleted, CatchUp::Deleted),
        (CatchUp::Index, CatchUp::Deleted),
    ] {
        stores.replicas.mark(vec![stale("n", "a", Some(1), marked)]).await.unwrap();
        let rows = stores.replicas.list().await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].kind, kept);
        assert!(rows[0].generation > last, "{rows:?}");
        last = rows[0].generation;
    }
}

/// A replica that waits for its tasks waits for all that were noted, up to a bound.
pub async fn pending_rows_keep_their_tasks(stores: &Stores) {
    let pending = |uids: Vec<u32>| StaleReplica {
        awaits: uids,
        ..stale("n", "a", Some(1), CatchUp::Pending)
    };
    let row = async || stores.replicas.list().await.unwrap().remove(0);
    stores.replicas.mark(vec![pending(vec![9, 4]), pending(vec![30, 4])]).await.unwrap();
    stores.replicas.mark(vec![pending(vec![u32::MAX])]).await.unwrap();
    let kept = row().await;
    assert_eq!((kept.kind, kept.awaits), (CatchUp::Pending, vec![4, 9, 30, u32::MAX]));
    stores.replicas.mark(vec![stale("n", "a", Some(1), CatchUp::Shard)]).await.unwrap();
    stores.replicas.mark(vec![pending(vec![5])]).await.unwrap();
    let missed = row().await;
    assert_eq!((missed.kind, missed.awaits.as_slice()), (CatchUp::Shard, [].as_slice()));
    assert!(stores.replicas.clear(row().await).await.unwrap());

    let most = StaleReplica::MOST_AWAITED as u32;
    stores.replicas.mark(vec![pending((0..most).collect())]).await.unwrap();
    stores.replicas.mark(vec![pending(vec![0])]).await.unwrap();
    assert_eq!(row().await.awaits.len(), most as usize);
    stores.replicas.mark(vec![pending(vec![most])]).await.unwrap();
    let full = row().await;
    assert_eq!((full.kind, full.awaits.as_slice()), (CatchUp::Shard, [].as_slice()));
    assert!(stores.replicas.clear(full).await.unwrap());
}

/// A repair that raced with a new miss does not clear it, even if the row was gone in between.
pub async fn a_repair_spares_a_new_miss(stores: &Stores) {
    let replicas = &stores.replicas;
    let miss = stale("n", "a", Some(1), CatchUp::Shard);
    assert!(!replicas.clear(miss.clone()).await.unwrap());
    replicas.mark(vec![miss.clone()]).await.unwrap();
    let first = replicas.list().await.unwrap().remove(0);
    replicas.mark(vec![miss.clone()]).await.unwrap();
    let second = replicas.list().await.unwrap().remove(0);
    assert!(!replicas.clear(first.clone()).await.unwrap());
    assert_eq!(replicas.list().await.unwrap(), std::slice::from_ref(&second));

    let other = StaleReplica { shard: None, ..second.clone() };
    assert!(!replicas.clear(other).await.unwrap());
    assert!(replicas.clear(second.clone()).await.unwrap());
    assert_eq!(replicas.list().await.unwrap(), []);

    replicas.mark(vec![miss]).await.unwrap();
    for old in [first, second] {
        assert!(!replicas.clear(old).await.unwrap(), "a generation was given twice");
    }
    assert_eq!(replicas.list().await.unwrap().len(), 1);
}

/// Of many repairs of one row, one clears it.
pub async fn one_repair_clears(stores: &Stores) {
    stores.replicas.mark(vec![stale("n", "a", None, CatchUp::Index)]).await.unwrap();
    let row = stores.replicas.list().await.unwrap().remove(0);
    let repairs = (0..20).map(|_| {
        let (replicas, row) = (stores.replicas.clone(), row.clone());
        tokio::spawn(async move { replicas.clear(row).await.unwrap() })
    });
    let cleared = join_all(repairs).await.into_iter().filter(|one| *one.as_ref().unwrap()).count();
    assert_eq!(cleared, 1);
}

/// Nobody sees half of what one call marks, and no mark of a race is lost.
pub async fn marks_are_all_or_nothing(stores: &Stores) {
    let markers: Vec<_> = (0..20)
        .map(|caller| {
            let replicas = stores.replicas.clone();
            tokio::spawn(async move {
                let index = format!("index{caller}");
                let pair = [0, 1].map(|shard| stale("n", &index, Some(shard), CatchUp::Shard));
                let shared = stale("n", "shared", None, CatchUp::Index);
                replicas.mark([pair.as_slice(), &[shared]].concat()).await.unwrap();
            })
        })
        .collect();
    loop {
        let listed = rows(stores).await;
        let shared = listed.iter().filter(|row| row.index == "shared").count();
        assert!(listed.len() % 2 == shared, "half of a mark: {listed:?}");
        if listed.len() == 41 {
            break;
        }
        assert!(
            !markers.iter().all(tokio::task::JoinHandle::is_finished)
                || rows(stores).await.len() == 41,
            "a mark was lost"
        );
        tokio::task::yield_now().await;
    }
    for marker in markers {
        marker.await.unwrap();
    }
}

/// Forgetting an index keeps deletions, which are still owed, and other indexes.
pub async fn forgetting_spares_deletions(stores: &Stores) {
    let kept = vec![
        stale("n1", "a", None, CatchUp::Deleted),
        stale("n1", "ab", None, CatchUp::Index),
        stale("n2", "b", Some(0), CatchUp::Shard),
    ];
    let mut all = kept.clone();
    all.extend([
        stale("n1", "a", Some(0), CatchUp::Pending),
        stale("n2", "a", Some(0), CatchUp::Shard),
        stale("n2", "a", None, CatchUp::Index),
    ]);
    stores.replicas.mark(all).await.unwrap();
    stores.replicas.forget_index("a").await.unwrap();
    stores.replicas.forget_index("unknown").await.unwrap();
    assert_eq!(rows(stores).await, kept);
}
