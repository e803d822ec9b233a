//! Webhooks: one hash, from uuid to record.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_store::{StoreFuture, Webhook, Webhooks};
use redis::cmd;
use uuid::Uuid;

use crate::connection::{Args, SharedConnection, decode, encode, number};
use crate::error::RedisFailure;
use crate::scripts::{WEBHOOKS_DELETE, WEBHOOKS_PUT};

#[derive(Debug)]
pub(crate) struct RedisWebhooks(pub(crate) Arc<SharedConnection>);

impl Webhooks for RedisWebhooks {
    fn list(&self) -> StoreFuture<'_, Vec<Webhook>> {
        Box::pin(async move {
            let value = self.0.read(cmd("HGETALL").arg(self.0.key("webhooks"))).await?;
            let records: BTreeMap<String, String> =
                redis::from_redis_value(value).map_err(RedisFailure::odd)?;
            records.values().map(|record| decode(record)).collect()
        })
    }

    fn put(&self, hook: Webhook, most: usize) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let args = Args::new().with(hook.uuid).with(encode(&hook)?).with(most);
            Ok(number(self.0.script(&WEBHOOKS_PUT, args).await?)? == 1)
        })
    }

    fn delete(&self, uuid: Uuid) -> StoreFuture<'_, bool> {
        let args = Args::new().with(uuid);
        Box::pin(async move { Ok(number(self.0.script(&WEBHOOKS_DELETE, args).await?)? == 1) })
    }
}
