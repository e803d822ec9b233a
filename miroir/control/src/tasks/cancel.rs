//! Cancelation and deletion of tasks.
//!
//! Both are tasks of Miroir's own that the poller carries out. What they chose is fixed when they are
//! accepted and part of the task, so that a restart resumes them.
//!
//! A cancelation is passed on to the nodes that have something of the chosen tasks in their queues,
//! and is over when these have ended. A write that some replica of every shard it touches had done
//! by then is done: the others copy it. So is a change of settings that some owner of every shard had
//! done. Of other writes, one of which some shards were written fails and says so, and a change of
//! settings is taken back. Changes of indexes as such are over when they are accepted, but for a swap
//! or rename that waits for its turn, and what they took for done is not canceled any more.
//!
//! A deletion forgets finished tasks here and on the nodes. As on one node, which ends its batch
//! first, it waits for those of the chosen tasks that the nodes were at when it was accepted: the
//! first unfinished task of every index.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_api::{NodeId, TaskUid};

use crate::naming::deferred;
use crate::outcome::canceled::{end, set};
use miroir_pipeline::cluster::provisional::{MAY_MAKE, makes};
use miroir_pipeline::cluster::{ClusterState, disk_loss};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::node::{Call, TaskRef};
use miroir_store::open_tasks::OpenTasks;
use miroir_store::task_state::UidRanges;
use miroir_store::{NodeTask, StoreError, TaskProtocol, TaskQuery, TaskRecord, TaskState, clock};

/// Uids per request to a node.
const CHUNK: usize = 200;
/// Tasks forgotten per commit.
const FORGET: usize = 1000;
/// What is decided when it is accepted, by what there will be after the tasks before it.
const DECIDED: [TaskKind; 4] =
    [TaskKind::IndexCreation, TaskKind::IndexDeletion, TaskKind::IndexUpdate, TaskKind::IndexSwap];
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
fn at_work(open: &OpenTasks, chosen: &UidRanges) -> Vec<u32> {
    let chosen: BTreeSet<u32> = chosen.uids().collect();
    let mut out: Vec<u32> = open.firsts().into_iter().map(|uid| uid.0).collect();
    out.retain(|uid| chosen.contains(uid));
    out.sort_unstable();
    out
}

/// Whether a deletion still has to wait. What it waits for is fixed when it is first looked at.
fn has_to_wait(open: &OpenTasks, record: &mut TaskRecord) -> bool {
    let Some(TaskState::Deletion { chosen, awaited, .. }) = &mut record.protocol.state else {
        return true;
    };
    let awaited = awaited.get_or_insert_with(|| UidRanges::of(&at_work(open, chosen)));
    awaited.uids().any(|uid| open.contains(TaskUid(uid)))
}

