//! The stores in memory: the reference implementation, for tests and for trying things out.
//!
//! Nothing survives the process. Each store is ordered maps behind one mutex that is held for the
//! length of one call and never across an await.

mod jobs;
mod past;
mod records;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};

use miroir_api::meili::TaskStatus;
use miroir_api::{IndexUid, NodeId, ShardId, TaskUid};
use miroir_core::lock::Lock;
use time::OffsetDateTime;
use uuid::Uuid;

use super::records::{Buckets, Signals, Typed};
use super::{
    Features, IndexChange, IndexEntry, Indexes, Keys, NewTask, Pods, Replicas, Rules,
    SettingsVersions, StoreError, StoreFuture, Stores, TaskPage, TaskQuery, TaskRecord, Tasks,
    Webhook, Webhooks,
};
use miroir_core::keys::ApiKey;
use miroir_core::keys::request::Change;
use miroir_core::view::{CatchUp, StaleReplica};

pub use past::{Copy, Past};

/// New, empty stores.
#[must_use]
pub fn open() -> Stores {
    open_with_past().0
}

/// New, empty stores, and what takes copies of them.
#[must_use]
pub fn open_with_past() -> (Stores, Past) {
    let all = Past::default();
    let typed = Typed::new(all.records.clone(), all.logs.clone(), signals());
    let stores = crate::stores! {
        typed;
        tasks: all.tasks.clone(),
        indexes: all.indexes.clone(),
        replicas: all.replicas.clone(),
        settings_versions: all.settings_versions.clone(),
        keys: all.keys.clone(),
        features: all.features.clone(),
        rules: all.rules.clone(),
        webhooks: all.webhooks.clone(),
        leases: Arc::new(shared::LeaseMap::default()),
        jobs: all.jobs.clone(),
        pods: pods(),
        fence: Arc::default(),
        buckets: buckets(),
    };
    (stores, all)
}

/// New pods of one process: for backends that only one process uses.
#[must_use]
pub fn pods() -> Arc<dyn Pods> {
    Arc::new(shared::PodMap::default())
}

/// New rate limits of one process: for backends that only one process uses.
#[must_use]
pub fn buckets() -> Arc<dyn Buckets> {
    Arc::new(records::BucketMap::default())
}

/// New channels of one process: for backends that only one process uses.
#[must_use]
pub fn signals() -> Arc<dyn Signals> {
    Arc::new(records::Channels::default())
}

/// A mutex whose data stays usable after a panic: every call leaves it consistent.
#[derive(Debug, Default)]
struct Shared<T>(Lock<T>);

impl<T: Send> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }

    /// Runs one call when it is awaited, as a backend with I/O would.
    fn answer<'a, A: Send + 'a>(
        &'a self,
        call: impl FnOnce(&mut T) -> A + Send + 'a,
    ) -> StoreFuture<'a, A> {
        Box::pin(async move { Ok(call(&mut self.lock())) })
    }
}

#[derive(Clone, Debug, Default)]
struct TaskRows {
    /// The next uid, apart from the rows so that it survives their pruning.
    next: u32,
    rows: BTreeMap<u32, TaskRecord>,
}

impl TaskRows {
    fn page(&self, query: &TaskQuery) -> TaskPage {
        let mut page = TaskPage::default();
        let mut visit = |task: &TaskRecord| {
            if !query.matches(task) {
                return;
            }
            page.total += 1;
            let skipped = query
                .from
                .is_some_and(|from| if query.reverse { task.uid < from } else { task.uid > from });
            if skipped {
                return;
            }
            if page.tasks.len() < query.limit {
                page.tasks.push(task.clone());
            } else if page.next.is_none() {
                page.next = Some(task.uid);
            }
        };
        match (&query.uids, query.reverse) {
            (Some(uids), true) => uids.iter().filter_map(|u| self.rows.get(u)).for_each(&mut visit),
            (Some(uids), false) => {
                uids.iter().rev().filter_map(|u| self.rows.get(u)).for_each(&mut visit);
            }
            (None, true) => self.rows.values().for_each(&mut visit),
            (None, false) => self.rows.values().rev().for_each(&mut visit),
        }
        page
    }
}

