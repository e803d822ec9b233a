//! A bounded memory of tasks in front of a task store.
//!
//! Clients ask for a task again and again until it has ended, and many keep asking afterwards; and who
//! follows tasks reads each of them whenever a node says something new of it. What was stored last is kept
//! here, of unfinished and of finished tasks.
//!
//! Only for a store that nobody else writes. What another process does of a task is not seen here: which
//! answer a client gets would depend on who is asked. Asking a shared store whether anything happened costs
//! as much as asking it for the task, so with such a store there is nothing to keep.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use miroir_api::TaskUid;
use miroir_api::meili::TaskStatus;
use miroir_core::lock::Lock;
use time::OffsetDateTime;

use super::{NewTask, StoreError, StoreFuture, TaskPage, TaskQuery, TaskRecord, Tasks};

/// What is kept of a task.
#[derive(Debug)]
enum Entry {
    /// As it is in the store.
    Known(Box<TaskRecord>),
    /// So many changes of it are under way, so that nobody knows. Its index, unless several are: which of
    /// them comes last is not known then.
    Changing { changes: usize, index: Option<Option<String>> },
}

#[derive(Debug, Default)]
struct Kept {
    tasks: BTreeMap<TaskUid, Entry>,
    /// Oldest first.
    order: VecDeque<TaskUid>,
    /// How often tasks were renamed or taken away. What was read before may be old.
    turn: u64,
}

impl Kept {
    /// Several tasks are about to change.
    fn turn(&mut self) {
        self.turn += 1;
    }

    fn known(&self, uid: TaskUid) -> Option<&TaskRecord> {
        match self.tasks.get(&uid)? {
            Entry::Known(task) => Some(task),
            Entry::Changing { .. } => None,
        }
    }

    fn put(&mut self, task: TaskRecord, size: usize) {
        let uid = task.uid;
        if self.tasks.insert(uid, Entry::Known(Box::new(task))).is_none() {
            self.order.push_back(uid);
        }
        while self.order.len() > size {
            if let Some(oldest) = self.order.pop_front() {
                self.tasks.remove(&oldest);
            }
        }
    }

    /// Keeps those that are still to be kept.
    fn retain(&mut self, keeps: impl Fn(&TaskRecord) -> bool) {
        self.tasks.retain(|_, entry| matches!(entry, Entry::Known(task) if keeps(task)));
        let tasks = &self.tasks;
        self.order.retain(|uid| tasks.contains_key(uid));
    }

    /// A change of a task begins.
    fn begin(&mut self, uid: TaskUid) {
        let Some(entry) = self.tasks.get_mut(&uid) else { return };
        *entry = match entry {
            Entry::Known(task) => Entry::Changing { changes: 1, index: Some(task.index.take()) },
            Entry::Changing { changes, .. } => {
                Entry::Changing { changes: *changes + 1, index: None }
            }
        };
    }

