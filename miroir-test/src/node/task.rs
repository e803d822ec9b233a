//! Tasks of a fake node: what they do, and how they are shown.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::documents::Document;

/// What a task does.
#[derive(Clone, Debug)]
pub enum Work {
    /// Add documents, replacing (`true`) or updating those with the same id.
    Add(Vec<Document>, Option<String>, bool),
    /// Delete documents by id.
    DeleteIds(Vec<String>),
    /// Delete documents by filter.
    DeleteFilter(Value),
    /// Delete all documents.
    Clear,
    /// Make the index.
    Create(Option<String>),
    /// Delete the index.
    Drop,
    /// Set the primary key, and give it another name.
    Rekey(Option<String>, Option<String>),
    /// Exchange the names of two indexes, or (`true`) move the first one's to the second.
    Swap(Vec<(String, String, bool)>),
    /// Change settings.
    Settings(Map<String, Value>),
    /// Set a search rule, or delete it.
    Rule(String, Option<Value>),
    /// Cancel other tasks.
    Cancel,
    /// Delete other tasks.
    DeleteTasks,
}

impl Work {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Add(..) => "documentAdditionOrUpdate",
            Self::DeleteIds(_) | Self::DeleteFilter(_) | Self::Clear => "documentDeletion",
            Self::Create(_) => "indexCreation",
            Self::Drop => "indexDeletion",
            Self::Rekey(..) => "indexUpdate",
            Self::Swap(_) => "indexSwap",
            Self::Settings(_) => "settingsUpdate",
            Self::Rule(..) => "dsrUpdate",
            Self::Cancel => "taskCancelation",
            Self::DeleteTasks => "taskDeletion",
        }
    }
}

/// A task of a node.
#[derive(Clone, Debug)]
pub struct Task {
    /// Uid.
    pub uid: u32,
    /// Its index; empty if it is about none.
    pub index: String,
    pub(super) work: Work,
    pub(super) metadata: Option<String>,
    /// When it will be done.
    pub(super) due: Instant,
    pub(super) took: Duration,
    /// `enqueued`, `succeeded`, `failed` or `canceled`.
    pub status: &'static str,
    pub(super) canceled_by: Option<u32>,
    /// Whether the node shows it no more, as after `DELETE /tasks`.
    pub is_deleted: bool,
    pub(super) error: Option<Value>,
    pub(super) details: Value,
    pub(super) enqueued: String,
    pub(super) finished: Option<String>,
}

impl Task {
    /// What the node's caller said of it, `customMetadata`.
    pub fn metadata(&self) -> Option<&str> {
        self.metadata.as_deref()
    }

    /// As `GET /tasks/{uid}` shows it.
    pub fn view(&self) -> Value {
        let mut view = json!({
            "uid": self.uid,
            "batchUid": self.finished.is_some().then_some(self.uid),
            "indexUid": (!self.index.is_empty()).then_some(&self.index),
            "status": self.status,
            "type": self.work.kind(),
            "canceledBy": self.canceled_by,
            "details": self.details,
            "error": self.error,
            "duration": self.finished.is_some().then_some("PT0.010S"),
            "enqueuedAt": self.enqueued,
            "startedAt": self.finished,
            "finishedAt": self.finished,
        });
        if let Some(metadata) = &self.metadata {
            view["customMetadata"] = json!(metadata);
        }
        view
    }
}

/// How much of a settings patch a story tells.
pub(super) const SHOWN: usize = 200;

/// What work does to a document.
pub(super) fn of_document(id: &str, work: &Work) -> Option<String> {
    match work {
        Work::Add(documents, key, replace) => {
            let key = key.as_deref().unwrap_or("id");
            let all = documents.iter().filter(|d| d.get(key).and_then(Value::as_str) == Some(id));
            let all: Vec<_> = all.map(|d| d.get("v").cloned().unwrap_or_default()).collect();
            let verb = if *replace { "put" } else { "update" };
            (!all.is_empty()).then(|| format!("{verb} v={all:?} of {}", documents.len()))
        }
        Work::DeleteIds(ids) => ids.iter().any(|i| i == id).then(|| "delete".to_owned()),
        Work::DeleteFilter(filter) => Some(format!("delete {filter}")),
        Work::Clear => Some("clear".to_owned()),
        _ => None,
    }
}