#[derive(Debug, Default)]
struct TaskMap(Shared<TaskRows>);

impl Tasks for TaskMap {
    fn insert_many(&self, new: Vec<NewTask>) -> StoreFuture<'_, Vec<TaskRecord>> {
        Box::pin(async move {
            let mut tasks = self.0.lock();
            let first = tasks.next;
            let count = u32::try_from(new.len()).ok();
            tasks.next = count.and_then(|count| first.checked_add(count)).ok_or_else(|| {
                StoreError::Backend("all task uids of 32 bits have been used".into())
            })?;
            let records: Vec<_> =
                (first..).zip(new).map(|(uid, new)| TaskRecord::new(TaskUid(uid), new)).collect();
            tasks.rows.extend(records.iter().map(|record| (record.uid.0, record.clone())));
            Ok(records)
        })
    }

    fn update(&self, task: TaskRecord) -> StoreFuture<'_, ()> {
        self.0.answer(move |tasks| {
            if let Some(row) = tasks.rows.get_mut(&task.uid.0) {
                *row = TaskRecord { index: row.index.take(), ..task };
            }
        })
    }

    fn update_many(&self, all: Vec<TaskRecord>) -> StoreFuture<'_, ()> {
        self.0.answer(move |tasks| {
            for task in all {
                if let Some(row) = tasks.rows.get_mut(&task.uid.0) {
                    *row = TaskRecord { index: row.index.take(), ..task };
                }
            }
        })
    }

    fn get(&self, uid: TaskUid) -> StoreFuture<'_, Option<TaskRecord>> {
        self.0.answer(move |tasks| tasks.rows.get(&uid.0).cloned())
    }

    fn list(&self, query: TaskQuery) -> StoreFuture<'_, TaskPage> {
        self.0.answer(move |tasks| tasks.page(&query))
    }

    fn uids(&self, query: TaskQuery) -> StoreFuture<'_, Vec<u32>> {
        self.0.answer(move |tasks| {
            tasks.rows.values().filter(|task| query.matches(task)).map(|t| t.uid.0).collect()
        })
    }

    fn remove(&self, mut uids: Vec<u32>) -> StoreFuture<'_, Vec<TaskRecord>> {
        self.0.answer(move |tasks| {
            uids.sort_unstable();
            uids.dedup();
            uids.retain(|uid| tasks.rows.get(uid).is_some_and(|task| task.status.is_terminal()));
            uids.iter().filter_map(|uid| tasks.rows.remove(uid)).collect()
        })
    }

    fn swap_indexes(&self, first: String, second: String, before: TaskUid) -> StoreFuture<'_, ()> {
        self.0.answer(move |tasks| {
            for (_, task) in tasks.rows.range_mut(..before.0) {
                task.rename(&first, &second);
            }
        })
    }

    fn unfinished(&self) -> StoreFuture<'_, Vec<TaskRecord>> {
        self.0.answer(|tasks| {
            tasks.rows.values().filter(|task| !task.status.is_terminal()).cloned().collect()
        })
    }

    fn index_names(&self) -> StoreFuture<'_, Vec<String>> {
        self.0.answer(|tasks| {
            let names: BTreeSet<_> =
                tasks.rows.values().filter_map(|task| task.index.clone()).collect();
            names.into_iter().collect()
        })
    }

    fn counts(&self) -> StoreFuture<'_, Vec<(TaskStatus, u64)>> {
        self.0.answer(|tasks| {
            let mut counts = TaskStatus::ALL.map(|status| (status, 0));
            for task in tasks.rows.values() {
                for (status, count) in &mut counts {
                    *count += u64::from(*status == task.status);
                }
            }
            counts.to_vec()
        })
    }

    fn prune(&self, finished_before: OffsetDateTime) -> StoreFuture<'_, u64> {
        self.0.answer(move |tasks| {
            let before = tasks.rows.len();
            tasks.rows.retain(|_, task| {
                !(task.status.is_terminal()
                    && task.finished_at.is_some_and(|at| at < finished_before))
            });
            (before - tasks.rows.len()) as u64
        })
    }
}

