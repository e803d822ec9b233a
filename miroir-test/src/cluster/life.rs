//! A process that can be killed or held up.
//!
//! What a process that died has under way never goes on. One that is held up neither sends nor hears
//! anything: what it was about to send to a node goes out when it goes on, though nobody may wait
//! for it any more.

use std::future::{Future, pending};

use http_body_util::BodyExt;
use miroir_api::meili::TaskStatus;
use miroir_api::{IndexUid, NodeId, TaskUid};
use miroir_core::keys::ApiKey;
use miroir_core::keys::request::Change;
use miroir_core::view::StaleReplica;
use miroir_pipeline::node::Request;
use miroir_store::records::{NodeRecord, NodeRecords};
use miroir_store::{
    Features, Fence, IndexChange, IndexEntry, Indexes, Keys, Lease, Leases, NewTask, Part,
    PodReport, Pods, Replicas, Roster, Rules, SettingsVersions, StoreError, StoreFuture, Stores,
    TaskPage, TaskQuery, TaskRecord, Tasks, Webhook, Webhooks,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

use super::network::{Common, Stray};
use crate::switch::Switch;
use crate::trace;

/// The life of one process. Clones are the same life.
#[derive(Clone, Debug)]
pub struct Life {
    dead: Arc<Switch>,
    held_up: Arc<Switch>,
    loses_marks: Arc<AtomicBool>,
    /// How wrong its clock is, in milliseconds.
    skew: Arc<AtomicI64>,
    common: Common,
    fence: Arc<Fence>,
}

impl Default for Life {
    fn default() -> Self {
        Self::among(Common::default())
    }
}

impl Life {
    /// One of several processes.
    pub fn among(common: Common) -> Self {
        Self {
            dead: Arc::default(),
            held_up: Arc::default(),
            loses_marks: Arc::default(),
            skew: Arc::new(AtomicI64::new(common.skew().whole_milliseconds() as i64)),
            common,
            fence: Arc::default(),
        }
    }

    /// Holds it up, or lets it go on.
    pub fn hold_up(&self, held_up: bool) {
        self.held_up.turn(held_up);
    }

    /// Resolves once it is not held up.
    pub async fn goes_on(&self) {
        self.held_up.until(false).await;
    }

    /// Ends it.
    pub fn end(&self) {
        self.dead.turn(true);
    }

    /// From now on the store silently forgets which replicas missed something: a broken store, for
    /// tests that must notice it.
    pub fn lose_marks(&self) {
        self.loses_marks.store(true, Ordering::Relaxed);
    }

    /// Its clock is wrong from now on: what it stores as made or enqueued now is at another time.
    pub fn skew_clock(&self, skew: time::Duration) {
        self.skew.store(skew.whole_milliseconds() as i64, Ordering::Relaxed);
    }

    /// A time of its clock.
    fn skewed(&self, at: OffsetDateTime) -> OffsetDateTime {
        let skew = self.skew.load(Ordering::Relaxed);
        if skew != 0 {
            *self.common.network.lock().fired.entry("clock skew").or_default() += 1;
        }
        at + time::Duration::milliseconds(skew)
    }

    /// Resolves when the process has died.
    pub async fn ended(&self) {
        self.dead.until(true).await;
    }

    /// Sends a call to a node, which may arrive late, whatever has become of the process then, and of
    /// whoever waits for it.
    pub async fn send<T: Send + 'static>(
        &self,
        node: &NodeId,
        request: &Request,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let Some(delay) = self.common.delay() else { return self.run(future).await };
        let (this, node, request) = (self.clone(), node.clone(), request.clone());
        let waits = Arc::new(());
        let waiting = Arc::downgrade(&waits);
        let sent = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            if this.dead.is_on() || waiting.strong_count() == 0 {
                let body = request.into_body().collect().await;
                let body = body.map(|body| body.to_bytes()).unwrap_or_default();
                this.common.stray(Stray { node, body });
            }
            future.await
        });
        self.run(async move {
            let sent = sent.await.expect("it does not panic");
            drop(waits);
            sent
        })
        .await
    }

    /// Runs a future as long as the process lives; does not return afterwards.
    pub async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        if self.held_up.is_on() {
            // Whoever waits may give up; it goes out all the same.
            let this = self.clone();
            let sent = tokio::spawn(async move {
                this.goes_on().await;
                this.alive(future).await
            });
            return self.alive(async { sent.await.expect("it does not panic") }).await;
        }
        let out = self.alive(future).await;
        self.alive(self.goes_on()).await;
        out
    }

    async fn alive<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.ended() => pending().await,
            out = future => out,
        }
    }

    fn guard<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            self.goes_on().await;
            if self.dead.is_on() {
                return pending::<Result<T, StoreError>>().await;
            }
            call().await
        })
    }

    /// As `guard`, for what only a leader may do.
    fn change<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        let fence = self.fence.current();
        self.guard(move || {
            let newest = self.common.newest.load(Ordering::Relaxed);
            match fence {
                Err(error) => Box::pin(async { Err(error) }),
                Ok(Some(fence)) if fence < newest => Box::pin(async { Err(StoreError::Deposed) }),
                Ok(_) => call(),
            }
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
            node_records: Arc::new(Mortal {
                inner: Arc::clone(&inner.node_records),
                life: self.clone(),
            }),
            webhooks: Arc::new(Mortal { inner: Arc::clone(&inner.webhooks), life: self.clone() }),
            leases: Arc::new(Mortal { inner: Arc::clone(&inner.leases), life: self.clone() }),
            pods: Arc::new(Mortal { inner: Arc::clone(&inner.pods), life: self.clone() }),
            fence: Arc::clone(&self.fence),
            // Nothing here uses the others.
            ..inner.clone()
        }
    }
}

