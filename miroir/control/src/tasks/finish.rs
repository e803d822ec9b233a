//! The end of a task whose parts have all ended.

use std::sync::Arc;

use miroir_api::meili::{ApiError, TaskStatus};
use miroir_core::documents::edit_function::own_lines;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::node_errors;
use miroir_store::{TaskRecord, TaskState, clock};

use crate::broadcast::primary_keys;
use crate::outcome::{canceled, details, embedding_errors, unreadable};
use crate::tasks::parts::{has_other_key, is_deleted_by_others};

/// Ends a task. `done` says whether every shard has a replica that counts and did it.
pub(super) fn finish(state: &Arc<ClusterState>, record: &mut TaskRecord, done: bool) {
    let alive = || record.nodes.iter().filter(|task| !task.dropped);
    if record.nodes.iter().any(has_other_key)
        && let Some(entry) = state.catalog.of_task(record)
    {
        primary_keys::suspect(state, &entry);
    }
    let failed: Vec<_> = alive().filter(|t| t.status != TaskStatus::Succeeded).cloned().collect();
    let succeeded =
        alive().any(|task| task.status == TaskStatus::Succeeded) || is_deleted_by_others(record);
    record.status = if succeeded && done { TaskStatus::Succeeded } else { TaskStatus::Failed };
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
                error.message = node_errors::message(&error.message, &entry);
                if let Some(TaskState::Edition { lines_before }) = record.protocol.state
                    && lines_before > 0
                {
                    error.message = own_lines(&error.message, lines_before);
                }
                error
            }
            (Some(error), None) => error,
            (None, _) => without_words(record),
        });
    }
    details::fill(state, record);
    let now = clock::now();
    record.started_at.get_or_insert(now);
    record.finished_at.get_or_insert(now);
}

/// The error of a task that failed without a node saying why.
fn without_words(record: &TaskRecord) -> ApiError {
    if canceled::is_partly_canceled(record) {
        canceled::in_part()
    } else if record.nodes.iter().any(|task| task.forgotten) {
        ApiError::new(
            "miroir_outcome_unknown",
            "The nodes forgot the task before they were asked how it ended: somebody deleted \
             finished tasks on them. It may have been done: look, or send it again.",
        )
    } else {
        ApiError::new(
            "miroir_no_quorum",
            "Every node that took the write went away before it was done.",
        )
    }
}
