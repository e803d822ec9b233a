//! API keys.

use std::sync::Arc;

use miroir_core::keys::ApiKey;
use miroir_core::keys::request::Change;
use miroir_store::{Keys, StoreFuture};
use rusqlite::{Connection, OptionalExtension};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::database::{Database, Fault};

#[derive(Debug)]
pub(crate) struct SqliteKeys(pub(crate) Arc<Database>);

fn decode(record: String) -> Result<ApiKey, Fault> {
    Ok(serde_json::from_str(&record)?)
}

fn insert(connection: &Connection, key: &ApiKey) -> Result<bool, Fault> {
    let created = i64::try_from(key.created_at.unix_timestamp_nanos())?;
    let inserted = connection
        .prepare_cached(
            "INSERT INTO api_keys (uid, created_at, record) VALUES (?, ?, ?)
             ON CONFLICT (uid) DO NOTHING",
        )?
        .execute((key.uid.to_string(), created, serde_json::to_string(key)?))?;
    Ok(inserted == 1)
}

impl Keys for SqliteKeys {
    fn seed(&self, keys: Vec<ApiKey>) -> StoreFuture<'_, bool> {
        Box::pin(self.0.write(move |connection| {
            let mut any = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM api_keys)")?;
            if any.query_row([], |row| row.get(0))? {
                return Ok(false);
            }
            for key in &keys {
                insert(connection, key)?;
            }
            Ok(true)
        }))
    }

    fn insert(&self, key: ApiKey) -> StoreFuture<'_, bool> {
        Box::pin(self.0.write(move |connection| insert(connection, &key)))
    }

    fn update(
        &self,
        uid: Uuid,
        change: Change,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, Option<ApiKey>> {
        Box::pin(self.0.write(move |connection| {
            let uid = uid.to_string();
            let record = connection
                .prepare_cached("SELECT record FROM api_keys WHERE uid = ?")?
                .query_row([&uid], |row| row.get(0))
                .optional()?;
            let Some(mut key) = record.map(decode).transpose()? else { return Ok(None) };
            change.apply(&mut key, now);
            connection
                .prepare_cached("UPDATE api_keys SET record = ? WHERE uid = ?")?
                .execute((serde_json::to_string(&key)?, uid))?;
            Ok(Some(key))
        }))
    }

    fn delete(&self, uid: Uuid) -> StoreFuture<'_, bool> {
        Box::pin(self.0.write(move |connection| {
            let deleted = connection
                .prepare_cached("DELETE FROM api_keys WHERE uid = ?")?
                .execute([uid.to_string()])?;
            Ok(deleted == 1)
        }))
    }

    fn list(&self) -> StoreFuture<'_, Vec<ApiKey>> {
        Box::pin(self.0.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT record FROM api_keys ORDER BY created_at DESC, id DESC")?;
            statement.query_map([], |row| row.get(0))?.map(|record| decode(record?)).collect()
        }))
    }
}
