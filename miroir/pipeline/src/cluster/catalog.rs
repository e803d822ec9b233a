//! The index catalogue: what readers see, and compare-and-set for writers.
//!
//! A change is made to the index it was decided on, and to no other: an index is deleted and made
//! again, and names are swapped, while something that was decided before is still under way. So every
//! change names the *incarnation* it is about, which is compared where the entry is written, and
//! nothing changes if that index is not there any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use miroir_api::IndexUid;
use miroir_core::lock::{Lock, ReadWriteLock};
use miroir_store::{IndexChange, IndexEntry, Indexes, Part, StoreError, TaskRecord};
use time::OffsetDateTime;
use tokio::sync::{Mutex, MutexGuard};

use super::leadership::Leadership;

/// The entries, by the names that clients use and by those that nodes use.
#[derive(Debug, Default)]
struct Entries {
    by_name: BTreeMap<IndexUid, Arc<IndexEntry>>,
    by_physical: HashMap<String, Arc<IndexEntry>>,
}

impl Entries {
    fn remove(&mut self, name: &IndexUid) {
        let Some(gone) = self.by_name.remove(name) else { return };
        // Of a swap the other half may have been written already.
        let listed = self.by_physical.get(&gone.physical);
        if listed.is_some_and(|listed| listed.name == *name) {
            self.by_physical.remove(&gone.physical);
        }
    }

    fn insert(&mut self, entry: Arc<IndexEntry>) {
        self.remove(&entry.name);
        self.by_physical.insert(entry.physical.clone(), Arc::clone(&entry));
        self.by_name.insert(entry.name.clone(), entry);
    }
}

/// An update of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Update {
    at: OffsetDateTime,
    /// Whether the index is there for good because of it.
    makes: bool,
}

impl Update {
    fn and(self, other: Self) -> Self {
        Self { at: self.at.max(other.at), makes: self.makes || other.makes }
    }

    /// Whether an entry says this already.
    fn is_in(self, entry: &IndexEntry) -> bool {
        self.at <= entry.updated_at && !(self.makes && entry.provisional)
    }
}

/// Which indexes there are, by the names clients use, and the store behind them.
#[derive(Debug)]
pub struct Catalog {
    entries: ReadWriteLock<Entries>,
    /// Whoever changes the store holds it until the entries say the same.
    writer: Mutex<()>,
    store: Arc<dyn Indexes>,
    leadership: Arc<Leadership>,
    /// Updates of indexes that are not in the store yet, by name on the nodes.
    updates: Lock<BTreeMap<String, Update>>,
    /// Names on the nodes of indexes that went while this process was there.
    gone: Lock<BTreeSet<String>>,
}

/// So many names of indexes that went are kept.
const GONE: usize = 10_000;

impl Catalog {
    /// The catalogue of a store, none of which was read yet; see [`Catalog::reload`].
    pub fn new(store: Arc<dyn Indexes>, leadership: Arc<Leadership>) -> Self {
        Self {
            entries: ReadWriteLock::default(),
            writer: Mutex::default(),
            store,
            leadership,
            updates: Lock::default(),
            gone: Lock::default(),
        }
    }

    /// One index, by the name clients use.
    pub fn get(&self, name: &IndexUid) -> Option<Arc<IndexEntry>> {
        self.entries.read().by_name.get(name).cloned()
    }

    /// The index of a name on the nodes.
    pub fn by_physical(&self, physical: &str) -> Option<Arc<IndexEntry>> {
        self.entries.read().by_physical.get(physical).cloned()
    }

    /// This very index as it is now, under whatever name; `None` once it was deleted.
    pub fn current(&self, seen: &IndexEntry) -> Option<Arc<IndexEntry>> {
        self.by_physical(&seen.physical).filter(|listed| listed.is_incarnation(seen.incarnation))
    }

