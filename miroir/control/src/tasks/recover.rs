//! What a process does about tasks that the one before left in the middle of their calls.
//!
//! Such a task is in the store with node tasks that have neither a number nor a refusal. Writes to
//! documents carry the task's uid and are found by it; the making of an index and a proposal of
//! settings are sent again, which does no harm where they had arrived. Whoever cannot be asked
//! catches up by copying. Until that is known, the gate of the index is closed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use miroir_api::NodeId;
use miroir_api::meili::{TaskKind, TaskStatus};
use serde_json::Value;

use crate::broadcast::progress::proposal;
use crate::node_setup::{creation_calls, node_base_settings};
use crate::node_tasks::ask;
use miroir_core::routing::ShardSet;
use miroir_core::view::CatchUp;
use miroir_pipeline::cluster::sequencer::{Exclusive, Sequencer};
use miroir_pipeline::cluster::{ClusterState, disk_loss};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::{Error, NodeFailure};
use miroir_pipeline::index::scatter::stale_marks::{self, WriteOutcome};
use miroir_pipeline::index::scatter::{catalog_sync, tag};
use miroir_pipeline::node::Call;
use miroir_store::{IndexEntry, StoreError, Stores, TaskQuery, TaskRecord, clock};

fn is_lost(record: &TaskRecord) -> bool {
    record.nodes.iter().any(|n| n.uid.is_none() && !n.dropped)
}

/// Closes the gates of the indexes that tasks with lost calls are about.
///
/// Until [`all`] has looked into them nobody knows which replicas have these writes, so a copy could
/// take the one that has not for the good one, and undo a write on the others.
///
/// # Errors
/// When the store fails.
pub(crate) async fn hold(
    stores: &Stores,
    sequencer: &Sequencer,
) -> Result<BTreeMap<String, Exclusive>, StoreError> {
    let mut held = BTreeMap::new();
    let unfinished = stores.tasks.unfinished().await?.into_iter().filter(is_lost);
    for index in unfinished.filter_map(|record| record.physical) {
        if !held.contains_key(&index) {
            held.insert(index.clone(), sequencer.exclusive(&index).await);
        }
    }
    Ok(held)
}

/// Finds out what became of calls whose acknowledgement was lost with the process, and opens the
/// gates that [`hold`] closed.
///
/// # Errors
/// When the store fails, or when no node can say what became of the making of an index. The gate of
/// that index stays closed, and the others are open.
pub(crate) async fn all(state: &Arc<ClusterState>) -> Result<(), Error> {
    let mut failed = BTreeMap::new();
    for record in state.stores.tasks.unfinished().await? {
        let index = record.physical.clone().unwrap_or_default();
        // What this process itself has under way is not lost. What comes after an unfinished look
        // at an index waits for it.
        let mine = state.recovery.is_own(record.uid);
        if mine || !is_lost(&record) || failed.contains_key(&index) {
            continue;
        }
        if let Err(error) = one(state, record).await {
            failed.insert(index, error);
        }
    }
    state.recovery.open_all_but(|index| failed.contains_key(index));
    failed.into_values().next().map_or(Ok(()), Err)
}

/// Whether this process stored a task of which it was told that it could not be stored, so that
/// nobody makes its calls.
pub(crate) fn is_ghost(state: &ClusterState, record: &TaskRecord) -> bool {
    /// Longer than it takes to hear from a store.
    const AGE: Duration = Duration::from_secs(30);
    is_lost(record)
        && record.kind != TaskKind::IndexCompaction
        && state.recovery.is_own(record.uid)
        && !state.writes_in_flight.contains(record.uid)
        && clock::now() - record.enqueued_at > AGE
}