#[derive(Debug)]
struct Mortal<T: ?Sized> {
    inner: Arc<T>,
    life: Life,
}

impl Tasks for Mortal<dyn Tasks> {
    fn insert_many(&self, mut tasks: Vec<NewTask>) -> StoreFuture<'_, Vec<TaskRecord>> {
        for task in &mut tasks {
            task.enqueued_at = self.life.skewed(task.enqueued_at);
        }
        self.life.change(move || {
            trace::line(|| format!("store gets tasks {tasks:?}"));
            self.inner.insert_many(tasks)
        })
    }
    fn update(&self, task: TaskRecord) -> StoreFuture<'_, ()> {
        self.life.change(move || {
            trace::line(|| format!("store updates {task:?}"));
            self.inner.update(task)
        })
    }
    fn get(&self, uid: TaskUid) -> StoreFuture<'_, Option<TaskRecord>> {
        self.life.guard(move || self.inner.get(uid))
    }
    fn list(&self, query: TaskQuery) -> StoreFuture<'_, TaskPage> {
        self.life.guard(move || self.inner.list(query))
    }
    fn uids(&self, query: TaskQuery) -> StoreFuture<'_, Vec<u32>> {
        self.life.guard(move || self.inner.uids(query))
    }
    fn remove(&self, uids: Vec<u32>) -> StoreFuture<'_, Vec<TaskRecord>> {
        self.life.change(move || self.inner.remove(uids))
    }
    fn swap_indexes(&self, first: String, second: String, before: TaskUid) -> StoreFuture<'_, ()> {
        self.life.change(move || self.inner.swap_indexes(first, second, before))
    }
    fn unfinished(&self) -> StoreFuture<'_, Vec<TaskRecord>> {
        self.life.guard(move || self.inner.unfinished())
    }
    fn index_names(&self) -> StoreFuture<'_, Vec<String>> {
        self.life.guard(move || self.inner.index_names())
    }
    fn counts(&self) -> StoreFuture<'_, Vec<(TaskStatus, u64)>> {
        self.life.guard(move || self.inner.counts())
    }
    fn prune(&self, finished_before: OffsetDateTime) -> StoreFuture<'_, u64> {
        self.life.guard(move || self.inner.prune(finished_before))
    }
}

