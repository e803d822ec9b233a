//! The task registry.

mod list;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use miroir_api::TaskUid;
use miroir_api::meili::TaskStatus;
use miroir_store::{NewTask, StoreFuture, TaskPage, TaskQuery, TaskRecord, Tasks};
use rusqlite::{Connection, OptionalExtension};
use time::OffsetDateTime;

use crate::database::{Database, Fault};

/// Most tasks one commit forgets, so that other writes do not wait for long.
const PRUNE_BATCH: i64 = 1000;

#[derive(Debug)]
pub(crate) struct SqliteTasks(pub(crate) Arc<Database>);

/// The columns that hold instants. Clamped to what 64 bits hold: the years 1677 to 2262.
fn nanoseconds(at: OffsetDateTime) -> i64 {
    let at = at.unix_timestamp_nanos();
    i64::try_from(at).unwrap_or(if at < 0 { i64::MIN } else { i64::MAX })
}

fn decode(record: String) -> Result<TaskRecord, Fault> {
    Ok(serde_json::from_str(&record)?)
}

fn get(connection: &Connection, uid: u32) -> Result<Option<TaskRecord>, Fault> {
    let mut statement = connection.prepare_cached("SELECT record FROM tasks WHERE uid = ?")?;
    statement.query_row([uid], |row| row.get(0)).optional()?.map(decode).transpose()
}

/// Replaces a task. The index stays what it is, in its column and in the record.
fn update(connection: &Connection, task: &TaskRecord) -> Result<(), Fault> {
    // Before it begins only what lists do not filter by changes: then no index has to be written.
    if task.status == TaskStatus::Enqueued && task.started_at.is_none() {
        let same = store(
            connection,
            "UPDATE tasks SET record = ?9
             WHERE uid = ?1 AND status = ?2 AND kind = ?3 AND index_uid IS ?4 AND canceled_by IS ?5
                AND enqueued_at = ?6 AND started_at IS ?7 AND finished_at IS ?8",
            task,
        )?;
        if same > 0 {
            return Ok(());
        }
    }
    store(
        connection,
        "UPDATE tasks SET status = ?2, kind = ?3, canceled_by = ?5,
            enqueued_at = ?6, started_at = ?7, finished_at = ?8,
            record = iif(index_uid IS ?4, ?9, json_set(?9, '$.index', index_uid))
         WHERE uid = ?1",
        task,
    )?;
    Ok(())
}

/// Writes a row: `sql` has the nine columns in the order of the table. Returns how many rows it wrote.
fn store(connection: &Connection, sql: &str, task: &TaskRecord) -> Result<usize, Fault> {
    let written = connection.prepare_cached(sql)?.execute((
        task.uid.0,
        task.status.as_str(),
        task.kind.as_str(),
        &task.index,
        task.canceled_by.map(|by| by.0),
        nanoseconds(task.enqueued_at),
        task.started_at.map(nanoseconds),
        task.finished_at.map(nanoseconds),
        serde_json::to_string(task)?,
    ))?;
    Ok(written)
}

