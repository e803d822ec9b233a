//! One connection that all calls share, made anew when it broke.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use miroir_core::lock::Lock;
use miroir_store::{Fence, StoreError};
use redis::aio::{MultiplexedConnection, PubSubStream};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ProtocolVersion, PushInfo, PushKind, Value,
    cmd,
};
use tokio::time::timeout;

use crate::Options;
use crate::error::{FailureKind, RedisFailure};
use crate::scripts::Script;

/// How long a comparison of clocks is believed.
const CLOCK_AGE: Duration = Duration::from_mins(1);

/// A Redis and the way to it.
pub(crate) struct SharedConnection {
    client: Client,
    address: String,
    options: Options,
    live: Lock<Option<Arc<Live>>>,
    /// Held by who connects.
    dial: tokio::sync::Mutex<Option<Failed>>,
    /// The name of the store that was opened.
    store: OnceLock<String>,
    fence: Arc<Fence>,
}

/// An attempt to connect that failed.
struct Failed {
    began: Instant,
    failure: RedisFailure,
}

/// A connection.
struct Live {
    connection: MultiplexedConnection,
    /// Set when its end was seen.
    lost: Arc<AtomicBool>,
    clock: Lock<Clock>,
}

/// What Redis' clock showed, and when that was heard.
#[derive(Clone, Copy)]
struct Clock {
    /// Milliseconds since 1970.
    shown: u64,
    heard: Instant,
}

/// A call, to be sent as often as need be.
enum Invocation<'a> {
    Command(&'a Cmd),
    Script(&'a Script, &'a [Vec<u8>]),
    /// A script that writes and that Redis does not keep.
    Once(&'a str, &'a [Vec<u8>]),
}

impl Invocation<'_> {
    fn writes(&self) -> bool {
        match self {
            Self::Command(_) => false,
            Self::Script(script, _) => script.writes,
            Self::Once(..) => true,
        }
    }

    fn is_fenced(&self) -> bool {
        matches!(self, Self::Script(script, _) if script.is_fenced())
    }
}

impl fmt::Debug for SharedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedConnection").field("address", &self.address).finish_non_exhaustive()
    }
}

