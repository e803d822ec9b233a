//! What Miroir remembers: one small trait per concern, each with its atomicity.
//!
//! A layer or worker takes the trait it needs; [`Stores`] is only the bundle a backend returns. All
//! methods are atomic by themselves and durable when they return, as far as the backend is.
//! [`memory`] is the reference implementation.

mod cache;
pub mod clock;
mod fence;
mod index_entry;
pub mod memory;
pub mod migrations;
pub mod open_tasks;
mod processes;
pub mod records;
mod registry;
pub mod task_state;
mod types;
pub mod watched;
mod webhook;

use miroir_core::view::StaleReplica;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use miroir_api::meili::TaskStatus;
use miroir_api::{IndexUid, NodeId, TaskUid};
use time::OffsetDateTime;
use uuid::Uuid;

use miroir_core::keys::ApiKey;
use miroir_core::keys::request::Change;

pub use cache::CachedTasks;
pub use fence::Fence;
pub use index_entry::{IndexChange, IndexEntry};
pub use processes::{Claim, Job, Lease, NewJob, Part, PodReport, Roster};
pub use records::StoreId;
pub use registry::TaskRegistryOptions;
pub use task_state::{TaskProtocol, TaskState};
pub use types::{NewTask, NodeTask, Place, TaskPage, TaskQuery, TaskRecord};
pub use webhook::Webhook;

/// The store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The backend failed.
    #[error("the store failed: {0}")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another pod leads by now, so this one must not change anything. Nothing was changed.
    #[error("this pod does not lead any more")]
    Deposed,
    /// Another process has the store to itself.
    #[error(
        "the store is in use by {holder}, and two processes over one file would overwrite each \
         other's changes. Stop that process, or give this one a file of its own; several pods share \
         a Redis"
    )]
    InUse {
        /// Which process that is, as far as it says.
        holder: String,
    },
    /// The tables of a feature that is off are not there.
    #[error("the store has no tables for `{0}`: switch the feature on and start Miroir again")]
    FeatureOff(&'static str),
    /// The database was written by a newer Miroir.
    #[error(
        "schema_version_ahead: the store is at schema version {found}, this program knows {known}. \
         Start a newer Miroir, or restore the store from before the upgrade."
    )]
    SchemaVersionAhead {
        /// Version in the store.
        found: u32,
        /// Newest version this program knows.
        known: u32,
    },
}

