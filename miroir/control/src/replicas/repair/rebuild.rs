//! What nodes miss about an index as a whole: that it is there, its settings, that it is gone.

use std::sync::Arc;

use futures_util::future::join_all;
use http::{Method, StatusCode};
use miroir_api::NodeId;
use miroir_core::copying::Outcome;
use miroir_core::routing::ShardSet;
use miroir_core::view::{CatchUp, StaleMap, StaleReplica};
use serde_json::Value;

use super::{Trouble, clear, cx, node, sources};
use crate::node_setup::{creation_calls, node_base_settings};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::{Error, ErrorKind};
use miroir_pipeline::index::scatter::stale_marks::{self, WriteOutcome};
use miroir_pipeline::node::Call;
use miroir_store::IndexEntry;

fn deletion(index: &str) -> Call {
    Call::change(Method::DELETE, "indexes_delete", format!("/indexes/{index}"))
}

/// Sends calls to a node in the index's order, if `still` says so once nobody has the index to
/// himself, and waits for their tasks.
async fn perform(
    state: &ClusterState,
    index: &str,
    target: &NodeId,
    calls: &[Call],
    still: impl FnOnce() -> bool,
) -> Result<Vec<Outcome>, Trouble> {
    let gate = state.sequencer.enter(index).await;
    if !still() {
        return Err(Trouble::Changed);
    }
    let mut turns = gate.tickets(std::slice::from_ref(target));
    for turn in &mut turns.tickets {
        turn.turn().await;
    }
    let mut uids = Vec::new();
    for call in calls {
        uids.push(node::send(state, target, call).await?);
    }
    drop((turns, gate));
    let ends = node::wait(state, target, &uids).await?;
    Ok(uids.iter().map(|uid| ends.get(uid).copied().unwrap_or(Outcome::Unknown)).collect())
}

fn refuses(what: &str) -> Trouble {
    Trouble::blocked("target_refuses", what.to_owned())
}

/// Deletes an index on a node that is in no catalogue any more.
pub(super) async fn take_away(
    state: &ClusterState,
    index: &str,
    target: &NodeId,
    rows: Vec<StaleReplica>,
) -> Result<(), Trouble> {
    let gone = || state.catalog.by_physical(index).is_none();
    let ends = perform(state, index, target, &[deletion(index)], gone).await?;
    // It fails where there is none, and where there is no room to write that it has gone.
    if ends != [Outcome::Succeeded] {
        let call = Call::get("indexes_get", format!("/indexes/{index}"));
        match state.nodes.call(target, &call, &cx()).await {
            Err(error) if is_missing(&error) => {}
            Ok(_) => return Err(refuses("the index cannot be deleted")),
            Err(error) => return Err(error.into()),
        }
    }
    state.catalog.note_gone(index);
    clear(state, rows).await?;
    Ok(())
}

/// Makes an index anew on a node, without documents: its shards are to be copied then.
pub(super) async fn rebuild(
    state: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
    row: &StaleReplica,
) -> Result<(), Trouble> {
    let topology = state.membership.topology();
    let owned = topology.placement(entry.shards).owned_by(&row.node);
    // Nothing is deleted before it is sure that it can be copied back. An index without a primary key
    // has nothing.
    let missing: Vec<String> = owned
        .iter()
        .filter(|_| entry.primary_key.is_some())
        .filter(|shard| sources::source_of(state, entry, &row.node, *shard).is_none())
        .map(|shard| shard.to_string())
        .collect();
    if !missing.is_empty() {
        return Err(Trouble::blocked("no_authority", format!("shards {}", missing.join(", "))));
    }
    let index = &entry.physical;
    let known = || {
        let stale = state.staleness.load();
        state.catalog.is_listed(entry) && stale.rows().any(|now| now == row)
    };
    // What it has may be an earlier copy, or another index of the same name.
    let base = node_base_settings(&state.options);
    let mut calls = vec![deletion(index)];
    calls.extend(creation_calls(index, entry.primary_key.as_deref(), &base));
    let ends = perform(state, index, &row.node, &calls, known).await?;
    if ends[1..].iter().any(|end| *end != Outcome::Succeeded) {
        return Err(refuses("the index cannot be made"));
    }
    copy_settings(state, entry, &row.node).await?;
    // From here on it gets writes, and is not read before it has the documents.
    let shards = |shard| StaleReplica {
        shard: Some(shard),
        kind: CatchUp::Shard,
        generation: 0,
        awaits: Vec::new(),
        ..row.clone()
    };
    let listed = mark_listed(state, entry, owned.iter().map(shards).collect()).await?;
    if !listed || !clear(state, vec![row.clone()]).await? {
        return Err(Trouble::Changed);
    }
    Ok(())
}

