//! Rows of the stores.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use miroir_api::meili::{ApiError, TaskKind, TaskStatus};
use miroir_api::{NodeId, ShardId, TaskUid};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::index_entry::IndexEntry;
use crate::task_state::{self, Renaming, TaskProtocol, TaskState};

/// A task on one node that belongs to a task of Miroir.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeTask {
    /// Id of the node that carries it out.
    pub node: NodeId,
    /// Its task's uid; `None` while the acknowledgement is outstanding or when it never came.
    pub uid: Option<u32>,
    /// The life of the node in which it was given the task; see [`crate::records::NodeRecord::life`].
    #[serde(default, skip_serializing_if = "is_first")]
    pub life: u64,
    /// Status when the node was last asked.
    pub status: TaskStatus,
    /// Documents it deleted, once known.
    #[serde(default)]
    pub deleted: Option<u64>,
    /// The node's own details, where they become part of Miroir's.
    #[serde(default)]
    pub details: Option<Map<String, Value>>,
    /// The node's error, if the task failed there.
    #[serde(default)]
    pub error: Option<ApiError>,
    /// Set when the node no longer counts for this task: it missed the write or lost its queue.
    #[serde(default)]
    pub dropped: bool,
    /// Set with `dropped` when the node had ended the task and forgot it before it was asked how.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forgotten: bool,
    /// Shards of the index this node task is about; empty: the index as a whole.
    #[serde(default)]
    pub shards: Vec<ShardId>,
    /// Which of the documents in the node's task are the task's own: the first, and how many. `None` if
    /// all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<(u32, u32)>,
}

impl NodeTask {
    /// A task that counts and has not begun, about the index as a whole, in the node's first life.
    pub fn new(node: NodeId, uid: Option<u32>) -> Self {
        Self {
            node,
            uid,
            life: 0,
            status: TaskStatus::Enqueued,
            deleted: None,
            details: None,
            error: None,
            dropped: false,
            forgotten: false,
            shards: Vec::new(),
            own: None,
        }
    }
}

/// Whether a life is a node's first, which is not written down: so it was before there were others.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_first(life: &u64) -> bool {
    *life == 0
}

/// Which of several tasks it is whose calls to nodes are the same calls. They were stored in one step and
/// follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its number among them, from 0.
    pub at: u32,
    /// How many they are.
    pub of: u32,
}

impl Place {
    /// The uids of all of them, of which the task with this uid is one.
    #[must_use]
    pub fn uids(self, task: TaskUid) -> RangeInclusive<u32> {
        let first = task.0.saturating_sub(self.at);
        first..=first.saturating_add(self.of.saturating_sub(1))
    }
}

/// A task before the store gave it a uid.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTask {
    /// Client-visible index name, if the task is about one index.
    pub index: Option<String>,
    /// Name of the index on the nodes.
    pub physical: Option<String>,
    /// Which of the indexes that had this name on the nodes it is about.
    pub incarnation: Option<Uuid>,
    /// What the task does, as clients see it in `type`.
    pub kind: TaskKind,
    /// First status: `Enqueued`, or a terminal one for tasks that are decided at once.
    pub status: TaskStatus,
    /// Details as far as they are known.
    pub details: Option<Map<String, Value>>,
    /// Error of a task that is stored as failed.
    pub error: Option<ApiError>,
    /// When Miroir accepted it; `enqueuedAt`.
    pub enqueued_at: OffsetDateTime,
    /// `customMetadata`: the client's own text, shown with the task.
    pub custom_metadata: Option<String>,
    /// The tasks of nodes that it waits for.
    pub nodes: Vec<NodeTask>,
    /// What survives a restart of the process that carries it out.
    pub protocol: TaskProtocol,
    /// What makes it the same as one that is sent again.
    pub idempotency: Option<String>,
    /// Names its calls to nodes, so that what became of them can be found there.
    pub nonce: Option<Uuid>,
    /// Its place among the tasks that have these calls together; `None` if it has them alone.
    pub combined: Option<Place>,
}

impl NewTask {
    /// An enqueued task about no index, of which nothing more is known.
    pub fn new(kind: TaskKind, enqueued_at: OffsetDateTime) -> Self {
        Self {
            index: None,
            physical: None,
            incarnation: None,
            kind,
            status: TaskStatus::Enqueued,
            details: None,
            error: None,
            enqueued_at,
            custom_metadata: None,
            nodes: Vec::new(),
            protocol: TaskProtocol::default(),
            idempotency: None,
            nonce: None,
            combined: None,
        }
    }

