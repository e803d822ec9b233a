//! Indexes that no task made after all.
//!
//! An index is in the catalogue before the first task that makes it has ended: it is *provisional*. On
//! one node there is no index where every task that was to make it was canceled, or where its creation
//! failed, or where no request that was to make it was accepted. So here: such an entry is taken back,
//! before the last of these tasks is shown to have ended. One that ends in any other way makes the
//! index for good. The primary key that documents gave an index goes in the same way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_api::{NodeId, TaskUid};
use miroir_core::view::CatchUp;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::cluster::provisional::{MAKE, is_made, made_nothing, makes};
use miroir_pipeline::cluster::sequencer::Exclusive;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::index::scatter::catalog_sync;
use miroir_pipeline::node::{Call, TaskRef};
use miroir_store::{IndexEntry, NodeTask, TaskRecord};
use tokio::time::Instant;
use uuid::Uuid;

use crate::detached;
use crate::naming;

/// Documents that are added.
const ADDITION: TaskKind = TaskKind::DocumentAdditionOrUpdate;
/// How long an index may have no task at all: its request is still under way.
const AGE: Duration = Duration::from_mins(1);

/// The provisional index that a task is about which is to end, and makes no index.
pub(crate) fn unmade(state: &ClusterState, ended: &TaskRecord) -> Option<Arc<IndexEntry>> {
    let entry = state.catalog.of_task(ended).filter(|entry| entry.provisional)?;
    (makes(ended.kind) && made_nothing(ended)).then_some(entry)
}

/// The index that a task is about which is to end canceled, if documents gave it its primary key.
fn untaught(state: &ClusterState, ended: &TaskRecord) -> Option<Arc<IndexEntry>> {
    let canceled = ended.status == TaskStatus::Canceled && ended.kind == ADDITION;
    let entry = canceled.then(|| state.catalog.of_task(ended)).flatten()?;
    entry.key_of_documents.then_some(entry)
}

/// Whether something may have to be taken back before a task is shown to have ended.
pub(crate) fn takes_back(state: &ClusterState, ended: &TaskRecord) -> bool {
    unmade(state, ended).is_some() || untaught(state, ended).is_some()
}

/// Takes back what a task that is to end has not made after all: the index, or its primary key. Waits for
/// the gates of its names, which stay closed until it is on record that the task has ended: another one
/// of the index that ends looks for those that have not.
///
/// # Errors
/// When the store fails.
async fn before_end(
    state: &Arc<ClusterState>,
    ended: &TaskRecord,
) -> Result<Option<Exclusive>, Error> {
    let Some(entry) = unmade(state, ended).or_else(|| untaught(state, ended)) else {
        return Ok(None);
    };
    let Some((entry, gate)) = closed(state, &entry).await else { return Ok(None) };
    let taken = unmade(state, ended).is_some() && take(state, &entry, Some(ended)).await?;
    if !taken && untaught(state, ended).is_some() {
        forget_key(state, &entry, ended.uid).await?;
    }
    Ok(Some(gate))
}

/// Takes the primary key from an index whose documents were all canceled. The caller holds the gates.
async fn forget_key(state: &ClusterState, entry: &IndexEntry, ended: TaskUid) -> Result<(), Error> {
    let tasks = &*state.stores.tasks;
    if !is_made(tasks, entry, &[ADDITION], Some(ended)).await? {
        let without = |old: &IndexEntry| IndexEntry {
            primary_key: None,
            key_of_documents: false,
            ..old.clone()
        };
        state.catalog.change(entry, without).await?;
    }
    Ok(())
}

/// An index as it is now, with the gates of its names closed.
async fn closed(state: &ClusterState, entry: &IndexEntry) -> Option<(Arc<IndexEntry>, Exclusive)> {
    loop {
        let before = state.catalog.current(entry)?;
        let gate = naming::close_as_named(state, &before.name, &[]).await;
        let now = state.catalog.current(entry)?;
        if now.name == before.name {
            return Some((now, gate));
        }
    }
}

/// Ends a task, with what it made nothing of taken back first.
///
/// # Errors
/// When the store fails.
pub(crate) async fn end_now(state: &Arc<ClusterState>, ended: TaskRecord) -> Result<(), Error> {
    let gate = before_end(state, &ended).await?;
    state.stores.tasks.update(ended).await?;
    drop(gate);
    Ok(())
}