/// Has rows of an index on record, unless it is in the catalogue no more: what is forgotten of an index
/// that goes would be held against the next one of its name. Answers whether it is.
async fn mark_listed(
    state: &ClusterState,
    entry: &IndexEntry,
    rows: Vec<StaleReplica>,
) -> Result<bool, Trouble> {
    let decide = |_: &StaleMap| {
        let listed = state.catalog.is_listed(entry);
        (if listed { rows } else { Vec::new() }, listed)
    };
    Ok(state.staleness.mark_by(decide).await?)
}

/// Sets the settings of a node that missed a change of them.
pub(super) async fn settings(
    state: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
    row: &StaleReplica,
) -> Result<(), Trouble> {
    if !copy_settings(state, entry, &row.node).await? {
        // It has no such index.
        let kind = CatchUp::Index;
        let row = StaleReplica { kind, generation: 0, awaits: Vec::new(), ..row.clone() };
        mark_listed(state, entry, vec![row]).await?;
        return Ok(());
    }
    clear(state, vec![row.clone()]).await?;
    Ok(())
}

/// Marks the nodes that lack an index which the catalogue has: they failed to make it, for a reason of
/// their own. Nobody follows the tasks of a making that a first write causes. Answers whether there are
/// any; nodes that have still something to do for it are left alone.
///
/// # Errors
/// When the store fails.
pub(crate) async fn find_missing(state: &ClusterState, entry: &IndexEntry) -> Result<bool, Error> {
    let index = &entry.physical;
    let call = Call::get("indexes_get", format!("/indexes/{index}"));
    let (topology, stale) = (state.membership.topology(), state.staleness.load());
    let nodes = topology
        .nodes()
        .filter(|node| node.is_readable() && !stale.lacks_index(index, &node.id) && !entry.making);
    let looks = nodes.map(|node| async {
        // In this order: what is not there once its queue is worked off stays away.
        let idle = node::idle(state, &node.id, index).await.unwrap_or(false);
        let answer = state.nodes.call(&node.id, &call, &cx()).await;
        (idle && answer.is_err_and(|error| is_missing(&error))).then_some(&node.id)
    });
    let missing: Vec<&NodeId> = join_all(looks).await.into_iter().flatten().collect();
    let marked = mark_listed(state, entry, lacking(index, &missing)).await;
    marked.map_err(Trouble::into_error)?;
    Ok(!missing.is_empty())
}

/// What is on record of nodes that should have an index and have not.
pub(crate) fn lacking(index: &str, nodes: &[&NodeId]) -> Vec<StaleReplica> {
    for node in nodes {
        tracing::error!(%node, %index, "the node lacks an index: rebuilding it");
    }
    let rejected = |_: &NodeId| WriteOutcome::Rejected;
    stale_marks::whole(index, CatchUp::Index, nodes.iter().copied(), rejected)
}