    /// An enqueued task about an index, of which nothing more is known.
    pub fn about(entry: &IndexEntry, kind: TaskKind, enqueued_at: OffsetDateTime) -> Self {
        Self {
            index: Some(entry.name.to_string()),
            physical: Some(entry.physical.clone()),
            incarnation: Some(entry.incarnation),
            ..Self::new(kind, enqueued_at)
        }
    }
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct TaskRecord {
    /// `uid`: from 0, growing by one with every task.
    pub uid: TaskUid,
    /// Client-visible index name, if the task is about one index.
    pub index: Option<String>,
    /// Name of the index on the nodes.
    pub physical: Option<String>,
    /// Which of the indexes that had this name on the nodes it is about; `None`: the task is of a
    /// version that did not tell them apart, or about no index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Uuid>,
    /// What the task does, as clients see it in `type`.
    pub kind: TaskKind,
    /// Status over all nodes, as clients see it.
    pub status: TaskStatus,
    /// Details as far as they are known.
    pub details: Option<Map<String, Value>>,
    /// Error of a failed task, as clients see it.
    pub error: Option<ApiError>,
    /// The cancelation that canceled it.
    pub canceled_by: Option<TaskUid>,
    /// When Miroir accepted it; `enqueuedAt`.
    #[serde(with = "time::serde::rfc3339")]
    pub enqueued_at: OffsetDateTime,
    /// When the first node began with it; `None` before.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When the last node ended it; `None` before.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
    /// `customMetadata`: the client's own text, shown with the task.
    pub custom_metadata: Option<String>,
    /// The tasks of nodes that it waits for, with what they said last.
    pub nodes: Vec<NodeTask>,
    /// What survives a restart of the process that carries it out.
    #[serde(default, deserialize_with = "task_state::unread")]
    pub protocol: TaskProtocol,
    /// What makes it the same as one that is sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<String>,
    /// Names its calls to nodes, so that what became of them can be found there: no other task has it
    /// but those that have these calls together, nor one of a store that was lost. `None`: its uid did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Uuid>,
    /// Its place among the tasks that have these calls together; `None` if it has them alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub combined: Option<Place>,
}

impl Serialize for TaskRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for TaskRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut record = Self::deserialize(deserializer)?;
        // Its kind says what its state is.
        record.protocol = record.protocol.of(record.kind);
        Ok(record)
    }
}

impl TaskRecord {
    /// The change of names that it is to make and has not made yet.
    pub fn intent(&self) -> Option<&Renaming> {
        self.protocol.intent().filter(|_| !self.status.is_terminal())
    }

    /// Whether it is a change of names that waits for what was enqueued about its indexes before: they
    /// have their old names, nothing has begun.
    pub fn is_deferred(&self) -> bool {
        let state = self.protocol.state.as_ref().filter(|_| !self.status.is_terminal());
        matches!(state, Some(TaskState::Rename { awaits, intent: Some(_) }) if !awaits.is_empty())
    }

    /// The indexes, as nodes call them, whose tasks before it a change of names ends after.
    pub fn awaited(&self) -> &[String] {
        match &self.protocol.state {
            Some(TaskState::Rename { awaits, .. }) => awaits,
            _ => &[],
        }
    }

    /// The record of a new task.
    pub fn new(uid: TaskUid, new: NewTask) -> Self {
        let done = new.status.is_terminal().then_some(new.enqueued_at);
        Self {
            uid,
            index: new.index,
            physical: new.physical,
            incarnation: new.incarnation,
            kind: new.kind,
            status: new.status,
            details: new.details,
            error: new.error,
            canceled_by: None,
            enqueued_at: new.enqueued_at,
            started_at: done,
            finished_at: done,
            custom_metadata: new.custom_metadata,
            nodes: new.nodes,
            protocol: new.protocol,
            idempotency: new.idempotency,
            nonce: new.nonce,
            combined: new.combined,
        }
    }

    /// The uids of the tasks that have its calls, its own among them.
    pub fn calls_of(&self) -> RangeInclusive<u32> {
        self.combined.unwrap_or(Place { at: 0, of: 1 }).uids(self.uid)
    }

    /// Ends it. One that never began began now: only what has begun is in a batch and has a duration.
    pub fn end(&mut self, status: TaskStatus, now: OffsetDateTime) {
        self.status = status;
        self.started_at.get_or_insert(now);
        self.finished_at.get_or_insert(now);
    }

    /// The batch it was processed in. Each task is a batch of its own, except that canceled ones
    /// belong to the batch of their cancelation; `None` until it begins.
    pub fn batch(&self) -> Option<u32> {
        self.started_at?;
        Some(self.canceled_by.unwrap_or(self.uid).0)
    }

    /// The index pairs that a swap exchanges.
    fn swaps(&mut self) -> impl Iterator<Item = &mut String> {
        let swaps = self.details.as_mut().and_then(|d| d.get_mut("swaps"));
        let swaps = swaps.and_then(Value::as_array_mut).into_iter().flatten();
        swaps
            .filter_map(|swap| swap.get_mut("indexes").and_then(Value::as_array_mut))
            .flatten()
            .filter_map(|name| if let Value::String(name) = name { Some(name) } else { None })
    }

