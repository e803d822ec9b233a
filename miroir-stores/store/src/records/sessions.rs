//! What sessions have written, so that they read it.

use std::collections::BTreeMap;
use std::time::Duration;

use miroir_api::{GroupId, TaskUid};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{PutOptions, Table, Typed};
use crate::StoreFuture;

/// The last write of a session to one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Uid of the write's task.
    pub task: TaskUid,
    /// The first group that had it on a quorum; `None` if none had.
    pub group: Option<GroupId>,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its last write to each index, by the index's name on the nodes.
    pub pins: BTreeMap<String, Pin>,
}

/// Sessions of clients. They end `ttl` after their last write.
pub trait Sessions: Send + Sync + std::fmt::Debug {
    /// What a session has written.
    fn get(&self, id: &str, now: OffsetDateTime) -> StoreFuture<'_, Option<Session>>;
    /// Remembers a write. Of two writes to one index that of the later task stays, in whatever order
    /// they are told. With more than `most` sessions those that end first are forgotten.
    fn pin(
        &self,
        id: &str,
        index: &str,
        pin: Pin,
        ttl: Duration,
        most: usize,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, ()>;
    /// Forgets the write to an index that is this one or an earlier one.
    fn release(&self, id: &str, index: &str, pin: Pin, now: OffsetDateTime) -> StoreFuture<'_, ()>;
    /// How many there are.
    fn count(&self, now: OffsetDateTime) -> StoreFuture<'_, u64>;
    /// Forgets those that ended; returns how many.
    fn prune(&self, now: OffsetDateTime) -> StoreFuture<'_, u64>;
}

impl Sessions for Typed {
    fn get(&self, id: &str, now: OffsetDateTime) -> StoreFuture<'_, Option<Session>> {
        let id = id.to_owned();
        Box::pin(async move { self.one(Table::Sessions, &id, now).await })
    }

    fn pin(
        &self,
        id: &str,
        index: &str,
        pin: Pin,
        ttl: Duration,
        most: usize,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, ()> {
        let (id, index) = (id.to_owned(), index.to_owned());
        Box::pin(async move {
            let terms =
                PutOptions { ttl: Some(ttl), max_records: Some(most), ..PutOptions::default() };
            let decide = |found: Option<Session>| {
                let mut session = found.unwrap_or_default();
                let known = session.pins.entry(index.clone()).or_insert(pin);
                if known.task < pin.task {
                    *known = pin;
                }
                Some(session)
            };
            self.change(Table::Sessions, &id, terms, now, decide).await
        })
    }

    fn release(&self, id: &str, index: &str, pin: Pin, now: OffsetDateTime) -> StoreFuture<'_, ()> {
        let (id, index) = (id.to_owned(), index.to_owned());
        Box::pin(async move {
            loop {
                let Some(record) = self.records.get(Table::Sessions, &id, now).await? else {
                    return Ok(());
                };
                let version = record.version;
                let mut session: Session = super::decode(record)?;
                if session.pins.get(&index).is_none_or(|known| known.task > pin.task) {
                    return Ok(());
                }
                session.pins.remove(&index);
                // A session that has nothing left to wait for is as good as none, and one that has
                // keeps its pins: their end would come no later.
                if !session.pins.is_empty() {
                    return Ok(());
                }
                if self.records.delete(Table::Sessions, &id, Some(version), now).await? {
                    return Ok(());
                }
            }
        })
    }

    fn count(&self, now: OffsetDateTime) -> StoreFuture<'_, u64> {
        self.records.count(Table::Sessions, now)
    }

    fn prune(&self, now: OffsetDateTime) -> StoreFuture<'_, u64> {
        self.records.prune(Table::Sessions, now)
    }
}
