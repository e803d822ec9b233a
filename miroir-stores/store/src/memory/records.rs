//! Records, lists, buckets and channels.

use std::collections::{BTreeMap, HashMap, VecDeque};

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Shared;
use crate::StoreFuture;
use crate::records::{
    Bound, Buckets, Limit, Log, Logs, PutOptions, RateDecision, Record, Records, Signal, Signals,
    Size, Table, step,
};

#[derive(Clone, Debug)]
pub(super) struct Row {
    version: u64,
    value: Value,
    until: Option<OffsetDateTime>,
}

impl Row {
    fn lives(&self, now: OffsetDateTime) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    fn show(&self, key: &str) -> Record {
        Record { key: key.to_owned(), version: self.version, value: self.value.clone() }
    }
}

pub(super) type Rows = BTreeMap<String, Row>;

/// Lets the rows that end first go until there are `most`, but never `spared`.
fn bound(rows: &mut Rows, most: usize, spared: &str) {
    while rows.len() > most {
        let others = rows.iter().filter(|(key, _)| *key != spared);
        let first = others.filter_map(|(key, row)| Some((row.until?, key.clone()))).min();
        let Some((_, key)) = first else { return };
        rows.remove(&key);
    }
}

#[derive(Debug, Default)]
pub(super) struct RecordMap(pub(super) Shared<BTreeMap<Table, Rows>>);

impl Records for RecordMap {
    fn get(&self, table: Table, key: &str, now: OffsetDateTime) -> StoreFuture<'_, Option<Record>> {
        let key = key.to_owned();
        self.0.answer(move |tables| {
            let row = tables.get(&table)?.get(&key).filter(|row| row.lives(now))?;
            Some(row.show(&key))
        })
    }

    fn list(&self, table: Table, now: OffsetDateTime) -> StoreFuture<'_, Vec<Record>> {
        self.0.answer(move |tables| {
            let rows = tables.get(&table).into_iter().flatten();
            rows.filter(|(_, row)| row.lives(now)).map(|(key, row)| row.show(key)).collect()
        })
    }

    fn put(
        &self,
        table: Table,
        key: &str,
        value: Value,
        terms: PutOptions,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, Option<u64>> {
        let key = key.to_owned();
        self.0.answer(move |tables| {
            let rows = tables.entry(table).or_default();
            let known = rows.get(&key).filter(|row| row.lives(now)).map(|row| row.version);
            if !terms.expected.fits(known) {
                return None;
            }
            let version = known.unwrap_or(0) + 1;
            let until = terms.ttl.map(|ttl| now + ttl);
            rows.insert(key.clone(), Row { version, value, until });
            if let Some(most) = terms.max_records {
                rows.retain(|_, row| row.lives(now));
                bound(rows, most, &key);
            }
            Some(version)
        })
    }

    fn delete(
        &self,
        table: Table,
        key: &str,
        version: Option<u64>,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, bool> {
        let key = key.to_owned();
        self.0.answer(move |tables| {
            let Some(rows) = tables.get_mut(&table) else { return false };
            let fits = rows.get(&key).is_some_and(|row| {
                row.lives(now) && version.is_none_or(|version| version == row.version)
            });
            if fits {
                rows.remove(&key);
            }
            fits
        })
    }

    fn count(&self, table: Table, now: OffsetDateTime) -> StoreFuture<'_, u64> {
        self.0.answer(move |tables| {
            let rows = tables.get(&table).into_iter().flatten();
            rows.filter(|(_, row)| row.lives(now)).count() as u64
        })
    }

    fn prune(&self, table: Table, now: OffsetDateTime) -> StoreFuture<'_, u64> {
        self.0.answer(move |tables| {
            let Some(rows) = tables.get_mut(&table) else { return 0 };
            let before = rows.len();
            rows.retain(|_, row| row.lives(now));
            (before - rows.len()) as u64
        })
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct List {
    /// The number of the last entry.
    last: u64,
    bytes: u64,
    entries: VecDeque<String>,
}

impl List {
    fn first(&self) -> u64 {
        self.last + 1 - self.entries.len() as u64
    }

    fn pop(&mut self) {
        let gone = self.entries.pop_front().map_or(0, |entry| entry.len() as u64);
        self.bytes -= gone;
    }
}

#[derive(Debug, Default)]
pub(super) struct LogMap(pub(super) Shared<BTreeMap<(Log, String), List>>);

impl Logs for LogMap {
    fn append(&self, log: Log, key: &str, entry: String, bound: Bound) -> StoreFuture<'_, u64> {
        let key = (log, key.to_owned());
        self.0.answer(move |lists| {
            let list = lists.entry(key).or_default();
            list.last += 1;
            list.bytes += entry.len() as u64;
            list.entries.push_back(entry);
            let mut gone = 0;
            while list.entries.len() > 1
                && (list.entries.len() as u64 > bound.entries || list.bytes > bound.bytes)
            {
                list.pop();
                gone += 1;
            }
            gone
        })
    }

    fn after(
        &self,
        log: Log,
        key: &str,
        number: u64,
        limit: usize,
    ) -> StoreFuture<'_, Vec<(u64, String)>> {
        let key = (log, key.to_owned());
        self.0.answer(move |lists| {
            let Some(list) = lists.get(&key) else { return Vec::new() };
            let numbered = (list.first()..).zip(list.entries.iter().cloned());
            numbered.filter(|(at, _)| *at > number).take(limit).collect()
        })
    }

    fn newest(&self, log: Log, key: &str, limit: usize) -> StoreFuture<'_, Vec<(u64, String)>> {
        let key = (log, key.to_owned());
        self.0.answer(move |lists| {
            let Some(list) = lists.get(&key) else { return Vec::new() };
            let numbered = list.entries.iter().rev().cloned();
            (0..=list.last).rev().zip(numbered).take(limit).collect()
        })
    }

    fn trim(&self, log: Log, key: &str, number: u64) -> StoreFuture<'_, u64> {
        let key = (log, key.to_owned());
        self.0.answer(move |lists| {
            let Some(list) = lists.get_mut(&key) else { return 0 };
            let mut gone = 0;
            while !list.entries.is_empty() && list.first() <= number {
                list.pop();
                gone += 1;
            }
            gone
        })
    }

    fn size(&self, log: Log, key: &str) -> StoreFuture<'_, Size> {
        let key = (log, key.to_owned());
        self.0.answer(move |lists| {
            let list = lists.get(&key);
            list.map_or_else(Size::default, |list| Size {
                entries: list.entries.len() as u64,
                bytes: list.bytes,
            })
        })
    }

    fn clear(&self, log: Log, key: &str) -> StoreFuture<'_, ()> {
        let key = (log, key.to_owned());
        self.0.answer(move |lists| {
            if let Some(list) = lists.get_mut(&key) {
                list.entries.clear();
                list.bytes = 0;
            }
        })
    }
}

