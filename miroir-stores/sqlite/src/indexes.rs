//! The index catalogue.

use std::sync::Arc;

use miroir::store::{Answer, IndexEntry, Indexes};
use miroir_api::IndexUid;
use rusqlite::OptionalExtension;

use crate::database::{Database, Fault};

#[derive(Debug)]
pub(crate) struct SqliteIndexes(pub(crate) Arc<Database>);

fn decode(record: String) -> Result<IndexEntry, Fault> {
    Ok(serde_json::from_str(&record)?)
}

impl Indexes for SqliteIndexes {
    fn get(&self, name: &IndexUid) -> Answer<'_, Option<IndexEntry>> {
        let name = name.clone();
        Box::pin(self.0.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT record FROM indexes WHERE name = ?")?;
            let record = statement.query_row([name.as_str()], |row| row.get(0)).optional()?;
            record.map(decode).transpose()
        }))
    }

    fn list(&self) -> Answer<'_, Vec<IndexEntry>> {
        Box::pin(self.0.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT record FROM indexes ORDER BY name")?;
            statement.query_map([], |row| row.get(0))?.map(|record| decode(record?)).collect()
        }))
    }

    fn put(&self, entry: IndexEntry, expected: Option<u64>) -> Answer<'_, bool> {
        Box::pin(self.0.write(move |connection| {
            let (name, version) = (entry.name.as_str(), i64::try_from(entry.version)?);
            let record = serde_json::to_string(&entry)?;
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
        }))
    }

    fn delete(&self, name: &IndexUid, expected: u64) -> Answer<'_, bool> {
        let name = name.clone();
        Box::pin(self.0.write(move |connection| {
            let deleted = connection
                .prepare_cached("DELETE FROM indexes WHERE name = ? AND version = ?")?
                .execute((name.as_str(), i64::try_from(expected)?))?;
            Ok(deleted == 1)
        }))
    }
}
