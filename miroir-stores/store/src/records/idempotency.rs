//! Answers to writes that came with a key.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Expected, PutOptions, Table, Typed, decode};
use crate::StoreFuture;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// HTTP status.
    pub status: u16,
    /// JSON body; empty for none.
    pub body: String,
}

/// A write that came with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// SHA-256 of what was asked, in hexadecimal.
    pub request: String,
    /// Who asked the cluster to do it: a pod's name and term. A write of somebody who is gone is not
    /// under way any more.
    pub holder: String,
    /// When the request with the key began.
    #[serde(with = "time::serde::rfc3339")]
    pub began_at: OffsetDateTime,
    /// The answer, once there is one.
    pub answer: Option<KeptAnswer>,
}

/// What became of beginning a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Began {
    /// Nobody came with this key before: it is the caller's, who has to settle or drop it.
    First,
    /// Somebody did.
    Known(Kept),
}

/// Writes with a key, each done once.
pub trait Idempotency: Send + Sync + std::fmt::Debug {
    /// Remembers that a write began, unless one with its key did, in one step. With more than `most`
    /// keys those that end first are forgotten.
    fn begin(
        &self,
        key: &str,
        write: Kept,
        ttl: Duration,
        most: usize,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, Began>;
    /// Replaces what is known of a key if it is still `known`, in one step: to settle one's own
    /// write, or to take over one whose holder is gone. Returns whether it was.
    fn replace(
        &self,
        key: &str,
        known: &Kept,
        new: Kept,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, bool>;
    /// Forgets a write that had no effect, if it is still `known`, so that the key can be used again.
    fn drop_key(&self, key: &str, known: &Kept, now: OffsetDateTime) -> StoreFuture<'_, ()>;
    /// How many keys are known.
    fn count(&self, now: OffsetDateTime) -> StoreFuture<'_, u64>;
    /// Forgets those that ended; returns how many.
    fn prune(&self, now: OffsetDateTime) -> StoreFuture<'_, u64>;
}

impl Typed {
    /// The version of what is known of a key, if it is `known`.
    async fn version_of(
        &self,
        key: &str,
        known: &Kept,
        now: OffsetDateTime,
    ) -> Result<Option<u64>, crate::StoreError> {
        let Some(record) = self.records.get(Table::Idempotency, key, now).await? else {
            return Ok(None);
        };
        let version = record.version;
        Ok((decode::<Kept>(record)? == *known).then_some(version))
    }
}

impl Idempotency for Typed {
    fn begin(
        &self,
        key: &str,
        write: Kept,
        ttl: Duration,
        most: usize,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, Began> {
        let key = key.to_owned();
        Box::pin(async move {
            let terms =
                PutOptions { expected: Expected::Nothing, ttl: Some(ttl), max_records: Some(most) };
            loop {
                let put = self.write(Table::Idempotency, &key, &write, terms, now).await?;
                if put.is_some() {
                    return Ok(Began::First);
                }
                // It may end between the two calls.
                if let Some(known) = self.one(Table::Idempotency, &key, now).await? {
                    return Ok(Began::Known(known));
                }
            }
        })
    }

    fn replace(
        &self,
        key: &str,
        known: &Kept,
        new: Kept,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, bool> {
        let (key, known) = (key.to_owned(), known.clone());
        Box::pin(async move {
            let Some(version) = self.version_of(&key, &known, now).await? else {
                return Ok(false);
            };
            let expected = Expected::Version(version);
            let terms = PutOptions { expected, ttl: Some(ttl), max_records: None };
            Ok(self.write(Table::Idempotency, &key, &new, terms, now).await?.is_some())
        })
    }

    fn drop_key(&self, key: &str, known: &Kept, now: OffsetDateTime) -> StoreFuture<'_, ()> {
        let (key, known) = (key.to_owned(), known.clone());
        Box::pin(async move {
            if let Some(version) = self.version_of(&key, &known, now).await? {
                self.records.delete(Table::Idempotency, &key, Some(version), now).await?;
            }
            Ok(())
        })
    }

    fn count(&self, now: OffsetDateTime) -> StoreFuture<'_, u64> {
        self.records.count(Table::Idempotency, now)
    }

    fn prune(&self, now: OffsetDateTime) -> StoreFuture<'_, u64> {
        self.records.prune(Table::Idempotency, now)
    }
}
