//! The index catalogue: snapshots for readers, compare-and-set for writers.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_api::IndexUid;
use miroir_store::{IndexChange, IndexEntry, Indexes, StoreError};

use super::leadership::Leadership;
use super::snapshot::Snapshot;

type Entries = BTreeMap<IndexUid, Arc<IndexEntry>>;

/// Which indexes there are, by the names clients use, and the store behind them.
#[derive(Debug)]
pub struct Catalog {
    entries: Snapshot<Entries>,
    store: Arc<dyn Indexes>,
    leadership: Arc<Leadership>,
}

impl Catalog {
    /// The catalogue of a store, none of which was read yet; see [`Catalog::reload`].
    pub fn new(store: Arc<dyn Indexes>, leadership: Arc<Leadership>) -> Self {
        Self { entries: Snapshot::default(), store, leadership }
    }

    /// One index, by the name clients use.
    pub fn get(&self, name: &IndexUid) -> Option<Arc<IndexEntry>> {
        self.entries.peek().get(name).cloned()
    }

    /// The index of a name on the nodes.
    pub fn by_physical(&self, physical: &str) -> Option<Arc<IndexEntry>> {
        self.entries.peek().values().find(|entry| entry.physical == physical).cloned()
    }

    /// Whether this very index is still in the catalogue, under whatever name.
    pub fn is_listed(&self, entry: &IndexEntry) -> bool {
        self.entries.peek().values().any(|listed| {
            listed.physical == entry.physical && listed.created_at == entry.created_at
        })
    }

    /// All indexes, by name.
    pub fn all(&self) -> Vec<Arc<IndexEntry>> {
        self.entries.peek().values().cloned().collect()
    }

    /// Changes one entry by compare-and-set, retrying until it fits. `change` gets the current entry
    /// and returns the new one; `None` deletes it or keeps it absent.
    ///
    /// # Errors
    /// When the store fails. The snapshot then still shows the old entry.
    pub async fn change(
        &self,
        name: &IndexUid,
        mut change: impl FnMut(Option<&IndexEntry>) -> Option<IndexEntry>,
    ) -> Result<Option<Arc<IndexEntry>>, StoreError> {
        let writer = self.entries.write().await;
        loop {
            let old = self.store.get(name).await?;
            let expected = old.as_ref().map(|entry| entry.version);
            let new = change(old.as_ref()).map(|mut entry| {
                entry.version = expected.unwrap_or(0) + 1;
                entry
            });
            let written = match (&new, expected) {
                (Some(entry), _) => self.store.put(entry.clone(), expected).await?,
                (None, Some(version)) => self.store.delete(name, version).await?,
                (None, None) => true,
            };
            if !written {
                continue;
            }
            let matters = matters(old.as_ref(), new.as_ref());
            let new = new.map(Arc::new);
            let mut entries = Entries::clone(&writer.current());
            match &new {
                Some(entry) => {
                    entries.insert(name.clone(), Arc::clone(entry));
                }
                None => {
                    entries.remove(name);
                }
            }
            writer.replace(entries);
            drop(writer);
            if matters {
                self.leadership.publish_and_wait().await?;
            } else {
                self.leadership.publish().await?;
            }
            return Ok(new);
        }
    }

    /// Changes several entries in one step: nobody, and no restart, sees some of the changes without
    /// the others. `change` gets the catalogue and returns the entries to write and, as `None`, those
    /// to delete; it is asked again if somebody else was faster.
    ///
    /// # Errors
    /// When the store fails. The snapshot then still shows the old entries.
    pub async fn change_many(
        &self,
        mut change: impl FnMut(
            &BTreeMap<IndexUid, IndexEntry>,
        ) -> BTreeMap<IndexUid, Option<IndexEntry>>,
    ) -> Result<(), StoreError> {
        let writer = self.entries.write().await;
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
            let mut entries = Entries::clone(&writer.current());
            for IndexChange { name, entry, .. } in changes {
                match entry {
                    Some(entry) => entries.insert(name, Arc::new(entry)),
                    None => entries.remove(&name),
                };
            }
            writer.replace(entries);
            drop(writer);
            return self.leadership.publish_and_wait().await;
        }
    }

    /// Reads the store anew.
    ///
    /// # Errors
    /// When the store fails. The snapshot then stays as it was.
    pub async fn reload(&self) -> Result<(), StoreError> {
        let writer = self.entries.write().await;
        let list = self.store.list().await?.into_iter();
        writer.replace(list.map(|entry| (entry.name.clone(), Arc::new(entry))).collect());
        Ok(())
    }
}

/// Whether somebody who does not know of a change reads something else.
fn matters(old: Option<&IndexEntry>, new: Option<&IndexEntry>) -> bool {
    let timeless = |entry: &IndexEntry| IndexEntry {
        updated_at: entry.created_at,
        version: 0,
        settings_hash: None,
        ..entry.clone()
    };
    old.map(timeless) != new.map(timeless)
}

#[cfg(test)]
mod tests {
    use miroir_store::{Stores, memory};
    use time::OffsetDateTime;

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
    async fn a_change_is_in_the_store_and_in_the_snapshot() {
        let stores = memory::open();
        let catalog = catalog(&stores);
        catalog.change(&uid("a"), |old| old.is_none().then(|| entry("a"))).await.unwrap();
        let stored = stores.indexes.get(&uid("a")).await.unwrap().unwrap();
        assert_eq!((stored.version, catalog.get(&uid("a")).unwrap().version), (1, 1));
        assert!(catalog.is_listed(&stored) && catalog.by_physical("a").is_some());
        catalog.change(&uid("a"), |_| None).await.unwrap();
        assert!(catalog.all().is_empty() && stores.indexes.list().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_another_pod_wrote_is_changed_and_not_overwritten() {
        let stores = memory::open();
        let catalog = catalog(&stores);
        stores.indexes.put(entry("a"), None).await.unwrap();
        assert!(catalog.get(&uid("a")).is_none(), "not read yet");
        let seen = |old: Option<&IndexEntry>| old.cloned();
        assert_eq!(catalog.change(&uid("a"), seen).await.unwrap().unwrap().physical, "a");
        stores.indexes.put(entry("b"), None).await.unwrap();
        catalog.reload().await.unwrap();
        assert_eq!(catalog.all().len(), 2);
    }

    #[tokio::test]
    async fn names_are_swapped_in_one_step() {
        let stores = memory::open();
        let catalog = catalog(&stores);
        for name in ["a", "b"] {
            catalog.change(&uid(name), |_| Some(entry(name))).await.unwrap();
        }
        let swap = |old: &BTreeMap<IndexUid, IndexEntry>| {
            BTreeMap::from([
                (uid("a"), old.get(&uid("b")).cloned()),
                (uid("b"), old.get(&uid("a")).cloned()),
            ])
        };
        catalog.change_many(swap).await.unwrap();
        assert_eq!(catalog.get(&uid("a")).unwrap().physical, "b");
        assert_eq!(stores.indexes.get(&uid("b")).await.unwrap().unwrap().physical, "a");
    }
}
