//! The index catalogue.

use std::sync::Arc;

use miroir_api::IndexUid;
use miroir_store::{IndexChange, IndexEntry, Indexes, StoreFuture};
use rusqlite::{Connection, OptionalExtension};

use crate::database::{Database, Fault};

#[derive(Debug)]
pub(crate) struct SqliteIndexes(pub(crate) Arc<Database>);

fn decode(record: String) -> Result<IndexEntry, Fault> {
    Ok(serde_json::from_str(&record)?)
}

impl Indexes for SqliteIndexes {
    fn get(&self, name: &IndexUid) -> StoreFuture<'_, Option<IndexEntry>> {
        let name = name.clone();
        Box::pin(self.0.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT record FROM indexes WHERE name = ?")?;
            let record = statement.query_row([name.as_str()], |row| row.get(0)).optional()?;
            record.map(decode).transpose()
        }))
    }

    fn list(&self) -> StoreFuture<'_, Vec<IndexEntry>> {
        Box::pin(self.0.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT record FROM indexes ORDER BY name")?;
            statement.query_map([], |row| row.get(0))?.map(|record| decode(record?)).collect()
        }))
    }

    fn put(&self, entry: IndexEntry, expected: Option<u64>) -> StoreFuture<'_, bool> {
        Box::pin(self.0.write(move |connection| write(connection, &entry, expected)))
    }

    fn delete(&self, name: &IndexUid, expected: u64) -> StoreFuture<'_, bool> {
        let name = name.clone();
        Box::pin(self.0.write(move |connection| erase(connection, &name, expected)))
    }

    fn change(&self, changes: Vec<IndexChange>) -> StoreFuture<'_, bool> {
        Box::pin(self.0.write(move |connection| {
            // Looked at first: a call that answers `false` has changed nothing.
            for change in &changes {
                let stored = connection
                    .prepare_cached("SELECT version FROM indexes WHERE name = ?")?
                    .query_row([change.name.as_str()], |row| row.get::<_, i64>(0))
                    .optional()?;
                if stored != change.expected.map(i64::try_from).transpose()? {
                    return Ok(false);
                }
            }
            for change in &changes {
                match (&change.entry, change.expected) {
                    (Some(entry), expected) => write(connection, entry, expected)?,
                    (None, Some(expected)) => erase(connection, &change.name, expected)?,
                    (None, None) => true,
                };
            }
            Ok(true)
        }))
    }
}

fn write(
    connection: &Connection,
    entry: &IndexEntry,
    expected: Option<u64>,
) -> Result<bool, Fault> {
    let (name, version) = (entry.name.as_str(), i64::try_from(entry.version)?);
    let record = serde_json::to_string(entry)?;
    let written = match expected {
        None => connection
            .prepare_cached(
                "INSERT INTO indexes (name, version, record) VALUES (?, ?, ?)
                 ON CONFLICT (name) DO NOTHING",
            )?
            .execute((name, version, record))?,
        Some(expected) => connection
            .prepare_cached(
                "UPDATE indexes SET version = ?, record = ? WHERE name = ? AND version = ?",
            )?
            .execute((version, record, name, i64::try_from(expected)?))?,
    };
    Ok(written == 1)
}

fn erase(connection: &Connection, name: &IndexUid, expected: u64) -> Result<bool, Fault> {
    let deleted = connection
        .prepare_cached("DELETE FROM indexes WHERE name = ? AND version = ?")?
        .execute((name.as_str(), i64::try_from(expected)?))?;
    Ok(deleted == 1)
}