    /// The index that a task is about; `None` once it was deleted, or if it is about none. A task
    /// that was stored without an incarnation is about the index that has its name on the nodes.
    pub fn of_task(&self, task: &TaskRecord) -> Option<Arc<IndexEntry>> {
        let listed = self.by_physical(task.physical.as_deref()?)?;
        task.incarnation.is_none_or(|seen| listed.is_incarnation(seen)).then_some(listed)
    }

    /// Whether this very index is still in the catalogue, under whatever name.
    pub fn is_listed(&self, entry: &IndexEntry) -> bool {
        self.current(entry).is_some()
    }

    /// All indexes, by name.
    pub fn all(&self) -> Vec<Arc<IndexEntry>> {
        self.entries.read().by_name.values().cloned().collect()
    }

    /// Nobody lists, changes or removes an index while this lives.
    pub async fn hold(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().await
    }

    /// Lists a new index, unless its name is taken or another index has its name on the nodes:
    /// `None` then. One that is listed already stays as it is.
    ///
    /// # Errors
    /// When the store fails. Readers then see no new entry.
    pub async fn insert(&self, entry: IndexEntry) -> Result<Option<Arc<IndexEntry>>, StoreError> {
        let writer = self.writer.lock().await;
        loop {
            if let Some(listed) = self.by_physical(&entry.physical)
                && !listed.is_incarnation(entry.incarnation)
            {
                return Ok(None);
            }
            let new = IndexEntry { version: 1, ..entry.clone() };
            if self.store.put(new.clone(), None).await? {
                let new = Arc::new(new);
                self.entries.write().insert(Arc::clone(&new));
                drop(writer);
                self.leadership.publish_and_wait(&[Part::Indexes]).await?;
                return Ok(Some(new));
            }
            let Some(there) = self.store.get(&entry.name).await? else { continue };
            if !there.is_incarnation(entry.incarnation) {
                return Ok(None);
            }
            // It was written, and the answer was lost.
            let there = Arc::new(there);
            self.entries.write().insert(Arc::clone(&there));
            return Ok(Some(there));
        }
    }

    /// Changes an index by compare-and-set, under whatever name it is listed now, retrying until it
    /// fits. `change` gets the current entry and returns the new one; its names and its incarnation
    /// stay. Answers the entry as it is then; `None` if the index is gone, and nothing was changed.
    ///
    /// # Errors
    /// When the store fails. Readers then see the old entry.
    pub async fn change(
        &self,
        seen: &IndexEntry,
        mut change: impl FnMut(&IndexEntry) -> IndexEntry,
    ) -> Result<Option<Arc<IndexEntry>>, StoreError> {
        let writer = self.writer.lock().await;
        loop {
            let Some(old) = self.stored(seen).await? else { return Ok(None) };
            let new = IndexEntry {
                name: old.name.clone(),
                physical: old.physical.clone(),
                incarnation: old.incarnation,
                version: old.version,
                ..change(&old)
            };
            if new == old {
                return Ok(Some(Arc::new(old)));
            }
            let new = IndexEntry { version: old.version + 1, ..new };
            if !self.store.put(new.clone(), Some(old.version)).await? {
                continue;
            }
            let matters = matters(&old, &new);
            let new = Arc::new(new);
            self.entries.write().insert(Arc::clone(&new));
            drop(writer);
            if matters {
                self.leadership.publish_and_wait(&[Part::Indexes]).await?;
            } else {
                self.leadership.publish(&[Part::Indexes]).await?;
            }
            return Ok(Some(new));
        }
    }

    /// Takes an index out of the catalogue, under whatever name it is listed now. Answers whether it
    /// was there.
    ///
    /// # Errors
    /// When the store fails. Readers then still see it.
    pub async fn remove(&self, seen: &IndexEntry) -> Result<bool, StoreError> {
        let writer = self.writer.lock().await;
        loop {
            let Some(old) = self.stored(seen).await? else { return Ok(false) };
            if self.store.delete(&old.name, old.version).await? {
                self.entries.write().remove(&old.name);
                self.note_gone(&old.physical);
                drop(writer);
                self.leadership.publish_and_wait(&[Part::Indexes]).await?;
                return Ok(true);
            }
        }
    }

