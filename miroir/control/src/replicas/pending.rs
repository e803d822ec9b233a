//! Replicas whose node went away with writes in its queue: they may be read again once these have
//! succeeded there.
//!
//! An empty queue says nothing: a task may have failed on this node alone, for want of room on its
//! disk, or have been canceled behind Miroir's back. So the node is asked for exactly the tasks that
//! are on record. Where one did not succeed, or the node does not know it any more, the replica is
//! brought up to date by copying, like one that never got the write.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_api::meili::TaskStatus;
use miroir_core::view::{StaleMap, StaleReplica};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;

use crate::node_tasks::ask;

/// Uids per request.
const CHUNK: usize = 200;

/// How the tasks that a replica waits for went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    /// All succeeded.
    Done,
    /// Some are still to be worked on, and none failed.
    Busy,
    /// One did not succeed, or nobody knows of it.
    Failed,
}

fn judge(awaits: &[u32], seen: &BTreeMap<u32, TaskStatus>) -> Queue {
    let of = |uid: &u32| seen.get(uid).copied();
    let failed = |status: Option<TaskStatus>| {
        status.is_none_or(|status| status.is_terminal() && status != TaskStatus::Succeeded)
    };
    if awaits.is_empty() || awaits.iter().any(|uid| failed(of(uid))) {
        // A row without tasks was written by a version that did not note them.
        Queue::Failed
    } else if awaits.iter().all(|uid| of(uid) == Some(TaskStatus::Succeeded)) {
        Queue::Done
    } else {
        Queue::Busy
    }
}

/// Settles what a pending row is about, if that is known by now. Returns how many rows are gone.
///
/// # Errors
/// When the node does not answer, or the store fails.
pub(crate) async fn settle(state: &Arc<ClusterState>, row: &StaleReplica) -> Result<u64, Error> {
    let mut seen = BTreeMap::new();
    for chunk in row.awaits.chunks(CHUNK) {
        let uids: Vec<String> = chunk.iter().map(u32::to_string).collect();
        let query = format!("uids={}&limit={}", uids.join(","), chunk.len());
        let tasks = ask(state, &row.node, &query).await?;
        seen.extend(tasks.into_iter().map(|task| (task.uid, task.status)));
    }
    match judge(&row.awaits, &seen) {
        Queue::Done => Ok(state.staleness.clear(row.clone()).await?.into()),
        Queue::Busy => Ok(0),
        Queue::Failed => {
            tracing::warn!(
                node = %row.node, index = %row.index, shard = ?row.shard,
                "acknowledged writes did not succeed on this node: the replica copies them"
            );
            let next = StaleReplica { kind: row.without_tasks(), ..row.clone() };
            // What was forgotten with its index would be held against the next one of its name.
            let known = |stale: &StaleMap| stale.of_index(&row.index).any(|now| now == row);
            let decide =
                |stale: &StaleMap| (known(stale).then_some(next).into_iter().collect(), ());
            state.staleness.mark_by(decide).await?;
            Ok(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_makes_a_replica_complete() {
        use TaskStatus::{Canceled, Enqueued, Failed, Processing, Succeeded};
        let judge = |list: &[TaskStatus]| {
            let uids: Vec<u32> = (0..list.len() as u32).collect();
            super::judge(&uids, &uids.iter().copied().zip(list.iter().copied()).collect())
        };
        assert_eq!(judge(&[Succeeded, Succeeded]), Queue::Done);
        assert_eq!(judge(&[Succeeded, Enqueued]), Queue::Busy);
        assert_eq!(judge(&[Processing, Succeeded]), Queue::Busy);
        assert_eq!(judge(&[Enqueued, Failed]), Queue::Failed);
        assert_eq!(judge(&[Canceled]), Queue::Failed);
        assert_eq!(judge(&[]), Queue::Failed, "nobody knows what it waits for");
        let seen = BTreeMap::from([(1, Succeeded)]);
        assert_eq!(super::judge(&[1, 2], &seen), Queue::Failed, "the node forgot one");
    }
}
