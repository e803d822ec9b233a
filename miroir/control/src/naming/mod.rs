//! Names and primary keys of indexes change.
//!
//! Such a change takes its turn among the tasks of its indexes ([`deferred`]). It is a task that is stored with what is to be done before anything is done. It names
//! indexes by incarnation, and says which name each is to have: so it can be carried out again after a
//! crash, and does nothing where it was carried out already. Whoever carries it out holds the gates of
//! all names and indexes in question, as does whoever makes or deletes one of them.

pub(crate) mod deferred;

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use miroir_api::meili::{ApiError, TaskKind, TaskStatus};
use miroir_api::{IndexUid, NodeId};
use miroir_core::view::CatchUp;
use miroir_pipeline::cluster::sequencer::Exclusive;
use miroir_pipeline::cluster::{ClusterState, disk_loss};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::index::scatter::stale_marks::{self, WriteOutcome};
use miroir_pipeline::node::{Call, TaskRef};
use miroir_store::task_state::{Move, Renaming};
use miroir_store::{IndexEntry, NodeTask, TaskProtocol, TaskQuery, TaskRecord, TaskState, clock};
use serde_json::{Value, json};

/// How many of the tasks before a change are looked at, to see whether they have followed it.
const LOOK_BACK: usize = 100;

/// Closes the gates of names, and of the indexes that have them: nobody else makes, deletes or renames
/// an index of these names meanwhile, nor writes to it. Changes of these names that waited are made.
///
/// # Errors
/// When the store fails, of which a change that waited is read.
pub(crate) async fn close(
    state: &Arc<ClusterState>,
    name: &IndexUid,
    others: &[&IndexUid],
) -> Result<Exclusive, Error> {
    let names = || iter::once(name).chain(others.iter().copied()).map(IndexUid::as_str);
    loop {
        for name in names() {
            deferred::catch_up(state, name).await?;
        }
        let held = close_as_named(state, name, others).await;
        // One may have been stored while this waited.
        if !names().any(|name| state.open_tasks.deferred_on(name).is_some()) {
            return Ok(held);
        }
    }
}

/// As [`close`], by the names that indexes have now: what waits goes on waiting.
pub(crate) async fn close_as_named(
    state: &ClusterState,
    name: &IndexUid,
    others: &[&IndexUid],
) -> Exclusive {
    loop {
        let wanted = gates(state, name, others);
        let held = hold(state, &wanted).await;
        // Whoever was waited for may have given a name to another index.
        if gates(state, name, others).is_subset(&wanted) {
            return held;
        }
    }
}

/// Closes gates, in alphabetical order.
async fn hold(state: &ClusterState, gates: &BTreeSet<String>) -> Exclusive {
    let mut all = gates.iter();
    let mut held = state.sequencer.exclusive(all.next().map_or("", String::as_str)).await;
    for gate in all {
        state.sequencer.exclusive_too(&mut held, gate).await;
    }
    held
}

fn gates(state: &ClusterState, name: &IndexUid, others: &[&IndexUid]) -> BTreeSet<String> {
    let names = iter::once(name).chain(others.iter().copied());
    let behind = names.clone().filter_map(|name| state.catalog.get(name));
    names.map(IndexUid::to_string).chain(behind.map(|entry| entry.physical.clone())).collect()
}

