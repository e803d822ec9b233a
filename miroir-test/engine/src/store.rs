//! The indexes of a node: a small catalogue file and one engine environment per index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use milli_core::heed::EnvOpenOptions;
use milli_core::{Error, Index, UserError};

use super::errors::ApiError;

/// Largest size of one index; only address space is reserved, not disk.
const MAP_SIZE: usize = 2 << 30;
const CATALOGUE: &str = "indexes.json";

/// An open index.
#[derive(Clone)]
pub(crate) struct OpenIndex {
    /// Its public name.
    pub(crate) uid: String,
    /// The engine's handle (cheap to clone).
    pub(crate) index: Index,
    folder: String,
}

impl std::fmt::Debug for OpenIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenIndex").field("uid", &self.uid).field("folder", &self.folder).finish()
    }
}

/// All open indexes by uid.
#[derive(Debug)]
pub(crate) struct IndexStore {
    root: PathBuf,
    open: RwLock<BTreeMap<String, Arc<OpenIndex>>>,
}

impl IndexStore {
    /// Opens every index of the catalogue below `root`.
    pub(crate) fn open(root: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(root.join("indexes"))?;
        let names: BTreeMap<String, String> = match std::fs::read(root.join(CATALOGUE)) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let mut open = BTreeMap::new();
        for (uid, folder) in names {
            let index = open_environment(&root.join("indexes").join(&folder), false)
                .map_err(std::io::Error::other)?;
            open.insert(uid.clone(), Arc::new(OpenIndex { uid, index, folder }));
        }
        Ok(Self { root: root.to_owned(), open: RwLock::new(open) })
    }

    /// Finds an index.
    pub(crate) fn get(&self, uid: &str) -> Option<Arc<OpenIndex>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// Finds an index or fails with `index_not_found`.
    pub(crate) fn require(&self, uid: &str) -> Result<Arc<OpenIndex>, ApiError> {
        self.get(uid).ok_or_else(|| ApiError::index_not_found(uid))
    }

    /// All indexes, by uid.
    pub(crate) fn list(&self) -> Vec<Arc<OpenIndex>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Creates an empty index, or returns the existing one.
    pub(crate) fn create(&self, uid: &str) -> Result<Arc<OpenIndex>, ApiError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(existing) = open.get(uid) {
            return Ok(Arc::clone(existing));
        }
        let folder = uuid::Uuid::new_v4().to_string();
        let path = self.root.join("indexes").join(&folder);
        std::fs::create_dir_all(&path)?;
        let index = open_environment(&path, true)?;
        let entry = Arc::new(OpenIndex { uid: uid.to_owned(), index, folder });
        open.insert(uid.to_owned(), Arc::clone(&entry));
        self.save(&open)?;
        Ok(entry)
    }

    /// Forgets an index and removes its files.
    pub(crate) fn remove(&self, uid: &str) -> Result<(), ApiError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = open.remove(uid) else {
            return Err(ApiError::index_not_found(uid));
        };
        self.save(&open)?;
        std::fs::remove_dir_all(self.root.join("indexes").join(&entry.folder))?;
        Ok(())
    }

    /// Gives an index another uid.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), ApiError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = open.remove(from) else {
            return Err(ApiError::index_not_found(from));
        };
        let renamed = OpenIndex { uid: to.to_owned(), ..entry.as_ref().clone() };
        open.insert(to.to_owned(), Arc::new(renamed));
        self.save(&open)
    }

    /// Exchanges pairs of indexes.
    pub(crate) fn swap(&self, left: &str, right: &str) -> Result<(), ApiError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let (Some(a), Some(b)) = (open.get(left).cloned(), open.get(right).cloned()) else {
            let missing = if open.contains_key(left) { right } else { left };
            return Err(ApiError::index_not_found(missing));
        };
        open.insert(
            left.to_owned(),
            Arc::new(OpenIndex { uid: left.to_owned(), ..b.as_ref().clone() }),
        );
        open.insert(
            right.to_owned(),
            Arc::new(OpenIndex { uid: right.to_owned(), ..a.as_ref().clone() }),
        );
        self.save(&open)
    }

    /// Closes every environment, waiting a little for readers that are still at work.
    pub(crate) fn close(&self) {
        let entries =
            std::mem::take(&mut *self.open.write().unwrap_or_else(PoisonError::into_inner));
        for entry in entries.into_values() {
            let closing = entry.index.clone().prepare_for_closing();
            drop(entry);
            closing.wait_timeout(Duration::from_secs(5));
        }
    }

    fn save(&self, open: &BTreeMap<String, Arc<OpenIndex>>) -> Result<(), ApiError> {
        let names: BTreeMap<&str, &str> =
            open.iter().map(|(uid, entry)| (uid.as_str(), entry.folder.as_str())).collect();
        let bytes = serde_json::to_vec(&names).map_err(ApiError::internal)?;
        let temporary = self.root.join("indexes.json.tmp");
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(temporary, self.root.join(CATALOGUE))?;
        Ok(())
    }
}

/// Opens an environment. One that a stopped node has not let go of yet is waited for.
fn open_environment(path: &Path, creation: bool) -> Result<Index, Error> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_SIZE);
        options.max_readers(512);
        match Index::new(options, path, creation) {
            Err(Error::UserError(UserError::EnvAlreadyOpened)) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}
