//! Webhooks.

use std::sync::Arc;

use miroir_store::{StoreFuture, Webhook, Webhooks};
use uuid::Uuid;

use crate::database::Database;

#[derive(Debug)]
pub(crate) struct SqliteWebhooks(pub(crate) Arc<Database>);

impl Webhooks for SqliteWebhooks {
    fn list(&self) -> StoreFuture<'_, Vec<Webhook>> {
        Box::pin(self.0.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT record FROM webhooks ORDER BY uuid")?;
            let records = statement.query_map([], |row| row.get::<_, String>(0))?;
            records.map(|record| Ok(serde_json::from_str(&record?)?)).collect()
        }))
    }

    fn put(&self, hook: Webhook, most: usize) -> StoreFuture<'_, bool> {
        Box::pin(self.0.write(move |connection| {
            let written = connection
                .prepare_cached(
                    "INSERT INTO webhooks (uuid, record)
                     SELECT ?1, ?2 WHERE (SELECT count(*) FROM webhooks WHERE uuid <> ?1) < ?3
                        OR EXISTS (SELECT 1 FROM webhooks WHERE uuid = ?1)
                     ON CONFLICT (uuid) DO UPDATE SET record = excluded.record",
                )?
                .execute((
                    hook.uuid.to_string(),
                    serde_json::to_string(&hook)?,
                    i64::try_from(most).unwrap_or(i64::MAX),
                ))?;
            Ok(written == 1)
        }))
    }

    fn delete(&self, uuid: Uuid) -> StoreFuture<'_, bool> {
        Box::pin(self.0.write(move |connection| {
            let deleted = connection
                .prepare_cached("DELETE FROM webhooks WHERE uuid = ?")?
                .execute([uuid.to_string()])?;
            Ok(deleted == 1)
        }))
    }
}