/// Repairs shards of an index without a primary key: nothing was ever written to it that was not
/// canceled, so that nobody is needed to copy from. Where a node has something all the same, the index
/// is made anew.
pub(super) async fn blank(
    state: &ClusterState,
    entry: &IndexEntry,
    target: &NodeId,
    rows: &[StaleReplica],
) -> Result<(), Trouble> {
    // What was sent to it before has arrived.
    let gate = state.sequencer.enter(&entry.physical).await;
    let turns = gate.tickets(std::slice::from_ref(target)).tickets;
    drop(gate);
    for mut turn in turns {
        turn.turn().await;
    }
    let blank = is_blank(state, entry, target).await?;
    // In this order: a write teaches the index its key before anybody can miss it.
    let keyless = || state.catalog.current(entry).is_some_and(|now| now.primary_key.is_none());
    if !blank {
        let row = || StaleReplica::new(target, &entry.physical, None, CatchUp::Index);
        let decide = |_: &StaleMap| (keyless().then(row).into_iter().collect(), ());
        state.staleness.mark_by(decide).await?;
    }
    if !blank || !keyless() {
        return Err(Trouble::Changed);
    }
    let shards = rows.iter().filter(|row| row.shard.is_some());
    clear(state, shards.cloned().collect()).await?;
    Ok(())
}

/// Whether a node has nothing of an index without a primary key. It has where it carried out a write
/// that the others canceled: that key, and perhaps documents.
async fn is_blank(
    state: &ClusterState,
    entry: &IndexEntry,
    target: &NodeId,
) -> Result<bool, Trouble> {
    if !node::idle(state, target, &entry.physical).await? {
        return Err(Trouble::blocked("target_lag", "its queue is not worked off"));
    }
    let call = Call::get("indexes_get", format!("/indexes/{}", entry.physical));
    let body = state.nodes.call(target, &call, &cx()).await?;
    Ok(Call::parse::<Value>(target, &body)?["primaryKey"].is_null())
}

/// Whether a node says that there is no such index.
fn is_missing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Verbatim { status, .. } if *status == StatusCode::NOT_FOUND)
}

async fn read(
    state: &ClusterState,
    entry: &IndexEntry,
    of: &NodeId,
) -> Result<Option<Value>, Trouble> {
    let path = format!("/indexes/{}/settings", entry.physical);
    match state.nodes.call(of, &Call::get("settings_get", path), &cx()).await {
        Ok(body) => Ok(Some(Call::parse(of, &body)?)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Gives a node the settings of one that missed none. False where it has no such index.
async fn copy_settings(
    state: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
    target: &NodeId,
) -> Result<bool, Trouble> {
    let Some(source) = sources::source_of_settings(state, entry, target) else {
        return Err(Trouble::blocked("no_authority", "settings"));
    };
    let index = &entry.physical;
    // Of no shard: it is only told when somebody has the index to himself, as a change of settings.
    let none = ShardSet::empty(entry.shards);
    let (filling, turns) = state.sequencer.open_lot(index, &source, target, none);
    node::settle_before(state, index, [&source, target], turns, || Ok(())).await?;
    let Some(wanted) = read(state, entry, &source).await? else { return Err(Trouble::Changed) };
    let Some(has) = read(state, entry, target).await? else { return Ok(false) };
    // The source may have been found to miss some itself since it was chosen.
    let undisturbed = || {
        state.catalog.is_listed(entry)
            && !filling.with(|lot| lot.is_interrupted())
            && !state.staleness.load().misses_index(index, &source)
    };
    if wanted != has {
        let path = format!("/indexes/{index}/settings");
        let call = Call::change(Method::PATCH, "settings_patch", path).json(wanted.to_string());
        let ends = perform(state, index, target, &[call], undisturbed).await?;
        if ends != [Outcome::Succeeded] {
            return Err(refuses("it does not take the settings"));
        }
    } else if !undisturbed() {
        return Err(Trouble::Changed);
    }
    state.stores.settings_versions.set(index, target, entry.settings_version).await?;
    Ok(true)
}
