//! How many documents each shard has, on each of its replicas: found quickly, and cheap.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_api::{NodeId, ShardId};
use miroir_core::documents::{SHARD, shard_value};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_pipeline::node::Call;
use miroir_store::IndexEntry;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{Pace, check, compare};
use crate::replicas::repair::{self, Trouble, cx};
use crate::runtime::PartitionedTask;

/// Compares the counts of one index after the other, and the documents of shards whose counts differ.
#[derive(Debug)]
pub struct Counts {
    state: Arc<ClusterState>,
}

impl Counts {
    /// Over a cluster.
    #[must_use]
    pub fn new(state: Arc<ClusterState>) -> Self {
        Self { state }
    }
}

impl PartitionedTask for Counts {
    const NAME: &'static str = "anti_entropy_counts";
    type Item = Arc<IndexEntry>;

    async fn items(&self) -> Result<Vec<Arc<IndexEntry>>, Error> {
        let mut all = self.state.catalog.all();
        all.retain(|entry| entry.primary_key.is_some() && !entry.making);
        Ok(all)
    }

    async fn run(&self, entry: Arc<IndexEntry>) -> Result<(), Error> {
        for shard in unequal(&self.state, &entry).await.map_err(Trouble::into_error)? {
            check(&self.state, &entry, shard).await?;
        }
        Ok(())
    }
}

/// The shards of which replicas with nothing to do have different numbers of documents.
async fn unequal(
    state: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
) -> Result<Vec<ShardId>, Trouble> {
    // What a distinct attribute leaves out is not counted, and need not be the same on all replicas.
    if state.settings.get(entry, &cx()).await?.distinct.is_some() {
        return Ok(Vec::new());
    }
    let pace = Pace::of(state);
    let topology = state.membership.topology();
    let mut counted: BTreeMap<NodeId, BTreeMap<ShardId, u64>> = BTreeMap::new();
    for node in topology.nodes().filter(|node| state.nodes.is_available(node)) {
        let begun = Instant::now();
        // One that is busy is about to have others.
        if repair::idle(state, &node.id, &entry.physical).await?
            && let Some(counts) = counts(state, entry, &node.id).await?
        {
            counted.insert(node.id.clone(), counts);
        }
        pace.rest(begun.elapsed()).await;
    }
    let differ = |shard: &ShardId| {
        let replicas = compare::replicas(state, entry, *shard);
        let of = |node: &NodeId| counted.get(node).map(|all| all.get(shard).copied().unwrap_or(0));
        let counts: Vec<u64> = replicas.iter().filter_map(of).collect();
        counts.windows(2).any(|two| two[0] != two[1])
    };
    Ok((0..entry.shards).map(ShardId).filter(differ).collect())
}

/// How many documents of each shard a node has. `None` where it does not list them all: there are more
/// shards than it lists values; passes find what differs then.
async fn counts(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
) -> Result<Option<BTreeMap<ShardId, u64>>, Trouble> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        estimated_total_hits: u64,
        facet_distribution: BTreeMap<String, BTreeMap<String, u64>>,
    }
    let body = json!({"q": "", "limit": 0, "facets": [SHARD]});
    let path = format!("/indexes/{}/search", entry.physical);
    let call = Call::read(http::Method::POST, "search_post", path).json(body.to_string());
    let body = state.nodes.call(node, &call, &cx()).await?;
    let mut answer: Answer = Call::parse(node, &body)?;
    let listed = answer.facet_distribution.remove(SHARD).unwrap_or_default();
    if listed.values().sum::<u64>() != answer.estimated_total_hits {
        return Ok(None);
    }
    let of = |shard: u32| {
        let value = shard_value(shard, entry.shards);
        Some((ShardId(shard), *listed.get(&*value)?))
    };
    Ok(Some((0..entry.shards).filter_map(of).collect()))
}
