//! A bounded memory of finished tasks in front of a task store.
//!
//! Clients ask for a task again and again until it has ended, and many keep asking afterwards. A
//! task that has ended does not change any more, so it is kept here; one that has not is always read
//! from the store.
//!
//! Only for a store that nobody else writes. A task that has ended is still deleted, pruned and
//! renamed with its index, and what another process does of these is not seen here: which answer a
//! client gets would depend on who is asked. Asking a shared store whether anything of the kind
//! happened costs as much as asking it for the task, so with such a store there is nothing to keep.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use miroir_api::TaskUid;
use miroir_api::meili::TaskStatus;
use miroir_core::lock::Lock;
use time::OffsetDateTime;

use super::{NewTask, StoreFuture, TaskPage, TaskQuery, TaskRecord, Tasks};

#[derive(Debug, Default)]
struct Kept {
    tasks: BTreeMap<TaskUid, TaskRecord>,
    /// Oldest first.
    order: VecDeque<TaskUid>,
    /// How often tasks that are over were changed or taken away. What was read before may be old.
    turn: u64,
}

impl Kept {
    /// Finished tasks are about to change.
    fn turn(&mut self) {
        self.turn += 1;
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
    /// Keeps at most `size` finished tasks of this store.
    pub fn new(inner: Arc<dyn Tasks>, size: usize) -> Self {
        Self { inner, size, kept: Lock::default() }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Kept) -> T) -> T {
        f(&mut self.kept.lock())
    }

    /// Keeps a task that was read in this turn.
    fn keep(&self, task: &TaskRecord, turn: u64) {
        self.with(|kept| {
            if kept.turn != turn {
                return;
            }
            if !task.status.is_terminal() || self.size == 0 {
                kept.tasks.remove(&task.uid);
                return;
            }
            if kept.tasks.insert(task.uid, task.clone()).is_none() {
                kept.order.push_back(task.uid);
            }
            while kept.order.len() > self.size {
                if let Some(oldest) = kept.order.pop_front() {
                    kept.tasks.remove(&oldest);
                }
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
}

impl Tasks for CachedTasks {
    fn insert(&self, task: NewTask) -> StoreFuture<'_, TaskRecord> {
        self.inner.insert(task)
    }

    fn update(&self, task: TaskRecord) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            // Out first: a reader in between asks the store.
            self.with(|kept| kept.tasks.remove(&task.uid));
            self.inner.update(task).await
        })
    }

    fn update_many(&self, tasks: Vec<TaskRecord>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.with(|kept| {
                for task in &tasks {
                    kept.tasks.remove(&task.uid);
                }
            });
            self.inner.update_many(tasks).await
        })
    }

    fn get(&self, uid: TaskUid) -> StoreFuture<'_, Option<TaskRecord>> {
        Box::pin(async move {
            let (turn, known) = self.with(|kept| (kept.turn, kept.tasks.get(&uid).cloned()));
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
                for task in &removed {
                    kept.tasks.remove(&task.uid);
                }
                let tasks = &kept.tasks;
                kept.order.retain(|uid| tasks.contains_key(uid));
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
                kept.tasks.retain(|_, t| t.finished_at.is_none_or(|at| at >= finished_before));
                let tasks = &kept.tasks;
                kept.order.retain(|uid| tasks.contains_key(uid));
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
        fn insert(&self, task: NewTask) -> StoreFuture<'_, TaskRecord> {
            self.inner.insert(task)
        }
        fn update(&self, task: TaskRecord) -> StoreFuture<'_, ()> {
            self.inner.update(task)
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
        let running = tasks.insert(task(TaskStatus::Enqueued)).await.unwrap();
        for uid in 0..4 {
            assert!(tasks.get(TaskUid(uid)).await.unwrap().is_some());
        }
        assert_eq!(tasks.len(), 2, "two of the three that have ended");
        // What another pod writes is seen as long as the task goes on.
        let ended = TaskRecord { status: TaskStatus::Failed, ..running };
        inner.update(ended.clone()).await.unwrap();
        assert_eq!(tasks.get(ended.uid).await.unwrap(), Some(ended));
        let later = OffsetDateTime::UNIX_EPOCH + time::Duration::days(1);
        tasks.prune(later).await.unwrap();
        assert_eq!(tasks.get(TaskUid(2)).await.unwrap(), None);
    }
}
