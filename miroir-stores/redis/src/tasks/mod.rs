//! The task registry.

mod list;

use std::sync::Arc;

use miroir_api::TaskUid;
use miroir_api::meili::{TaskKind, TaskStatus};
use miroir_store::{NewTask, StoreError, StoreFuture, TaskPage, TaskQuery, TaskRecord, Tasks};
use redis::cmd;
use time::OffsetDateTime;

use crate::connection::{Args, SharedConnection, decode, encode, number, texts};
use crate::error::RedisFailure;
use crate::scripts::{
    TASKS_COUNTS, TASKS_INSERT, TASKS_LIST, TASKS_PRUNE, TASKS_REMOVE, TASKS_SWAP, TASKS_UPDATE,
};
use list::{Found, Query};

/// Most tasks one script of a pruning looks at, so that other calls do not wait for long.
const PRUNE_BATCH: usize = 1000;

/// Most tasks one script replaces, so that other calls do not wait for long.
const UPDATE_BATCH: usize = 200;

/// How often a swap is tried while others change the swaps before it.
const ATTEMPTS: usize = 100;

#[derive(Debug)]
pub(crate) struct RedisTasks(pub(crate) Arc<SharedConnection>);

/// An instant as 22 digits that are ordered as instants are: nanoseconds, 0 long before the first
/// year that can be written.
fn digits(at: OffsetDateTime) -> String {
    format!("{:022}", at.unix_timestamp_nanos() + (1_i128 << 71))
}

/// What scripts filter by; see `scripts/tasks.lua`.
fn row(task: &TaskRecord) -> String {
    let absent = || "-".to_owned();
    format!(
        "{} {} {} {} {} {} {}",
        task.status.as_str(),
        task.kind.as_str(),
        task.canceled_by.map_or_else(absent, |by| by.to_string()),
        digits(task.enqueued_at),
        task.started_at.map_or_else(absent, digits),
        task.finished_at.map_or_else(absent, digits),
        task.index.as_ref().map(|name| format!("={name}")).unwrap_or_default(),
    )
}

/// A task as it is stored: its uid is known to the store alone, and its index is where a swap of
/// names can change it.
fn record(task: &TaskRecord) -> Result<String, StoreError> {
    encode(&TaskRecord { uid: TaskUid(0), index: None, ..task.clone() })
}

/// The opposite of [`record`]. `index` is that part of a row.
fn task(uid: u32, index: &str, record: &str) -> Result<TaskRecord, StoreError> {
    let task: TaskRecord = decode(record)?;
    let index = index.strip_prefix('=').map(str::to_owned);
    Ok(TaskRecord { uid: TaskUid(uid), index, ..task })
}

impl RedisTasks {
    async fn find(&self, query: &TaskQuery, records: bool) -> Result<Found, StoreError> {
        let args = Args::new().with(encode(&Query::new(query, records))?);
        // A script that only reads has no deadline in front of its arguments.
        Found::read(self.0.script(&TASKS_LIST, args).await?)
    }

    /// One attempt at a swap: whether nobody changed what it is about meanwhile.
    async fn swap(&self, first: &str, second: &str, before: u32) -> Result<bool, StoreError> {
        let mut args =
            Args::new().with(first).with(second).with(before).with(TaskKind::IndexSwap.as_str());
        if let Some(last) = before.checked_sub(1) {
            let swaps = TaskQuery {
                kinds: Some(vec![TaskKind::IndexSwap]),
                from: Some(TaskUid(last)),
                limit: usize::MAX,
                ..TaskQuery::default()
            };
            for (uid, index, old) in self.find(&swaps, true).await?.records {
                let mut swap = task(uid, &index, &old)?;
                swap.rename(first, second);
                args.push(uid);
                args.push(old);
                args.push(record(&swap)?);
            }
        }
        Ok(number(self.0.script(&TASKS_SWAP, args).await?)? == 1)
    }
}

