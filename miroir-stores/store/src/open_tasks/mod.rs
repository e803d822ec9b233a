//! The unfinished tasks of a registry in memory: what whoever follows them has to find, without
//! reading all of them again and again.
//!
//! A task is some hundred bytes here, whatever it has to tell in the store: which parts of it nodes
//! have not ended, in the order in which nodes work. Only the process that changes tasks keeps it;
//! see [`crate::watched::Watched`].

mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_api::{NodeId, TaskUid};
use miroir_core::lock::Lock;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::TaskRecord;
use names::Changes;

/// A part of a task that a node has not ended, as far as anybody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenPart {
    /// Uid of the node's task.
    pub uid: u32,
    /// The task it is part of.
    pub task: TaskUid,
    /// What the node last said.
    pub status: TaskStatus,
}

/// A task of which nobody knows what became of it, if the process that began it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostTask {
    /// Its uid.
    pub uid: TaskUid,
    /// What is not to be touched until that is known: the index, by its name on the nodes, or all
    /// names of a change of names.
    pub gates: BTreeSet<String>,
}

#[derive(Debug)]
struct Part {
    node: NodeId,
    life: u64,
    uid: Option<u32>,
    status: TaskStatus,
    dropped: bool,
}

impl Part {
    fn is_open(&self) -> bool {
        !self.dropped && !self.status.is_terminal()
    }
}

#[derive(Debug)]
struct Open {
    index: Option<Arc<str>>,
    kind: TaskKind,
    enqueued_at: OffsetDateTime,
    /// Since when some node is known to have done its part.
    done_since: Option<Instant>,
    parts: Box<[Part]>,
}

#[derive(Debug, Default)]
struct Inner {
    tasks: BTreeMap<TaskUid, Open>,
    /// Parts that nodes have to end, by the life of the node and the uid there.
    nodes: BTreeMap<NodeId, BTreeSet<(u64, u32, TaskUid)>>,
    indexes: BTreeMap<Arc<str>, BTreeSet<TaskUid>>,
    /// Tasks of which no node has anything to end.
    idle: BTreeSet<TaskUid>,
    /// Tasks with a call of which nobody knows whether it was taken, and those with a change of names
    /// of which nobody knows how far it is.
    lost: BTreeSet<TaskUid>,
    changes: Changes,
    doubted: bool,
}

impl Inner {
    /// Takes a task out. Returns since when some node is known to have done its part.
    fn remove(&mut self, uid: TaskUid) -> Option<Instant> {
        let open = self.tasks.remove(&uid)?;
        self.idle.remove(&uid);
        self.lost.remove(&uid);
        self.changes.remove(uid);
        for part in &open.parts {
            if let (Some(node), Some(number)) = (self.nodes.get_mut(&part.node), part.uid) {
                node.remove(&(part.life, number, uid));
                if node.is_empty() {
                    self.nodes.remove(&part.node);
                }
            }
        }
        if let Some(index) = open.index
            && let Some(tasks) = self.indexes.get_mut(&index)
        {
            tasks.remove(&uid);
            if tasks.is_empty() {
                self.indexes.remove(&index);
            }
        }
        open.done_since
    }

