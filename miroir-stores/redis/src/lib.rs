//! Redis backend of Miroir's store traits: state beside the pods, for Redis 7 and Valkey.
//!
//! # What is atomic, and what is durable
//!
//! Every call that is more than one command is one Lua script, which Redis runs alone and whole.
//! What a call wrote is as durable as Redis is told to make it: with `appendonly yes` and
//! `appendfsync always` an answered call survives a crash of the machine; with `everysec` the last
//! second may be lost, without persistence everything. `docs/stores.md` says what that costs, table
//! by table. [`open`] logs a warning where Redis keeps nothing, and refuses one that may forget
//! single keys to make room.
//!
//! # When Redis is away
//!
//! A call fails with [`StoreError::Backend`] and the reason after a bounded time: at most four times
//! [`Options::connect_timeout`] (an attempt of others and its own, twice) and twice
//! [`Options::response_timeout`], usually at once. The next call connects again, so nothing has to be restarted. A connection that was made anew must lead to
//! the same data: if Redis came back empty, calls fail until Miroir is started again, instead of
//! giving clients' task uids a second time.
//!
//! A write that was sent and not answered may have taken effect, but only before its caller was told
//! that it failed: it carries the instant until which its caller waits, on Redis' own clock, and is
//! refused when it comes later. So what a caller does instead is never undone by what it gave up.
//!
//! What is tried a second time, once, on a new connection:
//! - reads whose connection broke;
//! - anything that Redis refused before it began: a script it did not know, a call that came too
//!   late because the clocks had moved.
//!
//! Writes whose connection broke are not, because they could take effect twice.
//!
//! # Keys
//!
//! All keys begin with [`Options::key_prefix`]. Lists go through sets that the same script keeps,
//! never through `SCAN` or `KEYS`. One primary is expected to hold all keys: Redis Cluster is not
//! supported, and neither are reads from replicas, which may be behind.

mod buckets;
mod connection;
mod error;
mod features;
mod indexes;
mod jobs;
mod keys;
mod leases;
mod logs;
mod migrations;
mod pods;
mod records;
mod replicas;
mod rules;
mod scripts;
mod settings;
mod signals;
mod tasks;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use miroir_store::records::Typed;
use miroir_store::{StoreError, Stores};

use connection::SharedConnection;

/// How to use a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the names of all keys begin with, so that several deployments can share a database.
    pub key_prefix: String,
    /// How long connecting may take, name resolution, TLS and login included.
    pub connect_timeout: Duration,
    /// How long Redis may take to answer one command.
    pub response_timeout: Duration,
    /// Features whose tables are used, of [`miroir_store::records::FEATURES`].
    pub features: Vec<&'static str>,
}

impl Default for Options {
    /// `miroir:`, 2 s and 5 s.
    fn default() -> Self {
        Self {
            key_prefix: "miroir:".to_owned(),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(5),
            features: Vec::new(),
        }
    }
}

/// Why a text is not the address of a Redis. Never repeats the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not the address of a Redis: {0}")]
pub struct InvalidUrl(String);

/// Host and port, or socket, of an address, without credentials: fit for logs.
///
/// # Errors
/// [`InvalidUrl`] if it is none.
pub fn address(url: &str) -> Result<String, InvalidUrl> {
    Ok(info(url)?.addr().to_string())
}

/// Who can get at a Redis, as far as its address tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// It is on this machine: a socket, or a loopback address.
    pub local: bool,
    /// What goes there and back is encrypted.
    pub tls: bool,
    /// It is sent a password.
    pub password: bool,
}

/// Who can get at the Redis at `url`.
///
/// # Errors
/// [`InvalidUrl`], never with the credentials.
pub fn exposure(url: &str) -> Result<Exposure, InvalidUrl> {
    let info = info(url)?;
    let is_here = |host: &str| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    let (local, tls) = match info.addr() {
        redis::ConnectionAddr::Tcp(host, _) => (is_here(host), false),
        redis::ConnectionAddr::TcpTls { host, .. } => (is_here(host), true),
        _ => (true, false),
    };
    let password = info.redis_settings().password().is_some_and(|text| !text.is_empty());
    Ok(Exposure { local, tls, password })
}