    /// A change of a task that began in this turn is over, and whether it was made.
    fn end(&mut self, task: TaskRecord, turn: u64, made: bool) {
        let uid = task.uid;
        let Some(Entry::Changing { changes, index }) = self.tasks.get_mut(&uid) else { return };
        *changes -= 1;
        if *changes > 0 {
            *index = None;
            return;
        }
        match index.take().filter(|_| made && self.turn == turn) {
            Some(index) => {
                let task = Box::new(TaskRecord { index, ..task });
                self.tasks.insert(uid, Entry::Known(task));
            }
            None => {
                self.tasks.remove(&uid);
                self.order.retain(|other| *other != uid);
            }
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct CachedTasks {
    inner: Arc<dyn Tasks>,
    size: usize,
    kept: Lock<Kept>,
}

impl CachedTasks {
    /// Keeps at most `size` tasks of this store.
    pub fn new(inner: Arc<dyn Tasks>, size: usize) -> Self {
        Self { inner, size, kept: Lock::default() }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Kept) -> T) -> T {
        f(&mut self.kept.lock())
    }

    /// Keeps a task that was read in this turn, if it is over: one that is not may have changed since.
    fn keep(&self, task: &TaskRecord, turn: u64) {
        self.with(|kept| {
            if kept.turn == turn && task.status.is_terminal() && !kept.tasks.contains_key(&task.uid)
            {
                kept.put(task.clone(), self.size);
            }
        });
    }

    /// How many tasks are kept.
    pub fn len(&self) -> usize {
        self.with(|kept| kept.tasks.len())
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn change(&self, tasks: Vec<TaskRecord>) -> Result<(), StoreError> {
        // Out first: a reader in between asks the store.
        let turn = self.with(|kept| {
            for task in &tasks {
                kept.begin(task.uid);
            }
            kept.turn
        });
        // Whoever gives up leaves it unknown.
        let changing = Changing { kept: &self.kept, tasks, turn, made: false };
        let made = self.inner.update_many(changing.tasks.clone()).await;
        changing.end(made.is_ok());
        made
    }
}

/// Changes that are under way; over when it is dropped.
struct Changing<'a> {
    kept: &'a Lock<Kept>,
    tasks: Vec<TaskRecord>,
    turn: u64,
    made: bool,
}

impl Changing<'_> {
    fn end(mut self, made: bool) {
        self.made = made;
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let mut kept = self.kept.lock();
        for task in std::mem::take(&mut self.tasks) {
            kept.end(task, self.turn, self.made);
        }
    }
}

impl Tasks for CachedTasks {
    fn insert_many(&self, tasks: Vec<NewTask>) -> StoreFuture<'_, Vec<TaskRecord>> {
        Box::pin(async move {
            let turn = self.with(|kept| kept.turn);
            let stored = self.inner.insert_many(tasks).await?;
            self.with(|kept| {
                if kept.turn == turn {
                    for task in &stored {
                        kept.put(task.clone(), self.size);
                    }
                }
            });
            Ok(stored)
        })
    }

    fn update(&self, task: TaskRecord) -> StoreFuture<'_, ()> {
        Box::pin(self.change(vec![task]))
    }

    fn update_many(&self, tasks: Vec<TaskRecord>) -> StoreFuture<'_, ()> {
        Box::pin(self.change(tasks))
    }

    fn get(&self, uid: TaskUid) -> StoreFuture<'_, Option<TaskRecord>> {
        Box::pin(async move {
            let (turn, known) = self.with(|kept| (kept.turn, kept.known(uid).cloned()));
            if known.is_some() {
                return Ok(known);
            }
            let task = self.inner.get(uid).await?;
            if let Some(task) = &task {
                self.keep(task, turn);
            }
            Ok(task)
        })
    }

    fn get_many(&self, mut uids: Vec<TaskUid>) -> StoreFuture<'_, Vec<TaskRecord>> {
        Box::pin(async move {
            let mut found: Vec<TaskRecord> = Vec::with_capacity(uids.len());
            self.with(|kept| {
                uids.retain(|uid| {
                    let known = kept.known(*uid).cloned();
                    let missing = known.is_none();
                    found.extend(known);
                    missing
                });
            });
            if !uids.is_empty() {
                found.extend(self.inner.get_many(uids).await?);
            }
            found.sort_unstable_by_key(|task| task.uid);
            found.dedup_by_key(|task| task.uid);
            Ok(found)
        })
    }

    fn list(&self, query: TaskQuery) -> StoreFuture<'_, TaskPage> {
        self.inner.list(query)
    }

    fn uids(&self, query: TaskQuery) -> StoreFuture<'_, Vec<u32>> {
        self.inner.uids(query)
    }

    fn remove(&self, uids: Vec<u32>) -> StoreFuture<'_, Vec<TaskRecord>> {
        Box::pin(async move {
            let removed = self.inner.remove(uids).await?;
            self.with(|kept| {
                kept.turn();
                let gone: BTreeSet<TaskUid> = removed.iter().map(|task| task.uid).collect();
                kept.retain(|task| !gone.contains(&task.uid));
            });
            Ok(removed)
        })
    }

    fn swap_indexes(&self, first: String, second: String, before: TaskUid) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.inner.swap_indexes(first, second, before).await?;
            self.with(|kept| {
                kept.turn();
                kept.tasks.clear();
                kept.order.clear();
            });
            Ok(())
        })
    }

    fn unfinished(&self) -> StoreFuture<'_, Vec<TaskRecord>> {
        self.inner.unfinished()
    }

    fn counts(&self) -> StoreFuture<'_, Vec<(TaskStatus, u64)>> {
        self.inner.counts()
    }

    fn index_names(&self) -> StoreFuture<'_, Vec<String>> {
        self.inner.index_names()
    }

    fn prune(&self, finished_before: OffsetDateTime) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            let pruned = self.inner.prune(finished_before).await?;
            self.with(|kept| {
                kept.turn();
                kept.retain(|task| task.finished_at.is_none_or(|at| at >= finished_before));
            });
            Ok(pruned)
        })
    }
}

