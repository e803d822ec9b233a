//! Which replicas must not be read: a snapshot for readers, durable marks for writers.

use std::sync::Arc;

use miroir_core::view::{StaleMap, StaleReplica};
use miroir_store::{Part, Replicas, StoreError};
use tokio::sync::Notify;

use super::leadership::Leadership;
use super::snapshot::{Snapshot, Writer};

/// The replicas that missed something, and the store behind them.
#[derive(Debug)]
pub struct Staleness {
    map: Snapshot<StaleMap>,
    store: Arc<dyn Replicas>,
    leadership: Arc<Leadership>,
    /// Wakes whoever repairs replicas.
    changed: Arc<Notify>,
}

impl Staleness {
    /// What a store has on record, none of which was read yet; see [`Staleness::reload`]. `changed`
    /// is notified when a replica is marked.
    pub fn new(
        store: Arc<dyn Replicas>,
        leadership: Arc<Leadership>,
        changed: Arc<Notify>,
    ) -> Self {
        Self { map: Snapshot::default(), store, leadership, changed }
    }

    /// The replicas that must not be read now.
    pub fn load(&self) -> Arc<StaleMap> {
        self.map.load()
    }

    async fn stored(&self) -> Result<StaleMap, StoreError> {
        let map = StaleMap::new(self.store.list().await?);
        metrics::gauge!("miroir_stale_shards").set(map.len() as f64);
        Ok(map)
    }

    async fn follow(&self, writer: &Writer<'_, StaleMap>) -> Result<(), StoreError> {
        writer.replace(self.stored().await?);
        Ok(())
    }

    fn replace(writer: &Writer<'_, StaleMap>, map: StaleMap) {
        metrics::gauge!("miroir_stale_shards").set(map.len() as f64);
        writer.replace(map);
    }

    /// Reads the store anew.
    ///
    /// # Errors
    /// When the store fails. The snapshot then stays as it was.
    pub async fn reload(&self) -> Result<(), StoreError> {
        self.follow(&self.map.write().await).await
    }

    /// Remembers replicas that missed something; durable when it returns.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mark(&self, rows: Vec<StaleReplica>) -> Result<(), StoreError> {
        self.mark_by(|_| (rows, ())).await
    }

    /// As [`Staleness::mark`], with rows that depend on what is stale already. Nothing else is
    /// marked or cleared between the decision and the mark, so that no two writes each take the
    /// other's replica for the good one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mark_by<T>(
        &self,
        decide: impl FnOnce(&StaleMap) -> (Vec<StaleReplica>, T),
    ) -> Result<T, StoreError> {
        self.mark_and(decide, |_, _| ()).await
    }

    /// As [`Staleness::mark_by`]; `then` is told what was stale before and what is now, before anybody
    /// else sees it. It is not called where no row was given.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn mark_and<T>(
        &self,
        decide: impl FnOnce(&StaleMap) -> (Vec<StaleReplica>, T),
        then: impl FnOnce(&StaleMap, &StaleMap),
    ) -> Result<T, StoreError> {
        let writer = self.map.write().await;
        let before = writer.current();
        let (rows, out) = decide(&before);
        if rows.is_empty() {
            return Ok(out);
        }
        self.store.mark(rows).await?;
        let after = self.stored().await?;
        then(&before, &after);
        writer.replace(after);
        self.changed.notify_waiters();
        drop(writer);
        self.leadership.publish_and_wait(&[Part::Replicas]).await?;
        Ok(out)
    }

    /// Forgets a miss that was repaired. Returns whether it was still the same miss.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clear(&self, row: StaleReplica) -> Result<bool, StoreError> {
        let writer = self.map.write().await;
        let cleared = self.store.clear(row.clone()).await?;
        if cleared {
            // Nobody else changes rows, and a repair clears many, one after the other.
            Self::replace(&writer, writer.current().without(&row));
        } else {
            self.follow(&writer).await?;
        }
        self.leadership.publish(&[Part::Replicas]).await?;
        Ok(cleared)
    }

    /// Forgets every miss about an index that is gone, by its name on the nodes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_index(&self, physical: &str) -> Result<(), StoreError> {
        let writer = self.map.write().await;
        self.store.forget_index(physical).await?;
        self.follow(&writer).await?;
        self.leadership.publish(&[Part::Replicas]).await
    }
}

#[cfg(test)]
mod tests {
    use miroir_api::{NodeId, ShardId};
    use miroir_core::view::CatchUp;
    use miroir_store::memory;

    use super::*;

    fn row(node: &str) -> StaleReplica {
        StaleReplica {
            node: NodeId::new(node).unwrap(),
            index: "films".to_owned(),
            shard: Some(ShardId(1)),
            kind: CatchUp::Shard,
            generation: 0,
            awaits: Vec::new(),
        }
    }

    fn staleness() -> Staleness {
        Staleness::new(memory::open().replicas, Arc::default(), Arc::default())
    }

    #[tokio::test]
    async fn a_marked_replica_is_not_read_until_that_miss_is_cleared() {
        let staleness = staleness();
        let node = NodeId::new("a").unwrap();
        staleness.mark(vec![row("a")]).await.unwrap();
        assert!(staleness.load().is_stale("films", &node, ShardId(1)));
        let seen = staleness.load().rows().next().unwrap().clone();
        // It missed another write while it was being repaired.
        staleness.mark(vec![row("a")]).await.unwrap();
        assert!(!staleness.clear(seen).await.unwrap());
        assert!(staleness.load().is_stale("films", &node, ShardId(1)));
        let again = staleness.load().rows().next().unwrap().clone();
        assert!(staleness.clear(again).await.unwrap());
        assert!(staleness.load().is_empty());
    }

    #[tokio::test]
    async fn two_decisions_see_each_other() {
        let staleness = Arc::new(staleness());
        // Each marks the other's replica unless its own was marked before.
        let decide = |mine: &'static str, other: &'static str| {
            let staleness = Arc::clone(&staleness);
            async move {
                let own = NodeId::new(mine).unwrap();
                let rows = |map: &StaleMap| {
                    let lost = map.is_stale("films", &own, ShardId(1));
                    (if lost { Vec::new() } else { vec![row(other)] }, ())
                };
                staleness.mark_by(rows).await.unwrap();
            }
        };
        tokio::join!(decide("a", "b"), decide("b", "a"));
        assert_eq!(staleness.load().len(), 1);
    }

    #[tokio::test]
    async fn misses_of_an_index_that_is_gone_are_forgotten() {
        let staleness = staleness();
        staleness.mark(vec![row("a"), row("b")]).await.unwrap();
        staleness.forget_index("films").await.unwrap();
        assert!(staleness.load().is_empty());
    }
}