    fn insert(&mut self, record: &TaskRecord, done_since: Option<Instant>) {
        let uid = record.uid;
        let index: Option<Arc<str>> = record.physical.as_deref().map(|name| {
            let known = self.indexes.get_key_value(name).map(|(known, _)| Arc::clone(known));
            known.unwrap_or_else(|| name.into())
        });
        if let Some(index) = &index {
            self.indexes.entry(Arc::clone(index)).or_default().insert(uid);
        }
        let parts: Box<[Part]> = record
            .nodes
            .iter()
            .map(|task| Part {
                node: task.node.clone(),
                life: task.life,
                uid: task.uid,
                status: task.status,
                dropped: task.dropped,
            })
            .collect();
        let mut idle = true;
        for part in parts.iter().filter(|part| part.is_open()) {
            idle = false;
            match part.uid {
                Some(number) => {
                    let node = self.nodes.entry(part.node.clone()).or_default();
                    node.insert((part.life, number, uid));
                }
                None => {
                    self.lost.insert(uid);
                }
            }
        }
        if self.changes.insert(record) {
            self.lost.insert(uid);
        } else if idle {
            self.idle.insert(uid);
        }
        let done = |part: &Part| !part.dropped && part.status == TaskStatus::Succeeded;
        let done_since = done_since.or_else(|| parts.iter().any(done).then(Instant::now));
        let (kind, enqueued_at) = (record.kind, record.enqueued_at);
        self.tasks.insert(uid, Open { index, kind, enqueued_at, done_since, parts });
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct OpenTasks(Lock<Inner>);

impl OpenTasks {
    /// Notes a task as it is in the store now.
    pub fn note(&self, record: &TaskRecord) {
        let mut inner = self.0.lock();
        let done_since = inner.remove(record.uid);
        if !record.status.is_terminal() {
            inner.insert(record, done_since);
        }
    }

    /// Notes tasks that were read from the store, unless something newer is known of them.
    pub fn read(&self, records: &[TaskRecord]) {
        let mut inner = self.0.lock();
        for record in records.iter().filter(|record| !record.status.is_terminal()) {
            if !inner.tasks.contains_key(&record.uid) {
                inner.insert(record, None);
            }
        }
    }

    /// Forgets a task that is not there, or over.
    pub fn forget(&self, uid: TaskUid) {
        self.0.lock().remove(uid);
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        *self.0.lock() = Inner::default();
    }

    /// Says that the store may have tasks that are not noted here, or other states of them.
    pub fn doubt(&self) {
        self.0.lock().doubted = true;
    }

    /// Whether somebody doubts, since it was last asked.
    pub fn take_doubt(&self) -> bool {
        std::mem::take(&mut self.0.lock().doubted)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().tasks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().tasks.is_empty()
    }

    /// When the oldest was enqueued; `None` where there is none.
    pub fn oldest(&self) -> Option<OffsetDateTime> {
        self.0.lock().tasks.first_key_value().map(|(_, open)| open.enqueued_at)
    }

    /// Whether a task is unfinished.
    pub fn contains(&self, uid: TaskUid) -> bool {
        self.0.lock().tasks.contains_key(&uid)
    }

    /// The nodes that have something to end.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.0.lock().nodes.keys().cloned().collect()
    }

    /// The first parts that a node has to end which it was given in this life, from a uid of the node
    /// on, at most `limit`.
    pub fn head(&self, node: &NodeId, life: u64, from: u32, limit: usize) -> Vec<OpenPart> {
        let inner = self.0.lock();
        let all = (life, from, TaskUid(0))..=(life, u32::MAX, TaskUid(u32::MAX));
        let parts = inner.nodes.get(node).into_iter();
        let parts = parts.flat_map(|parts| parts.range(all.clone())).take(limit);
        let status = |number: u32, task: TaskUid| {
            let parts = inner.tasks.get(&task).map(|open| &open.parts);
            let own =
                |part: &&Part| part.uid == Some(number) && part.life == life && part.node == *node;
            parts.and_then(|parts| parts.iter().find(own)).map(|part| part.status)
        };
        parts
            .filter_map(|(_, uid, task)| {
                Some(OpenPart { uid: *uid, task: *task, status: status(*uid, *task)? })
            })
            .collect()
    }

    /// Whether a node has yet to end a task of its own, by its uid, that it was given in this life.
    pub fn has_part(&self, node: &NodeId, life: u64, uid: u32) -> bool {
        let inner = self.0.lock();
        let all = (life, uid, TaskUid(0))..=(life, uid, TaskUid(u32::MAX));
        inner.nodes.get(node).is_some_and(|parts| parts.range(all).next().is_some())
    }

    /// The parts at the head of a node's queue, at most `limit` of it, that another node has done for
    /// at least as long as `age`.
    pub fn outdone(&self, node: &NodeId, life: u64, limit: usize, age: Duration) -> Vec<OpenPart> {
        let mut parts = self.head(node, life, 0, limit);
        let inner = self.0.lock();
        parts.retain(|part| {
            let since = inner.tasks.get(&part.task).and_then(|open| open.done_since);
            since.is_some_and(|since| since.elapsed() >= age)
        });
        parts
    }

    /// Tasks with parts that a node was given in another life than this one and has not ended, at most
    /// `limit` parts.
    pub fn of_other_lives(&self, node: &NodeId, life: u64, limit: usize) -> BTreeSet<TaskUid> {
        let inner = self.0.lock();
        let before = ..(life, 0, TaskUid(0));
        let after = (Bound::Excluded((life, u32::MAX, TaskUid(u32::MAX))), Bound::Unbounded);
        let parts = inner.nodes.get(node).into_iter();
        let parts = parts.flat_map(|parts| parts.range(before).chain(parts.range(after)));
        parts.take(limit).map(|(.., task)| *task).collect()
    }

    /// Shows what nodes were given of unfinished tasks about indexes, ended there or not: the node, its
    /// life and the uid.
    pub fn given(&self, mut look: impl FnMut(&NodeId, u64, u32)) {
        let inner = self.0.lock();
        let tasks = inner.tasks.values().filter(|open| open.index.is_some());
        for part in tasks.flat_map(|open| open.parts.iter()).filter(|part| !part.dropped) {
            if let Some(uid) = part.uid {
                look(&part.node, part.life, uid);
            }
        }
    }

    /// Tasks of which no node has anything to end, after one of them, at most `limit`.
    pub fn idle(&self, after: Option<TaskUid>, limit: usize) -> Vec<TaskUid> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.lock().idle.range((from, Bound::Unbounded)).take(limit).copied().collect()
    }

