//! The index catalogue: snapshots for readers, compare-and-set for writers.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_api::IndexUid;

use super::{Catalogue, Shared};
use crate::store::{IndexChange, IndexEntry, StoreError};

impl Shared {
    /// One index of the catalogue.
    pub fn index(&self, name: &IndexUid) -> Option<Arc<IndexEntry>> {
        self.catalogue.load().get(name).cloned()
    }

    /// Whether this very index is still in the catalogue, under whatever name.
    pub fn is_listed(&self, entry: &IndexEntry) -> bool {
        self.catalogue.load().values().any(|listed| {
            listed.physical == entry.physical && listed.created_at == entry.created_at
        })
    }

    /// All indexes, by name.
    pub fn indexes(&self) -> Vec<Arc<IndexEntry>> {
        self.catalogue.load().values().cloned().collect()
    }

    /// Changes one catalogue entry by compare-and-set, retrying until it fits. `change` gets the
    /// current entry and answers the new one; `None` deletes or keeps it absent.
    ///
    /// # Errors
    /// When the store fails. The snapshot then still shows the old entry.
    pub async fn change_index(
        &self,
        name: &IndexUid,
        mut change: impl FnMut(Option<&IndexEntry>) -> Option<IndexEntry>,
    ) -> Result<Option<Arc<IndexEntry>>, StoreError> {
        let guard = self.catalogue_lock.lock().await;
        loop {
            let old = self.stores.indexes.get(name).await?;
            let expected = old.as_ref().map(|entry| entry.version);
            let new = change(old.as_ref()).map(|mut entry| {
                entry.version = expected.unwrap_or(0) + 1;
                entry
            });
            let written = match (&new, expected) {
                (Some(entry), _) => self.stores.indexes.put(entry.clone(), expected).await?,
                (None, Some(version)) => self.stores.indexes.delete(name, version).await?,
                (None, None) => true,
            };
            if !written {
                continue;
            }
            let matters = matters(old.as_ref(), new.as_ref());
            let new = new.map(Arc::new);
            let mut catalogue = Catalogue::clone(&self.catalogue.load());
            match &new {
                Some(entry) => {
                    catalogue.insert(name.clone(), Arc::clone(entry));
                }
                None => {
                    catalogue.remove(name);
                }
            }
            self.catalogue.store(Arc::new(catalogue));
            drop(guard);
            if matters {
                self.announce().await?;
            } else {
                self.tell_later().await?;
            }
            return Ok(new);
        }
    }

    /// Changes several entries in one step: nobody, and no restart, sees some of the changes without
    /// the others. `change` gets the catalogue and answers the entries to write and, as `None`, those
    /// to delete; it is asked again if somebody else was faster.
    ///
    /// # Errors
    /// When the store fails. The snapshot then still shows the old entries.
    pub async fn change_indexes(
        &self,
        mut change: impl FnMut(
            &BTreeMap<IndexUid, IndexEntry>,
        ) -> BTreeMap<IndexUid, Option<IndexEntry>>,
    ) -> Result<(), StoreError> {
        let guard = self.catalogue_lock.lock().await;
        loop {
            let list = self.stores.indexes.list().await?;
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
            if !self.stores.indexes.change(changes.clone()).await? {
                continue;
            }
            let mut catalogue = Catalogue::clone(&self.catalogue.load());
            for IndexChange { name, entry, .. } in changes {
                match entry {
                    Some(entry) => catalogue.insert(name, Arc::new(entry)),
                    None => catalogue.remove(&name),
                };
            }
            self.catalogue.store(Arc::new(catalogue));
            drop(guard);
            return self.announce().await;
        }
    }

    pub(super) async fn reload_catalogue(&self) -> Result<(), StoreError> {
        let _guard = self.catalogue_lock.lock().await;
        let list = self.stores.indexes.list().await?.into_iter();
        let catalogue: Catalogue =
            list.map(|entry| (entry.name.clone(), Arc::new(entry))).collect();
        self.catalogue.store(Arc::new(catalogue));
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
