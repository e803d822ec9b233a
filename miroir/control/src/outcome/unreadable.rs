//! Tasks that cannot go on because their state cannot be read.

use miroir_api::meili::{ApiError, TaskKind};

use miroir_store::{TaskRecord, TaskState};

/// Why an unfinished task cannot go on from what is stored of it; `None` if it can. Such a task fails
/// once its nodes have ended their parts, so that replicas which could not do theirs still catch up.
pub(crate) fn broken(record: &TaskRecord) -> Option<ApiError> {
    let needed = match record.kind {
        // Once the names are changed, nodes say how the rest of it ended.
        TaskKind::IndexUpdate => record.nodes.is_empty(),
        TaskKind::SettingsUpdate
        | TaskKind::IndexSwap
        | TaskKind::TaskCancelation
        | TaskKind::TaskDeletion => true,
        TaskKind::DocumentAdditionOrUpdate
        | TaskKind::DocumentEdition
        | TaskKind::DocumentDeletion
        | TaskKind::IndexCreation
        | TaskKind::IndexDeletion
        | TaskKind::DumpCreation
        | TaskKind::SnapshotCreation
        | TaskKind::Export
        | TaskKind::UpgradeDatabase
        | TaskKind::IndexCompaction
        | TaskKind::NetworkTopologyChange
        | TaskKind::DsrUpdate
        | TaskKind::DsrClear => false,
    };
    let why = match &record.protocol.state {
        Some(TaskState::Unreadable(unreadable)) => unreadable.why(),
        None if needed => "there is none",
        _ => return None,
    };
    Some(ApiError::new(
        "miroir_task_unreadable",
        format!(
            "What Miroir keeps of the task's state cannot be read: {why}. What nodes did of it \
             stays. Ask for it again."
        ),
    ))
}
