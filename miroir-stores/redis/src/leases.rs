//! Leases, by Redis' own clock.

use std::sync::Arc;
use std::time::Duration;

use miroir_store::{Lease, Leases, StoreError, StoreFuture};
use time::OffsetDateTime;

use crate::connection::{Args, SharedConnection, number};
use crate::scripts::{LEASES_ACQUIRE, LEASES_END};

#[derive(Debug)]
pub(crate) struct RedisLeases(pub(crate) Arc<SharedConnection>);

impl RedisLeases {
    async fn end(&self, lease: Lease, more: Duration) -> Result<bool, StoreError> {
        let args = Args::new()
            .with(lease.scope)
            .with(lease.holder)
            .with(lease.fence)
            .with(more.as_millis());
        Ok(number(self.0.script(&LEASES_END, args).await?)? == 1)
    }
}

impl Leases for RedisLeases {
    fn acquire(
        &self,
        scope: &str,
        holder: &str,
        _now: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, Option<Lease>> {
        let (scope, holder) = (scope.to_owned(), holder.to_owned());
        Box::pin(async move {
            let args = Args::new().with(&scope).with(&holder).with(ttl.as_millis());
            let fence = number(self.0.script(&LEASES_ACQUIRE, args).await?)?;
            Ok((fence > 0).then_some(Lease { scope, holder, fence }))
        })
    }

    fn renew(&self, lease: &Lease, _now: OffsetDateTime, ttl: Duration) -> StoreFuture<'_, bool> {
        Box::pin(self.end(lease.clone(), ttl))
    }

    fn release(&self, lease: &Lease, _now: OffsetDateTime) -> StoreFuture<'_, bool> {
        Box::pin(self.end(lease.clone(), Duration::ZERO))
    }
}
