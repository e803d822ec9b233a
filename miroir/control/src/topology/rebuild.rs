//! Comparing what the nodes hold with what the store says they hold, where the store may be an older
//! copy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;
use miroir_api::{NodeId, ShardId};
use miroir_core::documents::shard_value;
use miroir_pipeline::cluster::{Bar, ClusterState};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::node::Call;
use miroir_store::IndexEntry;
use serde::Deserialize;
use serde_json::json;

use super::versions::accept_store;
use crate::node_setup::SHARD;
use crate::replicas::disk_check;

/// Shards asked for at once: as many values as every node lists.
const CHUNK: u32 = 1000;
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_mins(5);
/// Differences that are told; there may be one a shard.
const MOST: usize = 100;

/// What nodes hold otherwise than the store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Each as a sentence, at most 100.
    pub differences: Vec<String>,
    /// The version that the topology has by now, where there were no differences and the store was
    /// behind.
    pub version: Option<u64>,
}

/// Reads off the nodes which indexes and shards they hold. If that is what the store says, a store that
/// is behind is gone on with, as by [`accept_store`].
///
/// # Errors
/// `miroir_no_leader` on a pod that does not lead; when a node or the store fails.
pub async fn rebuild(state: &ClusterState) -> Result<Rebuilt, Error> {
    if !state.leadership.leads() {
        return Err(Error::no_leader());
    }
    let cx = Context::internal(Origin::Repair, PATIENCE);
    let topology = state.membership.topology();
    let mut differences = Vec::new();
    let mut held: BTreeMap<NodeId, BTreeSet<String>> = BTreeMap::new();
    for node in topology.nodes() {
        held.insert(node.id.clone(), disk_check::names(state, &node.id, &cx).await?);
    }
    let entries = state.catalog.all();
    for (node, names) in &held {
        for name in names {
            if !entries.iter().any(|entry| entry.physical == *name) {
                differences.push(format!(
                    "node `{node}` has index `{name}`, which the store does not know"
                ));
            }
        }
    }
    for entry in entries.iter().filter(|entry| !entry.making) {
        compare(state, entry, &held, &cx, &mut differences).await?;
    }
    differences.truncate(MOST);
    let behind = matches!(state.leadership.barred(), Some(Bar::StoreBehind { .. }));
    let version =
        if behind && differences.is_empty() { Some(accept_store(state).await?) } else { None };
    Ok(Rebuilt { differences, version })
}

/// Compares the shards of one index.
async fn compare(
    state: &ClusterState,
    entry: &IndexEntry,
    held: &BTreeMap<NodeId, BTreeSet<String>>,
    cx: &Context,
    differences: &mut Vec<String>,
) -> Result<(), Error> {
    let topology = state.membership.topology();
    let placement = topology.placement(entry.shards);
    let stale = state.staleness.load();
    let mut shards: BTreeMap<&NodeId, BTreeSet<ShardId>> = BTreeMap::new();
    for node in topology.nodes() {
        if !held.get(&node.id).is_some_and(|names| names.contains(&entry.physical)) {
            if !stale.lacks_index(&entry.physical, &node.id) {
                differences.push(format!("node `{}` lacks index `{}`", node.id, entry.name));
            }
            continue;
        }
        shards.insert(&node.id, shards_of(state, entry, &node.id, cx).await?);
    }
    for (node, has) in &shards {
        let (owned, held) = (placement.owned_by(node), placement.held_by(node));
        for shard in has.iter().filter(|shard| !held.contains(**shard)) {
            differences.push(format!(
                "node `{node}` has documents of shard {shard} of index `{}`, which is not its own",
                entry.name
            ));
        }
        let elsewhere: BTreeSet<ShardId> = shards
            .iter()
            .filter(|(other, _)| *other != node)
            .flat_map(|(_, s)| s)
            .copied()
            .collect();
        let complete = |shard: ShardId| stale.is_authority(&entry.physical, node, shard);
        for shard in owned.iter().filter(|shard| elsewhere.contains(shard) && !has.contains(shard))
        {
            if complete(shard) {
                differences.push(format!(
                    "node `{node}` has no document of shard {shard} of index `{}`, and another has",
                    entry.name
                ));
            }
        }
    }
    Ok(())
}

/// The shards of which a node has documents.
async fn shards_of(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
    cx: &Context,
) -> Result<BTreeSet<ShardId>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Found {
        #[serde(default)]
        facet_distribution: BTreeMap<String, BTreeMap<String, u64>>,
    }
    let mut found = BTreeSet::new();
    let path = format!("/indexes/{}/search", entry.physical);
    for first in (0..entry.shards).step_by(CHUNK as usize) {
        let all = first..entry.shards.min(first + CHUNK);
        let values: BTreeMap<String, ShardId> =
            all.map(|n| (shard_value(n, entry.shards), ShardId(n))).collect();
        let list: Vec<String> = values.keys().map(|value| format!("\"{value}\"")).collect();
        let body = json!({
            "limit": 0, "facets": [SHARD], "filter": format!("{SHARD} IN [{}]", list.join(",")),
        });
        let call = Call::read(Method::POST, "search_post", path.clone()).json(body.to_string());
        let answer = state.nodes.call(node, &call, cx).await?;
        let Found { facet_distribution } = Call::parse(node, &answer)?;
        let counts = facet_distribution.get(SHARD).into_iter().flatten();
        found.extend(
            counts.filter_map(|(value, count)| values.get(value).filter(|_| *count > 0).copied()),
        );
    }
    Ok(found)
}
