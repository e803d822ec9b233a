//! Rate limits: an instant per bucket, forgotten once it has passed.

use std::sync::Arc;
use std::time::Duration;

use miroir_store::StoreFuture;
use miroir_store::records::{Buckets, Limit, RateDecision};
use time::OffsetDateTime;

use crate::connection::{Args, SharedConnection};
use crate::error::RedisFailure;
use crate::scripts::BUCKETS_TAKE;

#[derive(Debug)]
pub(crate) struct RedisBuckets(pub(crate) Arc<SharedConnection>);

impl Buckets for RedisBuckets {
    fn take(&self, key: &str, limit: Limit, _: OffsetDateTime) -> StoreFuture<'_, RateDecision> {
        let args = Args::new().with(key).with(limit.count).with(limit.per.as_micros());
        Box::pin(async move {
            let value = self.0.script(&BUCKETS_TAKE, args).await?;
            let (allowed, remaining, retry, reset): (u8, u32, u64, u64) =
                redis::from_redis_value(value).map_err(RedisFailure::odd)?;
            Ok(RateDecision {
                allowed: allowed == 1,
                remaining,
                retry_after: Duration::from_micros(retry),
                reset_after: Duration::from_micros(reset),
            })
        })
    }
}
