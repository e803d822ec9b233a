//! Cancelation and deletion of tasks.
//!
//! Both are tasks of Miroir's own that the poller carries out. What they chose is fixed when they are
//! accepted and part of the task, so that a restart resumes them.
//!
//! A cancelation is passed on to the nodes that have something of the chosen tasks in their queues,
//! and is over when these have ended. A write that some replica of every shard it touches had done
//! by then is done: the others copy it. One of which some shards were written and others not fails
//! and says so. Changes of indexes as such are over when they are accepted.
//!
//! A deletion forgets finished tasks here and on the nodes. As on one node, which ends its batch
//! first, it waits for those of the chosen tasks that the nodes were at when it was accepted: the
//! first unfinished task of every index.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_api::{NodeId, TaskUid};

use crate::outcome::canceled::{end, set};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::node::{Call, TaskRef};
use miroir_store::task_state::UidRanges;
use miroir_store::{NodeTask, StoreError, TaskProtocol, TaskRecord, TaskState, clock};

/// Uids per request to a node.
const CHUNK: usize = 200;
/// Tasks forgotten per commit.
const FORGET: usize = 1000;
/// Whether such a task can be canceled on its nodes.
fn is_cancelable(kind: TaskKind) -> bool {
    matches!(
        kind,
        TaskKind::DocumentAdditionOrUpdate
            | TaskKind::DocumentEdition
            | TaskKind::DocumentDeletion
            | TaskKind::SettingsUpdate
            | TaskKind::DumpCreation
            | TaskKind::SnapshotCreation
    )
}

/// Whether the node still has it in its queue.
fn is_queued(task: &NodeTask) -> bool {
    !task.dropped && task.uid.is_some() && !task.status.is_terminal()
}

fn uid_list(uids: &[u32]) -> String {
    let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
    uids.join(",")
}

/// Which of the chosen tasks are at work: those with no unfinished task of their index before them.
fn at_work(unfinished: &[TaskRecord], chosen: &UidRanges) -> Vec<u32> {
    let chosen: BTreeSet<u32> = chosen.uids().collect();
    let mut first: BTreeMap<Option<&str>, u32> = BTreeMap::new();
    for task in unfinished.iter().filter(|task| !task.status.is_terminal()) {
        let uid = first.entry(task.physical.as_deref()).or_insert(task.uid.0);
        *uid = (*uid).min(task.uid.0);
    }
    let mut out: Vec<u32> = first.into_values().filter(|uid| chosen.contains(uid)).collect();
    out.sort_unstable();
    out
}

