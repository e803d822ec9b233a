//! Canaries and their runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use super::{ALWAYS, Bound, Log, PutOptions, Table, Typed, encode};
use crate::{StoreError, StoreFuture};

/// A query that is asked again and again, and what its answer should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Name, unique among canaries.
    pub name: String,
    /// The rest of its definition; opaque to the store.
    pub definition: Value,
}

/// One run of a canary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryRun {
    /// When the run began.
    #[serde(with = "time::serde::rfc3339")]
    pub ran_at: OffsetDateTime,
    /// Whether everything was as it should be.
    pub passed: bool,
    /// How long the query took, in milliseconds.
    pub latency_ms: u64,
    /// What was not as it should be; opaque to the store.
    #[serde(default)]
    pub failures: Vec<Value>,
}

/// Canaries and the last runs of each.
pub trait Canaries: Send + Sync + std::fmt::Debug {
    /// All of them, by name.
    fn list(&self) -> StoreFuture<'_, Vec<Canary>>;
    /// Inserts or replaces one. The last of two concurrent calls stays.
    fn put(&self, canary: Canary) -> StoreFuture<'_, ()>;
    /// Deletes one with its runs. Returns whether there was one.
    fn delete(&self, name: &str) -> StoreFuture<'_, bool>;
    /// Adds a run, and forgets the oldest beyond `most`, in one step.
    fn record(&self, name: &str, run: CanaryRun, most: u64) -> StoreFuture<'_, ()>;
    /// The newest runs, newest first.
    fn runs(&self, name: &str, limit: usize) -> StoreFuture<'_, Vec<CanaryRun>>;
}

impl Canaries for Typed {
    fn list(&self) -> StoreFuture<'_, Vec<Canary>> {
        Box::pin(self.all(Table::Canaries, ALWAYS))
    }

    fn put(&self, canary: Canary) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let value = encode(&canary)?;
            let put = self.records.put(
                Table::Canaries,
                &canary.name,
                value,
                PutOptions::default(),
                ALWAYS,
            );
            put.await.map(drop)
        })
    }

    fn delete(&self, name: &str) -> StoreFuture<'_, bool> {
        let name = name.to_owned();
        Box::pin(async move {
            let deleted = self.records.delete(Table::Canaries, &name, None, ALWAYS).await?;
            self.logs.clear(Log::CanaryRuns, &name).await?;
            Ok(deleted)
        })
    }

    fn record(&self, name: &str, run: CanaryRun, most: u64) -> StoreFuture<'_, ()> {
        let name = name.to_owned();
        Box::pin(async move {
            let bound = Bound { entries: most, bytes: u64::MAX };
            let entry = encode(&run)?.to_string();
            self.logs.append(Log::CanaryRuns, &name, entry, bound).await.map(drop)
        })
    }

    fn runs(&self, name: &str, limit: usize) -> StoreFuture<'_, Vec<CanaryRun>> {
        let name = name.to_owned();
        Box::pin(async move {
            let runs = self.logs.newest(Log::CanaryRuns, &name, limit).await?;
            let decode = |(_, run): (u64, String)| {
                serde_json::from_str(&run).map_err(|error| StoreError::Backend(error.into()))
            };
            runs.into_iter().map(decode).collect()
        })
    }
}
