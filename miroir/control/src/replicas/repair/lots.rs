//! All copies that bring one index of one node up to date.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use miroir_api::{NodeId, ShardId};
use miroir_core::routing::ShardSet;
use miroir_core::view::StaleReplica;
use miroir_pipeline::cluster::ClusterState;
use miroir_store::IndexEntry;
use tokio::sync::Semaphore;

use super::lot::{Lot, Purpose, Together};
use super::{AT_ONCE, Bench, Trouble, group_commit, rebuild, sources};

/// Repairs the shards that rows name, in lots, some of them at a time. Returns when the rows of those are
/// cleared that can be copied from somewhere.
pub(super) async fn all(
    state: &Arc<ClusterState>,
    bench: &Bench,
    entry: &Arc<IndexEntry>,
    target: &NodeId,
    rows: &[StaleReplica],
) -> Result<(), Trouble> {
    if entry.primary_key.is_none() {
        return rebuild::blank(state, entry, target, rows).await;
    }
    let needed: Vec<ShardId> = rows.iter().filter_map(|row| row.shard).collect();
    let mut from: BTreeMap<NodeId, Vec<ShardId>> = BTreeMap::new();
    for shard in &needed {
        if let Some(source) = sources::source_of(state, entry, target, *shard) {
            from.entry(source).or_default().push(*shard);
        }
    }
    if from.is_empty() {
        let shards: Vec<String> = needed.iter().map(ToString::to_string).collect();
        return Err(Trouble::blocked("no_authority", format!("shards {}", shards.join(", "))));
    }
    let mut lots = Vec::new();
    for (source, shards) in from {
        let most = sources::portion(state, entry, &source).await?;
        lots.extend(shards.chunks(most).map(|shards| (source.clone(), shards.to_vec())));
    }
    // While the node works off what one copy found, the next compares.
    let comparing = &Semaphore::new(1);
    // More do not run at a time.
    let mut together = group_commit::members(lots.len().min(AT_ONCE));
    let lots = lots.into_iter().map(|(source, shards)| {
        let nodes = (source, target.clone());
        one(state, bench, (comparing, together.pop()), entry, nodes, shards)
    });
    let mut done = stream::iter(lots).buffer_unordered(AT_ONCE);
    let mut outcome = Ok(());
    // One that fails stops no other.
    while let Some(ended) = done.next().await {
        outcome = outcome.and(ended);
    }
    outcome
}

/// Repairs these shards of one node from another.
async fn one(
    state: &Arc<ClusterState>,
    bench: &Bench,
    (comparing, together): (&Semaphore, Option<Together>),
    entry: &Arc<IndexEntry>,
    (source, target): (NodeId, NodeId),
    shards: Vec<ShardId>,
) -> Result<(), Trouble> {
    let shards = ShardSet::from_iter(shards, entry.shards);
    let nodes = (source.clone(), target.clone());
    let mut lot = Lot::open(state, entry, nodes, shards, Purpose::CatchUp).await?;
    let _places = bench.places(&source, &target).await;
    let done = lot.run(comparing, together).await;
    if matches!(done, Err(Trouble::Changed)) {
        // Whether the source is still the one to copy from has to be known before the next.
        lot.end_doubts().await?;
    }
    done
}
