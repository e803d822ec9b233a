//! Settings versions of nodes: one hash per index, from node to version.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_api::NodeId;
use miroir_store::{SettingsVersions, StoreError, StoreFuture};
use redis::cmd;

use crate::connection::{Args, SharedConnection};
use crate::error::RedisFailure;
use crate::scripts::{SETTINGS_FORGET, SETTINGS_SET};

#[derive(Debug)]
pub(crate) struct RedisSettingsVersions(pub(crate) Arc<SharedConnection>);

impl SettingsVersions for RedisSettingsVersions {
    fn set(&self, index: &str, node: &NodeId, version: u64) -> StoreFuture<'_, ()> {
        let args = Args::new().with(index).with(node).with(version);
        Box::pin(async move {
            self.0.script(&SETTINGS_SET, args).await?;
            Ok(())
        })
    }

    fn list(&self, index: &str) -> StoreFuture<'_, Vec<(NodeId, u64)>> {
        let key = self.0.key(format_args!("node_settings_version:{index}"));
        Box::pin(async move {
            let value = self.0.read(cmd("HGETALL").arg(key)).await?;
            let versions: BTreeMap<String, u64> =
                redis::from_redis_value(value).map_err(RedisFailure::odd)?;
            let node = |(node, version): (String, u64)| {
                Ok((NodeId::new(&node).map_err(RedisFailure::odd)?, version))
            };
            let mut versions: Vec<_> =
                versions.into_iter().map(node).collect::<Result<_, StoreError>>()?;
            versions.sort();
            Ok(versions)
        })
    }

    fn forget(&self, index: &str) -> StoreFuture<'_, ()> {
        let args = Args::new().with(index);
        Box::pin(async move {
            self.0.script(&SETTINGS_FORGET, args).await?;
            Ok(())
        })
    }
}
