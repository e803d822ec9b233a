//! API keys.

use std::cmp::Reverse;
use std::sync::Arc;

use miroir_core::keys::ApiKey;
use miroir_core::keys::request::Change;
use miroir_store::{Keys, StoreError, StoreFuture};
use redis::cmd;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::connection::{Args, SharedConnection, decode, encode, number, text, texts};
use crate::scripts::{KEYS_DELETE, KEYS_INSERT, KEYS_LIST, KEYS_UPDATE};

/// How often a change is tried on what others change meanwhile.
const ATTEMPTS: usize = 100;

#[derive(Debug)]
pub(crate) struct RedisKeys(pub(crate) Arc<SharedConnection>);

impl RedisKeys {
    async fn write(&self, how: &str, keys: Vec<ApiKey>) -> Result<bool, StoreError> {
        let mut args = Args::new().with(how);
        for key in &keys {
            args.push(key.uid);
            args.push(encode(key)?);
        }
        Ok(number(self.0.script(&KEYS_INSERT, args).await?)? == 1)
    }
}

impl Keys for RedisKeys {
    fn seed(&self, keys: Vec<ApiKey>) -> StoreFuture<'_, bool> {
        Box::pin(self.write("seed", keys))
    }

    fn insert(&self, key: ApiKey) -> StoreFuture<'_, bool> {
        Box::pin(self.write("insert", vec![key]))
    }

    fn update(
        &self,
        uid: Uuid,
        change: Change,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, Option<ApiKey>> {
        Box::pin(async move {
            let mut read = cmd("HGET");
            read.arg(self.0.key(format_args!("api_key:{uid}"))).arg("record");
            for _ in 0..ATTEMPTS {
                let Some(old) = text(self.0.read(&read).await?)? else { return Ok(None) };
                let mut key: ApiKey = decode(&old)?;
                change.clone().apply(&mut key, now);
                let args = Args::new().with(uid).with(old).with(encode(&key)?);
                if number(self.0.script(&KEYS_UPDATE, args).await?)? == 1 {
                    return Ok(Some(key));
                }
            }
            Err(StoreError::Backend("others changed the key again and again".into()))
        })
    }

    fn delete(&self, uid: Uuid) -> StoreFuture<'_, bool> {
        let args = Args::new().with(uid);
        Box::pin(async move { Ok(number(self.0.script(&KEYS_DELETE, args).await?)? == 1) })
    }

    fn list(&self) -> StoreFuture<'_, Vec<ApiKey>> {
        Box::pin(async move {
            let records = texts(self.0.script(&KEYS_LIST, Args::new()).await?)?;
            let mut keys: Vec<ApiKey> =
                records.iter().map(|record| decode(record)).collect::<Result<_, _>>()?;
            // Stable: of one instant the one inserted last stays first.
            keys.sort_by_key(|key| Reverse(key.created_at));
            Ok(keys)
        })
    }
}