/// Whether a deletion still has to wait. What it waits for is fixed when it is first looked at.
async fn has_to_wait(state: &ClusterState, record: &mut TaskRecord) -> Result<bool, Error> {
    let Some(TaskState::Deletion { chosen, awaited, .. }) = &mut record.protocol.state else {
        return Ok(true);
    };
    let tasks = &state.stores.tasks;
    if awaited.is_none() {
        *awaited = Some(UidRanges::of(&at_work(&tasks.unfinished().await?, chosen)));
    }
    for uid in awaited.iter().flat_map(UidRanges::uids) {
        if tasks.get(TaskUid(uid)).await?.is_some_and(|task| !task.status.is_terminal()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Carries out a deletion, unless it has to wait.
pub(crate) async fn forget(
    state: &Arc<ClusterState>,
    record: &mut TaskRecord,
) -> Result<(), Error> {
    if has_to_wait(state, record).await? {
        return Ok(());
    }
    // Seen as at work before anything is gone: some batch is always there.
    record.started_at.get_or_insert_with(clock::now);
    record.status = TaskStatus::Processing;
    state.stores.tasks.update(record.clone()).await?;
    let mut on_nodes: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
    let Some(TaskState::Deletion { chosen, forgotten, .. }) = &record.protocol.state else {
        return Ok(());
    };
    let chosen: Vec<u32> = chosen.uids().collect();
    // Counted anew after a restart: what was forgotten before it is not there again.
    let mut forgotten = forgotten.unwrap_or(0);
    for chunk in chosen.chunks(FORGET) {
        let removed = state.stores.tasks.remove(chunk.to_vec()).await?;
        if removed.is_empty() {
            continue;
        }
        forgotten += removed.len() as u64;
        for task in removed.iter().flat_map(|task| &task.nodes) {
            if let Some(uid) = task.uid {
                on_nodes.entry(task.node.clone()).or_default().push(uid);
            }
        }
        if let Some(TaskState::Deletion { forgotten: noted, .. }) = &mut record.protocol.state {
            *noted = Some(forgotten);
        }
        state.stores.tasks.update(record.clone()).await?;
    }
    set(record, "deletedTasks", forgotten.into());
    record.status = TaskStatus::Succeeded;
    record.protocol = TaskProtocol::default();
    end(record);
    let own = Arc::clone(state);
    state.tracker.spawn(async move { forget_on_nodes(&own, on_nodes).await });
    Ok(())
}

/// Nodes forget what belonged to tasks that were forgotten. One that cannot be asked keeps it until
/// its queue is full and it tidies up by itself.
async fn forget_on_nodes(state: &ClusterState, on_nodes: BTreeMap<NodeId, Vec<u32>>) {
    for (node, uids) in on_nodes {
        for chunk in uids.chunks(CHUNK) {
            let path = format!("/tasks?uids={}", uid_list(chunk));
            let call = Call::change(Method::DELETE, "tasks_delete", path);
            let cx = Context::internal(Origin::Settings, state.options.scatter.node_timeout);
            if let Err(error) = state.nodes.call(&node, &call, &cx).await {
                tracing::warn!(%node, %error, "finished tasks stay on a node");
                break;
            }
        }
    }
}

/// Whether a cancelation was passed on already.
pub(crate) fn is_passed_on(record: &TaskRecord) -> bool {
    matches!(record.protocol.state, Some(TaskState::Cancelation { passed: Some(_), .. }))
}

/// Passes a cancelation on to the nodes.
pub(crate) async fn pass_on(
    state: &Arc<ClusterState>,
    record: &mut TaskRecord,
) -> Result<(), Error> {
    let Some(TaskState::Cancelation { chosen, passed: noted }) = &mut record.protocol.state else {
        return Ok(());
    };
    record.started_at.get_or_insert_with(clock::now);
    record.status = TaskStatus::Processing;
    let chosen: BTreeSet<u32> = chosen.uids().collect();
    let mut passed = Vec::new();
    let mut on_nodes: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
    for mut task in state.stores.tasks.unfinished().await? {
        let acknowledged = task.nodes.iter().all(|node| node.dropped || node.uid.is_some());
        if !chosen.contains(&task.uid.0) || !is_cancelable(task.kind) || !acknowledged {
            continue;
        }
        // What the nodes have done already is only to be wound up.
        if !task.nodes.iter().any(is_queued) {
            continue;
        }
        for node in task.nodes.iter().filter(|node| is_queued(node)) {
            on_nodes.entry(node.node.clone()).or_default().extend(node.uid);
        }
        passed.push(task.uid.0);
        task.protocol.cancelation = Some(record.uid);
        state.stores.tasks.update(task).await?;
    }
    for (node, uids) in on_nodes {
        for chunk in uids.chunks(CHUNK) {
            let sent = cancel_on(state, &node, chunk).await;
            record.nodes.push(NodeTask {
                dropped: sent.is_err(),
                ..NodeTask::new(node.clone(), sent.as_ref().ok().copied())
            });
            if let Err(error) = sent {
                tracing::warn!(%node, %error, "a cancelation did not reach a node");
                break;
            }
        }
    }
    *noted = Some(UidRanges::of(&passed));
    Ok(())
}

async fn cancel_on(state: &ClusterState, node: &NodeId, uids: &[u32]) -> Result<u32, Error> {
    let path = format!("/tasks/cancel?uids={}", uid_list(uids));
    let call = Call::change(Method::POST, "tasks_cancel", path);
    let cx = Context::internal(Origin::Settings, state.options.scatter.node_timeout);
    let body = state.nodes.call(node, &call, &cx).await?;
    Ok(Call::parse::<TaskRef>(node, &body)?.task_uid)
}

/// Ends a cancelation once the nodes did theirs and every task it was passed on for has ended, or
/// waits for a node that did not hear of it.
pub(crate) async fn conclude(
    state: &ClusterState,
    record: &mut TaskRecord,
) -> Result<(), StoreError> {
    let deaf: BTreeSet<&NodeId> =
        record.nodes.iter().filter(|n| n.dropped).map(|n| &n.node).collect();
    let mut canceled = 0_u64;
    let passed = match &record.protocol.state {
        Some(TaskState::Cancelation { passed, .. }) => passed.clone().unwrap_or_default(),
        _ => return Ok(()),
    };
    for uid in passed.uids() {
        let Some(task) = state.stores.tasks.get(TaskUid(uid)).await? else { continue };
        let deaf = task.nodes.iter().any(|n| is_queued(n) && deaf.contains(&n.node));
        if !task.status.is_terminal() && !deaf {
            return Ok(());
        }
        let by_this = task.canceled_by == Some(record.uid);
        canceled += u64::from(task.status == TaskStatus::Canceled && by_this);
    }
    set(record, "canceledTasks", canceled.into());
    record.status = TaskStatus::Succeeded;
    record.protocol = TaskProtocol::default();
    end(record);
    Ok(())
}

#[cfg(test)]
mod tests {
    use miroir_store::NewTask;

    use super::*;

    #[test]
    fn the_first_unfinished_task_of_an_index_is_at_work() {
        use TaskStatus::{Enqueued, Processing, Succeeded};
        let new =
            NewTask::new(TaskKind::DocumentAdditionOrUpdate, time::OffsetDateTime::UNIX_EPOCH);
        let blank = TaskRecord::new(TaskUid(4), new);
        let task = |uid, index: Option<&str>, status| {
            let physical = index.map(str::to_owned);
            TaskRecord { uid: TaskUid(uid), physical, status, ..blank.clone() }
        };
        let queue = [
            task(1, Some("a"), Succeeded),
            task(2, Some("a"), Processing),
            task(3, Some("a"), Enqueued),
            task(4, Some("b"), Enqueued),
            task(5, None, Enqueued),
        ];
        let chosen = UidRanges::of;
        assert_eq!(at_work(&queue, &chosen(&[1, 2, 3, 4, 5])), [2, 4, 5]);
        assert_eq!(at_work(&queue, &chosen(&[1, 3])), Vec::<u32>::new(), "3 has to wait for 2");
        assert_eq!(at_work(&[], &chosen(&[1])), Vec::<u32>::new());
    }
}
