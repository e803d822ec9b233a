//! Tasks in Meilisearch's shapes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ApiError;
use crate::TaskUid;

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TaskStatus {
    /// Accepted; no node has begun it.
    Enqueued,
    /// Some node has begun it, and not all have ended.
    Processing,
    /// Done, with its effect on every node that counts.
    Succeeded,
    /// Done without effect; `error` says why.
    Failed,
    /// Canceled before it was done.
    Canceled,
}

impl TaskStatus {
    /// All statuses, in the order in which Meilisearch lists them in errors.
    pub const ALL: [Self; 5] =
        [Self::Enqueued, Self::Processing, Self::Succeeded, Self::Failed, Self::Canceled];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enqueued => "enqueued",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Reads a name, ignoring case as Meilisearch does.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str().eq_ignore_ascii_case(text))
    }

    /// Whether nothing more will happen.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The `type` of a task.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub enum TaskKind {
            $($(#[$doc])* $name,)*
        }

        impl TaskKind {
            /// All kinds, in Meilisearch's order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

kinds! {
    /// Add or replace, or add or update documents.
    DocumentAdditionOrUpdate = "documentAdditionOrUpdate",
    /// Edit documents by function.
    DocumentEdition = "documentEdition",
    /// Delete documents.
    DocumentDeletion = "documentDeletion",
    /// Change settings.
    SettingsUpdate = "settingsUpdate",
    /// Create an index.
    IndexCreation = "indexCreation",
    /// Delete an index.
    IndexDeletion = "indexDeletion",
    /// Change an index's primary key or uid.
    IndexUpdate = "indexUpdate",
    /// Swap indexes.
    IndexSwap = "indexSwap",
    /// Cancel tasks.
    TaskCancelation = "taskCancelation",
    /// Delete finished tasks.
    TaskDeletion = "taskDeletion",
    /// Create a dump.
    DumpCreation = "dumpCreation",
    /// Create a snapshot.
    SnapshotCreation = "snapshotCreation",
    /// Export to another instance.
    Export = "export",
    /// Upgrade the database.
    UpgradeDatabase = "upgradeDatabase",
    /// Compact an index.
    IndexCompaction = "indexCompaction",
    /// Change the members of Meilisearch's own network.
    NetworkTopologyChange = "networkTopologyChange",
    /// Change a search rule.
    DsrUpdate = "dsrUpdate",
    /// Delete all search rules.
    DsrClear = "dsrClear",
}

impl TaskKind {
    /// Reads a name, ignoring case as Meilisearch does.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| k.as_str().eq_ignore_ascii_case(text))
    }

    /// Whether such a task is about exactly one index.
    pub fn is_about_one_index(self) -> bool {
        !matches!(
            self,
            Self::IndexSwap
                | Self::TaskCancelation
                | Self::TaskDeletion
                | Self::DumpCreation
                | Self::SnapshotCreation
                | Self::Export
                | Self::UpgradeDatabase
                | Self::NetworkTopologyChange
        )
    }
}

/// The answer to a write: what was enqueued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SummarizedTask {
    /// The task to wait for.
    pub task_uid: TaskUid,
    /// The index it is about, if it is about one.
    pub index_uid: Option<String>,
    /// `enqueued`, whatever became of the task since.
    pub status: TaskStatus,
    /// `type` on the wire: what the task does.
    #[serde(rename = "type")]
    pub kind: TaskKind,
    /// When the task was accepted, as RFC 3339 in UTC.
    pub enqueued_at: String,
    /// The client's own words, sent with the write.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub custom_metadata: Option<String>,
}

/// A task as `GET /tasks` shows it. Field order is Meilisearch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskView {
    /// Uid of the task, unique over the cluster.
    pub uid: TaskUid,
    /// The batch it was processed in; `null` until it is.
    pub batch_uid: Option<u32>,
    /// The index it is about, if it is about one.
    pub index_uid: Option<String>,
    /// Where the task is in its life.
    pub status: TaskStatus,
    /// `type` on the wire: what the task does.
    #[serde(rename = "type")]
    pub kind: TaskKind,
    /// The cancelation that canceled it.
    pub canceled_by: Option<TaskUid>,
    /// Depends on the kind; some kinds have none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<Map<String, Value>>,
    /// Why the task failed; `null` for every other status.
    pub error: Option<ApiError>,
    /// ISO 8601, for example `PT0.035S`.
    pub duration: Option<String>,
    /// When the task was accepted, as RFC 3339 in UTC.
    pub enqueued_at: String,
    /// When the first node began it, as RFC 3339 in UTC; `null` before.
    pub started_at: Option<String>,
    /// When it ended, as RFC 3339 in UTC; `null` before.
    pub finished_at: Option<String>,
    /// The client's own words, sent with the write.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub custom_metadata: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_wire_names() {
        for kind in TaskKind::ALL {
            let text = serde_json::to_value(kind).unwrap();
            assert_eq!(text, Value::from(kind.as_str()));
            assert_eq!(TaskKind::parse(&kind.as_str().to_uppercase()), Some(*kind));
        }
        for status in TaskStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), Value::from(status.as_str()));
            assert_eq!(TaskStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(TaskKind::parse("nope"), None);
    }
}
