//! SQLite backend of Miroir's store traits: one file, one pod.
//!
//! # What is durable
//!
//! A call answers after its change is committed and, by default, synced to disk
//! ([`Durability::Synced`]). One writer thread commits everything that waits in one transaction, so
//! that concurrent calls share the sync and a busy Miroir pays for it once per batch.
//!
//! [`Durability::Flushed`] leaves out the sync per commit. A crash of Miroir still loses nothing,
//! but a crash of the machine may lose the last commits, and that is more than some history:
//! - task uids that clients already hold are given to other tasks;
//! - a replica that missed an acknowledged write is no longer known to be stale and is read;
//! - a swap, rename or cut-over of the index catalogue is undone after it was acknowledged.
//!
//! It is meant for tests and for data that can be loaded again.
//!
//! # Threads
//!
//! Nothing here blocks an async thread: writes go to the writer thread, reads to Tokio's blocking
//! pool on a few connections of their own. A call that has reached the writer takes effect even if
//! its caller goes away.
//!
//! # Files
//!
//! The database is in WAL mode: beside `path` there are `path-wal` and `path-shm` while it is open.
//! Network file systems cannot hold it.
//!
//! One process has the file to itself, because a Miroir keeps in memory what it last wrote: [`open`]
//! takes a lock on `path.lock`, which the system gives up with the process, however that ends, and
//! refuses a file whose lock is taken ([`StoreError::InUse`]). The lock is a file of its own, since
//! SQLite's locks end where any handle of the database file is closed.

mod database;
mod features;
mod indexes;
mod jobs;
mod keys;
mod leases;
mod logs;
mod migrations;
mod owner;
mod records;
mod replicas;
mod rules;
mod settings;
mod tasks;
mod webhooks;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use miroir_store::records::Typed;
use miroir_store::{StoreError, Stores};

use database::Database;

/// How much a committed change survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Crashes of Miroir and of the machine.
    #[default]
    Synced,
    /// Crashes of Miroir only; see the crate's page for what a crash of the machine costs.
    Flushed,
}

/// How to open a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Features whose tables are there, of [`miroir_store::records::FEATURES`]. Tables stay when
    /// their feature is switched off, and are not used.
    pub features: Vec<&'static str>,
    /// How much a committed change survives.
    pub durability: Durability,
    /// Connections for reading, and so how many reads run at once; at least 1.
    pub readers: usize,
    /// Most calls that share one commit; at least 1.
    pub batch: usize,
    /// Calls that may wait for the writer before callers wait for room; at least 1.
    pub queue: usize,
    /// How long to wait for another process that has the file, and may be ending; 2 s by default.
    /// With `None` the file is shared with whoever has it, which is for tests and tools: each handle
    /// commits by itself, and none learns what another changed.
    pub patience: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            features: Vec::new(),
            durability: Durability::default(),
            readers: 4,
            batch: 256,
            queue: 1024,
            patience: Some(Duration::from_secs(2)),
        }
    }
}

/// Opens the database at `path`, creating it or bringing it up to date if need be.
///
/// Blocks for a few milliseconds, longer if there is something to migrate or to wait for
/// ([`Options::patience`]): call it at the start.
/// The file is closed once the last of the returned stores is dropped and the writer has done what
/// was queued.
///
/// # Errors
/// [`StoreError::InUse`] if another process has the file, [`StoreError::SchemaVersionAhead`] if a
/// newer Miroir wrote the database, otherwise
/// [`StoreError::Backend`] with SQLite's reason.
pub fn open(path: &Path, options: Options) -> Result<Stores, StoreError> {
    let database = Arc::new(Database::open(path, &options)?);
    let typed = Typed::new(
        Arc::new(records::SqliteRecords(Arc::clone(&database))),
        Arc::new(logs::SqliteLogs(Arc::clone(&database))),
        // One process has the file to itself, and limits and channels to the same end.
        miroir_store::memory::signals(),
    );
    Ok(miroir_store::stores! {
        typed;
        tasks: Arc::new(tasks::SqliteTasks(Arc::clone(&database))),
        indexes: Arc::new(indexes::SqliteIndexes(Arc::clone(&database))),
        replicas: Arc::new(replicas::SqliteReplicas(Arc::clone(&database))),
        settings_versions: Arc::new(settings::SqliteSettingsVersions(Arc::clone(&database))),
        features: Arc::new(features::SqliteFeatures(Arc::clone(&database))),
        keys: Arc::new(keys::SqliteKeys(Arc::clone(&database))),
        rules: Arc::new(rules::SqliteRules(Arc::clone(&database))),
        webhooks: Arc::new(webhooks::SqliteWebhooks(Arc::clone(&database))),
        jobs: Arc::new(jobs::SqliteJobs(Arc::clone(&database))),
        leases: Arc::new(leases::SqliteLeases(database)),
        // One process has the file to itself.
        pods: miroir_store::memory::pods(),
        fence: Arc::default(),
        buckets: miroir_store::memory::buckets(),
    })
}
