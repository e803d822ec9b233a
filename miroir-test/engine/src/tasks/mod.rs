//! Tasks: what a write request becomes, and how it is shown.

pub(crate) mod filter;
pub(crate) mod queue;
pub(crate) mod worker;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Status {
    /// Waiting.
    Enqueued,
    /// The worker has it.
    Processing,
    /// Done.
    Succeeded,
    /// Refused.
    Failed,
    /// Canceled before it ran.
    Canceled,
}

impl Status {
    /// All names, in Meilisearch's order.
    pub(crate) const NAMES: [&'static str; 5] =
        ["enqueued", "processing", "succeeded", "failed", "canceled"];

    /// Name in the API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Enqueued => "enqueued",
            Status::Processing => "processing",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Canceled => "canceled",
        }
    }

    /// Whether nothing will change any more.
    pub(crate) fn finished(self) -> bool {
        matches!(self, Status::Succeeded | Status::Failed | Status::Canceled)
    }
}

/// What a task has to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub(crate) enum Work {
    /// Adds, replaces or updates documents kept in a payload file (JSON values one after another).
    Documents { replace: bool, primary_key: Option<String>, skip_creation: bool },
    /// Deletes documents by id.
    DeleteIds { ids: Vec<String> },
    /// Deletes documents by filter.
    DeleteFilter { filter: Value },
    /// Deletes all documents.
    Clear,
    /// Changes settings.
    Settings { settings: Map<String, Value> },
    /// Creates an index.
    CreateIndex { primary_key: Option<String> },
    /// Sets the primary key and/or renames.
    UpdateIndex { primary_key: Option<String>, new_uid: Option<String> },
    /// Deletes an index.
    DeleteIndex,
    /// Exchanges pairs of indexes.
    Swap { swaps: Vec<(String, String)> },
    /// Cancels enqueued tasks.
    Cancel { tasks: Vec<u32> },
    /// Deletes finished tasks.
    DeleteTasks { tasks: Vec<u32> },
}

/// All type names.
pub(crate) const TYPE_NAMES: [&str; 9] = [
    "documentAdditionOrUpdate",
    "documentDeletion",
    "settingsUpdate",
    "indexCreation",
    "indexDeletion",
    "indexUpdate",
    "indexSwap",
    "taskCancelation",
    "taskDeletion",
];

impl Work {
    /// Name of the task type in the API.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Work::Documents { .. } => "documentAdditionOrUpdate",
            Work::DeleteIds { .. } | Work::DeleteFilter { .. } | Work::Clear => "documentDeletion",
            Work::Settings { .. } => "settingsUpdate",
            Work::CreateIndex { .. } => "indexCreation",
            Work::UpdateIndex { .. } => "indexUpdate",
            Work::DeleteIndex => "indexDeletion",
            Work::Swap { .. } => "indexSwap",
            Work::Cancel { .. } => "taskCancelation",
            Work::DeleteTasks { .. } => "taskDeletion",
        }
    }
}

/// One task.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Task {
    /// Number in the queue.
    pub(crate) uid: u32,
    /// Number of the batch that ran it.
    pub(crate) batch_uid: Option<u32>,
    /// Index concerned.
    pub(crate) index_uid: Option<String>,
    /// Where it stands.
    pub(crate) status: Status,
    /// What to do.
    pub(crate) work: Work,
    /// Details object; counts that are not known yet are null.
    pub(crate) details: Map<String, Value>,
    /// Error object of a failed task.
    pub(crate) error: Option<Value>,
    /// The task that canceled this one.
    pub(crate) canceled_by: Option<u32>,
    /// When it was received.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) enqueued_at: OffsetDateTime,
    /// When the worker took it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) finished_at: Option<OffsetDateTime>,
    /// Free text of the client.
    pub(crate) custom_metadata: Option<String>,
    /// Name of the payload file.
    pub(crate) payload: Option<String>,
    /// Size of the payload file.
    pub(crate) payload_size: u64,
}

impl Task {
    /// The summary that a write request answers.
    pub(crate) fn summary(&self) -> Value {
        let mut map = Map::new();
        map.insert("taskUid".into(), self.uid.into());
        map.insert("indexUid".into(), json!(self.index_uid));
        map.insert("status".into(), "enqueued".into());
        map.insert("type".into(), self.work.type_name().into());
        map.insert("enqueuedAt".into(), timestamp(self.enqueued_at).into());
        if let Some(metadata) = &self.custom_metadata {
            map.insert("customMetadata".into(), metadata.clone().into());
        }
        Value::Object(map)
    }

    /// The task as `GET /tasks` shows it.
    pub(crate) fn view(&self) -> Value {
        let duration =
            self.started_at.zip(self.finished_at).map(|(start, end)| iso_duration(end - start));
        let mut map = Map::new();
        map.insert("uid".into(), self.uid.into());
        map.insert("batchUid".into(), json!(self.batch_uid));
        map.insert("indexUid".into(), json!(self.index_uid));
        map.insert("status".into(), self.status.name().into());
        map.insert("type".into(), self.work.type_name().into());
        map.insert("canceledBy".into(), json!(self.canceled_by));
        map.insert("details".into(), Value::Object(self.details.clone()));
        map.insert("error".into(), self.error.clone().unwrap_or(Value::Null));
        map.insert("duration".into(), json!(duration));
        map.insert("enqueuedAt".into(), timestamp(self.enqueued_at).into());
        map.insert("startedAt".into(), json!(self.started_at.map(timestamp)));
        map.insert("finishedAt".into(), json!(self.finished_at.map(timestamp)));
        if let Some(metadata) = &self.custom_metadata {
            map.insert("customMetadata".into(), metadata.clone().into());
        }
        Value::Object(map)
    }

    /// Sets every count that is still unknown to zero, as for failed and canceled tasks.
    pub(crate) fn zero_pending_counts(&mut self) {
        for key in ["indexedDocuments", "deletedDocuments", "canceledTasks", "deletedTasks"] {
            if let Some(value) = self.details.get_mut(key)
                && value.is_null()
            {
                *value = 0.into();
            }
        }
    }
}

/// RFC 3339 with the precision of the clock.
pub(crate) fn timestamp(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// ISO 8601 duration in seconds with nine decimals.
fn iso_duration(duration: time::Duration) -> String {
    format!("PT{}.{:09}S", duration.whole_seconds().max(0), duration.subsec_nanoseconds().max(0))
}
