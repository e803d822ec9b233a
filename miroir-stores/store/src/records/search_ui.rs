//! The search page of each index, and the key it uses.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{ALWAYS, Expected, PutOptions, Table, Typed};
use crate::StoreFuture;

/// The key that the search page of an index uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopedKey {
    /// Uid of the API key in use.
    pub primary_uid: Uuid,
    /// Uid of the key before, while pods may still use it; `None` once none does.
    pub previous_uid: Option<Uuid>,
    /// When the key in use was made.
    #[serde(with = "time::serde::rfc3339")]
    pub rotated_at: OffsetDateTime,
    /// Grows by one with every rotation; the first is 1.
    pub generation: u64,
}

/// Search pages, by the index's client-visible name.
pub trait SearchUi: Send + Sync + std::fmt::Debug {
    /// How the page of an index is made; opaque to the store.
    fn config(&self, index: &str) -> StoreFuture<'_, Option<Value>>;
    /// All of them, by index.
    fn configs(&self) -> StoreFuture<'_, Vec<(String, Value)>>;
    /// Inserts or replaces one. The last of two concurrent calls stays.
    fn set_config(&self, index: &str, config: Value) -> StoreFuture<'_, ()>;
    /// Deletes one. Returns whether there was one.
    fn delete_config(&self, index: &str) -> StoreFuture<'_, bool>;
    /// The key of an index.
    fn key(&self, index: &str) -> StoreFuture<'_, Option<ScopedKey>>;
    /// Compare-and-set: writes the key, whose generation is one more than `expected`, if that is the
    /// stored generation (0: there is none). Returns whether it was written.
    fn rotate(&self, index: &str, key: ScopedKey, expected: u64) -> StoreFuture<'_, bool>;
    /// Says which generation a pod uses; that counts for `ttl`.
    fn observe(
        &self,
        pod: &str,
        index: &str,
        generation: u64,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, ()>;
    /// The generations of an index that pods say they use, by pod.
    fn observed(&self, index: &str, now: OffsetDateTime) -> StoreFuture<'_, Vec<(String, u64)>>;
}

#[derive(Serialize, Deserialize)]
struct Observed {
    pod: String,
    index: String,
    generation: u64,
}

impl SearchUi for Typed {
    fn config(&self, index: &str) -> StoreFuture<'_, Option<Value>> {
        let index = index.to_owned();
        Box::pin(async move { self.one(Table::SearchUiConfig, &index, ALWAYS).await })
    }

    fn configs(&self) -> StoreFuture<'_, Vec<(String, Value)>> {
        Box::pin(async move {
            let records = self.records.list(Table::SearchUiConfig, ALWAYS).await?;
            Ok(records.into_iter().map(|record| (record.key, record.value)).collect())
        })
    }

    fn set_config(&self, index: &str, config: Value) -> StoreFuture<'_, ()> {
        let index = index.to_owned();
        Box::pin(async move {
            let terms = PutOptions::default();
            let put = self.records.put(Table::SearchUiConfig, &index, config, terms, ALWAYS);
            put.await.map(drop)
        })
    }

    fn delete_config(&self, index: &str) -> StoreFuture<'_, bool> {
        self.records.delete(Table::SearchUiConfig, index, None, ALWAYS)
    }

    fn key(&self, index: &str) -> StoreFuture<'_, Option<ScopedKey>> {
        let index = index.to_owned();
        Box::pin(async move { self.one(Table::SearchUiScopedKey, &index, ALWAYS).await })
    }

    fn rotate(&self, index: &str, key: ScopedKey, expected: u64) -> StoreFuture<'_, bool> {
        let index = index.to_owned();
        Box::pin(async move {
            let expected = Expected::of(expected);
            let terms = PutOptions { expected, ..PutOptions::default() };
            let put = self.write(Table::SearchUiScopedKey, &index, &key, terms, ALWAYS);
            Ok(put.await?.is_some())
        })
    }

    fn observe(
        &self,
        pod: &str,
        index: &str,
        generation: u64,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, ()> {
        let row = Observed { pod: pod.to_owned(), index: index.to_owned(), generation };
        Box::pin(async move {
            let key = format!("{}:{}", row.pod, row.index);
            let terms = PutOptions { ttl: Some(ttl), ..PutOptions::default() };
            self.write(Table::SearchUiScopedKeyObserved, &key, &row, terms, now).await.map(drop)
        })
    }

    fn observed(&self, index: &str, now: OffsetDateTime) -> StoreFuture<'_, Vec<(String, u64)>> {
        let index = index.to_owned();
        Box::pin(async move {
            let rows: Vec<Observed> = self.all(Table::SearchUiScopedKeyObserved, now).await?;
            let of_index = rows.into_iter().filter(|row| row.index == index);
            Ok(of_index.map(|row| (row.pod, row.generation)).collect())
        })
    }
}