fn info(url: &str) -> Result<redis::ConnectionInfo, InvalidUrl> {
    use redis::IntoConnectionInfo as _;
    let info = url.into_connection_info().map_err(|error| InvalidUrl(error.to_string()))?;
    if matches!(info.addr(), redis::ConnectionAddr::TcpTls { insecure: true, .. }) {
        return Err(InvalidUrl("`#insecure` would accept any server".to_owned()));
    }
    Ok(info)
}

/// Connects to the Redis at `url` and brings the schema up to date if need be.
///
/// `url` is `redis://[[user]:password@]host[:port][/database]`, or `rediss://…` for TLS with the
/// system's certificates (or those of `SSL_CERT_FILE`). The user needs `+@read +@write
/// +@scripting +@connection +@pubsub +info +time` on the keys and channels of the prefix. The connection is closed once
/// the last of the returned stores is dropped.
///
/// # Errors
/// [`StoreError::SchemaVersionAhead`] if a newer Miroir wrote the data, otherwise
/// [`StoreError::Backend`] with the reason, never with the credentials.
pub async fn open(url: &str, options: Options) -> Result<Stores, StoreError> {
    let features = options.features.clone();
    let connection = Arc::new(SharedConnection::new(
        info(url).map_err(|e| StoreError::Backend(e.into()))?,
        options,
    )?);
    migrations::migrate(&connection, migrations::ALL, &features).await?;
    connection.recognise().await?;
    let typed = Typed::new(
        Arc::new(records::RedisRecords {
            connection: Arc::clone(&connection),
            features: features.clone(),
        }),
        Arc::new(logs::RedisLogs { connection: Arc::clone(&connection), features }),
        Arc::new(signals::RedisSignals(Arc::clone(&connection))),
    );
    Ok(miroir_store::stores! {
        typed;
        tasks: Arc::new(tasks::RedisTasks(Arc::clone(&connection))),
        indexes: Arc::new(indexes::RedisIndexes(Arc::clone(&connection))),
        replicas: Arc::new(replicas::RedisReplicas(Arc::clone(&connection))),
        settings_versions: Arc::new(settings::RedisSettingsVersions(Arc::clone(&connection))),
        keys: Arc::new(keys::RedisKeys(Arc::clone(&connection))),
        features: Arc::new(features::RedisFeatures(Arc::clone(&connection))),
        rules: Arc::new(rules::RedisRules(Arc::clone(&connection))),
        webhooks: Arc::new(webhooks::RedisWebhooks(Arc::clone(&connection))),
        leases: Arc::new(leases::RedisLeases(Arc::clone(&connection))),
        fence: connection.fence(),
        jobs: Arc::new(jobs::RedisJobs(Arc::clone(&connection))),
        buckets: Arc::new(buckets::RedisBuckets(Arc::clone(&connection))),
        pods: Arc::new(pods::RedisPods(connection)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_get_at_it_is_told_by_the_address() {
        for (url, local, tls, password) in [
            ("redis://r:6380/2", false, false, false),
            ("redis://:hunter2@r", false, false, true),
            ("rediss://user:hunter2@r/0", false, true, true),
            ("redis://localhost", true, false, false),
            ("redis://127.0.0.9", true, false, false),
            ("redis://[::1]:6380", true, false, false),
            ("redis+unix:///run/redis.sock?pass=hunter2", true, false, true),
        ] {
            assert_eq!(exposure(url).unwrap(), Exposure { local, tls, password }, "{url}");
        }
    }

    #[test]
    fn addresses_have_no_credentials() {
        for (url, shown) in [
            ("redis://r:6380/2", "r:6380"),
            ("redis://:hunter2@r", "r:6379"),
            ("rediss://user:hunter2@r/0", "r:6379"),
            ("redis+unix:///run/redis.sock?pass=hunter2", "/run/redis.sock"),
        ] {
            assert_eq!(address(url).unwrap(), shown);
        }
        for url in [
            "",
            "r:6379",
            "http://hunter2@r",
            "redis://:hunter2@r:99999",
            "rediss://:hunter2@r#insecure",
        ] {
            let refused = address(url).unwrap_err().to_string();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