    /// An index that had this name on the nodes is no more: a call that comes late may make it anew.
    pub fn note_gone(&self, physical: &str) {
        let mut gone = self.gone.lock();
        if gone.len() >= GONE {
            gone.pop_first();
        }
        gone.insert(physical.to_owned());
    }

    /// Whether an index had this name on the nodes that went while this process was there, and none has
    /// it now.
    pub fn is_gone(&self, physical: &str) -> bool {
        self.gone.lock().contains(physical) && self.by_physical(physical).is_none()
    }

    /// This very index as the store has it.
    async fn stored(&self, seen: &IndexEntry) -> Result<Option<IndexEntry>, StoreError> {
        let is_it = |entry: &IndexEntry| {
            entry.physical == seen.physical && entry.is_incarnation(seen.incarnation)
        };
        let name = self.current(seen).map_or_else(|| seen.name.clone(), |entry| entry.name.clone());
        if let Some(entry) = self.store.get(&name).await?.filter(is_it) {
            return Ok(Some(entry));
        }
        // Another process may have renamed it, which this one has not read yet.
        Ok(self.store.list().await?.into_iter().find(is_it))
    }

    /// Changes several entries in one step: nobody, and no restart, sees some of the changes without
    /// the others. `change` gets the catalogue and returns the entries to write and, as `None`, those
    /// to delete; it is asked again if somebody else was faster.
    ///
    /// # Errors
    /// When the store fails. Readers then see the old entries.
    pub async fn change_many(
        &self,
        mut change: impl FnMut(
            &BTreeMap<IndexUid, IndexEntry>,
        ) -> BTreeMap<IndexUid, Option<IndexEntry>>,
    ) -> Result<(), StoreError> {
        let writer = self.writer.lock().await;
        loop {
            let list = self.store.list().await?;
            let old: BTreeMap<IndexUid, IndexEntry> =
                list.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
            let changes: Vec<IndexChange> = change(&old)
                .into_iter()
                .map(|(name, entry)| {
                    let expected = old.get(&name).map(|entry| entry.version);
                    let entry = entry.map(|entry| IndexEntry {
                        name: name.clone(),
                        version: expected.unwrap_or(0) + 1,
                        ..entry
                    });
                    IndexChange { name, expected, entry }
                })
                .collect();
            if !self.store.change(changes.clone()).await? {
                continue;
            }
            {
                let mut entries = self.entries.write();
                for IndexChange { name, entry, .. } in changes {
                    match entry {
                        Some(entry) => entries.insert(Arc::new(entry)),
                        None => entries.remove(&name),
                    }
                }
            }
            drop(writer);
            return self.leadership.publish_and_wait(&[Part::Indexes]).await;
        }
    }

    /// Notes that an index was updated. It is shown at once by this pod, and by the others once it
    /// was written down; see [`Catalog::flush_updates`]. `makes` if it would have made the index, so
    /// that it is not provisional any more.
    pub fn note_update(&self, physical: &str, at: OffsetDateTime, makes: bool) {
        let (mut updates, update) = (self.updates.lock(), Update { at, makes });
        match updates.get_mut(physical) {
            Some(last) => *last = last.and(update),
            None => {
                updates.insert(physical.to_owned(), update);
            }
        }
    }

    /// Whether no task is known to have made an index on the nodes, neither in the store nor noted
    /// since.
    pub fn is_provisional(&self, entry: &IndexEntry) -> bool {
        let made = || self.updates.lock().get(&entry.physical).is_some_and(|update| update.makes);
        entry.provisional && !made()
    }

