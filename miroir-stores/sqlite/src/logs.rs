//! Bounded lists: a table of entries, and one that knows each list's last number and size.

use std::sync::Arc;

use miroir_store::StoreFuture;
use miroir_store::records::{Bound, Log, Logs, Size};
use rusqlite::{Connection, OptionalExtension as _};

use crate::database::{Database, Fault};

#[derive(Debug)]
pub(crate) struct SqliteLogs(pub(crate) Arc<Database>);

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn rows(
    connection: &Connection,
    sql: &str,
    key: &str,
    number: u64,
    limit: usize,
) -> Result<Vec<(u64, String)>, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement
        .query_map((key, signed(number), limit), |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
    rows.map(|row| row.map_err(Fault::from).and_then(|(at, entry)| Ok((u64::try_from(at)?, entry))))
        .collect()
}

/// Lets entries up to and with a number go; how many there were.
fn trim(connection: &Connection, name: &str, key: &str, number: i64) -> Result<u64, Fault> {
    let sql = format!(
        "UPDATE {name}_lists SET bytes = bytes - coalesce(
             (SELECT sum(octet_length(entry)) FROM {name} WHERE key = ?1 AND number <= ?2), 0)
         WHERE key = ?1"
    );
    connection.prepare_cached(&sql)?.execute((key, number))?;
    let sql = format!("DELETE FROM {name} WHERE key = ? AND number <= ?");
    Ok(connection.prepare_cached(&sql)?.execute((key, number))? as u64)
}

impl Logs for SqliteLogs {
    fn append(&self, log: Log, key: &str, entry: String, bound: Bound) -> StoreFuture<'_, u64> {
        let key = key.to_owned();
        Box::pin(async move {
            self.0.expect(log.feature())?;
            let write = self.0.write(move |connection| {
                let name = log.name();
                let sql = format!(
                    "INSERT INTO {name}_lists (key, last, bytes) VALUES (?, 1, ?)
                     ON CONFLICT (key) DO UPDATE SET last = last + 1, bytes = bytes + excluded.bytes
                     RETURNING last, bytes"
                );
                let (last, mut bytes): (i64, i64) = connection
                    .prepare_cached(&sql)?
                    .query_row((&key, i64::try_from(entry.len())?), |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })?;
                let sql = format!("INSERT INTO {name} (key, number, entry) VALUES (?, ?, ?)");
                connection.prepare_cached(&sql)?.execute((&key, last, entry))?;
                // Numbers have no gaps, so that the oldest one says how many there are.
                let mut gone = last.saturating_sub(signed(bound.entries)).min(last - 1);
                let sql = format!(
                    "SELECT number, octet_length(entry) FROM {name}
                     WHERE key = ? AND number < ? ORDER BY number"
                );
                if bytes > signed(bound.bytes) {
                    let mut statement = connection.prepare_cached(&sql)?;
                    let mut older = statement.query((&key, last))?;
                    while let Some(row) = older.next()? {
                        if bytes <= signed(bound.bytes) {
                            break;
                        }
                        gone = gone.max(row.get(0)?);
                        bytes -= row.get::<_, i64>(1)?;
                    }
                }
                trim(connection, name, &key, gone)
            });
            write.await
        })
    }

    fn after(
        &self,
        log: Log,
        key: &str,
        number: u64,
        limit: usize,
    ) -> StoreFuture<'_, Vec<(u64, String)>> {
        let key = key.to_owned();
        Box::pin(async move {
            self.0.expect(log.feature())?;
            let read = self.0.read(move |connection| {
                let sql = format!(
                    "SELECT number, entry FROM {} WHERE key = ? AND number > ?
                     ORDER BY number LIMIT ?",
                    log.name()
                );
                rows(connection, &sql, &key, number, limit)
            });
            read.await
        })
    }

    fn newest(&self, log: Log, key: &str, limit: usize) -> StoreFuture<'_, Vec<(u64, String)>> {
        let key = key.to_owned();
        Box::pin(async move {
            self.0.expect(log.feature())?;
            let read = self.0.read(move |connection| {
                let sql = format!(
                    "SELECT number, entry FROM {} WHERE key = ? AND number > ?
                     ORDER BY number DESC LIMIT ?",
                    log.name()
                );
                rows(connection, &sql, &key, 0, limit)
            });
            read.await
        })
    }

    fn trim(&self, log: Log, key: &str, number: u64) -> StoreFuture<'_, u64> {
        let key = key.to_owned();
        Box::pin(async move {
            self.0.expect(log.feature())?;
            self.0.write(move |connection| trim(connection, log.name(), &key, signed(number))).await
        })
    }

    fn size(&self, log: Log, key: &str) -> StoreFuture<'_, Size> {
        let key = key.to_owned();
        Box::pin(async move {
            self.0.expect(log.feature())?;
            let read = self.0.read(move |connection| {
                let name = log.name();
                let sql = format!(
                    "SELECT (SELECT count(*) FROM {name} WHERE key = ?1), bytes
                     FROM {name}_lists WHERE key = ?1"
                );
                let row: Option<(i64, i64)> = connection
                    .prepare_cached(&sql)?
                    .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?;
                let (entries, bytes) = row.unwrap_or_default();
                Ok(Size { entries: u64::try_from(entries)?, bytes: u64::try_from(bytes)? })
            });
            read.await
        })
    }

    fn clear(&self, log: Log, key: &str) -> StoreFuture<'_, ()> {
        let key = key.to_owned();
        Box::pin(async move {
            self.0.expect(log.feature())?;
            let write = self
                .0
                .write(move |connection| trim(connection, log.name(), &key, i64::MAX).map(drop));
            write.await
        })
    }
}
