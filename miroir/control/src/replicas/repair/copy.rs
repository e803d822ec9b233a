//! Copies of shards from one node to another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use miroir_api::meili::TaskStatus;
use miroir_api::{NodeId, ShardId};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{cx, idle_for, perform};
use miroir_core::documents::shard_value;
use miroir_core::routing::ShardSet;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::{Error, NodeFailure};
use miroir_pipeline::node::Call;
use miroir_store::IndexEntry;

/// Documents per page of a copy.
const PAGE: usize = 1000;
/// About so many documents are copied while writes to the index are held back, but at least one
/// shard.
const AT_ONCE: u64 = 10 * PAGE as u64;

/// A readable replica of the shard, other than this one, that missed nothing.
pub(crate) fn peer_of(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
    shard: ShardId,
) -> Result<NodeId, Error> {
    let topology = state.membership.topology();
    let stale = state.staleness.load();
    let placement = topology.placement(entry.shards);
    placement
        .write_targets(shard)
        .map(|(_, id)| id)
        .find(|id| {
            *id != node
                && topology.node(id).is_some_and(|n| n.status.is_readable())
                && stale.is_authority(&entry.physical, id, shard)
                && !state.nodes.scores.is_open(id)
        })
        .cloned()
        .ok_or_else(|| Error::node(node, NodeFailure::NoPeer))
}

/// How many shards fit into one copy, of a node that holds `owned` shards with so many documents.
fn at_once(documents: u64, owned: usize) -> usize {
    let per_shard = documents.div_ceil(owned.max(1) as u64).max(1);
    usize::try_from(AT_ONCE / per_shard).unwrap_or(usize::MAX).max(1)
}

/// Which shards are copied with this one: those that the same peer has, as many as fit into one
/// copy. `others` are shards that the node needs as well.
pub(crate) async fn portion(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
    shard: ShardId,
    others: &ShardSet,
) -> Result<(NodeId, ShardSet), Error> {
    let peer = peer_of(state, entry, node, shard)?;
    let path = format!("/indexes/{}/stats", entry.physical);
    let body = state.nodes.call(&peer, &Call::get("stats_get", path), &cx()).await?;
    let stats: Value = Call::parse(&peer, &body)?;
    let documents = stats["numberOfDocuments"].as_u64().unwrap_or(u64::MAX);
    let owned = state.membership.topology().placement(entry.shards).owned_by(&peer).len();
    let more = others
        .iter()
        .filter(|other| *other != shard)
        .filter(|other| peer_of(state, entry, node, *other).is_ok_and(|p| p == peer));
    let all = std::iter::once(shard).chain(more.take(at_once(documents, owned) - 1));
    Ok((peer.clone(), ShardSet::from_iter(all, entry.shards)))
}

/// One page of the documents that a node has in some shards.
async fn page_of(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
    shards: &ShardSet,
    offset: usize,
    ids_only: bool,
) -> Result<Vec<Box<RawValue>>, Error> {
    #[derive(serde::Deserialize)]
    struct Listing {
        results: Vec<Box<RawValue>>,
    }
    let values: Vec<String> =
        shards.iter().map(|s| format!("'{}'", shard_value(s.0, entry.shards))).collect();
    let filter = format!("_miroir_shard IN [{}]", values.join(","));
    let mut body = json!({"filter": filter, "offset": offset, "limit": PAGE});
    match (&entry.primary_key, ids_only) {
        (Some(key), true) => body["fields"] = json!([key]),
        _ => body["retrieveVectors"] = json!(true),
    }
    let path = format!("/indexes/{}/documents/fetch", entry.physical);
    let call = Call::read(Method::POST, "documents_fetch", path).json(body.to_string());
    let body =
        state.nodes.call_within(node, &call, &cx(), state.options.scatter.node_timeout * 6).await?;
    Ok(Call::parse::<Listing>(node, &body)?.results)
}

/// The id of a document a node showed.
fn id_of(node: &NodeId, document: &RawValue, key: &str) -> Result<String, Error> {
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(document.get())
        .map_err(|_| Error::node(node, NodeFailure::Garbage))?;
    fields
        .get(key)
        .and_then(|value| miroir_core::documents::parse_id_value(value).ok())
        .map(|id| id.as_str().to_owned())
        .ok_or_else(|| Error::node(node, NodeFailure::Garbage))
}

/// Puts shards of an index on a node exactly as an up-to-date peer has them. The caller holds back
/// writes to the index.
///
/// What the peer has is written over what the node has, and only then what the peer does not have
/// is deleted: a read that chose this node before it missed anything may still be under way, and
/// must not find the shard empty.
pub(crate) async fn copy(
    state: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
    node: &NodeId,
    peer: &NodeId,
    shards: &ShardSet,
) -> Result<(), Error> {
    // What the peer has not worked off yet is not in what it shows; what the node has not could
    // come after the copy.
    idle_for(state, peer, &entry.physical).await?;
    idle_for(state, node, &entry.physical).await?;
    // Without a primary key nothing was ever written.
    let Some(key) = entry.primary_key.as_deref() else { return Ok(()) };
    let base = format!("/indexes/{}/documents", entry.physical);
    let query = format!("?primaryKey={}", miroir_pipeline::query::encode(key));
    let mut kept = BTreeSet::new();
    let mut offset = 0;
    loop {
        let documents = page_of(state, entry, peer, shards, offset, false).await?;
        if documents.is_empty() {
            break;
        }
        offset += documents.len();
        for document in &documents {
            kept.insert(id_of(peer, document, key)?);
        }
        let size: usize = documents.iter().map(|document| document.get().len() + 1).sum();
        let mut payload = Vec::with_capacity(size + 1);
        for document in &documents {
            payload.push(if payload.is_empty() { b'[' } else { b',' });
            payload.extend_from_slice(document.get().as_bytes());
        }
        payload.push(b']');
        let add = Call::change(Method::POST, "documents_post", format!("{base}{query}"))
            .json(Bytes::from(payload));
        if perform(state, node, &add).await? != TaskStatus::Succeeded {
            return Err(Error::node(node, NodeFailure::RepairRefused));
        }
        if documents.len() < PAGE {
            break;
        }
    }
    let mut surplus = Vec::new();
    let mut offset = 0;
    loop {
        let documents = page_of(state, entry, node, shards, offset, true).await?;
        offset += documents.len();
        for document in &documents {
            let id = id_of(node, document, key)?;
            if !kept.contains(&id) {
                surplus.push(id);
            }
        }
        if documents.len() < PAGE {
            break;
        }
    }
    if surplus.is_empty() {
        return Ok(());
    }
    let delete = Call::change(Method::POST, "documents_delete", format!("{base}/delete-batch"))
        .json(serde_json::to_vec(&surplus).map_err(Error::internal)?);
    if perform(state, node, &delete).await? != TaskStatus::Succeeded {
        return Err(Error::node(node, NodeFailure::RepairRefused));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_shards_are_copied_together_and_large_ones_alone() {
        assert_eq!(at_once(0, 16), 10_000);
        assert_eq!(at_once(900, 12), 133);
        assert_eq!(at_once(80_000, 16), 2);
        assert_eq!(at_once(5_000_000, 16), 1);
        assert_eq!(at_once(u64::MAX, 0), 1);
    }
}