/// Carries out a deletion, unless it has to wait.
pub(crate) async fn forget(
    state: &Arc<ClusterState>,
    record: &mut TaskRecord,
) -> Result<(), Error> {
    if has_to_wait(&state.open_tasks, record) {
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
        // A number of a former life is another task's by now.
        let on_disk = removed.iter().flat_map(|task| &task.nodes);
        for task in on_disk.filter(|task| !state.lives.is_former(task)) {
            // Another task may wait for it still.
            let is_free = |uid: &u32| !state.open_tasks.has_part(&task.node, task.life, *uid);
            if let Some(uid) = task.uid.filter(is_free) {
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
            let cx = Context::internal(Origin::Settings, state.options.scatter.call_timeout());
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
    let chosen = chosen.uids();
    let mut passed = Vec::new();
    let mut on_nodes: BTreeMap<NodeId, BTreeSet<u32>> = BTreeMap::new();
    let open: Vec<TaskUid> =
        chosen.map(TaskUid).filter(|u| state.open_tasks.contains(*u)).collect();
    let all: BTreeSet<TaskUid> = open.iter().copied().collect();
    for some in open.chunks(CHUNK) {
        let mut tasks = state.stores.tasks.get_many(some.to_vec()).await?;
        let siblings = siblings(&state.open_tasks, &tasks);
        tasks.extend(state.stores.tasks.get_many(siblings).await?);
        for task in tasks.iter().filter(|task| task.is_deferred()) {
            deferred::cancel(state, task.uid, record.uid).await?;
        }
        for task in &mut tasks {
            disk_loss::drop_former(state, task);
        }
        let relied_on = relied_on(state, &tasks).await?;
        tasks.retain(|task| {
            let acknowledged = task.nodes.iter().all(|node| node.dropped || node.uid.is_some());
            // What the nodes have done already is only to be wound up.
            let queued = task.nodes.iter().any(is_queued);
            let open = !task.status.is_terminal() && !relied_on.contains(&task.uid);
            open && is_cancelable(task.kind) && acknowledged && queued
        });
        let fine: BTreeSet<TaskUid> = tasks.iter().map(|task| task.uid).collect();
        tasks.retain(|task| {
            // A node cancels its task for all that have it.
            let mut others = task.calls_of().map(TaskUid);
            let left = |uid| {
                state.open_tasks.contains(uid) && !(all.contains(&uid) && fine.contains(&uid))
            };
            some.contains(&task.uid) && !others.any(left)
        });
        for task in &mut tasks {
            for node in task.nodes.iter().filter(|node| is_queued(node)) {
                let of_node: &mut BTreeSet<u32> = on_nodes.entry(node.node.clone()).or_default();
                of_node.extend(node.uid);
            }
            passed.push(task.uid.0);
            task.protocol.cancelation = Some(record.uid);
        }
        state.stores.tasks.update_many(tasks).await?;
    }
    for (node, uids) in on_nodes {
        let uids: Vec<u32> = uids.into_iter().collect();
        for chunk in uids.chunks(CHUNK) {
            let sent = cancel_on(state, &node, chunk).await;
            record.nodes.push(NodeTask {
                dropped: sent.is_err(),
                life: state.lives.of(&node),
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

/// The unfinished tasks that have calls together with some tasks and are not among them.
fn siblings(open: &OpenTasks, tasks: &[TaskRecord]) -> Vec<TaskUid> {
    let mut uids: BTreeSet<TaskUid> =
        tasks.iter().flat_map(|task| task.calls_of().map(TaskUid)).collect();
    for task in tasks {
        uids.remove(&task.uid);
    }
    uids.into_iter().filter(|uid| open.contains(*uid)).collect()
}

/// Those of some tasks that a later one took for done: it was decided when it was accepted, by what
/// there will be after them. As on one node that has come to the later one, they cannot be canceled.
async fn relied_on(
    state: &ClusterState,
    tasks: &[TaskRecord],
) -> Result<BTreeSet<TaskUid>, StoreError> {
    let mut out = needed(state, tasks).await?;
    let Some(oldest) = tasks.iter().map(|task| task.uid).min() else { return Ok(out) };
    // By name, the newest of those that it is in.
    let mut decided: BTreeMap<String, TaskUid> = BTreeMap::new();
    let mut from = None;
    loop {
        let query = TaskQuery {
            kinds: Some(DECIDED.to_vec()),
            statuses: Some(MAY_MAKE.to_vec()),
            limit: CHUNK,
            from,
            ..TaskQuery::default()
        };
        let page = state.stores.tasks.list(query).await?;
        for later in page.tasks.iter().filter(|task| !task.is_deferred()) {
            for name in later.names() {
                let newest = decided.entry(name.to_owned()).or_insert(later.uid);
                *newest = later.uid.max(*newest);
            }
        }
        from = page.next.filter(|next| *next > oldest);
        if from.is_none() {
            break;
        }
    }
    let relies = |task: &&TaskRecord| {
        let newest = task.index.as_ref().and_then(|name| decided.get(name.as_str()));
        newest.is_some_and(|newest| task.uid < *newest)
    };
    out.extend(tasks.iter().filter(relies).map(|task| task.uid));
    Ok(out)
}

/// Those of some tasks that may make an index of which a later one took it for granted that it is there.
async fn needed(
    state: &ClusterState,
    tasks: &[TaskRecord],
) -> Result<BTreeSet<TaskUid>, StoreError> {
    let mut newest: BTreeMap<String, Option<TaskUid>> = BTreeMap::new();
    for task in tasks {
        let entry = state.catalog.of_task(task).filter(|entry| entry.provisional);
        let Some(name) = entry.map(|entry| entry.name.to_string()) else { continue };
        if newest.contains_key(&name) {
            continue;
        }
        let query = TaskQuery {
            kinds: Some(vec![TaskKind::DocumentDeletion, TaskKind::DocumentEdition]),
            statuses: Some(MAY_MAKE.to_vec()),
            indexes: Some([name.clone()].into()),
            limit: 1,
            ..TaskQuery::default()
        };
        let last = state.stores.tasks.list(query).await?.tasks.first().map(|task| task.uid);
        newest.insert(name, last);
    }
    let is_needed = |task: &&TaskRecord| {
        let later = task.index.as_ref().and_then(|name| *newest.get(name)?);
        makes(task.kind) && later.is_some_and(|later| task.uid < later)
    };
    Ok(tasks.iter().filter(is_needed).map(|task| task.uid).collect())
}

async fn cancel_on(state: &ClusterState, node: &NodeId, uids: &[u32]) -> Result<u32, Error> {
    let path = format!("/tasks/cancel?uids={}", uid_list(uids));
    let call = Call::change(Method::POST, "tasks_cancel", path);
    let cx = Context::internal(Origin::Settings, state.options.scatter.call_timeout());
    let body = state.nodes.call(node, &call, &cx).await?;
    Ok(Call::parse::<TaskRef>(node, &body)?.task_uid)
}

/// Ends a cancelation once the nodes did theirs and every task it was passed on for has ended, or
/// waits for a node that did not hear of it.
pub(crate) async fn conclude(
    state: &ClusterState,
    record: &mut TaskRecord,
) -> Result<(), StoreError> {
    let deaf: BTreeSet<NodeId> =
        record.nodes.iter().filter(|n| n.dropped).map(|n| n.node.clone()).collect();
    let Some(TaskState::Cancelation { passed, .. }) = &record.protocol.state else {
        return Ok(());
    };
    let open = &state.open_tasks;
    let waits = |uid| open.contains(uid) && !open.waits_for(uid, &deaf);
    if passed.iter().flat_map(UidRanges::uids).any(|uid| waits(TaskUid(uid))) {
        return Ok(());
    }
    let canceled = TaskQuery {
        canceled_by: Some([record.uid.0].into()),
        statuses: Some(vec![TaskStatus::Canceled]),
        limit: 0,
        ..TaskQuery::default()
    };
    let canceled = state.stores.tasks.list(canceled).await?.total;
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
        let (open, chosen) = (OpenTasks::default(), UidRanges::of);
        for task in &queue {
            open.note(task);
        }
        assert_eq!(at_work(&open, &chosen(&[1, 2, 3, 4, 5])), [2, 4, 5]);
        assert_eq!(at_work(&open, &chosen(&[1, 3])), Vec::<u32>::new(), "3 has to wait for 2");
        assert_eq!(at_work(&OpenTasks::default(), &chosen(&[1])), Vec::<u32>::new());
    }
}