pub(crate) async fn one(state: &Arc<ClusterState>, mut record: TaskRecord) -> Result<(), Error> {
    let tag = tag(record.uid);
    let index = record.physical.clone().unwrap_or_default();
    let mut entry = state.catalog.of_task(&record);
    if record.incarnation.is_none() {
        // Of a version that had nothing else to tell them apart by.
        entry.take_if(|entry| entry.created_at > record.enqueued_at);
    }
    // The name on the nodes may be another index's by now: what the task missed is not its business.
    let replaced = entry.is_none() && state.catalog.by_physical(&index).is_some();
    // A creation that was being taken back when the process died is taken back now. Nobody can
    // have written to the index: its gate was closed all the time.
    let unmade = record.kind == TaskKind::IndexCreation
        && state
            .staleness
            .load()
            .rows()
            .any(|row| row.index == index && row.kind == CatchUp::Deleted);
    if let Some(gone) = entry.take_if(|_| unmade || record.kind == TaskKind::IndexDeletion) {
        if unmade {
            let topology = state.membership.topology();
            catalog_sync::unmake(state, &gone, topology.nodes().map(|node| &node.id)).await?;
        } else {
            state.catalog.remove(&gone).await?;
        }
    }
    let proposal = open_proposal(state, &record).await?;
    let mut outcomes: BTreeMap<NodeId, WriteOutcome> = BTreeMap::new();
    for node_task in &mut record.nodes {
        if node_task.dropped || node_task.uid.is_some() {
            let took =
                if node_task.dropped { WriteOutcome::Rejected } else { WriteOutcome::Accepted };
            outcomes.entry(node_task.node.clone()).or_insert(took);
            continue;
        }
        let node = &node_task.node;
        let (uid, outcome) = match record.kind {
            TaskKind::DocumentAdditionOrUpdate
            | TaskKind::DocumentDeletion
            | TaskKind::DocumentEdition => {
                match ask(state, node, &format!("indexUids={index}&limit=1000")).await {
                    Ok(tasks) => {
                        let mut tasks = tasks.into_iter();
                        let found = tasks.find(|t| t.custom_metadata.as_deref() == Some(&tag));
                        (
                            found.as_ref().map(|t| t.uid),
                            found.map_or(WriteOutcome::Rejected, |_| WriteOutcome::Accepted),
                        )
                    }
                    Err(_) => (None, WriteOutcome::Unknown),
                }
            }
            // Made again, which does no harm where it was made.
            TaskKind::IndexCreation => match &entry {
                Some(entry) => match remake(state, node, entry).await {
                    Ok(uid) => (Some(uid), WriteOutcome::Accepted),
                    Err(_) => (None, WriteOutcome::Unknown),
                },
                None => (None, WriteOutcome::Unknown),
            },
            // Proposed again, which does no harm where it was taken.
            TaskKind::SettingsUpdate => match (&entry, &proposal) {
                (Some(entry), Some(patch)) => {
                    match propose(state, node, &entry.physical, patch).await {
                        Ok(uid) => (Some(uid), WriteOutcome::Accepted),
                        Err(_) => (None, WriteOutcome::Unknown),
                    }
                }
                _ => (None, WriteOutcome::Unknown),
            },
            _ => (None, WriteOutcome::Unknown),
        };
        node_task.uid = uid;
        node_task.dropped = uid.is_none();
        outcomes.insert(node.clone(), outcome);
    }
    let outcome_of = |node: &NodeId| outcomes.get(node).copied().unwrap_or(WriteOutcome::Rejected);
    let took = outcomes.values().any(|outcome| *outcome == WriteOutcome::Accepted);
    if record.kind == TaskKind::IndexCreation && entry.is_some() && !took {
        return Err(Error::internal("no node makes the index of an unfinished task"));
    }
    let touched: Vec<_> = record.nodes.iter().flat_map(|n| n.shards.iter().copied()).collect();
    state
        .staleness
        .mark_by(|stale| {
            let rows = match (record.kind, &entry) {
                (
                    TaskKind::DocumentAdditionOrUpdate
                    | TaskKind::DocumentDeletion
                    | TaskKind::DocumentEdition,
                    Some(entry),
                ) => {
                    let placement = state.membership.topology().placement(entry.shards);
                    let touched = ShardSet::from_iter(touched, entry.shards);
                    stale_marks::documents(stale, &placement, &index, &touched, outcome_of)
                }
                (TaskKind::SettingsUpdate, Some(_)) => {
                    stale_marks::settings(stale, &index, outcomes.keys(), outcome_of)
                }
                (TaskKind::IndexCreation, Some(_)) => {
                    stale_marks::whole(&index, CatchUp::Index, outcomes.keys(), outcome_of)
                }
                (TaskKind::IndexDeletion, None) if !replaced => {
                    stale_marks::whole(&index, CatchUp::Deleted, outcomes.keys(), outcome_of)
                }
                _ => Vec::new(),
            };
            (rows, ())
        })
        .await?;
    if record.kind == TaskKind::IndexDeletion && !took {
        // The catalogue has it already; the repairer sees to the nodes.
        record.end(TaskStatus::Succeeded, clock::now());
    }
    Ok(state.stores.tasks.update(record).await?)
}

/// The settings of an unfinished proposal, unless newer ones were proposed since.
async fn open_proposal(state: &ClusterState, record: &TaskRecord) -> Result<Option<Value>, Error> {
    let (Some(proposal), Some(index)) = (proposal(record), &record.index) else { return Ok(None) };
    let patch = Value::Object(proposal.patch.clone());
    let query = TaskQuery {
        limit: 1,
        kinds: Some(vec![TaskKind::SettingsUpdate]),
        indexes: Some([index.clone()].into()),
        ..TaskQuery::default()
    };
    let newest = state.stores.tasks.list(query).await?.tasks;
    Ok(newest.first().is_some_and(|newest| newest.uid == record.uid).then_some(patch))
}

/// Sends a settings proposal once more; answers its uid.
async fn propose(
    state: &ClusterState,
    node: &NodeId,
    physical: &str,
    patch: &Value,
) -> Result<u32, Error> {
    let cx = Context::internal(Origin::Settings, state.options.scatter.node_timeout);
    let path = format!("/indexes/{physical}/settings");
    let call = Call::change(http::Method::PATCH, "settings_patch", path).json(patch.to_string());
    let before = state.membership.task_uids.highest(node);
    let body = state.nodes.call(node, &call, &cx).await?;
    let uid = Call::parse::<miroir_pipeline::node::TaskRef>(node, &body)?.task_uid;
    disk_loss::accept_task_uid(state, node, before, uid).await?;
    Ok(uid)
}

/// Sends the calls that make an index once more; answers the uid of the last.
async fn remake(state: &ClusterState, node: &NodeId, entry: &IndexEntry) -> Result<u32, Error> {
    let cx = Context::internal(Origin::Settings, state.options.scatter.node_timeout);
    let base = node_base_settings(&state.options);
    let mut last = Err(Error::node(node, NodeFailure::Garbage));
    for call in creation_calls(&entry.physical, entry.primary_key.as_deref(), &base) {
        let body = state.nodes.call(node, &call, &cx).await?;
        last = Ok(Call::parse::<miroir_pipeline::node::TaskRef>(node, &body)?.task_uid);
    }
    last
}
