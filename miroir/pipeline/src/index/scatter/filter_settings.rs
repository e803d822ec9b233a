//! Writes that choose documents by a filter, and nodes that missed a change of the settings.
//!
//! What a filter means depends on the settings. A node that was away when they changed goes on taking
//! writes and has its settings mended later: what it makes of a filter until then is overruled by a
//! replica that has both the settings and all documents. Where a shard has no such replica, because those
//! with the settings missed documents, the write waits until the repairer has brought the settings.

use std::time::Duration;

use http::Method as Verb;
use miroir_api::NodeId;
use miroir_core::routing::{Placement, ShardSet};
use miroir_core::view::{CatchUp, StaleMap};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::write::writable;
use crate::cluster::ClusterState;
use crate::error::{Error, ErrorKind};
use crate::index::Request;
use crate::node::Call;

/// How long a write waits whose filter means something to those that decide: less may have changed.
const SHORT: Duration = Duration::from_secs(1);
/// How long any write waits at most; never longer than half of the time that its client has.
const LONG: Duration = Duration::from_secs(10);
/// How often it is looked, and how often nodes are asked.
const LOOK: Duration = Duration::from_millis(50);
const ASK: Duration = Duration::from_millis(500);

/// Shards of which none of those that decide has the settings of the index, and these nodes.
#[derive(Debug, PartialEq, Eq)]
struct Unset<'a> {
    shards: ShardSet,
    nodes: Vec<&'a NodeId>,
}

/// `is_there` tells which nodes take writes.
fn unset<'a>(
    stale: &StaleMap,
    placement: &'a Placement,
    index: &str,
    is_there: impl Fn(&NodeId) -> bool,
) -> Unset<'a> {
    let mut unset = Unset { shards: ShardSet::empty(placement.shards()), nodes: Vec::new() };
    if !stale.of_index(index).any(|row| row.shard.is_none()) {
        return unset;
    }
    for shard in ShardSet::full(placement.shards()).iter() {
        let owners = placement.write_targets(shard).map(|(_, node)| node);
        let decide = |node: &&NodeId| is_there(node) && stale.is_authority(index, node, shard);
        let deciding: Vec<&NodeId> = owners.filter(decide).collect();
        if !deciding.is_empty() && deciding.iter().all(|node| stale.misses_index(index, node)) {
            unset.shards.insert(shard);
            unset.nodes.extend(deciding);
        }
    }
    unset.nodes.sort_unstable();
    unset.nodes.dedup();
    unset
}

/// Waits until each shard has a replica that knows what a filter, as JSON, means.
///
/// # Errors
/// `miroir_no_quorum` where none does within the time there is, and the filter means nothing to those
/// that decide.
pub(super) async fn wait(
    state: &ClusterState,
    request: &Request,
    filter: &[u8],
) -> Result<(), Error> {
    // A repair of the settings could wait for the gates that such a request holds.
    if request.gate.is_some() {
        return Ok(());
    }
    let (index, begun) = (&request.index, Instant::now());
    let patience = LONG.min(request.cx.deadline.remaining() / 2);
    loop {
        let topology = state.membership.topology();
        let placement = topology.placement(index.shards);
        let there = |node: &NodeId| writable(state, &topology, index, CatchUp::Shard, node);
        let unset = unset(&state.staleness.load(), &placement, &index.physical, there);
        if unset.nodes.is_empty() {
            return Ok(());
        }
        let waited = begun.elapsed();
        if waited < SHORT.min(patience) {
            sleep(LOOK).await;
            continue;
        }
        let mut none = Vec::new();
        for node in unset.nodes {
            if !understands(state, request, node, filter).await? {
                none.push(node);
            }
        }
        if none.is_empty() {
            return Ok(());
        }
        if waited < patience {
            sleep(ASK).await;
            continue;
        }
        for node in none {
            // It may be that they are in its queue, before the write.
            if !changes_settings(state, request, node).await {
                return Err(Error::no_quorum(unset.shards));
            }
        }
        return Ok(());
    }
}

/// Whether a filter means something to a node, as far as it says.
async fn understands(
    state: &ClusterState,
    request: &Request,
    node: &NodeId,
    filter: &[u8],
) -> Result<bool, Error> {
    let filter: &RawValue = serde_json::from_slice(filter).map_err(Error::internal)?;
    let body = json!({"filter": filter, "limit": 0, "fields": []}).to_string();
    let path = format!("/indexes/{}/documents/fetch", request.index.physical);
    let call = Call::read(Verb::POST, "documents_fetch", path).json(body);
    let answer = state.nodes.call(node, &call, &request.cx).await;
    Ok(!answer.is_err_and(|error| matches!(error.kind(), ErrorKind::Verbatim { .. })))
}

/// Whether a node has settings of the index in its queue, as far as it says.
async fn changes_settings(state: &ClusterState, request: &Request, node: &NodeId) -> bool {
    #[derive(serde::Deserialize)]
    struct Tasks {
        results: Vec<serde::de::IgnoredAny>,
    }
    let index = &request.index.physical;
    let open = "types=settingsUpdate&statuses=enqueued,processing&limit=1";
    let call = Call::get("tasks_get", format!("/tasks?indexUids={index}&{open}"));
    let answer = state.nodes.call(node, &call, &request.cx).await;
    let tasks = answer.and_then(|body| Call::parse::<Tasks>(node, &body));
    tasks.is_ok_and(|tasks| !tasks.results.is_empty())
}

#[cfg(test)]
mod tests {
    use miroir_api::ShardId;
    use miroir_core::view::StaleReplica;

    use super::*;

    #[test]
    fn a_shard_waits_whose_sound_replicas_all_missed_the_settings() {
        let names = ["a", "b", "c"].map(|name| NodeId::new(name).unwrap());
        let placement = Placement::new(&[names.to_vec()], 3, 2);
        let waits = |rows: &[(usize, Option<u32>)], there: &str| {
            let row = |(at, shard): &(usize, Option<u32>)| {
                StaleReplica::new(&names[*at], "films", shard.map(ShardId), CatchUp::Shard)
            };
            let stale = StaleMap::new(rows.iter().map(row).collect());
            let is_there = |node: &NodeId| there.contains(node.as_str());
            let unset = unset(&stale, &placement, "films", is_there);
            let shards: Vec<u32> = unset.shards.iter().map(|shard| shard.0).collect();
            (shards, unset.nodes.into_iter().map(NodeId::as_str).collect::<String>())
        };
        let nobody = (Vec::new(), String::new());
        assert_eq!(waits(&[], "abc"), nobody);
        assert_eq!(waits(&[(0, None), (1, None)], "abc"), nobody, "the third one decides");
        assert_eq!(waits(&[(0, None), (1, None)], "ab"), (vec![0, 1], "ab".to_owned()));
        let missed = [(0, None), (1, None), (2, Some(1))];
        assert_eq!(waits(&missed, "abc"), (vec![1], "ab".to_owned()));
        assert_eq!(waits(&missed, "ac"), (vec![1], "a".to_owned()));
        assert_eq!(waits(&missed, "c"), nobody, "there is no quorum");
    }
}
