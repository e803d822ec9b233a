//! Leases, by the caller's clock: the file is used on one machine.

use std::sync::Arc;
use std::time::Duration;

use miroir_store::{Lease, Leases, StoreFuture};
use rusqlite::OptionalExtension;
use time::OffsetDateTime;

use crate::database::{Database, nanoseconds};

#[derive(Debug)]
pub(crate) struct SqliteLeases(pub(crate) Arc<Database>);

impl Leases for SqliteLeases {
    fn acquire(
        &self,
        scope: &str,
        holder: &str,
        now: OffsetDateTime,
        ttl: Duration,
    ) -> StoreFuture<'_, Option<Lease>> {
        let (scope, holder) = (scope.to_owned(), holder.to_owned());
        Box::pin(self.0.write(move |connection| {
            let fence = connection
                .prepare_cached(
                    "INSERT INTO leader_lease (scope, holder, fence, expires_at)
                     VALUES (?1, ?2, 1, ?4)
                     ON CONFLICT (scope) DO UPDATE
                     SET fence = fence + iif(holder IS ?2 AND expires_at > ?3, 0, 1),
                        holder = ?2, expires_at = ?4
                     WHERE holder IS NULL OR holder = ?2 OR expires_at <= ?3
                     RETURNING fence",
                )?
                .query_row((&scope, &holder, nanoseconds(now)?, nanoseconds(now + ttl)?), |row| {
                    row.get::<_, i64>(0)
                })
                .optional()?;
            let Some(fence) = fence else { return Ok(None) };
            Ok(Some(Lease { scope, holder, fence: u64::try_from(fence)? }))
        }))
    }

    fn renew(&self, lease: &Lease, now: OffsetDateTime, ttl: Duration) -> StoreFuture<'_, bool> {
        let lease = lease.clone();
        Box::pin(self.0.write(move |connection| {
            let renewed = connection
                .prepare_cached(
                    "UPDATE leader_lease SET expires_at = ?5
                     WHERE scope = ?1 AND holder = ?2 AND fence = ?3 AND expires_at > ?4",
                )?
                .execute((
                    lease.scope,
                    lease.holder,
                    i64::try_from(lease.fence)?,
                    nanoseconds(now)?,
                    nanoseconds(now + ttl)?,
                ))?;
            Ok(renewed == 1)
        }))
    }

    fn release(&self, lease: &Lease, now: OffsetDateTime) -> StoreFuture<'_, bool> {
        let lease = lease.clone();
        Box::pin(self.0.write(move |connection| {
            let released = connection
                .prepare_cached(
                    "UPDATE leader_lease SET holder = NULL
                     WHERE scope = ?1 AND holder = ?2 AND fence = ?3 AND expires_at > ?4",
                )?
                .execute((
                    lease.scope,
                    lease.holder,
                    i64::try_from(lease.fence)?,
                    nanoseconds(now)?,
                ))?;
            Ok(released == 1)
        }))
    }
}
