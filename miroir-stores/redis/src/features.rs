//! Experimental features as clients set them: one hash, from name to 1 or 0.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_store::{Features, StoreFuture};
use redis::cmd;

use crate::connection::{Args, SharedConnection};
use crate::error::RedisFailure;
use crate::scripts::FEATURES_SET;

#[derive(Debug)]
pub(crate) struct RedisFeatures(pub(crate) Arc<SharedConnection>);

impl Features for RedisFeatures {
    fn list(&self) -> StoreFuture<'_, Vec<(String, bool)>> {
        Box::pin(async move {
            let value = self.0.read(cmd("HGETALL").arg(self.0.key("features"))).await?;
            let features: BTreeMap<String, bool> =
                redis::from_redis_value(value).map_err(RedisFailure::odd)?;
            Ok(features.into_iter().collect())
        })
    }

    fn set(&self, features: Vec<(String, bool)>) -> StoreFuture<'_, ()> {
        let mut args = Args::new();
        for (name, on) in features {
            args.push(name);
            args.push(u8::from(on));
        }
        Box::pin(async move {
            self.0.script(&FEATURES_SET, args).await?;
            Ok(())
        })
    }
}