impl SharedConnection {
    /// Connects to nothing yet.
    pub(crate) fn new(info: ConnectionInfo, options: Options) -> Result<Self, StoreError> {
        let address = info.addr().to_string();
        if matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. }) {
            // Another crate may have made its choice; if so, that one is used.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        // The third version tells when the connection ends, also while nobody waits for an answer.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings))
            .map_err(|error| RedisFailure::away(&address, error))?;
        Ok(Self {
            client,
            address,
            options,
            live: Lock::new(None),
            dial: tokio::sync::Mutex::new(None),
            store: OnceLock::new(),
            fence: Arc::default(),
        })
    }

    /// What changes carry.
    pub(crate) fn fence(&self) -> Arc<Fence> {
        Arc::clone(&self.fence)
    }

    /// The full name of a key.
    pub(crate) fn key(&self, name: impl fmt::Display) -> String {
        format!("{}{name}", self.options.key_prefix)
    }

    /// Runs a command that only reads.
    pub(crate) async fn read(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.run(&Invocation::Command(command)).await
    }

    /// Runs a script. Of one that writes, the first argument in Lua is its deadline, and `args`
    /// follow.
    pub(crate) async fn script(&self, script: &Script, args: Args) -> Result<Value, StoreError> {
        self.run(&Invocation::Script(script, &args.0)).await
    }

    /// Runs a script that writes and is not worth keeping.
    pub(crate) async fn once(&self, text: &str, args: Args) -> Result<Value, StoreError> {
        self.run(&Invocation::Once(text, &args.0)).await
    }

    /// Listens to a channel, on a connection of its own.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<PubSubStream, StoreError> {
        let away = |error: redis::RedisError| RedisFailure::away(&self.address, error);
        let limit = self.options.connect_timeout;
        let subscribing = timeout(limit, async {
            let mut listening = self.client.get_async_pubsub().await.map_err(away)?;
            listening.subscribe(channel).await.map_err(away)?;
            Ok::<_, RedisFailure>(listening.into_on_message())
        });
        let late =
            || RedisFailure::away(&self.address, format!("no subscription within {limit:?}"));
        Ok(subscribing.await.map_err(|_| late())??)
    }

    /// Remembers which store this is: connections that lead to another are refused from now on.
    pub(crate) async fn recognise(&self) -> Result<(), StoreError> {
        let value = self.read(cmd("GET").arg(self.key("store_id"))).await?;
        let id = text(value)?.ok_or_else(|| RedisFailure::odd("the store has no `store_id`"))?;
        let _ = self.store.set(id);
        Ok(())
    }

    async fn run(&self, call: &Invocation<'_>) -> Result<Value, StoreError> {
        let fence = if call.is_fenced() { self.fence.current()? } else { None };
        let mut first = true;
        loop {
            let live = self.live().await?;
            let failure = match self.send(&live, call, fence).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if failure.broken {
                self.drop_live(&live);
            }
            let harmless = match failure.kind {
                FailureKind::Late => true,
                FailureKind::Lost => !call.writes(),
                FailureKind::Deposed => return Err(StoreError::Deposed),
                FailureKind::Away | FailureKind::Slow | FailureKind::Refused => false,
            };
            if !(harmless && std::mem::take(&mut first)) {
                return Err(failure.into());
            }
            tracing::debug!(%failure, "asking Redis once more");
        }
    }

    /// Sends a call once.
    async fn send(
        &self,
        live: &Live,
        call: &Invocation<'_>,
        fence: Option<u64>,
    ) -> Result<Value, RedisFailure> {
        let limit = self.options.response_timeout;
        let answered = timeout(limit, async {
            let mut connection = live.connection.clone();
            let deadline = if call.writes() { self.deadline(live).await? } else { 0 };
            let deadline = match fence {
                Some(fence) => format!("{deadline}:{fence}:{}", self.fence.holder()),
                None => deadline.to_string(),
            };
            let deadline = &deadline;
            let script = match call {
                Invocation::Command(command) => return command.query_async(&mut connection).await,
                Invocation::Once(text, args) => {
                    let command = self.eval("EVAL", text, true, deadline, args);
                    return command.query_async(&mut connection).await;
                }
                Invocation::Script(script, args) => (script, args),
            };
            let (script, args) = script;
            let (known, whole) =
                if script.writes { ("EVALSHA", "EVAL") } else { ("EVALSHA_RO", "EVAL_RO") };
            let command = self.eval(known, script.hash(), script.writes, deadline, args);
            match command.query_async(&mut connection).await {
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    let command = self.eval(whole, script.text, script.writes, deadline, args);
                    command.query_async(&mut connection).await
                }
                answer => answer,
            }
        });
        match answered.await {
            Ok(answer) => answer.map_err(|error| RedisFailure::of(&self.address, &error)),
            Err(_) => Err(RedisFailure::slow(&self.address, limit)),
        }
    }

    fn eval(&self, how: &str, what: &str, writes: bool, deadline: &str, args: &[Vec<u8>]) -> Cmd {
        let mut command = cmd(how);
        command.arg(what).arg(1).arg(&self.options.key_prefix);
        if writes {
            command.arg(deadline);
        }
        command.arg(args);
        command
    }

    /// Until when a caller that begins to wait now will wait, on Redis' clock. Rather too early than
    /// too late: an answer to the question for the time is on its way for a while.
    async fn deadline(&self, live: &Live) -> redis::RedisResult<u64> {
        let mut clock = *live.clock.lock();
        if clock.heard.elapsed() > CLOCK_AGE {
            clock = read_clock(&mut live.connection.clone()).await?;
            *live.clock.lock() = clock;
        }
        let waited = clock.heard.elapsed() + self.options.response_timeout;
        Ok(clock.shown.saturating_add(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The connection that is there, if there is one.
    fn current(&self) -> Option<Arc<Live>> {
        let live = self.live.lock();
        live.as_ref().filter(|live| !live.lost.load(Ordering::Acquire)).cloned()
    }

    fn drop_live(&self, broken: &Arc<Live>) {
        let mut live = self.live.lock();
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(live, broken)) {
            *live = None;
        }
    }

    /// The connection, made if need be. Callers that wait for the same attempt share its outcome, so
    /// that nobody waits for more than two.
    async fn live(&self) -> Result<Arc<Live>, RedisFailure> {
        if let Some(live) = self.current() {
            return Ok(live);
        }
        let arrived = Instant::now();
        let mut failed = self.dial.lock().await;
        if let Some(live) = self.current() {
            return Ok(live);
        }
        if let Some(failed) = failed.as_ref().filter(|failed| failed.began >= arrived) {
            return Err(failed.failure.clone());
        }
        let began = Instant::now();
        let limit = self.options.connect_timeout;
        let dialed = timeout(limit, self.connect()).await.unwrap_or_else(|_| {
            Err(RedisFailure::away(&self.address, format!("no connection within {limit:?}")))
        });
        match dialed {
            Ok(live) => {
                let live = Arc::new(live);
                *self.live.lock() = Some(Arc::clone(&live));
                Ok(live)
            }
            Err(failure) => {
                tracing::warn!(%failure, "no connection to the store");
                *failed = Some(Failed { began, failure: failure.clone() });
                Err(failure)
            }
        }
    }

    async fn connect(&self) -> Result<Live, RedisFailure> {
        let away = |error: redis::RedisError| RedisFailure::away(&self.address, error);
        let lost = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&lost);
        let config = AsyncConnectionConfig::new()
            // Both are kept here, for all of connecting and all of a call.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    seen.store(true, Ordering::Release);
                }
                Ok::<_, std::convert::Infallible>(())
            });
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = connecting.await.map_err(away)?;
        let info: String = cmd("INFO").query_async(&mut connection).await.map_err(away)?;
        judge(&info).map_err(|reason| RedisFailure::away(&self.address, reason))?;
        if let Some(expected) = self.store.get() {
            let found: Option<String> = cmd("GET")
                .arg(self.key("store_id"))
                .query_async(&mut connection)
                .await
                .map_err(away)?;
            if found.as_ref() != Some(expected) {
                let reason = "it does not hold the store that was opened. Either it lost its data \
                              or the address leads elsewhere; restore it, or start Miroir again to \
                              use it as it is";
                return Err(RedisFailure::away(&self.address, reason));
            }
        } else if field(&info, "aof_enabled") == Some("0") {
            tracing::warn!(
                redis = self.address,
                "Redis keeps no append-only file: a crash of it loses tasks, the index catalogue \
                 and which replicas are stale (see docs/stores.md)"
            );
        }
        let clock = read_clock(&mut connection).await.map_err(away)?;
        Ok(Live { connection, lost, clock: Lock::new(clock) })
    }
}