    /// When an index was last updated, as clients see it.
    pub fn updated_at(&self, entry: &IndexEntry) -> OffsetDateTime {
        let last = self.updates.lock().get(&entry.physical).copied();
        last.map_or(entry.updated_at, |last| last.at.max(entry.updated_at))
    }

    /// Whether there are updates that are not in the store yet.
    pub fn has_updates(&self) -> bool {
        !self.updates.lock().is_empty()
    }

    /// Writes down when indexes were updated, all in one step, whatever their number. The others
    /// read it in their own time: what they answer by is as good without it.
    ///
    /// # Errors
    /// When the store fails. It is to be called again then.
    pub async fn flush_updates(&self) -> Result<(), StoreError> {
        let updates = self.updates.lock().clone();
        if updates.is_empty() {
            return Ok(());
        }
        let writer = self.writer.lock().await;
        let touched = |(physical, update): (&String, &Update)| {
            let entry = self.by_physical(physical).filter(|entry| !update.is_in(entry))?;
            let new = IndexEntry {
                updated_at: entry.updated_at.max(update.at),
                provisional: entry.provisional && !update.makes,
                version: entry.version + 1,
                ..IndexEntry::clone(&entry)
            };
            let (name, expected) = (entry.name.clone(), Some(entry.version));
            Some(IndexChange { name, expected, entry: Some(new) })
        };
        let changes: Vec<IndexChange> = updates.iter().filter_map(touched).collect();
        if !changes.is_empty() && !self.store.change(changes.clone()).await? {
            // Somebody else changed one of them: another time, with what is there then.
            drop(writer);
            return self.reload().await;
        }
        let changed = !changes.is_empty();
        {
            let mut entries = self.entries.write();
            for entry in changes.into_iter().filter_map(|change| change.entry) {
                entries.insert(Arc::new(entry));
            }
        }
        drop(writer);
        self.updates.lock().retain(|index, update| updates.get(index) != Some(update));
        if changed {
            self.leadership.publish(&[Part::Indexes]).await?;
        }
        Ok(())
    }

    /// Reads the store anew.
    ///
    /// # Errors
    /// When the store fails. Readers then see what they saw.
    pub async fn reload(&self) -> Result<(), StoreError> {
        let _writer = self.writer.lock().await;
        let mut entries = Entries::default();
        for entry in self.store.list().await? {
            entries.insert(Arc::new(entry));
        }
        *self.entries.write() = entries;
        Ok(())
    }
}

/// Whether somebody who does not know of a change reads something else.
fn matters(old: &IndexEntry, new: &IndexEntry) -> bool {
    let timeless = |entry: &IndexEntry| IndexEntry {
        updated_at: entry.created_at,
        version: 0,
        settings_hash: None,
        provisional: false,
        ..entry.clone()
    };
    timeless(old) != timeless(new)
}

#[cfg(test)]
mod tests {
    use miroir_store::{Stores, memory};
    use uuid::Uuid;

    use super::*;

    fn uid(name: &str) -> IndexUid {
        IndexUid::new(name).unwrap()
    }

    fn entry(name: &str) -> IndexEntry {
        IndexEntry::new(uid(name), name.to_owned(), 4, OffsetDateTime::UNIX_EPOCH)
    }

    fn catalog(stores: &Stores) -> Catalog {
        Catalog::new(Arc::clone(&stores.indexes), Arc::default())
    }

    #[tokio::test]
    async fn a_change_is_in_the_store_and_is_seen() {
        let stores = memory::open();
        let catalog = catalog(&stores);
        let made = catalog.insert(entry("a")).await.unwrap().unwrap();
        let frozen = |old: &IndexEntry| IndexEntry { shards: 5, ..old.clone() };
        catalog.change(&made, frozen).await.unwrap();
        let stored = stores.indexes.get(&uid("a")).await.unwrap().unwrap();
        assert_eq!((stored.version, catalog.get(&uid("a")).unwrap().version), (2, 2));
        assert!(catalog.is_listed(&stored) && catalog.by_physical("a").is_some());
        catalog.change(&made, IndexEntry::clone).await.unwrap();
        assert_eq!(catalog.get(&uid("a")).unwrap().version, 2, "what stays is not written");
        assert!(catalog.remove(&made).await.unwrap());
        assert!(catalog.all().is_empty() && stores.indexes.list().await.unwrap().is_empty());
        assert!(!catalog.is_listed(&stored) && catalog.by_physical("a").is_none());
    }