/// Result of a store call.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The task registry. Allocates the integer uids clients see.
pub trait Tasks: Send + Sync + fmt::Debug {
    /// Allocates the next uids and inserts the tasks, in one step, all or none. Uids are unique, start at
    /// 0 and grow by one; those of one call follow each other.
    fn insert_many(&self, tasks: Vec<NewTask>) -> StoreFuture<'_, Vec<TaskRecord>>;
    /// Inserts one task, as by [`Tasks::insert_many`].
    fn insert(&self, task: NewTask) -> StoreFuture<'_, TaskRecord> {
        Box::pin(async move {
            let stored = self.insert_many(vec![task]).await?.pop();
            stored.ok_or_else(|| StoreError::Backend("a task was not stored".into()))
        })
    }
    /// Replaces a task, whole but for its index, which only [`Tasks::swap_indexes`] changes: who
    /// advances a task does not undo a swap of names meanwhile. Nothing happens if it does not exist.
    fn update(&self, task: TaskRecord) -> StoreFuture<'_, ()>;
    /// Replaces several tasks, each as by [`Tasks::update`]. Not atomic: a failure may leave some of
    /// them replaced.
    fn update_many(&self, tasks: Vec<TaskRecord>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            for task in tasks {
                self.update(task).await?;
            }
            Ok(())
        })
    }
    /// One task.
    fn get(&self, uid: TaskUid) -> StoreFuture<'_, Option<TaskRecord>>;
    /// These tasks, oldest first. Those that are not there are left out.
    fn get_many(&self, uids: Vec<TaskUid>) -> StoreFuture<'_, Vec<TaskRecord>> {
        let uids = Some(uids.iter().map(|uid| uid.0).collect());
        let query = TaskQuery { uids, limit: usize::MAX, reverse: true, ..TaskQuery::default() };
        Box::pin(async move { Ok(self.list(query).await?.tasks) })
    }
    /// Tasks that match, newest first unless `reverse`; see [`TaskQuery`].
    fn list(&self, query: TaskQuery) -> StoreFuture<'_, TaskPage>;
    /// Uids of all tasks that match, ascending, whatever `from`, `limit` and `reverse` say.
    fn uids(&self, query: TaskQuery) -> StoreFuture<'_, Vec<u32>>;
    /// Forgets those of these tasks that are terminal, in one step, and answers them as they were,
    /// by uid. Their uids are not given again.
    fn remove(&self, uids: Vec<u32>) -> StoreFuture<'_, Vec<TaskRecord>>;
    /// Exchanges two names in every task before `before`, in one step; see [`TaskRecord::rename`].
    fn swap_indexes(&self, first: String, second: String, before: TaskUid) -> StoreFuture<'_, ()>;
    /// All tasks that are not terminal, oldest first.
    fn unfinished(&self) -> StoreFuture<'_, Vec<TaskRecord>>;
    /// The names of the indexes that tasks are about, in order.
    fn index_names(&self) -> StoreFuture<'_, Vec<String>>;
    /// How many tasks have each status.
    fn counts(&self) -> StoreFuture<'_, Vec<(TaskStatus, u64)>>;
    /// Forgets terminal tasks that finished before the instant; returns how many.
    fn prune(&self, finished_before: OffsetDateTime) -> StoreFuture<'_, u64>;
}

/// The index catalogue.
pub trait Indexes: Send + Sync + fmt::Debug {
    /// One entry, by client-visible name.
    fn get(&self, name: &IndexUid) -> StoreFuture<'_, Option<IndexEntry>>;
    /// All entries, by name.
    fn list(&self) -> StoreFuture<'_, Vec<IndexEntry>>;
    /// Compare-and-set: writes the entry if the stored `version` is `expected` (`None`: there is no
    /// entry). The stored version becomes `entry.version`. Returns whether it was written.
    fn put(&self, entry: IndexEntry, expected: Option<u64>) -> StoreFuture<'_, bool>;
    /// Deletes the entry if its version is `expected`. Returns whether it did.
    fn delete(&self, name: &IndexUid, expected: u64) -> StoreFuture<'_, bool>;
    /// Several changes as by `put` and `delete`, all or nothing: none is made unless every entry has
    /// the version it is expected to have. Returns whether they were made.
    fn change(&self, changes: Vec<IndexChange>) -> StoreFuture<'_, bool>;
}

/// Replicas that missed something and must not be read until they caught up.
pub trait Replicas: Send + Sync + fmt::Debug {
    /// Remembers, all or nothing. A stronger kind replaces a weaker one for the same key
    /// (`node`, `index`, `shard`); marking again raises the row's `generation`.
    fn mark(&self, stale: Vec<StaleReplica>) -> StoreFuture<'_, ()>;
    /// Everything remembered, ordered by node, index, shard.
    fn list(&self) -> StoreFuture<'_, Vec<StaleReplica>>;
    /// Forgets one row if its generation is still the given one. Returns whether it did, so that a
    /// repair that raced with a new miss does not clear it.
    fn clear(&self, stale: StaleReplica) -> StoreFuture<'_, bool>;
    /// Forgets everything about an index, for all nodes, except
    /// [`miroir_core::view::CatchUp::Deleted`] rows.
    fn forget_index(&self, index: &str) -> StoreFuture<'_, ()>;
}

