//! The primary key of an index on its nodes: all have the one of the catalogue, or none yet.
//!
//! Where nodes disagree, the documents decide, as on one node: a node that has another key takes every
//! later write for a mistake. The right key is one that can become that of all nodes, and of these the
//! one of most documents. A node without documents is told it; one with documents makes the index
//! again and copies it, if others have all that it has to have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use miroir_api::NodeId;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_core::view::CatchUp;
use miroir_pipeline::cluster::leadership::LeaderMessage;
use miroir_pipeline::cluster::{ClusterState, disk_loss};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::index::scatter::stale_marks::{self, WriteOutcome};
use miroir_pipeline::node::{Call, TaskRef};
use miroir_store::IndexEntry;
use serde_json::{Value, json};

use crate::node_tasks::wait_for;

/// What a node has of an index.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    key: Option<String>,
    documents: u64,
    /// Whether nothing is on record that it missed, or did alone: the key may be of a write that was
    /// canceled everywhere else.
    sound: bool,
}

/// The right key, and whoever has another one. `None` if all agree with what is known. `spares` says
/// whether nodes have everything that another one has to have.
fn judge(
    seen: &BTreeMap<NodeId, Seen>,
    known: Option<&str>,
    spares: impl Fn(&[&NodeId], &NodeId) -> bool,
) -> Option<(String, Vec<(NodeId, Seen)>)> {
    let differs = |key: &Option<String>, right: Option<&str>| {
        key.as_deref().is_some_and(|key| right != Some(key))
    };
    if !seen.values().any(|node| differs(&node.key, known)) {
        return None;
    }
    let voters = || seen.values().filter(|node| node.sound);
    let documents: u64 = voters().map(|node| node.documents).sum();
    let keys = voters().filter_map(|node| node.key.as_deref());
    let keys: BTreeSet<&str> = keys.chain(known).collect();
    let vote = |key: &&str| {
        let (with, others): (Vec<_>, Vec<_>) =
            seen.iter().partition(|(_, node)| !differs(&node.key, Some(*key)));
        let right: Vec<&NodeId> = with.iter().map(|(id, _)| *id).collect();
        let possible = others.iter().all(|(id, node)| node.documents == 0 || spares(&right, id));
        let own: u64 =
            with.iter().filter(|(_, node)| node.sound).map(|(_, node)| node.documents).sum();
        // Where documents are equally many, what is known.
        (possible, own, known == Some(*key))
    };
    let right = match known {
        Some(known) if documents == 0 => known,
        _ => keys.into_iter().max_by_key(vote)?,
    };
    let wrong = seen.iter().filter(|(_, node)| differs(&node.key, Some(right)));
    Some((right.to_owned(), wrong.map(|(id, node)| (id.clone(), node.clone())).collect()))
}

fn context(state: &ClusterState) -> Context {
    Context::internal(Origin::Settings, state.options.scatter.call_timeout())
}

async fn look(state: &ClusterState, entry: &IndexEntry, count: bool) -> BTreeMap<NodeId, Seen> {
    let (stale, topology) = (state.staleness.load(), state.membership.topology());
    let cx = context(state);
    let ask = |node: NodeId| {
        let cx = &cx;
        let sound = !stale.touches(&entry.physical, &node);
        async move {
            let path = format!("/indexes/{}", entry.physical);
            let body = state.nodes.call(&node, &Call::get("indexes_get", path.clone()), cx).await?;
            let key = Call::parse::<Value>(&node, &body)?["primaryKey"].as_str().map(str::to_owned);
            let mut documents = 0;
            if count {
                let call = Call::get("index_stats", format!("{path}/stats"));
                let body = state.nodes.call(&node, &call, cx).await?;
                let stats = Call::parse::<Value>(&node, &body)?;
                documents = stats["numberOfDocuments"].as_u64().unwrap_or(0);
            }
            Ok::<_, Error>((node, Seen { key, documents, sound }))
        }
    };
    let nodes = topology
        .nodes()
        .filter(|node| state.nodes.is_available(node))
        .filter(|node| !stale.lacks_index(&entry.physical, &node.id));
    // Whoever cannot answer is looked at in the next pass.
    join_all(nodes.map(|node| ask(node.id.clone()))).await.into_iter().flatten().collect()
}