#[cfg(test)]
mod tests {
    use miroir_api::meili::TaskKind;

    use super::*;
    use crate::memory;

    fn task(status: TaskStatus) -> NewTask {
        NewTask { status, ..NewTask::new(TaskKind::IndexCreation, OffsetDateTime::UNIX_EPOCH) }
    }

    /// A registry that answers a question with what it knew a while ago.
    #[derive(Debug)]
    struct Slow {
        inner: Arc<dyn Tasks>,
        read: tokio::sync::Notify,
        go_on: tokio::sync::Notify,
    }

    impl Tasks for Slow {
        fn insert_many(&self, tasks: Vec<NewTask>) -> StoreFuture<'_, Vec<TaskRecord>> {
            self.inner.insert_many(tasks)
        }
        fn update(&self, task: TaskRecord) -> StoreFuture<'_, ()> {
            Box::pin(async move {
                if task.status == TaskStatus::Processing {
                    self.go_on.notified().await;
                }
                self.inner.update(task).await
            })
        }
        fn get(&self, uid: TaskUid) -> StoreFuture<'_, Option<TaskRecord>> {
            Box::pin(async move {
                let task = self.inner.get(uid).await;
                self.read.notify_one();
                self.go_on.notified().await;
                task
            })
        }
        fn list(&self, query: TaskQuery) -> StoreFuture<'_, TaskPage> {
            self.inner.list(query)
        }
        fn uids(&self, query: TaskQuery) -> StoreFuture<'_, Vec<u32>> {
            self.inner.uids(query)
        }
        fn remove(&self, uids: Vec<u32>) -> StoreFuture<'_, Vec<TaskRecord>> {
            self.inner.remove(uids)
        }
        fn swap_indexes(
            &self,
            first: String,
            second: String,
            before: TaskUid,
        ) -> StoreFuture<'_, ()> {
            self.inner.swap_indexes(first, second, before)
        }
        fn unfinished(&self) -> StoreFuture<'_, Vec<TaskRecord>> {
            self.inner.unfinished()
        }
        fn index_names(&self) -> StoreFuture<'_, Vec<String>> {
            self.inner.index_names()
        }
        fn counts(&self) -> StoreFuture<'_, Vec<(TaskStatus, u64)>> {
            self.inner.counts()
        }
        fn prune(&self, finished_before: OffsetDateTime) -> StoreFuture<'_, u64> {
            self.inner.prune(finished_before)
        }
    }

    #[tokio::test]
    async fn what_was_read_before_a_task_was_forgotten_is_not_kept() {
        let inner = memory::open().tasks;
        let uid = inner.insert(task(TaskStatus::Succeeded)).await.unwrap().uid;
        let slow = Arc::new(Slow {
            inner,
            read: tokio::sync::Notify::new(),
            go_on: tokio::sync::Notify::new(),
        });
        let tasks = Arc::new(CachedTasks::new(slow.clone(), 9));
        let asked = tokio::spawn({
            let tasks = Arc::clone(&tasks);
            async move { tasks.get(uid).await.unwrap() }
        });
        slow.read.notified().await;
        tasks.remove(vec![uid.0]).await.unwrap();
        slow.go_on.notify_one();
        assert!(asked.await.unwrap().is_some(), "it was there when it was asked for");
        slow.go_on.notify_one();
        assert_eq!(tasks.get(uid).await.unwrap(), None);
    }

    #[tokio::test]
    async fn finished_tasks_are_kept_up_to_the_size_and_until_they_are_pruned() {
        let inner = memory::open().tasks;
        let tasks = CachedTasks::new(Arc::clone(&inner), 2);
        for _ in 0..3 {
            tasks.insert(task(TaskStatus::Succeeded)).await.unwrap();
        }
        assert_eq!(tasks.len(), 2, "two of the three that have ended");
        let later = OffsetDateTime::UNIX_EPOCH + time::Duration::days(1);
        tasks.prune(later).await.unwrap();
        assert_eq!(tasks.get(TaskUid(2)).await.unwrap(), None);
    }

    /// What was written last is known without the store, under the name that the index has by now.
    #[tokio::test]
    async fn unfinished_tasks_are_kept_as_they_were_written() {
        let inner = memory::open().tasks;
        let tasks = CachedTasks::new(Arc::clone(&inner), 9);
        let new =
            |index: &str| NewTask { index: Some(index.to_owned()), ..task(TaskStatus::Enqueued) };
        let stored = tasks.insert_many(vec![new("a"), new("b")]).await.unwrap();
        let begun = TaskRecord { canceled_by: Some(TaskUid(9)), ..stored[0].clone() };
        tasks.update(TaskRecord { index: None, ..begun.clone() }).await.unwrap();
        let uids = || vec![TaskUid(1), TaskUid(7), TaskUid(0)];
        for _ in 0..2 {
            let all = tasks.get_many(uids()).await.unwrap();
            assert_eq!(all, [begun.clone(), stored[1].clone()]);
            assert_eq!(all, inner.get_many(uids()).await.unwrap());
            // Behind its back: it is not asked.
            inner.update(TaskRecord { canceled_by: None, ..begun.clone() }).await.unwrap();
            assert_eq!(tasks.get(TaskUid(0)).await.unwrap().as_ref(), Some(&begun));
            inner.update(begun.clone()).await.unwrap();
        }
        tasks.swap_indexes("a".to_owned(), "c".to_owned(), TaskUid(9)).await.unwrap();
        tasks.update(begun.clone()).await.unwrap();
        let renamed = TaskRecord { index: Some("c".to_owned()), ..begun };
        assert_eq!(tasks.get(TaskUid(0)).await.unwrap(), Some(renamed));
    }

    #[tokio::test]
    async fn while_two_change_a_task_the_store_is_asked() {
        let slow = Arc::new(Slow {
            inner: memory::open().tasks,
            read: tokio::sync::Notify::new(),
            go_on: tokio::sync::Notify::new(),
        });
        let tasks = Arc::new(CachedTasks::new(slow.clone(), 9));
        let stored = tasks.insert(task(TaskStatus::Enqueued)).await.unwrap();
        let first = TaskRecord { status: TaskStatus::Processing, ..stored.clone() };
        let held = tokio::spawn({
            let (tasks, first) = (Arc::clone(&tasks), first.clone());
            async move { tasks.update(first).await }
        });
        tokio::task::yield_now().await;
        // The later call is made first.
        tasks.update(TaskRecord { canceled_by: Some(TaskUid(1)), ..stored }).await.unwrap();
        slow.go_on.notify_one();
        held.await.unwrap().unwrap();
        slow.go_on.notify_one();
        assert_eq!(tasks.get(first.uid).await.unwrap(), Some(first));
    }
}
