//! Questions to `scripts/tasks_list.lua` and its answers.

use std::collections::BTreeSet;

use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_store::{StoreError, TaskQuery};
use redis::Value;
use serde::Serialize;

use super::digits;
use crate::error::RedisFailure;

/// A question. What is absent is no restriction; an empty list matches nothing.
#[derive(Debug, Serialize)]
pub(super) struct Query<'a> {
    /// Whether records are wanted, or uids alone.
    records: bool,
    /// One more than the page, to know where the next one begins.
    wanted: u64,
    reverse: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uids: Option<&'a BTreeSet<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batches: Option<&'a BTreeSet<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    canceled_by: Option<&'a BTreeSet<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statuses: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kinds: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    indexes: Option<&'a BTreeSet<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_enqueued: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before_enqueued: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before_started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_finished: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before_finished: Option<String>,
}

impl<'a> Query<'a> {
    pub(super) fn new(query: &'a TaskQuery, records: bool) -> Self {
        // There are no more tasks than uids; a larger number would lose digits on its way.
        let limit = (query.limit as u64).min(1 << 32);
        let statuses = query.statuses.as_ref();
        let kinds = query.kinds.as_ref();
        Self {
            records,
            wanted: limit + 1,
            reverse: query.reverse,
            from: query.from.map(|uid| uid.0),
            uids: query.uids.as_ref(),
            batches: query.batches.as_ref(),
            canceled_by: query.canceled_by.as_ref(),
            statuses: statuses.map(|all| all.iter().copied().map(TaskStatus::as_str).collect()),
            kinds: kinds.map(|all| all.iter().copied().map(TaskKind::as_str).collect()),
            indexes: query.indexes.as_ref(),
            after_enqueued: query.after_enqueued.map(digits),
            before_enqueued: query.before_enqueued.map(digits),
            after_started: query.after_started.map(digits),
            before_started: query.before_started.map(digits),
            after_finished: query.after_finished.map(digits),
            before_finished: query.before_finished.map(digits),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Found {
    /// How many tasks match.
    pub(super) total: u64,
    /// Uid, index and record of the page.
    pub(super) records: Vec<(u32, String, String)>,
    /// Uids that came without records: where the next page begins, or all of them.
    pub(super) rest: Vec<u32>,
}

impl Found {
    pub(super) fn read(value: Value) -> Result<Self, StoreError> {
        let mut found = Self { total: 0, records: Vec::new(), rest: Vec::new() };
        let mut values = items(value)?.into_iter().peekable();
        found.total = one(values.next())?;
        while let Some(uid) = values.next() {
            let uid = one(Some(uid))?;
            if values.peek().is_some_and(|next| !matches!(next, Value::Int(_))) {
                found.records.push((uid, one(values.next())?, one(values.next())?));
            } else {
                found.rest.push(uid);
            }
        }
        Ok(found)
    }

    /// Uid, index and record, again and again.
    pub(super) fn records(value: Value) -> Result<Vec<(u32, String, String)>, StoreError> {
        let mut records = Vec::new();
        let mut values = items(value)?.into_iter();
        while let Some(uid) = values.next() {
            records.push((one(Some(uid))?, one(values.next())?, one(values.next())?));
        }
        Ok(records)
    }
}

fn items(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(RedisFailure::odd(format_args!("the answer {other:?}")).into()),
    }
}

fn one<T: redis::FromRedisValue>(value: Option<Value>) -> Result<T, StoreError> {
    let value = value.ok_or_else(|| RedisFailure::odd("an answer that ends too soon"))?;
    Ok(redis::from_redis_value(value).map_err(RedisFailure::odd)?)
}