    #[tokio::test]
    async fn a_change_follows_its_index_and_never_meets_another() {
        let stores = memory::open();
        let catalog = catalog(&stores);
        let made = |name: &str| IndexEntry { incarnation: Uuid::now_v7(), ..entry(name) };
        let a = catalog.insert(made("a")).await.unwrap().unwrap();
        let b = catalog.insert(made("b")).await.unwrap().unwrap();
        assert_eq!(catalog.insert(made("a")).await.unwrap(), None);
        let hidden = IndexEntry { physical: "b".to_owned(), ..made("c") };
        assert_eq!(catalog.insert(hidden).await.unwrap(), None, "the nodes have one");
        assert_eq!(catalog.insert(IndexEntry::clone(&a)).await.unwrap(), Some(Arc::clone(&a)));
        catalog.change_many(swapped).await.unwrap();
        let freeze = |old: &IndexEntry| IndexEntry { frozen: Some(String::new()), ..old.clone() };
        assert_eq!(catalog.change(&a, freeze).await.unwrap().unwrap().name, uid("b"));
        assert_eq!(catalog.get(&uid("a")).unwrap().frozen, None);
        assert!(catalog.remove(&b).await.unwrap());
        assert_eq!(catalog.get(&uid("b")).unwrap().incarnation, a.incarnation);
        let b2 = catalog.insert(IndexEntry { name: uid("a"), ..made("b") }).await.unwrap().unwrap();
        assert_eq!(catalog.change(&b, freeze).await.unwrap(), None);
        assert!(!catalog.remove(&b).await.unwrap());
        assert_eq!(catalog.get(&uid("a")).unwrap(), b2);
    }

    #[tokio::test]
    async fn what_another_pod_wrote_is_changed_and_not_overwritten() {
        let stores = memory::open();
        let catalog = catalog(&stores);
        stores.indexes.put(entry("a"), None).await.unwrap();
        assert!(catalog.get(&uid("a")).is_none(), "not read yet");
        let seen = catalog.change(&entry("a"), IndexEntry::clone).await.unwrap().unwrap();
        assert_eq!(seen.physical, "a");
        let other = IndexEntry { name: uid("c"), ..entry("b") };
        stores.indexes.put(other, None).await.unwrap();
        let freeze = |old: &IndexEntry| IndexEntry { frozen: Some(String::new()), ..old.clone() };
        assert_eq!(catalog.change(&entry("b"), freeze).await.unwrap().unwrap().name, uid("c"));
        catalog.reload().await.unwrap();
        assert_eq!(catalog.all().len(), 2);
    }

    fn swapped(old: &BTreeMap<IndexUid, IndexEntry>) -> BTreeMap<IndexUid, Option<IndexEntry>> {
        BTreeMap::from([
            (uid("a"), old.get(&uid("b")).cloned()),
            (uid("b"), old.get(&uid("a")).cloned()),
        ])
    }

    #[tokio::test]
    async fn names_are_swapped_in_one_step() {
        let stores = memory::open();
        let catalog = catalog(&stores);
        for name in ["a", "b"] {
            catalog.insert(entry(name)).await.unwrap();
        }
        catalog.change_many(swapped).await.unwrap();
        assert_eq!(catalog.by_physical("b").unwrap().name, uid("a"));
        assert_eq!(catalog.get(&uid("a")).unwrap().physical, "b");
        assert_eq!(stores.indexes.get(&uid("b")).await.unwrap().unwrap().physical, "a");
    }
}