#[derive(Debug, Default)]
struct IndexMap(Shared<BTreeMap<IndexUid, IndexEntry>>);

impl Indexes for IndexMap {
    fn get(&self, name: &IndexUid) -> StoreFuture<'_, Option<IndexEntry>> {
        let name = name.clone();
        self.0.answer(move |entries| entries.get(&name).cloned())
    }

    fn list(&self) -> StoreFuture<'_, Vec<IndexEntry>> {
        self.0.answer(|entries| entries.values().cloned().collect())
    }

    fn put(&self, entry: IndexEntry, expected: Option<u64>) -> StoreFuture<'_, bool> {
        self.0.answer(move |entries| {
            let fits = entries.get(&entry.name).map(|stored| stored.version) == expected;
            if fits {
                entries.insert(entry.name.clone(), entry);
            }
            fits
        })
    }

    fn delete(&self, name: &IndexUid, expected: u64) -> StoreFuture<'_, bool> {
        let name = name.clone();
        self.0.answer(move |entries| {
            let fits = entries.get(&name).is_some_and(|stored| stored.version == expected);
            if fits {
                entries.remove(&name);
            }
            fits
        })
    }

    fn change(&self, changes: Vec<IndexChange>) -> StoreFuture<'_, bool> {
        self.0.answer(move |entries| {
            let fits = changes.iter().all(|change| {
                entries.get(&change.name).map(|stored| stored.version) == change.expected
            });
            for change in changes.into_iter().filter(|_| fits) {
                match change.entry {
                    Some(entry) => entries.insert(change.name, entry),
                    None => entries.remove(&change.name),
                };
            }
            fits
        })
    }
}

#[derive(Clone, Debug, Default)]
struct StaleRows {
    /// The last generation given. One counter for all rows: a row that was cleared and marked again
    /// must not meet a generation that an old repair still holds.
    generation: u64,
    rows: BTreeMap<(NodeId, String, Option<ShardId>), StaleReplica>,
}

#[derive(Debug, Default)]
struct StaleMap(Shared<StaleRows>);

impl Replicas for StaleMap {
    fn mark(&self, stale: Vec<StaleReplica>) -> StoreFuture<'_, ()> {
        self.0.answer(move |state| {
            for mut row in stale {
                state.generation += 1;
                row.generation = state.generation;
                let key = (row.node.clone(), row.index.clone(), row.shard);
                let known = state.rows.remove(&key).unwrap_or_else(|| row.clone());
                state.rows.insert(key, known.and(row));
            }
        })
    }

    fn list(&self) -> StoreFuture<'_, Vec<StaleReplica>> {
        self.0.answer(|state| state.rows.values().cloned().collect())
    }

    fn clear(&self, stale: StaleReplica) -> StoreFuture<'_, bool> {
        self.0.answer(move |state| {
            let key = (stale.node, stale.index, stale.shard);
            let same = state.rows.get(&key).is_some_and(|row| row.generation == stale.generation);
            if same {
                state.rows.remove(&key);
            }
            same
        })
    }

    fn forget_index(&self, index: &str) -> StoreFuture<'_, ()> {
        let index = index.to_owned();
        self.0.answer(move |state| {
            state.rows.retain(|key, row| key.1 != index || row.kind == CatchUp::Deleted);
        })
    }
}

#[derive(Debug, Default)]
struct VersionMap(Shared<BTreeMap<String, BTreeMap<NodeId, u64>>>);