impl Tasks for RedisTasks {
    fn insert_many(&self, tasks: Vec<NewTask>) -> StoreFuture<'_, Vec<TaskRecord>> {
        Box::pin(async move {
            let mut tasks: Vec<_> =
                tasks.into_iter().map(|task| TaskRecord::new(TaskUid(0), task)).collect();
            let mut args = Args::new();
            for task in &tasks {
                args.push(row(task));
                args.push(record(task)?);
            }
            let value = self.0.script(&TASKS_INSERT, args).await?;
            let first: i64 = redis::from_redis_value(value).map_err(RedisFailure::odd)?;
            let first = u32::try_from(first).map_err(|_| {
                StoreError::Backend("all task uids of 32 bits have been used".into())
            })?;
            for (task, uid) in tasks.iter_mut().zip(first..) {
                task.uid = TaskUid(uid);
            }
            Ok(tasks)
        })
    }

    fn update(&self, task: TaskRecord) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let args = Args::new().with(task.uid).with(row(&task)).with(record(&task)?);
            self.0.script(&TASKS_UPDATE, args).await?;
            Ok(())
        })
    }

    fn update_many(&self, tasks: Vec<TaskRecord>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            for some in tasks.chunks(UPDATE_BATCH) {
                let mut args = Args::new();
                for task in some {
                    args.push(task.uid);
                    args.push(row(task));
                    args.push(record(task)?);
                }
                self.0.script(&TASKS_UPDATE, args).await?;
            }
            Ok(())
        })
    }

    fn get(&self, uid: TaskUid) -> StoreFuture<'_, Option<TaskRecord>> {
        Box::pin(async move {
            let key = self.0.key(format_args!("tasks:{uid}"));
            let value = self.0.read(cmd("HMGET").arg(key).arg("row").arg("record")).await?;
            let (row, record): (Option<String>, Option<String>) =
                redis::from_redis_value(value).map_err(RedisFailure::odd)?;
            let (Some(row), Some(record)) = (row, record) else { return Ok(None) };
            let index = row.splitn(7, ' ').nth(6).unwrap_or_default();
            task(uid.0, index, &record).map(Some)
        })
    }

    fn list(&self, query: TaskQuery) -> StoreFuture<'_, TaskPage> {
        Box::pin(async move {
            let Found { total, records, rest } = self.find(&query, true).await?;
            let tasks = records.iter().map(|(uid, index, record)| task(*uid, index, record));
            Ok(TaskPage {
                tasks: tasks.collect::<Result<_, _>>()?,
                total,
                next: rest.first().copied().map(TaskUid),
            })
        })
    }

    fn uids(&self, query: TaskQuery) -> StoreFuture<'_, Vec<u32>> {
        let query = TaskQuery { from: None, reverse: true, limit: usize::MAX, ..query };
        Box::pin(async move { Ok(self.find(&query, false).await?.rest) })
    }

    fn remove(&self, mut uids: Vec<u32>) -> StoreFuture<'_, Vec<TaskRecord>> {
        uids.sort_unstable();
        uids.dedup();
        Box::pin(async move {
            let value = self.0.script(&TASKS_REMOVE, Args::new().with(encode(&uids)?)).await?;
            let removed = Found::records(value)?;
            removed.iter().map(|(uid, index, record)| task(*uid, index, record)).collect()
        })
    }

    fn swap_indexes(&self, first: String, second: String, before: TaskUid) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            if first == second {
                return Ok(());
            }
            for _ in 0..ATTEMPTS {
                if self.swap(&first, &second, before.0).await? {
                    return Ok(());
                }
            }
            Err(StoreError::Backend("others changed the swaps before it again and again".into()))
        })
    }

    fn unfinished(&self) -> StoreFuture<'_, Vec<TaskRecord>> {
        let statuses = TaskStatus::ALL.into_iter().filter(|status| !status.is_terminal());
        let query = TaskQuery {
            statuses: Some(statuses.collect()),
            reverse: true,
            limit: usize::MAX,
            ..TaskQuery::default()
        };
        Box::pin(async move { Ok(self.list(query).await?.tasks) })
    }

    fn index_names(&self) -> StoreFuture<'_, Vec<String>> {
        Box::pin(async move {
            let names = self.0.key("tasks:_names");
            texts(self.0.read(cmd("ZRANGE").arg(names).arg(0).arg(-1)).await?)
        })
    }

    fn counts(&self) -> StoreFuture<'_, Vec<(TaskStatus, u64)>> {
        Box::pin(async move {
            let value = self.0.script(&TASKS_COUNTS, Args::new()).await?;
            let found: Vec<(String, u64)> =
                redis::from_redis_value(value).map_err(RedisFailure::odd)?;
            let count = |status: TaskStatus| {
                let of = found.iter().find(|(name, _)| name == status.as_str());
                (status, of.map_or(0, |(_, count)| *count))
            };
            Ok(TaskStatus::ALL.map(count).to_vec())
        })
    }

    /// In scripts that look at a thousand tasks each, so this one call is not atomic: a crash keeps
    /// some.
    fn prune(&self, finished_before: OffsetDateTime) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            let before = digits(finished_before);
            let (mut pruned, mut after) = (0, String::new());
            loop {
                let args = Args::new().with(&before).with(&after).with(PRUNE_BATCH);
                let value = self.0.script(&TASKS_PRUNE, args).await?;
                let (forgotten, seen, last): (u64, usize, String) =
                    redis::from_redis_value(value).map_err(RedisFailure::odd)?;
                pruned += forgotten;
                if seen < PRUNE_BATCH {
                    return Ok(pruned);
                }
                after = last;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn digits_are_ordered_as_instants_are() {
        let ordered = [
            datetime!(-9999-01-01 0:00 UTC),
            datetime!(1677-01-01 0:00 UTC),
            datetime!(1970-01-01 0:00 UTC),
            datetime!(1970-01-01 0:00:00.000000001 UTC),
            datetime!(2262-06-01 0:00 UTC),
            datetime!(9999-12-31 23:59:59.999999999 UTC),
        ]
        .map(digits);
        assert!(ordered.iter().all(|text| text.len() == 22), "{ordered:?}");
        assert!(ordered.is_sorted_by(|a, b| a < b), "{ordered:?}");
    }

    #[test]
    fn scripts_know_which_statuses_are_terminal() {
        let text = TASKS_PRUNE.text;
        let line = text.lines().find(|line| line.starts_with("local TERMINAL")).unwrap();
        for status in TaskStatus::ALL {
            let named = line.contains(&format!(" {} = true", status.as_str()));
            assert_eq!(named, status.is_terminal(), "{status:?}");
        }
    }
}
