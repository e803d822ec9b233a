//! Late writes: what became of those that a node took after they had been acknowledged.
//!
//! The node was marked when it had not answered in time. Once its tasks have succeeded the replica
//! missed nothing of the write, and the mark goes; if one did not, or nobody can say, or the write did
//! not happen on the others, the replica is repaired as after any miss.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use miroir_api::NodeId;
use miroir_api::meili::TaskStatus;
use miroir_core::topology::Health;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::cluster::late_writes::LateTask;
use miroir_store::StoreError;
use tokio_util::sync::CancellationToken;

use crate::node_tasks::ask;

/// Writes of a node that are looked at in one round, oldest first: a node works in order.
const MOST: usize = 50;
const FASTEST: Duration = Duration::from_millis(5);
const SLOWEST: Duration = Duration::from_millis(500);

/// Follows late writes until cancelled.
pub async fn run(state: Arc<ClusterState>, stop: CancellationToken) {
    let mut pause = FASTEST;
    loop {
        let queued = state.late_writes.queued();
        if queued.is_empty() {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = state.late_writes.changed.notified() => pause = FASTEST,
            }
            continue;
        }
        pause = if round(&state, queued).await { FASTEST } else { (pause * 2).min(SLOWEST) };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Asks every node once; whether some write has ended.
async fn round(state: &Arc<ClusterState>, queued: BTreeMap<NodeId, Vec<LateTask>>) -> bool {
    let ended = join_all(queued.iter().map(|(node, writes)| async move {
        let some = &writes[..writes.len().min(MOST)];
        (node, outcomes(state, node, some).await)
    }))
    .await;
    let mut changed = false;
    for (node, ended) in ended {
        for (late, done) in ended {
            changed = true;
            let (index, shards) = (&late.index, &late.shards);
            let done = done && !ended_without(state, late).await;
            for row in state.late_writes.ended(node, late.task, index, shards, done) {
                if let Err(error) = state.staleness.clear(row).await {
                    tracing::warn!(%node, %error, "a replica that missed nothing is repaired");
                }
            }
            if !done {
                state.signals.repairs.notify_waiters();
            }
        }
    }
    changed
}

/// Whether a task ended without a late write of its, so that the others did not carry it out: it was
/// canceled there, or failed. One that has not ended counts the write; see [`record`].
async fn ended_without(state: &ClusterState, late: &LateTask) -> bool {
    let record = state.stores.tasks.get(late.task).await.ok().flatten();
    record.is_none_or(|record| matches!(record.status, TaskStatus::Canceled | TaskStatus::Failed))
}

/// The writes that have ended at a node, and whether it carried them out.
async fn outcomes<'a>(
    state: &ClusterState,
    node: &NodeId,
    writes: &'a [LateTask],
) -> Vec<(&'a LateTask, bool)> {
    let topology = state.membership.topology();
    if topology.node(node).is_none_or(|node| node.health == Health::Failed) {
        return writes.iter().map(|late| (late, false)).collect();
    }
    let life = state.lives.of(node);
    if writes.iter().any(|late| late.life != life) {
        // What it took in a life that is over it is not asked for.
        return writes.iter().filter(|late| late.life != life).map(|late| (late, false)).collect();
    }
    let uids: Vec<String> =
        writes.iter().flat_map(|late| &late.uids).map(ToString::to_string).collect();
    let query = format!("uids={}&limit={}", uids.join(","), uids.len());
    let Ok(tasks) = ask(state, node, &query).await else { return Vec::new() };
    let seen: BTreeMap<u32, TaskStatus> =
        tasks.into_iter().map(|task| (task.uid, task.status)).collect();
    let outcome = |late: &'a LateTask| {
        let mut done = true;
        for uid in &late.uids {
            match seen.get(uid) {
                Some(TaskStatus::Succeeded) => {}
                Some(status) if !status.is_terminal() => done = false,
                // It failed, or the node does not know it any more.
                _ => return Some((late, false)),
            }
        }
        done.then_some((late, true))
    };
    writes.iter().filter_map(outcome).collect()
}

/// Counts late acknowledgements in the records of their tasks, where these have not ended: from then
/// on the node is one of those that took the write. To be called by whoever changes records of
/// unfinished tasks, in between.
pub(crate) async fn record(state: &ClusterState) -> Result<(), StoreError> {
    for (node, late) in state.late_writes.acknowledgements() {
        let record = state.stores.tasks.get(late.task).await?;
        if let Some(mut record) = record.filter(|record| !record.status.is_terminal()) {
            let open =
                record.nodes.iter_mut().filter(|task| task.node == node && task.uid.is_none());
            for (task, uid) in open.zip(late.uids) {
                task.uid = Some(uid);
                task.life = late.life;
                task.dropped = false;
            }
            state.stores.tasks.update(record).await?;
        }
        state.late_writes.recorded();
    }
    Ok(())
}
