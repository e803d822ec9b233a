//! All documents of a shard, on each of its replicas.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use miroir_api::{NodeId, ShardId};
use miroir_core::copying::{Content, id_hash};
use miroir_core::routing::ShardSet;
use miroir_pipeline::cluster::ClusterState;
use miroir_store::IndexEntry;
use tokio::time::Instant;

use super::Pace;
use crate::replicas::repair::Trouble;
use crate::replicas::repair::node::{self, DOCUMENTS, PageSize};
use crate::replicas::repair::pages::{Next, Pages};
use crate::replicas::repair::sources::is_complete;

/// Ids of a shard that are looked into after one comparison; the rest is found by the next.
const MOST: usize = 2000;

/// What a comparison showed.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Documents that were read, on all replicas.
    pub(super) documents: u64,
    /// Ids under which replicas seemed to have different documents.
    pub(super) ids: Vec<Arc<str>>,
}

/// The replicas of a shard that should be equal: they missed nothing, and their nodes answer.
pub(super) fn replicas(state: &ClusterState, entry: &IndexEntry, shard: ShardId) -> Vec<NodeId> {
    let (topology, stale) = (state.membership.topology(), state.staleness.load());
    let placement = topology.placement(entry.shards);
    // Whose disk a node has is the leader's to know; it looks again before it mends.
    let verified =
        |node: &NodeId| !state.leadership.leads() || state.membership.task_uids.is_verified(node);
    let sound = |node: &NodeId| {
        topology.node(node).is_some_and(|node| state.nodes.is_available(node))
            && verified(node)
            && is_complete(&stale, &entry.physical, node, shard)
            && !state.nodes.scores.is_open(node)
    };
    let all = placement.write_targets(shard).map(|(_, node)| node);
    all.filter(|node| sound(node)).cloned().collect()
}

/// Compares the replicas of a shard. `None` where there are no two that should be equal.
pub(super) async fn shard(
    state: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
    shard: ShardId,
    pace: Pace,
) -> Result<Option<Found>, Trouble> {
    let nodes = replicas(state, entry, shard);
    if nodes.len() < 2 || !state.catalog.is_listed(entry) {
        return Ok(None);
    }
    let at_once = state.options.anti_entropy.max_read_concurrency;
    let shards = ShardSet::from_iter([shard], entry.shards);
    let listings = nodes.iter().cloned().map(|node| listing(state, entry, node, &shards, pace));
    let listings: Vec<_> = stream::iter(listings).buffered(at_once.max(1)).try_collect().await?;
    let documents = listings.iter().map(|all| all.len() as u64).sum();
    let differing = differing(&listings);
    let mut ids = Vec::new();
    if !differing.is_empty() {
        let mut found = HashSet::new();
        for node in &nodes {
            names(state, entry, node, &shards, &differing, pace, &mut found).await?;
        }
        ids = found.into_iter().collect();
        ids.sort_unstable();
        ids.truncate(MOST);
    }
    Ok(Some(Found { documents, ids }))
}

/// Hashes of the ids under which not all have the same.
fn differing(listings: &[HashMap<u64, Content>]) -> HashSet<u64> {
    let Some((first, others)) = listings.split_first() else { return HashSet::new() };
    let mut differing = HashSet::new();
    for other in others {
        let unlike = |(id, content): &(&u64, &Content)| first.get(id) != Some(content);
        differing.extend(other.iter().filter(unlike).map(|(id, _)| *id));
        differing.extend(first.keys().filter(|id| !other.contains_key(id)));
    }
    differing
}

/// What a node has of some shards: hashes of ids, with what the documents are worth in a comparison.
async fn listing(
    state: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
    node: NodeId,
    shards: &ShardSet,
    pace: Pace,
) -> Result<HashMap<u64, Content>, Trouble> {
    let size = PageSize::at_most(state.options.anti_entropy.fingerprint_batch_size);
    let mut pages = Pages::new(state, entry, node, shards.clone(), size).one_by_one();
    let mut all = HashMap::new();
    loop {
        let begun = Instant::now();
        match pages.next(|| Some(())).await? {
            Next::Page((), page) => {
                all.extend(page.iter().map(|shown| (id_hash(&shown.id), shown.content)));
            }
            Next::Disturbed | Next::End => return Ok(all),
        }
        pace.rest(begun.elapsed()).await;
    }
}

/// The ids that a node has behind some hashes.
async fn names(
    state: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
    node: &NodeId,
    shards: &ShardSet,
    hashes: &HashSet<u64>,
    pace: Pace,
    found: &mut HashSet<Arc<str>>,
) -> Result<(), Trouble> {
    let mut offset = 0;
    loop {
        let begun = Instant::now();
        let page = node::ids(state, entry, node, shards, offset).await?;
        let last = page.len() < DOCUMENTS;
        offset += page.len();
        found.extend(page.into_iter().filter(|id| hashes.contains(&id_hash(id))));
        if last {
            return Ok(());
        }
        pace.rest(begun.elapsed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_any_two_replicas_do_not_share_differs() {
        let of = |list: &[(u64, u64)]| list.iter().copied().collect::<HashMap<_, _>>();
        let found = |lists: &[&[(u64, u64)]]| {
            let lists: Vec<_> = lists.iter().map(|list| of(list)).collect();
            let mut found: Vec<u64> = differing(&lists).into_iter().collect();
            found.sort_unstable();
            found
        };
        let all: &[(u64, u64)] = &[(1, 1), (2, 2), (3, 3)];
        assert!(found(&[]).is_empty() && found(&[all]).is_empty() && found(&[all, all]).is_empty());
        assert_eq!(found(&[all, &[(1, 1), (2, 9)]]), [2, 3]);
        assert_eq!(found(&[&[(1, 1)], all]), [2, 3]);
        assert_eq!(found(&[all, all, &[(1, 1), (2, 2), (3, 3), (4, 4)]]), [4]);
    }
}