    /// Whether it is about one of these indexes besides [`TaskRecord::index`]: swapped with another,
    /// or the new name of one.
    pub fn mentions(&self, indexes: &BTreeSet<String>) -> bool {
        self.mentioned().any(|name| indexes.contains(name))
    }

    /// The names of all indexes that it is about, as clients call them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.as_deref().into_iter().chain(self.mentioned())
    }

    fn mentioned(&self) -> impl Iterator<Item = &str> {
        let details = self.details.as_ref();
        let swaps = details.and_then(|d| d.get("swaps")).and_then(Value::as_array);
        let swapped = swaps
            .into_iter()
            .flatten()
            .filter_map(|swap| swap.get("indexes").and_then(Value::as_array))
            .flatten();
        let new = details.and_then(|d| d.get("newIndexUid"));
        swapped.chain(new).filter_map(Value::as_str)
    }

    /// Exchanges two index names, as a swap of indexes does with the tasks before it.
    pub fn rename(&mut self, first: &str, second: &str) {
        let names = self.index.take();
        self.index = names.map(|name| exchanged(name, first, second));
        for name in self.swaps() {
            *name = exchanged(std::mem::take(name), first, second);
        }
    }
}

fn exchanged(name: String, first: &str, second: &str) -> String {
    if name == first {
        second.to_owned()
    } else if name == second {
        first.to_owned()
    } else {
        name
    }
}

/// Which tasks to list. `None` means no restriction. Bounds are exclusive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskQuery {
    /// Tasks on the page at most; 0 returns totals only.
    pub limit: usize,
    /// Begin at this uid, inclusive.
    pub from: Option<TaskUid>,
    /// Oldest first; newest first without.
    pub reverse: bool,
    /// Uids of tasks; others are left out.
    pub uids: Option<BTreeSet<u32>>,
    /// Only tasks of these batches.
    pub batches: Option<BTreeSet<u32>>,
    /// Statuses; tasks of others are left out.
    pub statuses: Option<Vec<TaskStatus>>,
    /// Kinds; tasks of others are left out.
    pub kinds: Option<Vec<TaskKind>>,
    /// Names of indexes as clients see them; tasks about none of them are left out.
    pub indexes: Option<BTreeSet<String>>,
    /// Uids of cancelations; tasks that none of them canceled are left out.
    pub canceled_by: Option<BTreeSet<u32>>,
    /// Enqueued after this instant.
    pub after_enqueued: Option<OffsetDateTime>,
    /// Enqueued before this instant.
    pub before_enqueued: Option<OffsetDateTime>,
    /// Started after this instant; those that have not started are left out.
    pub after_started: Option<OffsetDateTime>,
    /// Started before this instant; those that have not started are left out.
    pub before_started: Option<OffsetDateTime>,
    /// Finished after this instant; those that have not finished are left out.
    pub after_finished: Option<OffsetDateTime>,
    /// Finished before this instant; those that have not finished are left out.
    pub before_finished: Option<OffsetDateTime>,
}

impl TaskQuery {
    /// Whether a task passes every filter except `from` and `limit`.
    pub fn matches(&self, task: &TaskRecord) -> bool {
        fn after(bound: Option<OffsetDateTime>, at: Option<OffsetDateTime>) -> bool {
            bound.is_none_or(|bound| at.is_some_and(|at| at > bound))
        }
        fn before(bound: Option<OffsetDateTime>, at: Option<OffsetDateTime>) -> bool {
            bound.is_none_or(|bound| at.is_some_and(|at| at < bound))
        }
        self.uids.as_ref().is_none_or(|set| set.contains(&task.uid.0))
            && self
                .batches
                .as_ref()
                .is_none_or(|set| task.batch().is_some_and(|batch| set.contains(&batch)))
            && self.statuses.as_ref().is_none_or(|set| set.contains(&task.status))
            && self.kinds.as_ref().is_none_or(|set| set.contains(&task.kind))
            && self
                .indexes
                .as_ref()
                .is_none_or(|set| task.index.as_ref().is_some_and(|index| set.contains(index)))
            && self
                .canceled_by
                .as_ref()
                .is_none_or(|set| task.canceled_by.is_some_and(|by| set.contains(&by.0)))
            && after(self.after_enqueued, Some(task.enqueued_at))
            && before(self.before_enqueued, Some(task.enqueued_at))
            && after(self.after_started, task.started_at)
            && before(self.before_started, task.started_at)
            && after(self.after_finished, task.finished_at)
            && before(self.before_finished, task.finished_at)
    }
}

/// A page of tasks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskPage {
    /// The tasks, at most `limit`.
    pub tasks: Vec<TaskRecord>,
    /// All that match, ignoring `from` and `limit`.
    pub total: u64,
    /// Uid with which the next page begins; `None` on the last page.
    pub next: Option<TaskUid>,
}
