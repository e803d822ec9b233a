//! Stale replicas.

use std::fmt::Write as _;
use std::sync::Arc;

use miroir_api::{NodeId, ShardId};
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_store::{Replicas, StoreError, StoreFuture};

use crate::connection::{Args, SharedConnection, number, texts};
use crate::error::RedisFailure;
use crate::scripts::{REPLICAS_CLEAR, REPLICAS_FORGET, REPLICAS_LIST, REPLICAS_MARK};

#[derive(Debug)]
pub(crate) struct RedisReplicas(pub(crate) Arc<SharedConnection>);

/// The field of a row: shard, -1 for the index as a whole, and node.
fn field(stale: &StaleReplica) -> String {
    let shard = stale.shard.map_or(-1, |shard| i64::from(shard.0));
    format!("{shard}:{}", stale.node)
}

/// Kinds are ordered by strength, with room between.
fn strength(kind: CatchUp) -> u32 {
    match kind {
        CatchUp::Pending => 10,
        CatchUp::Shard => 20,
        CatchUp::Index => 30,
        CatchUp::Deleted => 40,
    }
}

/// A row; `None` if it is none.
fn row(index: &str, field: &str, value: &str) -> Option<StaleReplica> {
    let (shard, node) = field.split_once(':')?;
    let mut parts = value.split(':');
    let strength: u32 = parts.next()?.parse().ok()?;
    let generation = parts.next()?.parse().ok()?;
    // What a version before this one wrote ends here.
    let uids = parts.next().unwrap_or_default().split(',').filter(|uid| !uid.is_empty());
    let awaits: Vec<u32> = uids.map(|uid| uid.parse().ok()).collect::<Option<_>>()?;
    Some(StaleReplica {
        node: NodeId::new(node).ok()?,
        index: index.to_owned(),
        shard: if shard == "-1" { None } else { Some(ShardId(shard.parse().ok()?)) },
        kind: [CatchUp::Pending, CatchUp::Shard, CatchUp::Index, CatchUp::Deleted]
            .into_iter()
            .find(|kind| self::strength(*kind) == strength)?,
        generation,
        awaits,
    })
}

/// The tasks that a row waits for, each followed by a comma.
fn uids(row: &StaleReplica) -> String {
    row.awaits.iter().fold(String::new(), |mut text, uid| {
        let _ = write!(text, "{uid},");
        text
    })
}

impl Replicas for RedisReplicas {
    fn mark(&self, stale: Vec<StaleReplica>) -> StoreFuture<'_, ()> {
        let mut args = Args::new().with(StaleReplica::MOST_AWAITED);
        for row in &stale {
            args.push(&row.index);
            args.push(field(row));
            args.push(strength(row.kind));
            args.push(strength(row.without_tasks()));
            args.push(uids(row));
        }
        Box::pin(async move {
            self.0.script(&REPLICAS_MARK, args).await?;
            Ok(())
        })
    }

    fn list(&self) -> StoreFuture<'_, Vec<StaleReplica>> {
        Box::pin(async move {
            let rows = texts(self.0.script(&REPLICAS_LIST, Args::new()).await?)?;
            let (rows, rest) = rows.as_chunks::<3>();
            let mut stale: Vec<_> = rows
                .iter()
                .map(|[index, field, value]| row(index, field, value))
                .collect::<Option<_>>()
                .filter(|_| rest.is_empty())
                .ok_or_else(|| {
                    StoreError::from(RedisFailure::odd(format_args!("the stale replicas {rows:?}")))
                })?;
            stale.sort_by(|a, b| (&a.node, &a.index, a.shard).cmp(&(&b.node, &b.index, b.shard)));
            Ok(stale)
        })
    }

    fn clear(&self, stale: StaleReplica) -> StoreFuture<'_, bool> {
        let args = Args::new().with(&stale.index).with(field(&stale)).with(stale.generation);
        Box::pin(async move { Ok(number(self.0.script(&REPLICAS_CLEAR, args).await?)? == 1) })
    }

    fn forget_index(&self, index: &str) -> StoreFuture<'_, ()> {
        let args = Args::new().with(index).with(strength(CatchUp::Deleted));
        Box::pin(async move {
            self.0.script(&REPLICAS_FORGET, args).await?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strengths_follow_the_order_of_kinds_and_rows_come_back() {
        let kinds = [CatchUp::Pending, CatchUp::Shard, CatchUp::Index, CatchUp::Deleted];
        assert!(kinds.is_sorted());
        assert!(kinds.map(strength).is_sorted_by(|a, b| a < b));
        for kind in kinds {
            for shard in [None, Some(ShardId(0)), Some(ShardId(u32::MAX))] {
                let node = NodeId::new("n-1.x").unwrap();
                let stale = StaleReplica {
                    node,
                    index: "a:b".to_owned(),
                    shard,
                    kind,
                    generation: u64::MAX,
                    awaits: vec![3, u32::MAX],
                };
                let old = format!("{}:{}", strength(kind), stale.generation);
                let value = format!("{old}:{}", uids(&stale));
                assert_eq!(row("a:b", &field(&stale), &value).as_ref(), Some(&stale));
                let before = StaleReplica { awaits: Vec::new(), ..stale };
                assert_eq!(row("a:b", &field(&before), &old), Some(before));
            }
        }
        assert_eq!(row("a", "0:n", "11:1"), None);
    }
}
