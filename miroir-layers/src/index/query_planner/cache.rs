//! Plans of filters that were read before.

use std::sync::Arc;

use miroir_core::documents::IdCase;
use miroir_core::filter::{Keys, Narrowed, NotNarrowed, narrow};
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

/// All plans together, in bytes.
const CAPACITY: u64 = 16 * 1024 * 1024;
/// Filters are often as long, in bytes; for the number of places that are prepared.
const USUAL: usize = 256;
/// What a plan takes besides its texts and shards.
const OVERHEAD: usize = 160;

pub(super) type Narrowing = Result<Narrowed, NotNarrowed>;

/// What a plan depends on. The index's name is not among it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    filter: Box<str>,
    primary_key: Box<str>,
    id_case: IdCase,
    shards: u32,
}

/// A key as it is asked for.
#[derive(Hash)]
struct Asked<'a> {
    filter: &'a str,
    primary_key: &'a str,
    id_case: IdCase,
    shards: u32,
}

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.shards == key.shards
            && self.id_case == key.id_case
            && *self.filter == *key.filter
            && *self.primary_key == *key.primary_key
    }
}

#[derive(Clone, Debug)]
struct Weights;

impl Weighter<Key, Arc<Narrowing>> for Weights {
    fn weight(&self, key: &Key, _: &Arc<Narrowing>) -> u64 {
        let shards = key.shards as usize / 8;
        (key.filter.len() + key.primary_key.len() + shards + OVERHEAD) as u64
    }
}

#[derive(Debug)]
pub(super) struct Plans {
    most: usize,
    cache: Cache<Key, Arc<Narrowing>, Weights>,
}

impl Plans {
    pub(super) fn new(most: usize) -> Self {
        let items = CAPACITY as usize / (USUAL + OVERHEAD);
        Self { most, cache: Cache::with_weighter(items, CAPACITY, Weights) }
    }

    /// The plan of a filter, from the cache if it is there.
    pub(super) fn plan(&self, filter: &str, keys: &Keys<'_>) -> Arc<Narrowing> {
        let &Keys { primary_key: Some(primary_key), id_case, shards } = keys else {
            return Arc::new(Err(NotNarrowed::NoKey));
        };
        if let Some(plan) = self.cache.get(&Asked { filter, primary_key, id_case, shards }) {
            return plan;
        }
        let plan = Arc::new(narrow(Some(filter), keys, self.most));
        let key = Key { filter: filter.into(), primary_key: primary_key.into(), id_case, shards };
        self.cache.insert(key, Arc::clone(&plan));
        plan
    }

    /// Plans there are, and their weight in bytes.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, u64) {
        (self.cache.len(), self.cache.weight())
    }
}
