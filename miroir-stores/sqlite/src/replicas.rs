//! Stale replicas.

use std::sync::Arc;

use miroir_api::{NodeId, ShardId};
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_store::{Replicas, StoreFuture};

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

impl Replicas for SqliteReplicas {
    fn mark(&self, stale: Vec<StaleReplica>) -> StoreFuture<'_, ()> {
        Box::pin(self.0.write(move |connection| {
            // Generations are never given twice: a row that was cleared and marked again must not
            // meet a generation that an old repair still holds.
            let mut next = connection.prepare_cached(
                "UPDATE counters SET next = next + 1 WHERE name = 'stale_generation'
                 RETURNING next - 1",
            )?;
            let mut mark = connection.prepare_cached(
                "INSERT INTO stale_replicas (node_id, index_uid, shard, kind, generation)
                 VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (node_id, index_uid, shard) DO UPDATE
                 SET kind = max(kind, excluded.kind), generation = excluded.generation",
            )?;
            for row in stale {
                let generation: i64 = next.query_row([], |row| row.get(0))?;
                mark.execute((
                    row.node.as_str(),
                    &row.index,
                    shard(row.shard),
                    strength(row.kind),
                    generation,
                ))?;
            }
            Ok(())
        }))
    }

    fn list(&self) -> StoreFuture<'_, Vec<StaleReplica>> {
        Box::pin(self.0.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT node_id, index_uid, shard, kind, generation FROM stale_replicas
                 ORDER BY node_id, index_uid, shard",
            )?;
            let mut rows = statement.query([])?;
            let mut stale = Vec::new();
            while let Some(row) = rows.next()? {
                let node: String = row.get(0)?;
                let shard: i64 = row.get(2)?;
                stale.push(StaleReplica {
                    node: NodeId::new(&node)?,
                    index: row.get(1)?,
                    shard: if shard < 0 { None } else { Some(ShardId(u32::try_from(shard)?)) },
                    kind: kind(row.get(3)?)?,
                    generation: u64::try_from(row.get::<_, i64>(4)?)?,
                });
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