/// As [`end_now`], in the background.
pub(crate) fn end(state: &Arc<ClusterState>, ended: TaskRecord) {
    detached::spawn(state, ended.uid, "a task ends later", move |state| async move {
        end_now(&state, ended).await
    });
}

/// Takes a provisional index back, unless some task makes it, or may do so yet. Waits for the gates of
/// its names.
///
/// # Errors
/// When the store fails. It is to be called again then.
pub(crate) async fn take_back(state: &Arc<ClusterState>, entry: &IndexEntry) -> Result<(), Error> {
    if let Some((entry, gate)) = closed(state, entry).await {
        take(state, &entry, None).await?;
        drop(gate);
    }
    Ok(())
}

/// As [`take_back`], also if only the task makes it that is about to end. The caller holds the gates.
/// Answers whether the index is gone.
async fn take(
    state: &ClusterState,
    entry: &Arc<IndexEntry>,
    ended: Option<&TaskRecord>,
) -> Result<bool, Error> {
    let except = ended.map(|task| task.uid);
    if !entry.provisional || is_made(&*state.stores.tasks, entry, &MAKE, except).await? {
        return Ok(false);
    }
    tracing::info!(index = %entry.name, "an index goes that no task has made");
    // Where somebody else had made one on the nodes, it is not ours to delete.
    let foreign = |task: &NodeTask| {
        task.error.as_ref().is_some_and(|error| error.code == "index_already_exists")
    };
    let spared = ended.iter().flat_map(|task| &task.nodes).filter(|task| foreign(task));
    let spared: Vec<&NodeId> = spared.map(|task| &task.node).collect();
    let topology = state.membership.topology();
    let nodes: Vec<NodeId> = topology.nodes().map(|node| node.id.clone()).collect();
    let nodes: Vec<NodeId> = nodes.into_iter().filter(|node| !spared.contains(&node)).collect();
    catalog_sync::unmake(state, entry, nodes.iter()).await?;
    state.stores.settings_versions.forget(&entry.physical).await?;
    delete(state, &entry.physical, &nodes).await?;
    state.signals.repairs.notify_waiters();
    Ok(true)
}

/// Has nodes delete an index whose gate the caller holds. Whoever cannot be told has it on record.
async fn delete(state: &ClusterState, physical: &str, nodes: &[NodeId]) -> Result<(), Error> {
    let call = Call::change(Method::DELETE, "indexes_delete", format!("/indexes/{physical}"));
    let cx = Context::internal(Origin::Settings, state.options.scatter.call_timeout());
    let turns = state.sequencer.turns(physical, nodes);
    let told = join_all(nodes.iter().zip(turns).map(|(node, mut turn)| {
        let (call, cx) = (&call, &cx);
        async move {
            turn.turn().await;
            let body = state.nodes.call(node, call, cx).await.ok()?;
            Call::parse::<TaskRef>(node, &body).ok().map(|_| node)
        }
    }));
    let told: Vec<&NodeId> = told.await.into_iter().flatten().collect();
    let stale = state.staleness.load();
    let rows = stale.rows().filter(|row| {
        row.index == physical && row.kind == CatchUp::Deleted && told.contains(&&row.node)
    });
    for row in rows.cloned() {
        state.staleness.clear(row).await?;
    }
    Ok(())
}

/// Provisional indexes without an unfinished task, and since when that is so.
#[derive(Debug, Default)]
pub(crate) struct Idle(BTreeMap<Uuid, Instant>);

/// Looks at indexes that stay provisional: whoever was to say what becomes of them has gone.
///
/// # Errors
/// When the store fails.
pub(crate) async fn tidy(state: &Arc<ClusterState>, idle: &mut Idle) -> Result<(), Error> {
    let open = |entry: &IndexEntry| state.open_tasks.first_of(&entry.physical).is_some();
    let mut entries = state.catalog.all();
    entries.retain(|entry| entry.provisional && !entry.making && !open(entry));
    idle.0.retain(|seen, _| entries.iter().any(|entry| entry.incarnation == *seen));
    for entry in entries {
        let since = *idle.0.entry(entry.incarnation).or_insert_with(Instant::now);
        if since.elapsed() < AGE {
            continue;
        }
        idle.0.remove(&entry.incarnation);
        if is_made(&*state.stores.tasks, &entry, &MAKE, None).await? {
            let made = |old: &IndexEntry| IndexEntry { provisional: false, ..old.clone() };
            state.catalog.change(&entry, made).await?;
        } else {
            take_back(state, &entry).await?;
        }
    }
    Ok(())
}
