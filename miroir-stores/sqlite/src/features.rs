//! Experimental features as clients set them.

use std::sync::Arc;

use miroir_store::{Features, StoreFuture};

use crate::database::Database;

#[derive(Debug)]
pub(crate) struct SqliteFeatures(pub(crate) Arc<Database>);

impl Features for SqliteFeatures {
    fn list(&self) -> StoreFuture<'_, Vec<(String, bool)>> {
        Box::pin(self.0.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT name, enabled FROM features ORDER BY name")?;
            let mut rows = statement.query([])?;
            let mut features = Vec::new();
            while let Some(row) = rows.next()? {
                features.push((row.get(0)?, row.get(1)?));
            }
            Ok(features)
        }))
    }

    fn set(&self, features: Vec<(String, bool)>) -> StoreFuture<'_, ()> {
        Box::pin(self.0.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO features (name, enabled, updated_at) VALUES (?, ?, unixepoch())
                 ON CONFLICT (name) DO UPDATE
                 SET enabled = excluded.enabled, updated_at = excluded.updated_at",
            )?;
            for (name, enabled) in &features {
                statement.execute((name, enabled))?;
            }
            Ok(())
        }))
    }
}