    /// Tasks of which nobody but whoever began them knows how far they are, oldest first.
    pub fn lost(&self) -> Vec<LostTask> {
        let inner = self.0.lock();
        let lost = inner.lost.iter().filter_map(|uid| Some((*uid, inner.tasks.get(uid)?)));
        lost.map(|(uid, open)| {
            let index = || open.index.iter().map(ToString::to_string).collect();
            let gates = inner.changes.names(uid).cloned().unwrap_or_else(index);
            LostTask { uid, gates }
        })
        .collect()
    }

    /// A deferred change of names ([`TaskRecord::is_deferred`]) that this name, here or on the nodes, is
    /// part of.
    pub fn deferred_on(&self, name: &str) -> Option<TaskUid> {
        self.0.lock().changes.deferred_on(name)
    }

    /// The oldest task about an index, by its name on the nodes.
    pub fn first_of(&self, physical: &str) -> Option<TaskUid> {
        self.0.lock().indexes.get(physical)?.first().copied()
    }

    /// Whether one of these indexes, by their names on the nodes, has a task older than this one.
    pub fn has_before(&self, indexes: &[String], task: TaskUid) -> bool {
        indexes.iter().any(|index| self.first_of(index).is_some_and(|first| first < task))
    }

    /// Whether an index has an unfinished task of this kind.
    pub fn has(&self, physical: &str, kind: TaskKind) -> bool {
        self.last_of(physical, kind).is_some()
    }

    /// The oldest task of this kind about an index, by its name on the nodes.
    pub fn first_of_kind(&self, physical: &str, kind: TaskKind) -> Option<TaskUid> {
        let inner = self.0.lock();
        let is = |uid: &&TaskUid| inner.tasks.get(*uid).is_some_and(|open| open.kind == kind);
        inner.indexes.get(physical)?.iter().find(is).copied()
    }

    /// The newest task of this kind about an index, by its name on the nodes.
    pub fn last_of(&self, physical: &str, kind: TaskKind) -> Option<TaskUid> {
        let inner = self.0.lock();
        let is = |uid: &&TaskUid| inner.tasks.get(*uid).is_some_and(|open| open.kind == kind);
        inner.indexes.get(physical)?.iter().rev().find(is).copied()
    }

    /// The oldest task of every index, and the oldest that is about none.
    pub fn firsts(&self) -> Vec<TaskUid> {
        let inner = self.0.lock();
        let of_indexes = inner.indexes.values().filter_map(|tasks| tasks.first().copied());
        let other = inner.tasks.iter().find(|(_, open)| open.index.is_none());
        of_indexes.chain(other.map(|(uid, _)| *uid)).collect()
    }

    /// The newest unfinished task of an index.
    pub fn newest_of(&self, physical: &str) -> Option<TaskUid> {
        self.0.lock().indexes.get(physical)?.last().copied()
    }

    /// Whether a node may be without what others have of an index by now: it has not been heard to
    /// succeed with its part of an unfinished task, up to a task, and nothing says that it missed it.
    pub fn is_in_doubt(&self, physical: &str, node: &NodeId, up_to: TaskUid) -> bool {
        let inner = self.0.lock();
        let tasks = inner.indexes.get(physical).into_iter();
        let tasks = tasks.flat_map(|tasks| tasks.range(..=up_to));
        let mut tasks = tasks.filter_map(|uid| inner.tasks.get(uid));
        tasks.any(|open| {
            let mut own = open.parts.iter().filter(|part| part.node == *node);
            // Who misses a task is on record once all its calls are answered.
            let under_way = || open.parts.iter().any(|part| !part.dropped && part.uid.is_none());
            own.any(
                |part| {
                    if part.dropped { under_way() } else { part.status != TaskStatus::Succeeded }
                },
            )
        })
    }

    /// Whether a task waits for something of one of these nodes.
    pub fn waits_for(&self, uid: TaskUid, nodes: &BTreeSet<NodeId>) -> bool {
        let inner = self.0.lock();
        let parts = inner.tasks.get(&uid).into_iter().flat_map(|open| open.parts.iter());
        parts.filter(|part| part.is_open() && part.uid.is_some()).any(|p| nodes.contains(&p.node))
    }
}

#[cfg(test)]
mod tests;
