//! Bounded lists.

use std::sync::Arc;

use miroir_store::records::{Bound, Log, Logs, Size, expect_feature};
use miroir_store::{StoreError, StoreFuture};

use crate::connection::{Args, SharedConnection, number};
use crate::error::RedisFailure;
use crate::scripts::{LOGS_APPEND, LOGS_READ, LOGS_SIZE, LOGS_TRIM};

#[derive(Debug)]
pub(crate) struct RedisLogs {
    pub(crate) connection: Arc<SharedConnection>,
    /// The features whose lists are there.
    pub(crate) features: Vec<&'static str>,
}

/// What the names of a list's keys begin with.
fn stem(log: Log) -> &'static str {
    match log {
        Log::CdcOverflow => "cdc:overflow",
        log => log.name(),
    }
}

impl RedisLogs {
    async fn rows(
        &self,
        log: Log,
        key: String,
        after: String,
        limit: usize,
    ) -> Result<Vec<(u64, String)>, StoreError> {
        expect_feature(&self.features, log.feature())?;
        let args = Args::new().with(stem(log)).with(key).with(after).with(limit);
        let value = self.connection.script(&LOGS_READ, args).await?;
        let rows: Vec<(String, String)> =
            redis::from_redis_value(value).map_err(RedisFailure::odd)?;
        let row =
            |(at, entry): (String, String)| Ok((at.parse().map_err(RedisFailure::odd)?, entry));
        rows.into_iter().map(row).collect()
    }

    async fn cut(&self, log: Log, key: String, number: String) -> Result<u64, StoreError> {
        expect_feature(&self.features, log.feature())?;
        let args = Args::new().with(stem(log)).with(key).with(number);
        crate::connection::number(self.connection.script(&LOGS_TRIM, args).await?)
    }
}

impl Logs for RedisLogs {
    fn append(&self, log: Log, key: &str, entry: String, bound: Bound) -> StoreFuture<'_, u64> {
        let args = Args::new().with(stem(log)).with(key).with(entry);
        let args = args.with(bound.entries).with(bound.bytes);
        Box::pin(async move {
            expect_feature(&self.features, log.feature())?;
            number(self.connection.script(&LOGS_APPEND, args).await?)
        })
    }

    fn after(
        &self,
        log: Log,
        key: &str,
        number: u64,
        limit: usize,
    ) -> StoreFuture<'_, Vec<(u64, String)>> {
        Box::pin(self.rows(log, key.to_owned(), number.to_string(), limit))
    }

    fn newest(&self, log: Log, key: &str, limit: usize) -> StoreFuture<'_, Vec<(u64, String)>> {
        Box::pin(self.rows(log, key.to_owned(), String::new(), limit))
    }

    fn trim(&self, log: Log, key: &str, number: u64) -> StoreFuture<'_, u64> {
        Box::pin(self.cut(log, key.to_owned(), number.to_string()))
    }

    fn size(&self, log: Log, key: &str) -> StoreFuture<'_, Size> {
        let args = Args::new().with(stem(log)).with(key);
        Box::pin(async move {
            expect_feature(&self.features, log.feature())?;
            let value = self.connection.script(&LOGS_SIZE, args).await?;
            let (entries, bytes) = redis::from_redis_value(value).map_err(RedisFailure::odd)?;
            Ok(Size { entries, bytes })
        })
    }

    fn clear(&self, log: Log, key: &str) -> StoreFuture<'_, ()> {
        let key = key.to_owned();
        Box::pin(async move { self.cut(log, key, String::new()).await.map(drop) })
    }
}
