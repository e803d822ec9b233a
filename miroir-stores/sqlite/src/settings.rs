//! Settings versions of nodes.

use std::sync::Arc;

use miroir_api::NodeId;
use miroir_store::{SettingsVersions, StoreFuture};

use crate::database::Database;

#[derive(Debug)]
pub(crate) struct SqliteSettingsVersions(pub(crate) Arc<Database>);

impl SettingsVersions for SqliteSettingsVersions {
    fn set(&self, index: &str, node: &NodeId, version: u64) -> StoreFuture<'_, ()> {
        let (index, node) = (index.to_owned(), node.clone());
        Box::pin(self.0.write(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO node_settings_version (index_uid, node_id, version, updated_at)
                     VALUES (?, ?, ?, unixepoch())
                     ON CONFLICT (index_uid, node_id) DO UPDATE
                     SET version = excluded.version, updated_at = excluded.updated_at
                     WHERE excluded.version > version",
                )?
                .execute((index, node.as_str(), i64::try_from(version)?))?;
            Ok(())
        }))
    }

    fn list(&self, index: &str) -> StoreFuture<'_, Vec<(NodeId, u64)>> {
        let index = index.to_owned();
        Box::pin(self.0.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT node_id, version FROM node_settings_version
                 WHERE index_uid = ? ORDER BY node_id",
            )?;
            let mut rows = statement.query([index])?;
            let mut versions = Vec::new();
            while let Some(row) = rows.next()? {
                let node: String = row.get(0)?;
                versions.push((NodeId::new(&node)?, u64::try_from(row.get::<_, i64>(1)?)?));
            }
            Ok(versions)
        }))
    }

    fn forget(&self, index: &str) -> StoreFuture<'_, ()> {
        let index = index.to_owned();
        Box::pin(self.0.write(move |connection| {
            connection
                .prepare_cached("DELETE FROM node_settings_version WHERE index_uid = ?")?
                .execute([index])?;
            Ok(())
        }))
    }
}
