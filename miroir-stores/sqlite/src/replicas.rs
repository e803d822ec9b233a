//! Stale replicas.

use std::sync::Arc;

use miroir_api::{NodeId, ShardId};
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_store::{Replicas, StoreFuture};
use rusqlite::Row;

use crate::database::{Database, Fault};

#[derive(Debug)]
pub(crate) struct SqliteReplicas(pub(crate) Arc<Database>);

/// The column `shard`.
fn shard(shard: Option<ShardId>) -> i64 {
    shard.map_or(-1, |shard| i64::from(shard.0))
}

/// The column `kind`: ordered by strength, with room between.
fn strength(kind: CatchUp) -> i64 {
    match kind {
        CatchUp::Pending => 10,
        CatchUp::Shard => 20,
        CatchUp::Index => 30,
        CatchUp::Deleted => 40,
    }
}

fn kind(strength: i64) -> Result<CatchUp, Fault> {
    [CatchUp::Pending, CatchUp::Shard, CatchUp::Index, CatchUp::Deleted]
        .into_iter()
        .find(|kind| self::strength(*kind) == strength)
        .ok_or_else(|| format!("stale_replicas has the unknown kind {strength}").into())
}

/// The columns of a row, in the order of [`row`].
const COLUMNS: &str = "node_id, index_uid, shard, kind, generation, awaits";

fn row(row: &Row<'_>) -> Result<StaleReplica, Fault> {
    let node: String = row.get(0)?;
    let shard: i64 = row.get(2)?;
    let awaits: String = row.get(5)?;
    Ok(StaleReplica {
        node: NodeId::new(&node)?,
        index: row.get(1)?,
        shard: if shard < 0 { None } else { Some(ShardId(u32::try_from(shard)?)) },
        kind: kind(row.get(3)?)?,
        generation: u64::try_from(row.get::<_, i64>(4)?)?,
        awaits: serde_json::from_str(&awaits)?,
    })
}

impl Replicas for SqliteReplicas {
    fn mark(&self, stale: Vec<StaleReplica>) -> StoreFuture<'_, ()> {
        Box::pin(self.0.write(move |connection| {
            // Generations are never given twice: a row that was cleared and marked again must not
            // meet a generation that an old repair still holds.
            let mut next = connection.prepare_cached(
                "UPDATE counters SET next = next + 1 WHERE name = 'stale_generation'
                 RETURNING next - 1",
            )?;
            let mut find = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM stale_replicas
                 WHERE node_id = ? AND index_uid = ? AND shard = ?"
            ))?;
            let mut mark = connection.prepare_cached(&format!(
                "INSERT OR REPLACE INTO stale_replicas ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
            ))?;
            for new in stale {
                let generation: i64 = next.query_row([], |row| row.get(0))?;
                let key = (new.node.as_str(), &new.index, shard(new.shard));
                let mut known = find.query(key)?;
                let known = known.next()?.map(row).transpose()?.unwrap_or_else(|| new.clone());
                let new = known.and(new);
                mark.execute((
                    new.node.as_str(),
                    &new.index,
                    shard(new.shard),
                    strength(new.kind),
                    generation,
                    serde_json::to_string(&new.awaits)?,
                ))?;
            }
            Ok(())
        }))
    }

    fn list(&self) -> StoreFuture<'_, Vec<StaleReplica>> {
        Box::pin(self.0.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM stale_replicas ORDER BY node_id, index_uid, shard"
            ))?;
            let mut rows = statement.query([])?;
            let mut stale = Vec::new();
            while let Some(next) = rows.next()? {
                stale.push(row(next)?);
            }
            Ok(stale)
        }))
    }

    fn clear(&self, stale: StaleReplica) -> StoreFuture<'_, bool> {
        Box::pin(self.0.write(move |connection| {
            let Ok(generation) = i64::try_from(stale.generation) else { return Ok(false) };
            let cleared = connection
                .prepare_cached(
                    "DELETE FROM stale_replicas
                     WHERE node_id = ? AND index_uid = ? AND shard = ? AND generation = ?",
                )?
                .execute((stale.node.as_str(), &stale.index, shard(stale.shard), generation))?;
            Ok(cleared == 1)
        }))
    }

    fn forget_index(&self, index: &str) -> StoreFuture<'_, ()> {
        let index = index.to_owned();
        Box::pin(self.0.write(move |connection| {
            connection
                .prepare_cached("DELETE FROM stale_replicas WHERE index_uid = ? AND kind <> ?")?
                .execute((index, strength(CatchUp::Deleted)))?;
            Ok(())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strengths_follow_the_order_of_kinds() {
        let kinds = [CatchUp::Pending, CatchUp::Shard, CatchUp::Index, CatchUp::Deleted];
        assert!(kinds.is_sorted());
        assert!(kinds.map(strength).is_sorted_by(|a, b| a < b));
        for one in kinds {
            assert_eq!(kind(strength(one)).unwrap(), one);
        }
        assert!(kind(11).is_err());
    }
}
