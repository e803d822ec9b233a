//! Tables of JSON records, all with the same columns.

use std::sync::Arc;

use miroir_store::StoreFuture;
use miroir_store::records::{PutOptions, Record, Records, Table};
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::Value;
use time::OffsetDateTime;

use crate::database::{Database, Fault, nanoseconds};

#[derive(Debug)]
pub(crate) struct SqliteRecords(pub(crate) Arc<Database>);

/// What is there as long as it lives: `now` is `?1`.
const LIVES: &str = "(expires_at IS NULL OR expires_at > ?1)";

fn version(connection: &Connection, name: &str, key: &str, now: i64) -> Result<Option<u64>, Fault> {
    let sql = format!("SELECT version FROM {name} WHERE {LIVES} AND key = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let version: Option<i64> = statement.query_row((now, key), |row| row.get(0)).optional()?;
    Ok(version.map(u64::try_from).transpose()?)
}

/// Lets rows that end first go until there are `most`, but never `spared`.
fn bound(
    connection: &Connection,
    name: &str,
    most: usize,
    spared: &str,
    now: i64,
) -> Result<(), Fault> {
    let rows = || -> Result<i64, Fault> {
        let sql = format!("SELECT count(*) FROM {name}");
        Ok(connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?)
    };
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    if rows()? <= most {
        return Ok(());
    }
    let sql = format!("DELETE FROM {name} WHERE expires_at <= ?");
    connection.prepare_cached(&sql)?.execute([now])?;
    let many = rows()? - most;
    if many > 0 {
        let sql = format!(
            "DELETE FROM {name} WHERE key IN (
                 SELECT key FROM {name} WHERE expires_at IS NOT NULL AND key <> ?
                 ORDER BY expires_at, key LIMIT ?)"
        );
        connection.prepare_cached(&sql)?.execute((spared, many))?;
    }
    Ok(())
}

fn number(version: u64) -> Result<i64, Fault> {
    Ok(i64::try_from(version)?)
}

impl Records for SqliteRecords {
    fn get(&self, table: Table, key: &str, now: OffsetDateTime) -> StoreFuture<'_, Option<Record>> {
        let key = key.to_owned();
        Box::pin(async move {
            self.0.expect(table.feature())?;
            let read = self.0.read(move |connection| {
                let sql = format!(
                    "SELECT version, record FROM {} WHERE {LIVES} AND key = ?2",
                    table.name()
                );
                let row: Option<(i64, String)> = connection
                    .prepare_cached(&sql)?
                    .query_row((nanoseconds(now)?, &key), |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?;
                let Some((version, record)) = row else { return Ok(None) };
                let value = serde_json::from_str(&record)?;
                Ok(Some(Record { key, version: u64::try_from(version)?, value }))
            });
            read.await
        })
    }

    fn list(&self, table: Table, now: OffsetDateTime) -> StoreFuture<'_, Vec<Record>> {
        Box::pin(async move {
            self.0.expect(table.feature())?;
            let read = self.0.read(move |connection| {
                let sql = format!(
                    "SELECT key, version, record FROM {} WHERE {LIVES} ORDER BY key",
                    table.name()
                );
                let mut statement = connection.prepare_cached(&sql)?;
                let rows = statement.query_map([nanoseconds(now)?], |row| {
                    Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
                })?;
                rows.map(|row| {
                    let (key, version, record) = row?;
                    let value = serde_json::from_str(&record)?;
                    Ok(Record { key, version: u64::try_from(version)?, value })
                })
                .collect()
            });
            read.await
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
        Box::pin(async move {
            self.0.expect(table.feature())?;
            let write = self.0.write(move |connection| {
                let (name, at) = (table.name(), nanoseconds(now)?);
                let known = version(connection, name, &key, at)?;
                if !terms.expected.fits(known) {
                    return Ok(None);
                }
                let new = known.unwrap_or(0) + 1;
                let until = terms.ttl.map(|ttl| nanoseconds(now + ttl)).transpose()?;
                let sql = format!(
                    "INSERT INTO {name} (key, version, record, expires_at) VALUES (?, ?, ?, ?)
                     ON CONFLICT (key) DO UPDATE SET version = excluded.version,
                         record = excluded.record, expires_at = excluded.expires_at"
                );
                connection.prepare_cached(&sql)?.execute((
                    &key,
                    number(new)?,
                    value.to_string(),
                    until,
                ))?;
                if let Some(most) = terms.max_records {
                    bound(connection, name, most, &key, at)?;
                }
                Ok(Some(new))
            });
            write.await
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
        Box::pin(async move {
            self.0.expect(table.feature())?;
            let write = self.0.write(move |connection| {
                let sql = format!(
                    "DELETE FROM {} WHERE {LIVES} AND key = ?2 AND version = coalesce(?3, version)",
                    table.name()
                );
                let version = version.map(number).transpose()?;
                let gone =
                    connection.prepare_cached(&sql)?.execute((nanoseconds(now)?, key, version))?;
                Ok(gone == 1)
            });
            write.await
        })
    }

    fn count(&self, table: Table, now: OffsetDateTime) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            self.0.expect(table.feature())?;
            let read = self.0.read(move |connection| {
                let sql = format!("SELECT count(*) FROM {} WHERE {LIVES}", table.name());
                let count: i64 = connection
                    .prepare_cached(&sql)?
                    .query_row([nanoseconds(now)?], |row| row.get(0))?;
                Ok(u64::try_from(count)?)
            });
            read.await
        })
    }

    fn prune(&self, table: Table, now: OffsetDateTime) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            self.0.expect(table.feature())?;
            let write = self.0.write(move |connection| {
                let sql = format!("DELETE FROM {} WHERE expires_at <= ?", table.name());
                Ok(connection.prepare_cached(&sql)?.execute([nanoseconds(now)?])? as u64)
            });
            write.await
        })
    }
}