/// Most buckets that are kept.
const BUCKETS: usize = 100_000;

/// Buckets in two generations: a bucket that is asked moves to the young one, and where that is full
/// the old one is forgotten. So those that nobody asked for the longest go, at no cost, and whoever
/// asks for many cannot make others wait or the process grow.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<String, u64>,
    old: HashMap<String, u64>,
}

impl Generations {
    fn full_at(&mut self, key: String) -> &mut u64 {
        let known = if self.young.contains_key(&key) { None } else { self.old.remove(&key) };
        if self.young.len() >= BUCKETS / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.entry(key).or_insert(known.unwrap_or(0))
    }
}

#[derive(Debug, Default)]
pub(super) struct BucketMap(Shared<Generations>);

impl Buckets for BucketMap {
    fn take(&self, key: &str, limit: Limit, now: OffsetDateTime) -> StoreFuture<'_, RateDecision> {
        let key = key.to_owned();
        self.0.answer(move |buckets| {
            let now = u64::try_from(now.unix_timestamp_nanos() / 1000).unwrap_or(0);
            let bucket = buckets.full_at(key);
            let (full_at, verdict) = step(*bucket, limit, now);
            *bucket = full_at;
            verdict
        })
    }
}

/// What waits for a listener that is behind.
const BACKLOG: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Channels(Shared<BTreeMap<String, broadcast::Sender<String>>>);

impl Signals for Channels {
    fn say(&self, channel: &str, text: &str) -> StoreFuture<'_, ()> {
        let (channel, text) = (channel.to_owned(), text.to_owned());
        self.0.answer(move |channels| {
            if let Some(sender) = channels.get(&channel) {
                // Nobody may be listening any more.
                let _ = sender.send(text);
            }
        })
    }

    fn listen(&self, channel: &str) -> BoxStream<'static, Signal> {
        let receiver = {
            let mut channels = self.0.lock();
            let sender =
                channels.entry(channel.to_owned()).or_insert_with(|| broadcast::channel(BACKLOG).0);
            sender.subscribe()
        };
        let heard = stream::unfold(receiver, |mut receiver| async move {
            match receiver.recv().await {
                Ok(text) => Some((Signal::Said(text), receiver)),
                Err(RecvError::Lagged(_)) => Some((Signal::Gap, receiver)),
                Err(RecvError::Closed) => None,
            }
        });
        stream::once(async { Signal::Gap }).chain(heard).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_few_and_those_in_use_stay() {
        let mut buckets = Generations::default();
        *buckets.full_at("used".to_owned()) = 7;
        *buckets.full_at("forgotten".to_owned()) = 7;
        for at in 0..3 * BUCKETS {
            *buckets.full_at(format!("ip:{at}")) = 1;
            if at % 1_000 == 0 {
                assert_eq!(*buckets.full_at("used".to_owned()), 7);
            }
            assert!(buckets.young.len() + buckets.old.len() <= BUCKETS);
        }
        assert_eq!(*buckets.full_at("forgotten".to_owned()), 0);
    }
}