/// A line of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}

/// Whether a server can hold the state.
fn judge(info: &str) -> Result<(), String> {
    if let Some(role) = field(info, "role").filter(|role| *role != "master") {
        return Err(format!("it is a {role} and not the primary"));
    }
    if field(info, "cluster_enabled") == Some("1") {
        return Err("Redis Cluster is not supported: one primary has to hold all keys".to_owned());
    }
    let bounded = field(info, "maxmemory").is_some_and(|bytes| bytes != "0");
    if let Some(policy) = field(info, "maxmemory_policy")
        && bounded
        && policy.starts_with("allkeys-")
    {
        return Err(format!(
            "with `maxmemory-policy {policy}` it may forget tasks and indexes to make room; set \
             `noeviction`"
        ));
    }
    Ok(())
}

async fn read_clock(connection: &mut MultiplexedConnection) -> redis::RedisResult<Clock> {
    let (seconds, micros): (u64, u64) = cmd("TIME").query_async(connection).await?;
    Ok(Clock { shown: seconds * 1000 + micros / 1000, heard: Instant::now() })
}

/// Arguments of a script.
#[derive(Debug, Default)]
pub(crate) struct Args(Vec<Vec<u8>>);

impl Args {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds one, as text.
    pub(crate) fn push(&mut self, arg: impl fmt::Display) {
        self.0.push(arg.to_string().into_bytes());
    }

