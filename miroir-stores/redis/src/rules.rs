//! Search rules: one hash, from uid to record.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_store::{Rules, StoreFuture};
use redis::cmd;
use serde_json::Value;

use crate::connection::{Args, SharedConnection, decode};
use crate::error::RedisFailure;
use crate::scripts::{RULES_DELETE, RULES_PUT};

#[derive(Debug)]
pub(crate) struct RedisRules(pub(crate) Arc<SharedConnection>);

impl Rules for RedisRules {
    fn list(&self) -> StoreFuture<'_, Vec<(String, Value)>> {
        Box::pin(async move {
            let value = self.0.read(cmd("HGETALL").arg(self.0.key("rules"))).await?;
            let records: BTreeMap<String, String> =
                redis::from_redis_value(value).map_err(RedisFailure::odd)?;
            records.into_iter().map(|(uid, record)| Ok((uid, decode(&record)?))).collect()
        })
    }

    fn put(&self, uid: String, rule: Value) -> StoreFuture<'_, ()> {
        let args = Args::new().with(uid).with(rule.to_string());
        Box::pin(async move {
            self.0.script(&RULES_PUT, args).await?;
            Ok(())
        })
    }

    fn delete(&self, uid: String) -> StoreFuture<'_, ()> {
        let args = Args::new().with(uid);
        Box::pin(async move {
            self.0.script(&RULES_DELETE, args).await?;
            Ok(())
        })
    }

    fn clear(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.0.script(&RULES_DELETE, Args::new()).await?;
            Ok(())
        })
    }
}