impl Tasks for SqliteTasks {
    fn insert_many(&self, tasks: Vec<NewTask>) -> StoreFuture<'_, Vec<TaskRecord>> {
        Box::pin(self.0.write(move |connection| {
            let first: i64 = connection
                .prepare_cached(
                    "UPDATE counters SET next = next + ?1 WHERE name = 'task_uid'
                     RETURNING next - ?1",
                )?
                .query_row([i64::try_from(tasks.len())?], |row| row.get(0))?;
            let uids = first..;
            let insert = |(uid, task): (i64, NewTask)| {
                let uid =
                    u32::try_from(uid).map_err(|_| "all task uids of 32 bits have been used")?;
                let record = TaskRecord::new(TaskUid(uid), task);
                store(
                    connection,
                    "INSERT INTO tasks (uid, status, kind, index_uid, canceled_by,
                        enqueued_at, started_at, finished_at, record)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    &record,
                )?;
                Ok(record)
            };
            uids.zip(tasks).map(insert).collect()
        }))
    }

    fn update(&self, task: TaskRecord) -> StoreFuture<'_, ()> {
        Box::pin(self.0.write(move |connection| update(connection, &task)))
    }

    fn update_many(&self, tasks: Vec<TaskRecord>) -> StoreFuture<'_, ()> {
        Box::pin(
            self.0.write(move |connection| {
                tasks.iter().try_for_each(|task| update(connection, task))
            }),
        )
    }

    fn get(&self, uid: TaskUid) -> StoreFuture<'_, Option<TaskRecord>> {
        Box::pin(self.0.read(move |connection| get(connection, uid.0)))
    }

    fn get_many(&self, mut uids: Vec<TaskUid>) -> StoreFuture<'_, Vec<TaskRecord>> {
        uids.sort_unstable();
        uids.dedup();
        Box::pin(self.0.read(move |connection| {
            let found = uids.iter().map(|uid| get(connection, uid.0));
            found.filter_map(Result::transpose).collect()
        }))
    }

    fn list(&self, query: TaskQuery) -> StoreFuture<'_, TaskPage> {
        Box::pin(self.0.read(move |connection| list::list(connection, &query)))
    }

    fn uids(&self, query: TaskQuery) -> StoreFuture<'_, Vec<u32>> {
        Box::pin(self.0.read(move |connection| list::all(connection, query)))
    }

    fn remove(&self, uids: Vec<u32>) -> StoreFuture<'_, Vec<TaskRecord>> {
        Box::pin(self.0.write(move |connection| {
            let uids = serde_json::to_string(&uids)?;
            let mut statement = connection.prepare_cached(
                "DELETE FROM tasks WHERE uid IN (SELECT value FROM json_each(?))
                    AND status IN ('succeeded', 'failed', 'canceled') RETURNING record",
            )?;
            let removed = statement.query_map([uids], |row| row.get(0))?;
            let mut removed: Vec<TaskRecord> =
                removed.map(|record| decode(record?)).collect::<Result<_, Fault>>()?;
            removed.sort_by_key(|task| task.uid);
            Ok(removed)
        }))
    }

    fn swap_indexes(&self, first: String, second: String, before: TaskUid) -> StoreFuture<'_, ()> {
        Box::pin(self.0.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT record FROM tasks INDEXED BY tasks_by_status
                 WHERE status IN ('enqueued', 'processing', 'succeeded', 'failed', 'canceled')
                    AND kind = 'indexSwap' AND uid < ?",
            )?;
            let swaps = statement.query_map([before.0], |row| row.get(0))?;
            let swaps: Vec<TaskRecord> =
                swaps.map(|record| decode(record?)).collect::<Result<_, Fault>>()?;
            for mut swap in swaps {
                let old = swap.clone();
                swap.rename(&first, &second);
                if swap != old {
                    connection
                        .prepare_cached("UPDATE tasks SET record = ?2 WHERE uid = ?1")?
                        .execute((swap.uid.0, serde_json::to_string(&swap)?))?;
                }
            }
            connection
                .prepare_cached(
                    "UPDATE tasks SET index_uid = iif(index_uid = ?1, ?2, ?1),
                        record = json_set(record, '$.index', iif(index_uid = ?1, ?2, ?1))
                     WHERE index_uid IN (?1, ?2) AND uid < ?3",
                )?
                .execute((first, second, before.0))?;
            Ok(())
        }))
    }

    fn unfinished(&self) -> StoreFuture<'_, Vec<TaskRecord>> {
        Box::pin(self.0.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT record FROM tasks WHERE status IN ('enqueued', 'processing') ORDER BY uid",
            )?;
            statement.query_map([], |row| row.get(0))?.map(|record| decode(record?)).collect()
        }))
    }

    fn index_names(&self) -> StoreFuture<'_, Vec<String>> {
        Box::pin(self.0.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT DISTINCT index_uid FROM index_task_totals WHERE n > 0 ORDER BY index_uid",
            )?;
            statement.query_map([], |row| row.get(0))?.map(|name| Ok(name?)).collect()
        }))
    }

    fn counts(&self) -> StoreFuture<'_, Vec<(TaskStatus, u64)>> {
        Box::pin(self.0.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT coalesce(sum(n), 0) FROM task_totals WHERE status = ?")?;
            let mut counts = Vec::with_capacity(TaskStatus::ALL.len());
            for status in TaskStatus::ALL {
                let count: i64 = statement.query_row([status.as_str()], |row| row.get(0))?;
                counts.push((status, u64::try_from(count)?));
            }
            Ok(counts)
        }))
    }

    /// In commits of a thousand tasks, so this one call is not atomic: a crash keeps some.
    fn prune(&self, finished_before: OffsetDateTime) -> StoreFuture<'_, u64> {
        let before = nanoseconds(finished_before);
        Box::pin(async move {
            let mut pruned = 0;
            loop {
                let batch = self.0.write(move |connection| {
                    let deleted = connection
                        .prepare_cached(
                            "DELETE FROM tasks WHERE uid IN (
                                SELECT uid FROM tasks INDEXED BY tasks_by_finished
                                WHERE finished_at < ?
                                    AND status IN ('succeeded', 'failed', 'canceled')
                                LIMIT ?)",
                        )?
                        .execute((before, PRUNE_BATCH))?;
                    Ok(deleted as u64)
                });
                let batch = batch.await?;
                pruned += batch;
                if batch < PRUNE_BATCH as u64 {
                    return Ok(pruned);
                }
            }
        })
    }
}
