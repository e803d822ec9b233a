//! What the tests of the Redis backend share.

use std::sync::atomic::{AtomicU32, Ordering};

use miroir_api::meili::TaskKind;
use miroir_api::{IndexUid, NodeId, ShardId};
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_store::records::FEATURES;
use miroir_store::{IndexEntry, NewTask, Stores};
use miroir_store_redis::Options;
use miroir_test::redis::RedisServer;
use miroir_test::stores::Fixture;
use redis::aio::MultiplexedConnection;
use redis::{Client, cmd};
use time::OffsetDateTime;

/// Options with a key prefix that nobody else has.
pub(crate) fn own() -> Options {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Options { key_prefix: format!("t{number}:"), features: FEATURES.to_vec(), ..Options::default() }
}

/// Opens stores on the shared server.
pub(crate) async fn open(options: Options) -> Stores {
    miroir_store_redis::open(&RedisServer::shared().url(), options).await.unwrap()
}

/// Empty stores.
pub(crate) async fn fixture() -> Fixture {
    open(own()).await.into()
}

pub(crate) fn instant() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_770_000_000).unwrap()
}

pub(crate) fn new_task(index: &str) -> NewTask {
    NewTask {
        index: Some(index.to_owned()),
        physical: Some(index.to_owned()),
        ..NewTask::new(TaskKind::DocumentAdditionOrUpdate, instant())
    }
}

pub(crate) fn entry(name: &str) -> IndexEntry {
    IndexEntry {
        primary_key: Some("id".to_owned()),
        settings_version: 3,
        version: 1,
        ..IndexEntry::new(IndexUid::new(name).unwrap(), name.to_owned(), 16, instant())
    }
}

pub(crate) fn stale(node: &str) -> StaleReplica {
    StaleReplica {
        node: NodeId::new(node).unwrap(),
        index: "movies".to_owned(),
        shard: Some(ShardId(3)),
        kind: CatchUp::Shard,
        generation: 0,
        awaits: Vec::new(),
    }
}

/// A connection beside the store.
pub(crate) struct Raw(MultiplexedConnection);

impl Raw {
    pub(crate) async fn new(server: &RedisServer) -> Self {
        let client = Client::open(server.url()).unwrap();
        Self(client.get_multiplexed_async_connection().await.unwrap())
    }

    pub(crate) async fn info(&mut self, section: &str) -> String {
        // A server that was paused may take a while.
        loop {
            match cmd("INFO").arg(section).query_async(&mut self.0).await {
                Ok(info) => return info,
                Err(error) => assert!(error.is_timeout(), "{error}"),
            }
        }
    }

    /// Commands run so far, those of scripts included.
    pub(crate) async fn calls(&mut self) -> u64 {
        let info = self.info("commandstats").await;
        let calls = info.lines().filter_map(|line| line.split_once("calls=")?.1.split(',').next());
        calls.map(|calls| calls.parse::<u64>().unwrap()).sum()
    }

    /// All keys that begin with a prefix.
    pub(crate) async fn keys(&mut self, prefix: &str) -> Vec<String> {
        cmd("KEYS").arg(format!("{prefix}*")).query_async(&mut self.0).await.unwrap()
    }

    /// How many keys there are.
    pub(crate) async fn size(&mut self) -> u64 {
        cmd("DBSIZE").query_async(&mut self.0).await.unwrap()
    }

    pub(crate) async fn config(&mut self, name: &str, value: &str) {
        cmd("CONFIG").arg("SET").arg(name).arg(value).exec_async(&mut self.0).await.unwrap();
    }

    pub(crate) async fn delete(&mut self, key: &str) {
        cmd("DEL").arg(key).exec_async(&mut self.0).await.unwrap();
    }

    pub(crate) async fn get(&mut self, key: &str) -> Option<String> {
        cmd("GET").arg(key).query_async(&mut self.0).await.unwrap()
    }

    pub(crate) async fn set_field(&mut self, key: &str, field: &str, value: &str) {
        cmd("HSET").arg(key).arg(field).arg(value).exec_async(&mut self.0).await.unwrap();
    }
}
