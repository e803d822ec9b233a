//! Tasks whose nodes canceled their parts, or some of them.

use miroir_api::meili::{ApiError, TaskStatus};
use miroir_store::{TaskRecord, clock};
use serde_json::Value;

use crate::secrets;

/// Sets a detail, if the task has any.
pub(crate) fn set(record: &mut TaskRecord, key: &str, value: Value) {
    if let Some(details) = &mut record.details {
        details.insert(key.to_owned(), value);
    }
}

/// Notes when a task began and ended, unless that is known.
pub(crate) fn end(record: &mut TaskRecord) {
    let now = clock::now();
    record.started_at.get_or_insert(now);
    record.finished_at.get_or_insert(now);
}

/// Whether every node that counts canceled its part.
pub(crate) fn is_canceled(record: &TaskRecord) -> bool {
    let mut alive = record.nodes.iter().filter(|task| !task.dropped).peekable();
    alive.peek().is_some() && alive.all(|task| task.status == TaskStatus::Canceled)
}

/// Whether some node canceled its part.
pub(crate) fn is_partly_canceled(record: &TaskRecord) -> bool {
    record.nodes.iter().any(|task| !task.dropped && task.status == TaskStatus::Canceled)
}

/// Makes a task a canceled one: counts of what it did are zero.
pub(crate) fn become_canceled(record: &mut TaskRecord) {
    record.status = TaskStatus::Canceled;
    record.canceled_by = record.protocol.cancelation;
    record.error = None;
    for key in ["indexedDocuments", "editedDocuments", "deletedDocuments"] {
        if record.details.as_ref().is_some_and(|details| details.contains_key(key)) {
            set(record, key, 0.into());
        }
    }
    secrets::forget(record);
    end(record);
}

/// What a task says of which some shards were written when it was canceled, and others not.
pub(crate) fn in_part() -> ApiError {
    ApiError::new(
        "miroir_canceled_in_part",
        "The task was canceled while nodes were at work: some shards have it and others do not. \
         Send the write again, or undo it.",
    )
}

#[cfg(test)]
mod tests {
    use miroir_api::meili::TaskKind;
    use miroir_api::{NodeId, TaskUid};
    use miroir_store::{NewTask, NodeTask, TaskProtocol, TaskState};
    use serde_json::json;

    use super::*;

    fn record(statuses: &[(TaskStatus, bool)]) -> TaskRecord {
        let nodes = statuses.iter().map(|(status, dropped)| NodeTask {
            status: *status,
            dropped: *dropped,
            ..NodeTask::new(NodeId::new("n").unwrap(), Some(1))
        });
        let new = NewTask {
            index: Some("a".to_owned()),
            physical: Some("a".to_owned()),
            details: json!({"receivedDocuments": 3, "indexedDocuments": null}).as_object().cloned(),
            nodes: nodes.collect(),
            protocol: TaskProtocol {
                state: Some(TaskState::Addition { indexed: 3 }),
                cancelation: Some(TaskUid(12)),
            },
            ..NewTask::new(TaskKind::DocumentAdditionOrUpdate, time::OffsetDateTime::UNIX_EPOCH)
        };
        TaskRecord::new(TaskUid(4), new)
    }

    #[test]
    fn a_task_is_canceled_when_all_that_count_are() {
        use TaskStatus::{Canceled, Succeeded};
        assert!(!is_canceled(&record(&[])));
        assert!(!is_canceled(&record(&[(Canceled, true)])));
        assert!(is_canceled(&record(&[(Canceled, false), (Succeeded, true)])));
        let mixed = record(&[(Canceled, false), (Succeeded, false)]);
        assert!(!is_canceled(&mixed) && is_partly_canceled(&mixed));
        let mut task = record(&[(Canceled, false)]);
        become_canceled(&mut task);
        assert_eq!((task.status, task.canceled_by), (Canceled, Some(TaskUid(12))));
        assert_eq!(task.details.as_ref().unwrap()["indexedDocuments"], 0);
        assert_eq!(task.batch(), Some(12));
    }
}
