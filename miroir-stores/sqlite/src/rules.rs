//! Search rules.

use std::sync::Arc;

use miroir_store::{Rules, StoreFuture};
use serde_json::Value;

use crate::database::Database;

#[derive(Debug)]
pub(crate) struct SqliteRules(pub(crate) Arc<Database>);

impl Rules for SqliteRules {
    fn list(&self) -> StoreFuture<'_, Vec<(String, Value)>> {
        Box::pin(self.0.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT uid, record FROM rules ORDER BY uid")?;
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
            rows.map(|row| row.map(|(uid, rule)| Ok((uid, serde_json::from_str(&rule)?)))?)
                .collect()
        }))
    }

    fn put(&self, uid: String, rule: Value) -> StoreFuture<'_, ()> {
        Box::pin(self.0.write(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO rules (uid, record) VALUES (?, ?)
                     ON CONFLICT (uid) DO UPDATE SET record = excluded.record",
                )?
                .execute((uid, rule.to_string()))?;
            Ok(())
        }))
    }

    fn delete(&self, uid: String) -> StoreFuture<'_, ()> {
        Box::pin(self.0.write(move |connection| {
            connection.prepare_cached("DELETE FROM rules WHERE uid = ?")?.execute([uid])?;
            Ok(())
        }))
    }

    fn clear(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.0.write(|connection| {
            connection.execute("DELETE FROM rules", [])?;
            Ok(())
        }))
    }
}