impl Webhooks for Mortal<dyn Webhooks> {
    fn list(&self) -> StoreFuture<'_, Vec<Webhook>> {
        self.life.guard(move || self.inner.list())
    }
    fn put(&self, hook: Webhook, most: usize) -> StoreFuture<'_, bool> {
        self.life.change(move || self.inner.put(hook, most))
    }
    fn delete(&self, uuid: Uuid) -> StoreFuture<'_, bool> {
        self.life.change(move || self.inner.delete(uuid))
    }
}

impl NodeRecords for Mortal<dyn NodeRecords> {
    fn list(&self) -> StoreFuture<'_, Vec<NodeRecord>> {
        self.life.guard(move || self.inner.list())
    }
    fn put(&self, record: NodeRecord) -> StoreFuture<'_, ()> {
        self.life.change(move || self.inner.put(record))
    }
}

impl Leases for Mortal<dyn Leases> {
    fn acquire(
        &self,
        scope: &str,
        holder: &str,
        _: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, Option<Lease>> {
        let (scope, holder) = (scope.to_owned(), holder.to_owned());
        let common = &self.life.common;
        self.life.guard(move || {
            Box::pin(async move {
                let lease = self.inner.acquire(&scope, &holder, common.now(), ttl).await?;
                if let Some(lease) = lease.as_ref().filter(|lease| lease.scope == Fence::SCOPE) {
                    common.newest.fetch_max(lease.fence, Ordering::Relaxed);
                }
                Ok(lease)
            })
        })
    }
    fn renew(&self, lease: &Lease, _: OffsetDateTime, ttl: Duration) -> StoreFuture<'_, bool> {
        let lease = lease.clone();
        self.life.guard(move || self.inner.renew(&lease, self.life.common.now(), ttl))
    }
    fn release(&self, lease: &Lease, _: OffsetDateTime) -> StoreFuture<'_, bool> {
        let lease = lease.clone();
        self.life.guard(move || self.inner.release(&lease, self.life.common.now()))
    }
}

impl Pods for Mortal<dyn Pods> {
    fn report(&self, pod: PodReport, _: OffsetDateTime, ttl: Duration) -> StoreFuture<'_, Roster> {
        self.life.guard(move || self.inner.report(pod, self.life.common.now(), ttl))
    }
    fn roster(&self, _: OffsetDateTime) -> StoreFuture<'_, Roster> {
        self.life.guard(move || self.inner.roster(self.life.common.now()))
    }
    fn bump_epoch(&self, parts: &[Part]) -> StoreFuture<'_, u64> {
        let parts = parts.to_vec();
        self.life.change(move || self.inner.bump_epoch(&parts))
    }
    fn leave(&self, name: &str) -> StoreFuture<'_, ()> {
        let name = name.to_owned();
        self.life.guard(move || self.inner.leave(&name))
    }
    fn note(&self, note: serde_json::Value) -> StoreFuture<'_, ()> {
        self.life.guard(move || self.inner.note(note))
    }
    fn take_notes(&self) -> StoreFuture<'_, Vec<serde_json::Value>> {
        self.life.change(move || self.inner.take_notes())
    }
}

impl Indexes for Mortal<dyn Indexes> {
    fn get(&self, name: &IndexUid) -> StoreFuture<'_, Option<IndexEntry>> {
        let name = name.clone();
        self.life.guard(move || self.inner.get(&name))
    }
    fn list(&self) -> StoreFuture<'_, Vec<IndexEntry>> {
        self.life.guard(move || self.inner.list())
    }
    fn put(&self, entry: IndexEntry, expected: Option<u64>) -> StoreFuture<'_, bool> {
        self.life.change(move || self.inner.put(entry, expected))
    }
    fn delete(&self, name: &IndexUid, expected: u64) -> StoreFuture<'_, bool> {
        let name = name.clone();
        self.life.change(move || self.inner.delete(&name, expected))
    }
    fn change(&self, changes: Vec<IndexChange>) -> StoreFuture<'_, bool> {
        self.life.change(move || self.inner.change(changes))
    }
}

