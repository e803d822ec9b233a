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
use crate::tasks::{cancel, recover};
use miroir_core::topology::NodeStatus;
use miroir_core::view::{CatchUp, StaleMap, StaleReplica};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_pipeline::node_errors;
use miroir_store::{IndexEntry, NodeTask, TaskProtocol, TaskRecord, TaskState, clock};

/// Uids per request.
const BATCH: usize = 200;
const FASTEST: Duration = Duration::from_millis(4);
const SLOWEST: Duration = Duration::from_millis(250);

/// Whether another node took what this replica missed.
fn has_witness(record: &TaskRecord, row: &StaleReplica) -> bool {
    record.nodes.iter().any(|n| {
        !n.dropped && n.node != row.node && row.shard.is_none_or(|s| n.shards.contains(&s))
    })
}

/// Whether other nodes that count took every part of a write that this one took.
fn others_took(record: &TaskRecord, task: &NodeTask) -> bool {
    let took = |shard: Option<&miroir_api::ShardId>| {
        record.nodes.iter().any(|n| {
            !n.dropped
                && n.uid.is_some()
                && n.node != task.node
                && shard.is_none_or(|s| n.shards.contains(s))
        })
    };
    if task.shards.is_empty() { took(None) } else { task.shards.iter().all(|s| took(Some(s))) }
}

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
        (node, NodeAnswer::Seen(seen))
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
    /// The node answered; a task it does not know is lost.
    Seen(BTreeMap<u32, NodeTaskView>),
    /// Ask again.
    Later,
    /// The node is down: it does not count for its tasks until it caught up.
    Gone,
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
    let mut rows = Vec::new();
    let index = record.physical.clone().unwrap_or_default();
    let deletes_index = record.kind == TaskKind::IndexDeletion;
    for at in 0..record.nodes.len() {
        // A node that is down is waited for where no other node took what it took: the write was
        // acknowledged, and will be done when it comes back.
        let alone = !others_took(record, &record.nodes[at]);
        let task = &mut record.nodes[at];
        let (Some(uid), false, false) = (task.uid, task.dropped, task.status.is_terminal()) else {
            continue;
        };
        let lost = match answers.get(&task.node) {
            Some(NodeAnswer::Seen(seen)) => match seen.get(&uid) {
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
                    continue;
                }
                None => CatchUp::Index,
            },
            Some(NodeAnswer::Gone) if alone => continue,
            Some(NodeAnswer::Gone) => CatchUp::Pending,
            Some(NodeAnswer::Later) | None => continue,
        };
        task.dropped = true;
        if record.physical.is_none() || record.kind == TaskKind::IndexCompaction {
            continue;
        }
        let kind = match (deletes_index, lost) {
            (true, _) => CatchUp::Deleted,
            // A settings proposal may be taken back before the node works on it.
            (false, CatchUp::Pending) if record.kind == TaskKind::SettingsUpdate => CatchUp::Shard,
            (false, kind) => kind,
        };
        let shards: Vec<Option<_>> = if kind == CatchUp::Pending && !task.shards.is_empty() {
            task.shards.iter().map(|s| Some(*s)).collect()
        } else {
            vec![None]
        };
        rows.extend(shards.into_iter().map(|shard| StaleReplica {
            node: task.node.clone(),
            index: index.clone(),
            shard,
            kind,
            generation: 0,
        }));
    }
    rows.retain(|row| has_witness(record, row));
    state
        .staleness
        .mark_by(|stale| {
            // Somebody has to keep settings to copy from.
            let sound = |row: &StaleReplica| {
                record.nodes.iter().any(|n| {
                    !n.dropped && n.node != row.node && !stale.misses_index(&index, &n.node)
                })
            };
            rows.retain(|row| row.kind != CatchUp::Shard || row.shard.is_some() || sound(row));
            (rows, ())
        })
        .await?;
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
    if !failed.is_empty() && succeeded && record.kind != TaskKind::IndexCreation {
        // Some replicas could not do what others did: they have to catch up.
        let index = record.physical.clone().unwrap_or_default();
        let rows = failed.iter().flat_map(|task| {
            let index = index.clone();
            task.shards.iter().map(move |shard| StaleReplica {
                node: task.node.clone(),
                index: index.clone(),
                shard: Some(*shard),
                kind: CatchUp::Shard,
                generation: 0,
            })
        });
        let mut rows: Vec<StaleReplica> = rows.collect();
        let covered = failed.iter().all(|task| {
            task.shards.iter().all(|s| {
                record.nodes.iter().any(|o| {
                    !o.dropped && o.status == TaskStatus::Succeeded && o.shards.contains(s)
                })
            })
        });
        state
            .staleness
            .mark_by(|stale| {
                rows.retain(|row| witnessed(record, stale, row));
                (rows, ())
            })
            .await?;
        record.status = if covered { TaskStatus::Succeeded } else { TaskStatus::Failed };
    } else if failed.is_empty() && (succeeded || record.nodes.iter().all(|t| t.dropped)) {
        record.status = if succeeded { TaskStatus::Succeeded } else { TaskStatus::Failed };
    } else {
        record.status = TaskStatus::Failed;
    }
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

/// Whether another replica did what this one could not, and can be copied from.
fn witnessed(record: &TaskRecord, stale: &StaleMap, row: &StaleReplica) -> bool {
    record.nodes.iter().any(|n| {
        !n.dropped
            && n.status == TaskStatus::Succeeded
            && n.node != row.node
            && row
                .shard
                .is_none_or(|s| n.shards.contains(&s) && stale.is_authority(&row.index, &n.node, s))
    })
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
