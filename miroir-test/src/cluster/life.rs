//! A process that can be killed: what it still has under way never goes on.

use std::future::{Future, pending};

use miroir::keys::ApiKey;
use miroir::keys::request::Change;
use miroir::store::{
    Answer, Features, IndexChange, IndexEntry, Indexes, Keys, Lease, Leases, NewTask, Replicas,
    Rules, SettingsVersions, Stale, StoreError, Stores, TaskPage, TaskQuery, TaskRecord, Tasks,
    Webhook, Webhooks,
};
use miroir_api::meili::TaskStatus;
use miroir_api::{IndexUid, NodeId, TaskUid};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

/// The life of one process. Clones are the same life.
#[derive(Clone, Debug)]
pub struct Life {
    dead: watch::Sender<bool>,
    loses_marks: Arc<AtomicBool>,
}

impl Default for Life {
    fn default() -> Self {
        Self { dead: watch::Sender::new(false), loses_marks: Arc::default() }
    }
}

impl Life {
    /// Ends it.
    pub fn end(&self) {
        self.dead.send_replace(true);
    }

    /// From now on the store silently forgets which replicas missed something: a broken store, for
    /// tests that must notice it.
    pub fn lose_marks(&self) {
        self.loses_marks.store(true, Ordering::Relaxed);
    }

    /// Resolves when the process has died.
    pub async fn ended(&self) {
        let mut dead = self.dead.subscribe();
        if dead.wait_for(|dead| *dead).await.is_err() {
            pending::<()>().await;
        }
    }

    /// Runs a future as long as the process lives; does not return afterwards.
    pub async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.ended() => pending().await,
            out = future => out,
        }
    }

    fn guard<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce() -> Answer<'a, T> + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            if *self.dead.borrow() {
                return pending::<Result<T, StoreError>>().await;
            }
            call().await
        })
    }

    /// Stores as this process sees them.
    pub fn stores(&self, inner: &Stores) -> Stores {
        Stores {
            tasks: Arc::new(Mortal { inner: Arc::clone(&inner.tasks), life: self.clone() }),
            indexes: Arc::new(Mortal { inner: Arc::clone(&inner.indexes), life: self.clone() }),
            replicas: Arc::new(Mortal { inner: Arc::clone(&inner.replicas), life: self.clone() }),
            settings_versions: Arc::new(Mortal {
                inner: Arc::clone(&inner.settings_versions),
                life: self.clone(),
            }),
            keys: Arc::new(Mortal { inner: Arc::clone(&inner.keys), life: self.clone() }),
            features: Arc::new(Mortal { inner: Arc::clone(&inner.features), life: self.clone() }),
            rules: Arc::new(Mortal { inner: Arc::clone(&inner.rules), life: self.clone() }),
            webhooks: Arc::new(Mortal { inner: Arc::clone(&inner.webhooks), life: self.clone() }),
            leases: Arc::new(Mortal { inner: Arc::clone(&inner.leases), life: self.clone() }),
            // One process has them to itself.
            pods: Arc::clone(&inner.pods),
            fence: Arc::clone(&inner.fence),
        }
    }
}

#[derive(Debug)]
struct Mortal<T: ?Sized> {
    inner: Arc<T>,
    life: Life,
}

impl Tasks for Mortal<dyn Tasks> {
    fn insert(&self, task: NewTask) -> Answer<'_, TaskRecord> {
        self.life.guard(move || self.inner.insert(task))
    }
    fn update(&self, task: TaskRecord) -> Answer<'_, ()> {
        self.life.guard(move || self.inner.update(task))
    }
    fn get(&self, uid: TaskUid) -> Answer<'_, Option<TaskRecord>> {
        self.life.guard(move || self.inner.get(uid))
    }
    fn list(&self, query: TaskQuery) -> Answer<'_, TaskPage> {
        self.life.guard(move || self.inner.list(query))
    }
    fn uids(&self, query: TaskQuery) -> Answer<'_, Vec<u32>> {
        self.life.guard(move || self.inner.uids(query))
    }
    fn remove(&self, uids: Vec<u32>) -> Answer<'_, Vec<TaskRecord>> {
        self.life.guard(move || self.inner.remove(uids))
    }
    fn swap_indexes(&self, first: String, second: String, before: TaskUid) -> Answer<'_, ()> {
        self.life.guard(move || self.inner.swap_indexes(first, second, before))
    }
    fn unfinished(&self) -> Answer<'_, Vec<TaskRecord>> {
        self.life.guard(move || self.inner.unfinished())
    }
    fn index_names(&self) -> Answer<'_, Vec<String>> {
        self.life.guard(move || self.inner.index_names())
    }
    fn counts(&self) -> Answer<'_, Vec<(TaskStatus, u64)>> {
        self.life.guard(move || self.inner.counts())
    }
    fn prune(&self, finished_before: OffsetDateTime) -> Answer<'_, u64> {
        self.life.guard(move || self.inner.prune(finished_before))
    }
}