/// Carries out what a stored task intends, and stores how it ended, or that it waits for the nodes.
/// The caller holds the gates. `again` says that somebody may have begun with it.
///
/// # Errors
/// When a store fails. It is to be called again then, `again`.
pub(crate) async fn carry_out(
    state: &Arc<ClusterState>,
    mut record: TaskRecord,
    again: bool,
) -> Result<TaskRecord, Error> {
    let Some(intent) = record.intent().cloned() else { return Ok(record) };
    let Some(first_time) = rename(state, &intent).await? else {
        let error = misfit(state, &intent);
        record.error.get_or_insert(error);
        return end(state, record).await;
    };
    for (first, second) in pairs(&record) {
        if !(again && !first_time && have_followed(state, &record, &intent, &second).await?) {
            state.stores.tasks.swap_indexes(first, second, record.uid).await?;
        }
    }
    if let Some(key) = &intent.primary_key {
        rekey(state, &mut record, key).await?;
    }
    if record.error.is_some() {
        return end(state, record).await;
    }
    if record.nodes.iter().any(|task| !task.dropped) {
        // The poller ends it as it ends all that nodes do.
        record.protocol = TaskProtocol::default();
    } else {
        let awaits: Vec<String> = intent.moves.iter().map(|of| of.physical.clone()).collect();
        if !state.open_tasks.has_before(&awaits, record.uid) {
            return end(state, record).await;
        }
        // As on one node, it ends when what was enqueued about the indexes before has.
        record.protocol = TaskState::Rename { awaits, intent: None }.into();
    }
    state.stores.tasks.update(record.clone()).await?;
    state.signals.tasks.notify_one();
    Ok(record)
}

pub(crate) fn not_found(name: &str) -> ApiError {
    ApiError::new("index_not_found", format!("Index `{name}` not found."))
}

/// That none of these indexes, at least one, is there.
pub(crate) fn all_not_found(names: &BTreeSet<&str>) -> ApiError {
    match names.first() {
        Some(name) if names.len() == 1 => not_found(name),
        _ => {
            let message = format!("Indexes {} not found.", quoted(names.iter().copied()));
            ApiError::new("index_not_found", message)
        }
    }
}

/// Names as a node lists them.
pub(crate) fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Why indexes do not get their names: one is gone that a task was to make which was canceled, say.
fn misfit(state: &ClusterState, intent: &Renaming) -> ApiError {
    let is_gone = |of: &&Move| {
        let listed = state.catalog.by_physical(&of.physical);
        listed.is_none_or(|entry| !entry.is_incarnation(of.incarnation))
    };
    let gone: BTreeSet<&str> =
        intent.moves.iter().filter(is_gone).map(|of| of.from.as_str()).collect();
    if gone.is_empty() {
        return ApiError::new("index_already_exists", "Another index has got the name meanwhile.");
    }
    all_not_found(&gone)
}

async fn end(state: &ClusterState, mut record: TaskRecord) -> Result<TaskRecord, Error> {
    let failed = record.error.is_some();
    record.end(if failed { TaskStatus::Failed } else { TaskStatus::Succeeded }, clock::now());
    record.protocol = TaskProtocol::default();
    state.stores.tasks.update(record.clone()).await?;
    state.signals.tasks.notify_one();
    Ok(record)
}

/// Gives the indexes their names and primary keys in the catalogue, in one step. Answers whether they
/// all had their old names until then, so that nobody has begun with it; `None` if an index is gone, or
/// another one has a name: nothing changes then.
async fn rename(state: &ClusterState, intent: &Renaming) -> Result<Option<bool>, Error> {
    let (mut fits, mut first_time) = (false, false);
    let now = clock::now();
    state
        .catalog
        .change_many(|old| {
            let is_it = |of: &Move, entry: &IndexEntry| {
                entry.physical == of.physical && entry.is_incarnation(of.incarnation)
            };
            let stays = |of: &Move| {
                of.from == of.to || old.get(&of.from).is_some_and(|entry| is_it(of, entry))
            };
            first_time = intent.moves.iter().all(stays);
            let mut changes: BTreeMap<IndexUid, Option<IndexEntry>> = BTreeMap::new();
            let mut moved = Vec::new();
            for of in &intent.moves {
                // Where it is, unless it was renamed after this was carried out.
                let places = [&of.from, &of.to];
                let mut found = places.into_iter().filter_map(|name| old.get(name));
                let Some(entry) = found.find(|entry| is_it(of, entry)) else {
                    fits = false;
                    return BTreeMap::new();
                };
                changes.insert(entry.name.clone(), None);
                moved.push((of, entry));
            }
            for (of, entry) in moved {
                let mut entry = IndexEntry { name: of.to.clone(), ..entry.clone() };
                entry.updated_at = entry.updated_at.max(now);
                if intent.primary_key.is_some() {
                    entry.primary_key.clone_from(&intent.primary_key);
                    entry.key_of_documents = false;
                }
                changes.insert(of.to.clone(), Some(entry));
            }
            let ours = |entry: &IndexEntry| intent.moves.iter().any(|of| is_it(of, entry));
            let alias = |name: &IndexUid| state.aliases.table().get(name.as_str()).is_some();
            fits = changes.keys().filter_map(|name| old.get(name)).all(ours)
                && !intent.moves.iter().any(|of| alias(&of.to));
            if fits { changes } else { BTreeMap::new() }
        })
        .await?;
    Ok(fits.then_some(first_time))
}

