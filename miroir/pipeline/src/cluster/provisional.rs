//! Whether some task has made an index that is in the catalogue already.
//!
//! An index is *provisional* ([`IndexEntry::provisional`]) until the first task that makes it has ended.
//! Until then one node says that there is none.

use miroir_api::TaskUid;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_store::{IndexEntry, NodeTask, StoreError, TaskQuery, TaskRecord, Tasks};

/// Tasks of these kinds make an index where there is none.
pub const MAKE: [TaskKind; 3] =
    [TaskKind::IndexCreation, TaskKind::DocumentAdditionOrUpdate, TaskKind::SettingsUpdate];

/// Statuses of tasks that make an index, or may do so yet.
pub const MAY_MAKE: &[TaskStatus] =
    &[TaskStatus::Enqueued, TaskStatus::Processing, TaskStatus::Succeeded, TaskStatus::Failed];

/// Statuses of tasks that have made an index, if nodes had something to do for them.
const HAVE_MADE: &[TaskStatus] = &[TaskStatus::Succeeded, TaskStatus::Failed];

/// Tasks looked at in one step.
const PAGE: usize = 100;

/// Whether tasks of a kind make an index where there is none.
pub fn makes(kind: TaskKind) -> bool {
    MAKE.contains(&kind)
}

/// Whether a task that has ended has made no index. One that was not accepted may have reached a node,
/// which nobody asked how it ended.
pub fn made_nothing(task: &TaskRecord) -> bool {
    let unheard = |node: &NodeTask| node.dropped || !node.status.is_terminal();
    let nobody = !task.nodes.is_empty() && task.nodes.iter().all(unheard);
    match task.status {
        TaskStatus::Canceled => true,
        TaskStatus::Failed => task.kind == TaskKind::IndexCreation || nobody,
        _ => false,
    }
}

/// Whether a task of one of these kinds, which make an index, has done something to it, or may do so
/// yet, other than `except`.
///
/// # Errors
/// When the store fails.
pub async fn is_made(
    tasks: &dyn Tasks,
    entry: &IndexEntry,
    kinds: &[TaskKind],
    except: Option<TaskUid>,
) -> Result<bool, StoreError> {
    let makes = |task: &TaskRecord| Some(task.uid) != except && !made_nothing(task);
    any(tasks, entry, kinds, MAY_MAKE, makes).await
}

/// Whether nodes have ended a task that makes an index. What is decided without them ends at once,
/// however much they have to do before they come to making it.
///
/// # Errors
/// When the store fails.
pub async fn is_made_by_nodes(tasks: &dyn Tasks, entry: &IndexEntry) -> Result<bool, StoreError> {
    let made = |task: &TaskRecord| !task.nodes.is_empty() && !made_nothing(task);
    any(tasks, entry, &MAKE, HAVE_MADE, made).await
}

async fn any(
    tasks: &dyn Tasks,
    entry: &IndexEntry,
    kinds: &[TaskKind],
    statuses: &[TaskStatus],
    is_it: impl Fn(&TaskRecord) -> bool + Copy,
) -> Result<bool, StoreError> {
    let mut from = None;
    loop {
        let query = TaskQuery {
            limit: PAGE,
            from,
            reverse: true,
            kinds: Some(kinds.to_vec()),
            statuses: Some(statuses.to_vec()),
            indexes: Some([entry.name.to_string()].into()),
            ..TaskQuery::default()
        };
        let page = tasks.list(query).await?;
        let own =
            |task: &&TaskRecord| task.incarnation.is_none_or(|seen| entry.is_incarnation(seen));
        if page.tasks.iter().filter(own).any(is_it) {
            return Ok(true);
        }
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miroir_api::NodeId;
    use miroir_store::NewTask;

    #[test]
    fn a_task_makes_an_index_unless_it_was_canceled_or_not_accepted_or_failed_to_create_it() {
        use TaskStatus::{Canceled, Enqueued, Failed, Processing, Succeeded};
        let ended = |kind, status, nodes: &[(TaskStatus, bool)]| {
            let nodes = nodes.iter().map(|(status, dropped)| NodeTask {
                status: *status,
                dropped: *dropped,
                ..NodeTask::new(NodeId::new("n").unwrap(), Some(1))
            });
            let nodes = nodes.collect();
            let new =
                NewTask { status, nodes, ..NewTask::new(kind, time::OffsetDateTime::UNIX_EPOCH) };
            made_nothing(&TaskRecord::new(TaskUid(1), new))
        };
        let [creation, documents, _] = MAKE;
        assert!(ended(documents, Canceled, &[(Canceled, false)]));
        assert!(ended(creation, Failed, &[(Failed, false)]));
        assert!(
            !ended(documents, Failed, &[(Failed, false)]),
            "the index is there before it fails"
        );
        assert!(!ended(documents, Failed, &[]), "so it is where nobody was asked");
        assert!(ended(documents, Failed, &[(Enqueued, true), (Processing, false)]));
        assert!(!ended(documents, Failed, &[(Enqueued, true), (Failed, false)]));
        for status in [Enqueued, Processing, Succeeded] {
            assert!(!ended(creation, status, &[(Succeeded, false)]));
        }
    }
}