impl Replicas for Mortal<dyn Replicas> {
    fn mark(&self, stale: Vec<StaleReplica>) -> StoreFuture<'_, ()> {
        if self.life.loses_marks.load(Ordering::Relaxed) {
            return Box::pin(async { Ok(()) });
        }
        self.life.change(move || {
            trace::line(|| format!("store marks {stale:?}"));
            self.inner.mark(stale)
        })
    }
    fn list(&self) -> StoreFuture<'_, Vec<StaleReplica>> {
        self.life.guard(move || self.inner.list())
    }
    fn clear(&self, stale: StaleReplica) -> StoreFuture<'_, bool> {
        self.life.change(move || {
            trace::line(|| format!("store clears {stale:?}"));
            self.inner.clear(stale)
        })
    }
    fn forget_index(&self, index: &str) -> StoreFuture<'_, ()> {
        let index = index.to_owned();
        self.life.change(move || self.inner.forget_index(&index))
    }
}

impl SettingsVersions for Mortal<dyn SettingsVersions> {
    fn set(&self, index: &str, node: &NodeId, version: u64) -> StoreFuture<'_, ()> {
        let (index, node) = (index.to_owned(), node.clone());
        self.life.change(move || self.inner.set(&index, &node, version))
    }
    fn list(&self, index: &str) -> StoreFuture<'_, Vec<(NodeId, u64)>> {
        let index = index.to_owned();
        self.life.guard(move || self.inner.list(&index))
    }
    fn forget(&self, index: &str) -> StoreFuture<'_, ()> {
        let index = index.to_owned();
        self.life.change(move || self.inner.forget(&index))
    }
}

impl Keys for Mortal<dyn Keys> {
    fn seed(&self, keys: Vec<ApiKey>) -> StoreFuture<'_, bool> {
        self.life.change(move || self.inner.seed(keys))
    }
    fn insert(&self, key: ApiKey) -> StoreFuture<'_, bool> {
        self.life.change(move || self.inner.insert(key))
    }
    fn update(
        &self,
        uid: Uuid,
        change: Change,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, Option<ApiKey>> {
        self.life.change(move || self.inner.update(uid, change, now))
    }
    fn delete(&self, uid: Uuid) -> StoreFuture<'_, bool> {
        self.life.change(move || self.inner.delete(uid))
    }
    fn list(&self) -> StoreFuture<'_, Vec<ApiKey>> {
        self.life.guard(move || self.inner.list())
    }
}

impl Rules for Mortal<dyn Rules> {
    fn list(&self) -> StoreFuture<'_, Vec<(String, serde_json::Value)>> {
        self.life.guard(move || self.inner.list())
    }
    fn put(&self, uid: String, rule: serde_json::Value) -> StoreFuture<'_, ()> {
        self.life.change(move || self.inner.put(uid, rule))
    }
    fn delete(&self, uid: String) -> StoreFuture<'_, ()> {
        self.life.change(move || self.inner.delete(uid))
    }
    fn clear(&self) -> StoreFuture<'_, ()> {
        self.life.change(move || self.inner.clear())
    }
}

impl Features for Mortal<dyn Features> {
    fn list(&self) -> StoreFuture<'_, Vec<(String, bool)>> {
        self.life.guard(move || self.inner.list())
    }
    fn set(&self, features: Vec<(String, bool)>) -> StoreFuture<'_, ()> {
        self.life.change(move || self.inner.set(features))
    }
}