/// Looks whether the nodes of an index agree on its primary key, and has them agree again.
///
/// # Errors
/// When a store fails.
pub(crate) async fn check(state: &Arc<ClusterState>, entry: &IndexEntry) -> Result<(), Error> {
    let seen = look(state, entry, false).await;
    if judge(&seen, entry.primary_key.as_deref(), |_, _| true).is_none() {
        return Ok(());
    }
    if !state.leadership.leads() {
        let index = entry.physical.clone();
        return state.leadership.send(&LeaderMessage::Drift { index }).await;
    }
    let gate = state.sequencer.exclusive(&entry.physical).await;
    let Some(entry) = state.catalog.current(entry) else { return Ok(()) };
    if state.open_tasks.has(&entry.physical, TaskKind::IndexUpdate) {
        return Ok(());
    }
    let seen = look(state, &entry, true).await;
    let placement = state.membership.topology().placement(entry.shards);
    let stale = state.staleness.load();
    let spares = |right: &[&NodeId], node: &NodeId| {
        let is_sound = |other: &NodeId, shard| {
            right.contains(&other) && stale.is_authority(&entry.physical, other, shard)
        };
        placement
            .owned_by(node)
            .iter()
            .all(|shard| placement.write_targets(shard).any(|(_, other)| is_sound(other, shard)))
    };
    let known = entry.primary_key.as_deref();
    let Some((right, wrong)) = judge(&seen, known, spares) else { return Ok(()) };
    tracing::warn!(index = %entry.name, key = right, nodes = wrong.len(), "nodes disagree on the primary key");
    let agree = |old: &IndexEntry| IndexEntry { primary_key: Some(right.clone()), ..old.clone() };
    state.catalog.change(&entry, agree).await?;
    let (empty, full): (Vec<_>, Vec<_>) = wrong.iter().partition(|(_, node)| node.documents == 0);
    join_all(empty.into_iter().map(|(node, _)| tell(state, &entry, node, &right))).await;
    let sound = |node: &&NodeId| !wrong.iter().any(|(id, _)| id == *node);
    let sound: Vec<&NodeId> = seen.keys().filter(sound).collect();
    for (node, _) in full {
        if !spares(&sound, node) {
            tracing::error!(%node, index = %entry.name, "it has documents by another primary key that no other node has");
            continue;
        }
        let rows =
            stale_marks::whole(&entry.physical, CatchUp::Index, std::iter::once(node), |_| {
                WriteOutcome::Unknown
            });
        state.staleness.mark(rows).await?;
    }
    drop(gate);
    state.signals.repairs.notify_waiters();
    Ok(())
}

/// Tells a node without documents the key.
async fn tell(state: &ClusterState, entry: &IndexEntry, node: &NodeId, key: &str) {
    let call = Call::change(Method::PATCH, "indexes_patch", format!("/indexes/{}", entry.physical))
        .json(json!({"primaryKey": key}).to_string());
    let told = async {
        let before = state.membership.task_uids.highest(node);
        let body = state.nodes.call(node, &call, &context(state)).await?;
        let uid = Call::parse::<TaskRef>(node, &body)?.task_uid;
        disk_loss::accept_task_uid(state, node, before, uid).await?;
        wait_for(state, node, uid, state.options.settings_broadcast.verify_timeout).await
    };
    match told.await {
        Ok(TaskStatus::Succeeded) => {}
        Ok(status) => tracing::warn!(%node, ?status, "a node keeps its primary key"),
        Err(error) => tracing::warn!(%node, %error, "a node was not told the primary key"),
    }
}

/// Looks into it in the background: a node has refused a write for the key.
pub(crate) fn suspect(state: &Arc<ClusterState>, entry: &Arc<IndexEntry>) {
    let (state, entry) = (Arc::clone(state), Arc::clone(entry));
    let tracker = state.tracker.clone();
    tracker.spawn(async move {
        if let Err(error) = check(&state, &entry).await {
            tracing::warn!(index = %entry.name, %error, "primary keys are compared later");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(list: &[(&str, Option<&str>, u64)]) -> BTreeMap<NodeId, Seen> {
        let node = |(id, key, documents): &(&str, Option<&str>, u64)| {
            let sound = !id.starts_with('!');
            let seen = Seen { key: key.map(str::to_owned), documents: *documents, sound };
            (NodeId::new(id.trim_start_matches('!')).unwrap(), seen)
        };
        list.iter().map(node).collect()
    }

    fn verdict(
        list: &[(&str, Option<&str>, u64)],
        known: Option<&str>,
    ) -> Option<(String, String)> {
        let (right, wrong) = judge(&seen(list), known, |_, _| true)?;
        Some((right, wrong.iter().map(|(id, _)| id.as_str()).collect()))
    }

    #[test]
    fn documents_decide_which_primary_key_is_right() {
        let is = |right: &str, wrong: &str| Some((right.to_owned(), wrong.to_owned()));
        let k = Some("k");
        assert_eq!(verdict(&[("a", k, 3), ("b", None, 0)], k), None);
        assert_eq!(verdict(&[("a", None, 0)], None), None);
        assert_eq!(verdict(&[("a", Some("id"), 1), ("b", k, 0)], k), is("id", "b"));
        assert_eq!(verdict(&[("a", Some("id"), 0), ("b", k, 0)], k), is("k", "a"));
        assert_eq!(verdict(&[("a", Some("id"), 2), ("b", k, 2)], k), is("k", "a"));
        assert_eq!(verdict(&[("a", Some("id"), 2), ("b", Some("id"), 0)], k), is("id", ""));
        assert_eq!(verdict(&[("a", Some("id"), 0), ("b", k, 0)], None), is("k", "a"));
    }

    #[test]
    fn a_node_that_is_to_be_repaired_has_no_say_in_the_primary_key() {
        let k = Some("k");
        assert_eq!(verdict(&[("!a", Some("id"), 1)], None), None);
        assert_eq!(verdict(&[("!a", Some("id"), 1), ("b", None, 0)], None), None);
        let is = Some(("k".to_owned(), "a".to_owned()));
        assert_eq!(verdict(&[("!a", Some("id"), 9), ("b", k, 1)], k), is);
    }

    #[test]
    fn a_key_that_cannot_become_that_of_all_nodes_is_not_the_right_one() {
        let nodes = seen(&[("a", Some("id"), 1), ("b", Some("id"), 1), ("c", Some("k"), 20)]);
        // Of what `a` and `b` have, `c` has only a part.
        let spares = |right: &[&NodeId], _: &NodeId| right.len() == 2;
        let (right, wrong) = judge(&nodes, Some("k"), spares).unwrap();
        assert_eq!((right.as_str(), wrong.len()), ("id", 1));
        assert_eq!(judge(&nodes, Some("k"), |_, _| false).unwrap().0, "k");
    }
}