/// Which settings version each node is known to have.
pub trait SettingsVersions: Send + Sync + fmt::Debug {
    /// Records a verified version for one node of one physical index. Never goes backwards.
    fn set(&self, index: &str, node: &NodeId, version: u64) -> StoreFuture<'_, ()>;
    /// Versions of all nodes of one physical index, by node.
    fn list(&self, index: &str) -> StoreFuture<'_, Vec<(NodeId, u64)>>;
    /// Forgets an index.
    fn forget(&self, index: &str) -> StoreFuture<'_, ()>;
}

/// API keys. Their secrets are derived, never stored.
pub trait Keys: Send + Sync + fmt::Debug {
    /// Inserts all of these if there is no key at all, in one step. Returns whether it did.
    fn seed(&self, keys: Vec<ApiKey>) -> StoreFuture<'_, bool>;
    /// Inserts the key if none has its uid, in one step. Returns whether it did.
    fn insert(&self, key: ApiKey) -> StoreFuture<'_, bool>;
    /// Changes what a key is called and when it was updated, in one step with reading it, so that
    /// of two changes none is lost. The key as it is then; `None` if there is none.
    fn update(
        &self,
        uid: Uuid,
        change: Change,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, Option<ApiKey>>;
    /// Deletes a key. Returns whether there was one.
    fn delete(&self, uid: Uuid) -> StoreFuture<'_, bool>;
    /// All keys, newest first: by `created_at`, and of the same instant the one inserted last.
    fn list(&self) -> StoreFuture<'_, Vec<ApiKey>>;
}

/// Experimental features as clients set them, so that a node that missed the change gets them.
pub trait Features: Send + Sync + fmt::Debug {
    /// Everything set so far, by name.
    fn list(&self) -> StoreFuture<'_, Vec<(String, bool)>>;
    /// Sets these and leaves the others, all or nothing. The last of two concurrent calls stays.
    fn set(&self, features: Vec<(String, bool)>) -> StoreFuture<'_, ()>;
}

/// Search rules, each a JSON object as clients see it.
pub trait Rules: Send + Sync + fmt::Debug {
    /// All of them, by uid.
    fn list(&self) -> StoreFuture<'_, Vec<(String, serde_json::Value)>>;
    /// Inserts or replaces one. The last of two concurrent calls stays.
    fn put(&self, uid: String, rule: serde_json::Value) -> StoreFuture<'_, ()>;
    /// Deletes one, if there is one.
    fn delete(&self, uid: String) -> StoreFuture<'_, ()>;
    /// Deletes all of them.
    fn clear(&self) -> StoreFuture<'_, ()>;
}

/// Where to tell of finished tasks.
pub trait Webhooks: Send + Sync + fmt::Debug {
    /// All of them, by uuid.
    fn list(&self) -> StoreFuture<'_, Vec<Webhook>>;
    /// Inserts or replaces one, in one step with counting: not if it is new and there are `most`
    /// already. Returns whether it was written.
    fn put(&self, hook: Webhook, most: usize) -> StoreFuture<'_, bool>;
    /// Deletes one. Returns whether there was one.
    fn delete(&self, uuid: Uuid) -> StoreFuture<'_, bool>;
}

/// Leases: what one of several processes does at a time.
///
/// A lease is in force until it is released or `ttl` has passed since it was last acquired or
/// renewed. A backend that one machine uses goes by the caller's `now`; one that several share goes
/// by a clock of its own and ignores `now`, because callers' clocks differ. Either way a holder has
/// to stop by itself, `ttl` after it *began* the last call that was answered, by a clock that does
/// not jump.
///
/// That is not enough where a holder is held up and acts late: what it does elsewhere carries the
/// lease's [`Lease::fence`], and whoever is asked refuses a fence lower than one it has seen.
pub trait Leases: Send + Sync + fmt::Debug {
    /// Takes the lease of a scope, in one step, unless another holds it; `None` if so. For who holds
    /// it already it is prolonged. Otherwise a new lease begins, whose fence is one more than that of
    /// the scope's lease before: the first has 1, and a fence is never given twice.
    fn acquire(
        &self,
        scope: &str,
        holder: &str,
        now: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, Option<Lease>>;
    /// Prolongs a lease to `ttl` from now if it is in force, in one step. Returns whether it was: one
    /// that ended is not revived, even if nobody took it.
    fn renew(&self, lease: &Lease, now: OffsetDateTime, ttl: Duration) -> StoreFuture<'_, bool>;
    /// Ends a lease if it is in force, in one step. Returns whether it was.
    fn release(&self, lease: &Lease, now: OffsetDateTime) -> StoreFuture<'_, bool>;
}

/// The pods of one deployment: who is there, and how far each has read.
///
/// What pods keep in memory of the other stores has an *epoch*. Whoever changes what others keep
/// raises it, and waits until every pod has reported it or its last word has run out. As with
/// [`Leases`], a shared backend goes by a clock of its own.
pub trait Pods: Send + Sync + fmt::Debug {
    /// Says that a pod is there, in one step with reading who else is. Its word counts for `ttl` if
    /// it has seen the newest epoch. While it counts, it is prolonged if the pod has seen the epoch
    /// that was answered to its report before: then it follows, however fast epochs are raised, and
    /// who raised them still waits for it. Otherwise what is left of its last word counts, so that a
    /// pod that cannot follow delays the others for a bounded time. See [`Roster::accepted`].
    fn report(&self, pod: PodReport, now: OffsetDateTime, ttl: Duration)
    -> StoreFuture<'_, Roster>;
    /// The newest epoch, and the pods whose word still counts, by name.
    fn roster(&self, now: OffsetDateTime) -> StoreFuture<'_, Roster>;
    /// Raises the epoch by one because these parts changed; returns the new one.
    fn bump_epoch(&self, parts: &[Part]) -> StoreFuture<'_, u64>;
    /// Takes back a pod's word.
    fn leave(&self, name: &str) -> StoreFuture<'_, ()>;
    /// Leaves a note for whoever leads. Anybody may.
    fn note(&self, note: serde_json::Value) -> StoreFuture<'_, ()>;
    /// Takes all notes, oldest first, in one step: each is taken once.
    fn take_notes(&self) -> StoreFuture<'_, Vec<serde_json::Value>>;
}

/// Queues of work that any pod may do, a job at a time.
///
/// A job is *claimed* for a while. Who works on it prolongs the claim and says how far it has come;
/// when a claim runs out, the next one begins there. What a former claim still says is refused. As
/// with [`Leases`], a shared backend goes by a clock of its own.
pub trait Jobs: Send + Sync + fmt::Debug {
    /// Adds jobs in their order, all or nothing. A job whose id is there already stays as it is.
    /// Returns how many were new.
    fn put(&self, jobs: Vec<NewJob>) -> StoreFuture<'_, u64>;
    /// Claims the oldest job of a queue that nobody has claimed and that did not fail, in one step;
    /// if there is none, the one whose claim ran out first.
    fn claim(&self, kind: &str, now: OffsetDateTime, ttl: Duration)
    -> StoreFuture<'_, Option<Job>>;
    /// Prolongs a claim to `ttl` from now and remembers how far the work has come, in one step.
    /// Returns whether the claim still counted.
    fn advance(
        &self,
        claim: &Claim,
        cursor: serde_json::Value,
        now: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, bool>;
    /// Takes a job out of its queue and adds what follows from it, as by `put`, in one step. Answers
    /// whether the claim still counted; nothing is added otherwise.
    fn finish(
        &self,
        claim: &Claim,
        follow: Vec<NewJob>,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, bool>;
    /// Gives a job back, to be tried again from where it is; or, with `for_good`, never again: then
    /// it stays, with the reason. Returns whether the claim still counted.
    fn fail(
        &self,
        claim: &Claim,
        reason: String,
        for_good: bool,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, bool>;
    /// All jobs of a queue, oldest first, failed ones included.
    fn list(&self, kind: &str) -> StoreFuture<'_, Vec<Job>>;
    /// Takes a job out, whatever its state. Returns whether there was one.
    fn remove(&self, id: &str) -> StoreFuture<'_, bool>;
}

/// What a backend returns.
#[derive(Clone, Debug)]
pub struct Stores {
    /// Tasks that clients see, and what nodes do of them.
    pub tasks: Arc<dyn Tasks>,
    /// The catalogue: which indexes there are, and under which names.
    pub indexes: Arc<dyn Indexes>,
    /// Replicas that must not be read until they caught up.
    pub replicas: Arc<dyn Replicas>,
    /// Which version of its settings each node has.
    pub settings_versions: Arc<dyn SettingsVersions>,
    /// API keys; their secrets are derived, never stored.
    pub keys: Arc<dyn Keys>,
    /// Experimental features as clients set them.
    pub features: Arc<dyn Features>,
    /// Dynamic search rules as clients set them.
    pub rules: Arc<dyn Rules>,
    /// Where finished tasks are posted to.
    pub webhooks: Arc<dyn Webhooks>,
    /// Who of several pods does what alone.
    pub leases: Arc<dyn Leases>,
    /// Queues of long work that is cut into jobs.
    pub jobs: Arc<dyn Jobs>,
    /// The pods that are there, and how far each has read.
    pub pods: Arc<dyn Pods>,
    /// What changes carry with them, where a backend checks it.
    pub fence: Arc<Fence>,
    /// What the store is called.
    pub identity: Arc<dyn records::Identity>,
    /// What is known of each node.
    pub node_records: Arc<dyn records::NodeRecords>,
    /// Token buckets of rate limits.
    pub buckets: Arc<dyn records::Buckets>,
    /// Names that stand for indexes.
    pub aliases: Arc<dyn records::Aliases>,
    /// What sessions have written.
    pub sessions: Arc<dyn records::Sessions>,
    /// Answers to writes with a key.
    pub idempotency: Arc<dyn records::Idempotency>,
    /// Canaries and their last runs.
    pub canaries: Arc<dyn records::Canaries>,
    /// How far each sink of changes has read.
    pub cursors: Arc<dyn records::Cursors>,
    /// Tenants of API keys.
    pub tenants: Arc<dyn records::Tenants>,
    /// Policies by which an alias moves on to a new index.
    pub rollovers: Arc<dyn records::Rollovers>,
    /// Configurations and keys of search pages.
    pub search_ui: Arc<dyn records::SearchUi>,
    /// Sessions of the console, and failed logins.
    pub admin_sessions: Arc<dyn records::AdminSessions>,
    /// Changes that a sink has not taken yet.
    pub overflow: Arc<dyn records::Overflow>,
    /// Queries that nodes do not survive.
    pub query_failures: Arc<dyn records::QueryFailures>,
}

/// [`Stores`] from what a backend has itself and the [`records::Typed`] stores over its primitives:
/// `stores!(typed; tasks: …, indexes: …)`, with a value for every field that is not one of those.
#[macro_export]
macro_rules! stores {
    ($typed:expr; $($field:ident: $store:expr),+ $(,)?) => {{
        let typed: ::std::sync::Arc<$crate::records::Typed> = $typed;
        $crate::Stores {
            $($field: $store,)+
            identity: typed.clone(),
            node_records: typed.clone(),
            aliases: typed.clone(),
            sessions: typed.clone(),
            idempotency: typed.clone(),
            canaries: typed.clone(),
            cursors: typed.clone(),
            tenants: typed.clone(),
            rollovers: typed.clone(),
            search_ui: typed.clone(),
            admin_sessions: typed.clone(),
            overflow: typed.clone(),
            query_failures: typed,
        }
    }};
}
