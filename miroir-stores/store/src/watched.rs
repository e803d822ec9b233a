//! The task registry with an ear for tasks that finish, for webhooks, and for those that have not, for
//! whoever follows them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use miroir_api::TaskUid;
use miroir_api::meili::TaskStatus;
use miroir_core::lock::Lock;
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::open_tasks::OpenTasks;
use super::{NewTask, StoreFuture, TaskPage, TaskQuery, TaskRecord, Tasks};

/// Tasks that finished and that webhooks are yet to be told of. Kept in memory: what is in it when the
/// process ends is not told, as with one node.
#[derive(Debug, Default)]
pub struct Outbox {
    wanted: AtomicBool,
    uids: Lock<BTreeSet<TaskUid>>,
    changed: Notify,
}

impl Outbox {
    /// Says whether anybody wants to know. Nothing is kept while nobody does.
    pub fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
        if !wanted {
            self.uids.lock().clear();
        }
    }

    fn add(&self, uid: TaskUid) {
        if self.wanted.load(Ordering::Relaxed) {
            self.uids.lock().insert(uid);
            self.changed.notify_one();
        }
    }

    /// Waits until there is something, and takes all of it, by uid.
    pub async fn take(&self) -> Vec<TaskUid> {
        loop {
            let uids = {
                let mut uids = self.uids.lock();
                std::mem::take(&mut *uids)
            };
            if !uids.is_empty() {
                return uids.into_iter().collect();
            }
            self.changed.notified().await;
        }
    }
}

/// A registry that puts what finishes into an outbox, and keeps what is unfinished in memory.
#[derive(Debug)]
pub struct Watched {
    inner: Arc<dyn Tasks>,
    outbox: Arc<Outbox>,
    open: Arc<OpenTasks>,
}

impl Watched {
    /// Watches a registry.
    pub fn new(inner: Arc<dyn Tasks>, outbox: Arc<Outbox>, open: Arc<OpenTasks>) -> Self {
        Self { inner, outbox, open }
    }

    fn written(&self, task: &TaskRecord) {
        self.open.note(task);
        if task.status.is_terminal() {
            self.outbox.add(task.uid);
        }
    }
}

impl Tasks for Watched {
    fn insert_many(&self, tasks: Vec<NewTask>) -> StoreFuture<'_, Vec<TaskRecord>> {
        Box::pin(async move {
            // Of those that failed nobody knows whether they were stored.
            let stored = self.inner.insert_many(tasks).await.inspect_err(|_| self.open.doubt())?;
            for task in &stored {
                self.written(task);
            }
            Ok(stored)
        })
    }

    /// Nobody changes a task that is over, so one that is now has just finished.
    fn update(&self, task: TaskRecord) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.inner.update(task.clone()).await?;
            self.written(&task);
            Ok(())
        })
    }

    fn update_many(&self, tasks: Vec<TaskRecord>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.inner.update_many(tasks.clone()).await?;
            for task in &tasks {
                self.written(task);
            }
            Ok(())
        })
    }

    fn get(&self, uid: TaskUid) -> StoreFuture<'_, Option<TaskRecord>> {
        self.inner.get(uid)
    }

    fn get_many(&self, uids: Vec<TaskUid>) -> StoreFuture<'_, Vec<TaskRecord>> {
        self.inner.get_many(uids)
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

    fn swap_indexes(&self, first: String, second: String, before: TaskUid) -> StoreFuture<'_, ()> {
        self.inner.swap_indexes(first, second, before)
    }

    fn index_names(&self) -> StoreFuture<'_, Vec<String>> {
        self.inner.index_names()
    }

    fn unfinished(&self) -> StoreFuture<'_, Vec<TaskRecord>> {
        self.inner.unfinished()
    }

    fn counts(&self) -> StoreFuture<'_, Vec<(TaskStatus, u64)>> {
        self.inner.counts()
    }

    fn prune(&self, finished_before: OffsetDateTime) -> StoreFuture<'_, u64> {
        self.inner.prune(finished_before)
    }
}