    /// Adds one, as text.
    pub(crate) fn with(mut self, arg: impl fmt::Display) -> Self {
        self.push(arg);
        self
    }
}

/// An answer that is a number of at least 0.
pub(crate) fn number(value: Value) -> Result<u64, StoreError> {
    Ok(redis::from_redis_value(value).map_err(RedisFailure::odd)?)
}

/// An answer that is a text, or nothing.
pub(crate) fn text(value: Value) -> Result<Option<String>, StoreError> {
    Ok(redis::from_redis_value(value).map_err(RedisFailure::odd)?)
}

/// An answer that is a list of texts.
pub(crate) fn texts(value: Value) -> Result<Vec<String>, StoreError> {
    Ok(redis::from_redis_value(value).map_err(RedisFailure::odd)?)
}

/// A record as it was stored.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(record: &str) -> Result<T, StoreError> {
    Ok(serde_json::from_str(record).map_err(RedisFailure::odd)?)
}

/// A record as it is stored.
pub(crate) fn encode<T: serde::Serialize>(record: &T) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|error| StoreError::Backend(error.into()))
}

#[cfg(test)]
mod tests {
    use miroir_test::redis::RedisServer;

    use super::*;
    use crate::scripts::WEBHOOKS_PUT;

    /// A Redis whose clock was set back or forward meanwhile.
    #[tokio::test]
    async fn clocks_that_moved_are_compared_again() {
        let info = crate::info(&RedisServer::shared().url()).unwrap();
        let options = Options { key_prefix: "clocks:".to_owned(), ..Options::default() };
        let connection = SharedConnection::new(info, options).unwrap();
        let put = |uuid: &str| {
            connection.script(&WEBHOOKS_PUT, Args::new().with(uuid).with("{}").with(20))
        };
        assert_eq!(number(put("a").await.unwrap()).unwrap(), 1);
        let live = connection.current().unwrap();
        let honest = *live.clock.lock();
        *live.clock.lock() = Clock { shown: honest.shown - 60_000, ..honest };
        assert_eq!(number(put("b").await.unwrap()).unwrap(), 1, "it was too late by that clock");
        let anew = connection.current().unwrap();
        assert!(!Arc::ptr_eq(&live, &anew));
        assert!(anew.clock.lock().shown >= honest.shown);

        let Some(long_ago) = honest.heard.checked_sub(CLOCK_AGE * 2) else { return };
        *anew.clock.lock() = Clock { shown: honest.shown - 60_000, heard: long_ago };
        assert_eq!(number(put("c").await.unwrap()).unwrap(), 1);
        assert!(
            Arc::ptr_eq(&anew, &connection.current().unwrap()),
            "an old clock is just read again"
        );
    }

    #[test]
    fn servers_that_forget_or_lag_are_refused() {
        let info = |extra: &str| format!("# Server\r\nrole:master\r\n{extra}\r\n");
        assert_eq!(judge(&info("maxmemory:0\r\nmaxmemory_policy:allkeys-lru")), Ok(()));
        assert_eq!(judge(&info("maxmemory:1000\r\nmaxmemory_policy:noeviction")), Ok(()));
        assert_eq!(judge(&info("maxmemory:1000\r\nmaxmemory_policy:volatile-lru")), Ok(()));
        let refused = judge(&info("maxmemory:1000\r\nmaxmemory_policy:allkeys-lru"));
        assert!(refused.unwrap_err().contains("noeviction"));
        assert!(judge("role:slave\r\n").unwrap_err().contains("primary"));
        assert!(judge(&info("cluster_enabled:1")).unwrap_err().contains("Cluster"));
    }
}