impl Webhooks for Mortal<dyn Webhooks> {
    fn list(&self) -> Answer<'_, Vec<Webhook>> {
        self.life.guard(move || self.inner.list())
    }
    fn put(&self, hook: Webhook, most: usize) -> Answer<'_, bool> {
        self.life.guard(move || self.inner.put(hook, most))
    }
    fn delete(&self, uuid: Uuid) -> Answer<'_, bool> {
        self.life.guard(move || self.inner.delete(uuid))
    }
}

impl Leases for Mortal<dyn Leases> {
    fn acquire(
        &self,
        scope: &str,
        holder: &str,
        now: OffsetDateTime,
        ttl: Duration,
    ) -> Answer<'_, Option<Lease>> {
        let (scope, holder) = (scope.to_owned(), holder.to_owned());
        self.life.guard(move || self.inner.acquire(&scope, &holder, now, ttl))
    }
    fn renew(&self, lease: &Lease, now: OffsetDateTime, ttl: Duration) -> Answer<'_, bool> {
        let lease = lease.clone();
        self.life.guard(move || self.inner.renew(&lease, now, ttl))
    }
    fn release(&self, lease: &Lease, now: OffsetDateTime) -> Answer<'_, bool> {
        let lease = lease.clone();
        self.life.guard(move || self.inner.release(&lease, now))
    }
}

impl Indexes for Mortal<dyn Indexes> {
    fn get(&self, name: &IndexUid) -> Answer<'_, Option<IndexEntry>> {
        let name = name.clone();
        self.life.guard(move || self.inner.get(&name))
    }
    fn list(&self) -> Answer<'_, Vec<IndexEntry>> {
        self.life.guard(move || self.inner.list())
    }
    fn put(&self, entry: IndexEntry, expected: Option<u64>) -> Answer<'_, bool> {
        self.life.guard(move || self.inner.put(entry, expected))
    }
    fn delete(&self, name: &IndexUid, expected: u64) -> Answer<'_, bool> {
        let name = name.clone();
        self.life.guard(move || self.inner.delete(&name, expected))
    }
    fn change(&self, changes: Vec<IndexChange>) -> Answer<'_, bool> {
        self.life.guard(move || self.inner.change(changes))
    }
}

impl Replicas for Mortal<dyn Replicas> {
    fn mark(&self, stale: Vec<Stale>) -> Answer<'_, ()> {
        if self.life.loses_marks.load(Ordering::Relaxed) {
            return Box::pin(async { Ok(()) });
        }
        self.life.guard(move || self.inner.mark(stale))
    }
    fn list(&self) -> Answer<'_, Vec<Stale>> {
        self.life.guard(move || self.inner.list())
    }
    fn clear(&self, stale: Stale) -> Answer<'_, bool> {
        self.life.guard(move || self.inner.clear(stale))
    }
    fn forget_index(&self, index: &str) -> Answer<'_, ()> {
        let index = index.to_owned();
        self.life.guard(move || self.inner.forget_index(&index))
    }
}

impl SettingsVersions for Mortal<dyn SettingsVersions> {
    fn set(&self, index: &str, node: &NodeId, version: u64) -> Answer<'_, ()> {
        let (index, node) = (index.to_owned(), node.clone());
        self.life.guard(move || self.inner.set(&index, &node, version))
    }
    fn list(&self, index: &str) -> Answer<'_, Vec<(NodeId, u64)>> {
        let index = index.to_owned();
        self.life.guard(move || self.inner.list(&index))
    }
    fn forget(&self, index: &str) -> Answer<'_, ()> {
        let index = index.to_owned();
        self.life.guard(move || self.inner.forget(&index))
    }
}

impl Keys for Mortal<dyn Keys> {
    fn seed(&self, keys: Vec<ApiKey>) -> Answer<'_, bool> {
        self.life.guard(move || self.inner.seed(keys))
    }
    fn insert(&self, key: ApiKey) -> Answer<'_, bool> {
        self.life.guard(move || self.inner.insert(key))
    }
    fn update(&self, uid: Uuid, change: Change, now: OffsetDateTime) -> Answer<'_, Option<ApiKey>> {
        self.life.guard(move || self.inner.update(uid, change, now))
    }
    fn delete(&self, uid: Uuid) -> Answer<'_, bool> {
        self.life.guard(move || self.inner.delete(uid))
    }
    fn list(&self) -> Answer<'_, Vec<ApiKey>> {
        self.life.guard(move || self.inner.list())
    }
}

impl Rules for Mortal<dyn Rules> {
    fn list(&self) -> Answer<'_, Vec<(String, serde_json::Value)>> {
        self.life.guard(move || self.inner.list())
    }
    fn put(&self, uid: String, rule: serde_json::Value) -> Answer<'_, ()> {
        self.life.guard(move || self.inner.put(uid, rule))
    }
    fn delete(&self, uid: String) -> Answer<'_, ()> {
        self.life.guard(move || self.inner.delete(uid))
    }
    fn clear(&self) -> Answer<'_, ()> {
        self.life.guard(move || self.inner.clear())
    }
}

impl Features for Mortal<dyn Features> {
    fn list(&self) -> Answer<'_, Vec<(String, bool)>> {
        self.life.guard(move || self.inner.list())
    }
    fn set(&self, features: Vec<(String, bool)>) -> Answer<'_, ()> {
        self.life.guard(move || self.inner.set(features))
    }
}
