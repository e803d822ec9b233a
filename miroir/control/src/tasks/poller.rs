//! The task poller: learns from nodes how their tasks went, and aggregates.
//!
//! All outstanding tasks of a node are asked for in one request (at most 200 uids), so the
//! cost depends on nodes and time, not on tasks. The pause starts at a few milliseconds after a
//! write and doubles up to 250 ms while nothing changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use miroir_api::meili::{ApiError, TaskKind, TaskStatus};
use miroir_api::{NodeId, TaskUid};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::broadcast::{progress, verify};
use crate::node_tasks::{NodeTaskView, ask};
use crate::outcome::{backups, canceled, details, embedding_errors, unreadable};
use crate::tasks::parts::{self, Loss};
use crate::tasks::{cancel, late, recover};
use miroir_core::topology::NodeStatus;
use miroir_core::view::StaleMap;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::leaf;
use miroir_pipeline::node::Call;
use miroir_pipeline::node_errors;
use miroir_store::{IndexEntry, TaskProtocol, TaskRecord, TaskState, clock};

/// Uids per request.
const BATCH: usize = 200;
const FASTEST: Duration = Duration::from_millis(4);
const SLOWEST: Duration = Duration::from_millis(250);

/// Polls until cancelled.
pub async fn run(state: Arc<ClusterState>, stop: CancellationToken) {
    while let Err(error) = recover::all(&state).await {
        tracing::error!(%error, "unfinished tasks could not be read");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
    let mut pause = FASTEST;
    loop {
        let outstanding = match round(&state).await {
            Ok(progress) => {
                pause = if progress.changed { FASTEST } else { (pause * 2).min(SLOWEST) };
                progress.outstanding
            }
            Err(error) => {
                tracing::error!(%error, "task poll failed");
                pause = SLOWEST;
                true
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = state.signals.tasks.notified() => pause = FASTEST,
            () = tokio::time::sleep(pause), if outstanding => {}
        }
    }
}

/// What one round achieved.
#[derive(Clone, Copy, Debug)]
pub struct PollRound {
    /// Whether the record of some task changed.
    pub changed: bool,
    /// Whether some task is not terminal.
    pub outstanding: bool,
}

/// One poll of all nodes that have something outstanding.
///
/// # Errors
/// When the store fails. Nodes that fail are asked again in the next round.
pub async fn round(state: &Arc<ClusterState>) -> Result<PollRound, Error> {
    late::record(state).await?;
    let mut records: BTreeMap<TaskUid, TaskRecord> =
        state.stores.tasks.unfinished().await?.into_iter().map(|r| (r.uid, r)).collect();
    publish(&records);
    let ghosts: Vec<TaskUid> =
        records.values().filter(|r| recover::is_ghost(state, r)).map(|r| r.uid).collect();
    for uid in ghosts {
        if let Some(record) = records.remove(&uid) {
            recover::one(state, record).await?;
        }
    }
    if records.is_empty() {
        return Ok(PollRound { changed: false, outstanding: false });
    }
    let mut wanted: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
    for record in records.values() {
        for task in record.nodes.iter().filter(|t| !t.dropped && !t.status.is_terminal()) {
            if let Some(uid) = task.uid {
                wanted.entry(task.node.clone()).or_default().push(uid);
            }
        }
    }
    let answers = join_all(wanted.into_iter().map(|(node, uids)| async move {
        let mut seen = BTreeMap::new();
        let topology = state.membership.topology();
        let gone = topology.node(&node).is_none_or(|n| n.status == NodeStatus::Failed);
        if gone {
            return (node, NodeAnswer::Gone);
        }
        for chunk in uids.chunks(BATCH) {
            let list: Vec<String> = chunk.iter().map(u32::to_string).collect();
            let query = format!("uids={}&limit={}", list.join(","), chunk.len());
            match ask(state, &node, &query).await {
                Ok(tasks) => seen.extend(tasks.into_iter().map(|task| (task.uid, task))),
                Err(_) => return (node, NodeAnswer::Later),
            }
        }
        let forgets = uids.iter().any(|uid| !seen.contains_key(uid));
        let proven = if forgets { newest(state, &node).await } else { None };
        (node, NodeAnswer::Seen { seen, proven })
    }))
    .await;
    let answers: BTreeMap<NodeId, NodeAnswer> = answers.into_iter().collect();
    let mut changed = false;
    let open: Vec<(TaskUid, String)> =
        records.values().filter_map(|r| Some((r.uid, r.physical.clone()?))).collect();
    for record in records.values_mut() {
        changed |= match awaited(record) {
            Some(indexes)
                if open.iter().any(|(uid, of)| *uid < record.uid && indexes.contains(of)) =>
            {
                false
            }
            Some(_) => {
                record.end(TaskStatus::Succeeded, clock::now());
                record.protocol = TaskProtocol::default();
                state.stores.tasks.update(record.clone()).await?;
                true
            }
            None => advance(state, record, &answers).await?,
        };
    }
    let outstanding = records.values().any(|r| !r.status.is_terminal());
    Ok(PollRound { changed, outstanding })
}

/// The indexes whose tasks before it a task waits for, and does nothing else.
fn awaited(record: &TaskRecord) -> Option<&[String]> {
    match &record.protocol.state {
        Some(TaskState::Rename { awaits }) => Some(awaits),
        _ => None,
    }
}

enum NodeAnswer {
    /// The node answered. `proven` is the newest uid of a node that is known to have its disk, if it
    /// was asked for: what it does not list up to there it has ended and forgotten.
    Seen { seen: BTreeMap<u32, NodeTaskView>, proven: Option<u32> },
    /// Ask again.
    Later,
    /// The node is down: it does not count for its tasks until it caught up.
    Gone,
}

/// The newest uid of a node, unless it may have lost its disk: then its health check finds out.
async fn newest(state: &ClusterState, node: &NodeId) -> Option<u32> {
    let newest = ask(state, node, "limit=1").await.ok()?.first()?.uid;
    state.membership.task_uids.is_verified(node).then_some(newest)
}

/// What an index shows of a forgotten task that made it or deleted it: whether it was done. `None`
/// where nobody can tell.
async fn is_evident(state: &ClusterState, record: &TaskRecord, node: &NodeId) -> Option<bool> {
    let wanted = match record.kind {
        TaskKind::IndexCreation => true,
        TaskKind::IndexDeletion => false,
        _ => return None,
    };
    let cx = Context::internal(Origin::Settings, state.options.scatter.node_timeout);
    let call = Call::get("indexes_get", format!("/indexes/{}", record.physical.as_ref()?));
    match state.nodes.call(node, &call, &cx).await {
        Ok(_) => Some(wanted),
        Err(error) if leaf::lacks_index(&error) => Some(!wanted),
        Err(_) => None,
    }
}

async fn advance(
    state: &Arc<ClusterState>,
    record: &mut TaskRecord,
    answers: &BTreeMap<NodeId, NodeAnswer>,
) -> Result<bool, Error> {
    let before = record.clone();
    let mut settings = false;
    let broken = unreadable::broken(record);
    match record.kind {
        _ if broken.is_some() => {}
        TaskKind::TaskDeletion => cancel::forget(state, record).await?,
        TaskKind::TaskCancelation if !cancel::is_passed_on(record) => {
            cancel::pass_on(state, record).await?;
            // Nobody was asked about what the nodes have only got now.
            state.stores.tasks.update(record.clone()).await?;
            return Ok(true);
        }
        _ => {}
    }
    let index = record.physical.clone().unwrap_or_default();
    let mut lost = Vec::new();
    for at in 0..record.nodes.len() {
        let task = &mut record.nodes[at];
        let (Some(uid), false, false) = (task.uid, task.dropped, task.status.is_terminal()) else {
            continue;
        };
        match answers.get(&task.node) {
            Some(NodeAnswer::Seen { seen, proven }) => match seen.get(&uid) {
                Some(view) => {
                    task.status = view.status;
                    task.error.clone_from(&view.error);
                    let deleted = view.details.as_ref().and_then(|d| d.get("deletedDocuments"));
                    task.deleted = deleted.and_then(Value::as_u64);
                    if matches!(record.kind, TaskKind::DocumentEdition | TaskKind::IndexCompaction)
                    {
                        task.details.clone_from(&view.details);
                    }
                    note_times(&mut record.started_at, &mut record.finished_at, view);
                    if record.kind == TaskKind::DumpCreation {
                        let task_state = &mut record.protocol.state;
                        backups::note(task_state, &task.node, view.details.as_ref());
                    }
                    verify::note_details(record, view.details.as_ref());
                }
                None if proven.is_some_and(|newest| newest >= uid) => {
                    let node = task.node.clone();
                    match is_evident(state, record, &node).await {
                        Some(true) => record.nodes[at].status = TaskStatus::Succeeded,
                        // Canceling is the first thing a node does: it was done.
                        None if record.kind == TaskKind::TaskCancelation => {
                            record.nodes[at].status = TaskStatus::Succeeded;
                        }
                        _ => lost.push((at, Loss::Forgotten)),
                    }
                }
                None => {}
            },
            Some(NodeAnswer::Gone) => lost.push((at, Loss::Down)),
            Some(NodeAnswer::Later) | None => {}
        }
    }
    if !lost.is_empty() {
        let lose = |stale: &StaleMap| {
            let rows = lost.iter().flat_map(|(at, loss)| parts::lose(record, stale, *at, *loss));
            (rows.collect(), ())
        };
        state.staleness.mark_by(lose).await?;
    }
    let waiting =
        record.nodes.iter().any(|t| !t.dropped && (t.uid.is_none() || !t.status.is_terminal()));
    if waiting {
        let begun = record.nodes.iter().any(|t| t.status != TaskStatus::Enqueued);
        if begun && record.status == TaskStatus::Enqueued {
            record.status = TaskStatus::Processing;
            record.started_at.get_or_insert_with(clock::now);
        }
    } else if let Some(error) = broken {
        tracing::error!(task = %record.uid, %error, "a task is given up");
        finish(state, record).await?;
        if record.kind == TaskKind::SettingsUpdate {
            state.broadcasts.end(&index);
        }
    } else if record.kind == TaskKind::TaskCancelation {
        cancel::conclude(state, record).await?;
    } else if record.kind == TaskKind::TaskDeletion {
        // Done above, or it waits.
    } else if canceled::is_canceled(record) {
        conclude_parts(state, record).await?;
        canceled::become_canceled(record);
        if record.kind == TaskKind::SettingsUpdate {
            state.broadcasts.end(&index);
        }
    } else if progress::proposal(record).is_some() {
        settings = true;
    } else if matches!(record.kind, TaskKind::DumpCreation | TaskKind::SnapshotCreation) {
        backups::conclude(record, |nodes| backups::suffice(state, nodes));
    } else {
        finish(state, record).await?;
    }
    let changed = *record != before;
    if changed {
        state.stores.tasks.update(record.clone()).await?;
    }
    if settings {
        verify::settle(state, record.uid);
    }
    Ok(changed)
}

fn note_times(
    started: &mut Option<time::OffsetDateTime>,
    finished: &mut Option<time::OffsetDateTime>,
    view: &NodeTaskView,
) {
    if let Some(at) = view.started_at.as_deref().and_then(clock::parse) {
        *started = Some(started.map_or(at, |old| old.min(at)));
    }
    if let Some(at) = view.finished_at.as_deref().and_then(clock::parse) {
        *finished = Some(finished.map_or(at, |old| old.max(at)));
    }
}

/// Ends a task whose node tasks have all ended.
async fn finish(state: &Arc<ClusterState>, record: &mut TaskRecord) -> Result<(), Error> {
    let alive = || record.nodes.iter().filter(|t| !t.dropped);
    let failed: Vec<_> = alive().filter(|t| t.status != TaskStatus::Succeeded).cloned().collect();
    let succeeded = alive().any(|t| t.status == TaskStatus::Succeeded);
    let done = conclude_parts(state, record).await?;
    let alike = failed.is_empty() || record.kind != TaskKind::IndexCreation;
    record.status =
        if succeeded && done && alike { TaskStatus::Succeeded } else { TaskStatus::Failed };
    if let Some(error) = unreadable::broken(record) {
        record.status = TaskStatus::Failed;
        record.error = Some(error);
    } else if record.status == TaskStatus::Failed {
        let topology = state.membership.topology();
        let groups = topology.groups().len() as u64;
        let copies = groups * u64::from(topology.replication_factor());
        let error = embedding_errors::one(failed.iter().filter_map(|t| t.error.as_ref()), copies);
        record.error = Some(match (error, state.catalog.of_task(record)) {
            (Some(mut error), Some(entry)) => {
                error.message = node_errors::message(&error.message, &entry, false);
                if let Some(TaskState::Edition { lines_before }) = record.protocol.state
                    && lines_before > 0
                {
                    let own = miroir_core::documents::edit_function::own_lines(
                        &error.message,
                        lines_before,
                    );
                    error.message = own;
                }
                error
            }
            (Some(error), None) => error,
            (None, _) if canceled::is_partly_canceled(record) => canceled::in_part(),
            (None, _) if record.nodes.iter().any(|task| task.forgotten) => ApiError::new(
                "miroir_outcome_unknown",
                "The nodes forgot the task before they were asked how it ended: somebody deleted \
                 finished tasks on them. It may have been done: look, or send it again.",
            ),
            (None, _) => ApiError::new(
                "miroir_no_quorum",
                "Every node that took the write went away before it was done.",
            ),
        });
    }
    details::fill(state, record);
    let now = clock::now();
    record.started_at.get_or_insert(now);
    record.finished_at.get_or_insert(now);
    touch(state, record).await
}

/// Has replicas whose part ended unlike that of the authorities follow these. Answers whether the
/// task was done.
async fn conclude_parts(state: &ClusterState, record: &TaskRecord) -> Result<bool, Error> {
    let end = |stale: &StaleMap| {
        let ending = parts::ending(record, stale);
        (ending.behind, ending.done)
    };
    Ok(state.staleness.mark_by(end).await?)
}

async fn touch(state: &Arc<ClusterState>, record: &TaskRecord) -> Result<(), Error> {
    let Some(entry) = state.catalog.of_task(record) else { return Ok(()) };
    let at = record.finished_at.unwrap_or_else(clock::now);
    let touched =
        |old: &IndexEntry| IndexEntry { updated_at: old.updated_at.max(at), ..old.clone() };
    state.catalog.change(&entry, touched).await?;
    Ok(())
}

fn publish(records: &BTreeMap<TaskUid, TaskRecord>) {
    let now = clock::now();
    let oldest =
        records.values().map(|r| (now - r.enqueued_at).as_seconds_f64()).fold(0.0, f64::max);
    metrics::gauge!("miroir_task_processing_age_seconds").set(oldest);
    metrics::gauge!("miroir_task_registry_size").set(records.len() as f64);
}