impl SettingsVersions for VersionMap {
    fn set(&self, index: &str, node: &NodeId, version: u64) -> StoreFuture<'_, ()> {
        let (index, node) = (index.to_owned(), node.clone());
        self.0.answer(move |indexes| {
            let stored = indexes.entry(index).or_default().entry(node).or_insert(version);
            *stored = version.max(*stored);
        })
    }

    fn list(&self, index: &str) -> StoreFuture<'_, Vec<(NodeId, u64)>> {
        let index = index.to_owned();
        self.0.answer(move |indexes| {
            let nodes = indexes.get(&index).into_iter().flatten();
            nodes.map(|(node, version)| (node.clone(), *version)).collect()
        })
    }

    fn forget(&self, index: &str) -> StoreFuture<'_, ()> {
        let index = index.to_owned();
        self.0.answer(move |indexes| {
            indexes.remove(&index);
        })
    }
}

/// In the order of insertion.
#[derive(Debug, Default)]
struct KeyList(Shared<Vec<ApiKey>>);

impl Keys for KeyList {
    fn seed(&self, keys: Vec<ApiKey>) -> StoreFuture<'_, bool> {
        self.0.answer(move |rows| {
            let empty = rows.is_empty();
            if empty {
                *rows = keys;
            }
            empty
        })
    }

    fn insert(&self, key: ApiKey) -> StoreFuture<'_, bool> {
        self.0.answer(move |rows| {
            let free = rows.iter().all(|row| row.uid != key.uid);
            if free {
                rows.push(key);
            }
            free
        })
    }

    fn update(
        &self,
        uid: Uuid,
        change: Change,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, Option<ApiKey>> {
        self.0.answer(move |rows| {
            let row = rows.iter_mut().find(|row| row.uid == uid)?;
            change.apply(row, now);
            Some(row.clone())
        })
    }

    fn delete(&self, uid: Uuid) -> StoreFuture<'_, bool> {
        self.0.answer(move |rows| {
            let before = rows.len();
            rows.retain(|row| row.uid != uid);
            rows.len() < before
        })
    }

    fn list(&self) -> StoreFuture<'_, Vec<ApiKey>> {
        self.0.answer(|rows| {
            let mut keys: Vec<_> = rows.iter().rev().cloned().collect();
            keys.sort_by_key(|key| std::cmp::Reverse(key.created_at));
            keys
        })
    }
}

#[derive(Debug, Default)]
struct FeatureMap(Shared<BTreeMap<String, bool>>);

impl Features for FeatureMap {
    fn list(&self) -> StoreFuture<'_, Vec<(String, bool)>> {
        self.0.answer(|rows| rows.iter().map(|(name, on)| (name.clone(), *on)).collect())
    }

    fn set(&self, features: Vec<(String, bool)>) -> StoreFuture<'_, ()> {
        self.0.answer(|rows| rows.extend(features))
    }
}

#[derive(Debug, Default)]
struct RuleMap(Shared<BTreeMap<String, serde_json::Value>>);

impl Rules for RuleMap {
    fn list(&self) -> StoreFuture<'_, Vec<(String, serde_json::Value)>> {
        self.0.answer(|rules| rules.clone().into_iter().collect())
    }

    fn put(&self, uid: String, rule: serde_json::Value) -> StoreFuture<'_, ()> {
        self.0.answer(move |rules| {
            rules.insert(uid, rule);
        })
    }

    fn delete(&self, uid: String) -> StoreFuture<'_, ()> {
        self.0.answer(move |rules| {
            rules.remove(&uid);
        })
    }

    fn clear(&self) -> StoreFuture<'_, ()> {
        self.0.answer(BTreeMap::clear)
    }
}

#[derive(Debug, Default)]
struct HookMap(Shared<BTreeMap<Uuid, Webhook>>);

impl Webhooks for HookMap {
    fn list(&self) -> StoreFuture<'_, Vec<Webhook>> {
        self.0.answer(|hooks| hooks.values().cloned().collect())
    }

    fn put(&self, hook: Webhook, most: usize) -> StoreFuture<'_, bool> {
        self.0.answer(move |hooks| {
            let room = hooks.contains_key(&hook.uuid) || hooks.len() < most;
            if room {
                hooks.insert(hook.uuid, hook);
            }
            room
        })
    }

    fn delete(&self, uuid: Uuid) -> StoreFuture<'_, bool> {
        self.0.answer(move |hooks| hooks.remove(&uuid).is_some())
    }
}