/// Names that a task exchanges in the tasks before it.
fn pairs(record: &TaskRecord) -> Vec<(String, String)> {
    let Some(details) = &record.details else { return Vec::new() };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    if record.kind == TaskKind::IndexSwap {
        let swaps = details.get("swaps").and_then(Value::as_array);
        let pair = |swap: &Value| {
            Some((text(swap.pointer("/indexes/0"))?, text(swap.pointer("/indexes/1"))?))
        };
        return swaps.into_iter().flatten().filter_map(pair).collect();
    }
    let (old, new) = (details.get("oldIndexUid"), details.get("newIndexUid"));
    text(old).zip(text(new)).filter(|(old, new)| old != new).into_iter().collect()
}

/// Whether the tasks before a change that somebody has begun with go by the new names already: those of
/// the index that has `name` now say so.
async fn have_followed(
    state: &ClusterState,
    record: &TaskRecord,
    intent: &Renaming,
    name: &str,
) -> Result<bool, Error> {
    let Some(last) = record.uid.0.checked_sub(1) else { return Ok(true) };
    for of in intent.moves.iter().filter(|of| of.to.as_str() == name || of.from.as_str() == name) {
        let query = TaskQuery {
            limit: LOOK_BACK,
            from: Some(miroir_api::TaskUid(last)),
            indexes: Some([of.to.to_string()].into()),
            ..TaskQuery::default()
        };
        let tasks = state.stores.tasks.list(query).await?.tasks;
        if tasks.iter().any(|task| task.incarnation == Some(of.incarnation)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells the nodes the primary key of an index that has no documents. Whoever does not hear of it
/// makes the index again, if somebody did.
async fn rekey(state: &ClusterState, record: &mut TaskRecord, key: &str) -> Result<(), Error> {
    let physical = record.physical.clone().unwrap_or_default();
    let call = Call::change(Method::PATCH, "indexes_patch", format!("/indexes/{physical}"))
        .json(json!({"primaryKey": key}).to_string());
    let cx = Context::internal(Origin::Settings, state.options.scatter.call_timeout());
    let tell = |node: NodeId| {
        let (call, cx) = (&call, &cx);
        async move {
            let before = state.membership.task_uids.highest(&node);
            let body = state.nodes.call(&node, call, cx).await?;
            let uid = Call::parse::<TaskRef>(&node, &body)?.task_uid;
            disk_loss::accept_task_uid(state, &node, before, uid).await?;
            Ok::<u32, Error>(uid)
        }
    };
    let open = |task: &NodeTask| task.uid.is_none() && !task.dropped;
    let told = record.nodes.iter_mut().filter(|task| open(task)).map(|task| async move {
        match tell(task.node.clone()).await {
            Ok(uid) => task.uid = Some(uid),
            Err(_) => task.dropped = true,
        }
    });
    join_all(told).await;
    if record.nodes.iter().any(|task| !task.dropped) {
        let missed = record.nodes.iter().filter(|task| task.dropped).map(|task| &task.node);
        let rows = stale_marks::whole(&physical, CatchUp::Index, missed, |_| WriteOutcome::Unknown);
        state.staleness.mark(rows).await?;
    }
    Ok(())
}
