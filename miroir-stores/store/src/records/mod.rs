//! Records: what capabilities keep, as JSON under keys, and the typed stores made from it.
//!
//! A backend implements four primitives: [`Records`] (tables with compare-and-set and expiry),
//! [`Logs`] (bounded lists), [`Buckets`] (rate limits) and [`Signals`] (what other processes hear at
//! once). The typed stores ([`Aliases`], [`Sessions`], …) are written once, over the primitives, and
//! a layer or worker takes the one it needs.

mod admin_sessions;
mod aliases;
mod buckets;
mod canaries;
mod cursors;
mod idempotency;
mod identity;
mod nodes;
mod overflow;
mod query_failures;
mod rollovers;
mod search_ui;
mod sessions;
mod tenants;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;

use super::{StoreError, StoreFuture};

pub use admin_sessions::{AdminSession, AdminSessions, LoginFailures};
pub use aliases::{Alias, AliasTarget, Aliases, Flip};
pub use buckets::{Buckets, Limit, RateDecision, step};
pub use canaries::{Canaries, Canary, CanaryRun};
pub use cursors::Cursors;
pub use idempotency::{Began, Idempotency, Kept, KeptAnswer};
pub use identity::{
    CommittedTopology, Identity, Operation, OperationKind, OperationState, StoreId,
};
pub use nodes::{NodeRecord, NodeRecords};
pub use overflow::{Overflow, Overflowed};
pub use query_failures::{QueryFailure, QueryFailures};
pub use rollovers::{Rollover, Rollovers};
pub use search_ui::{ScopedKey, SearchUi};
pub use sessions::{Pin, Session, Sessions};
pub use tenants::{TenantMapping, Tenants};

/// A table of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Table {
    /// Names that stand for indexes.
    Aliases,
    /// What sessions have written.
    Sessions,
    /// Answers to writes with a key.
    Idempotency,
    /// Canaries.
    Canaries,
    /// How far each sink has read each index.
    CdcCursors,
    /// Which tenant an API key is of.
    TenantMap,
    /// Rollover policies and their state.
    RolloverPolicies,
    /// The search page of each index.
    SearchUiConfig,
    /// The key that the search page of an index uses.
    SearchUiScopedKey,
    /// Which generation of that key each pod uses.
    SearchUiScopedKeyObserved,
    /// Sessions of the console.
    AdminSessions,
    /// Failed logins by address.
    AdminLoginBackoff,
    /// What the store is called, and which nodes it is about: one record.
    Topology,
    /// What is known of each node.
    NodeFacts,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Aliases,
        Self::Sessions,
        Self::Idempotency,
        Self::Canaries,
        Self::CdcCursors,
        Self::TenantMap,
        Self::RolloverPolicies,
        Self::SearchUiConfig,
        Self::SearchUiScopedKey,
        Self::SearchUiScopedKeyObserved,
        Self::AdminSessions,
        Self::AdminLoginBackoff,
        Self::Topology,
        Self::NodeFacts,
    ];

    /// Its name in a backend.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aliases => "aliases",
            Self::Sessions => "sessions",
            Self::Idempotency => "idempotency_cache",
            Self::Canaries => "canaries",
            Self::CdcCursors => "cdc_cursors",
            Self::TenantMap => "tenant_map",
            Self::RolloverPolicies => "rollover_policies",
            Self::SearchUiConfig => "search_ui_config",
            Self::SearchUiScopedKey => "search_ui_scoped_key",
            Self::SearchUiScopedKeyObserved => "search_ui_scoped_key_observed",
            Self::AdminSessions => "admin_sessions",
            Self::AdminLoginBackoff => "admin_login_backoff",
            Self::Topology => "topology",
            Self::NodeFacts => "node_facts",
        }
    }

    /// The feature without which a database does not have it; `None` for those that are always there.
    #[must_use]
    pub const fn feature(self) -> Option<&'static str> {
        match self {
            Self::Aliases
            | Self::Sessions
            | Self::Idempotency
            | Self::Topology
            | Self::NodeFacts => None,
            Self::Canaries => Some("canaries"),
            Self::CdcCursors => Some("cdc"),
            Self::TenantMap => Some("tenant_map"),
            Self::RolloverPolicies => Some("ilm"),
            Self::SearchUiConfig | Self::SearchUiScopedKey | Self::SearchUiScopedKeyObserved => {
                Some("search_ui")
            }
            Self::AdminSessions | Self::AdminLoginBackoff => Some("admin_ui"),
        }
    }

    /// Whether only the pod that leads may change it, so that changes carry its fence. The others
    /// are written where the request is, and a late write to them does no harm: what is in them is
    /// the caller's own, or is compared with what was there.
    #[must_use]
    pub const fn is_the_leaders(self) -> bool {
        matches!(
            self,
            Self::Aliases
                | Self::Idempotency
                | Self::Canaries
                | Self::TenantMap
                | Self::RolloverPolicies
                | Self::SearchUiConfig
                | Self::SearchUiScopedKey
                | Self::NodeFacts
        )
    }
}

/// The features that bring tables of their own; see [`Table::feature`] and [`Log::feature`].
pub const FEATURES: [&str; 6] = ["canaries", "cdc", "tenant_map", "ilm", "search_ui", "admin_ui"];

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Key, unique in its table.
    pub key: String,
    /// Grows by one with every change; the first is 1.
    pub version: u64,
    /// What is kept, as JSON of the table's type.
    pub value: Value,
}

/// What is expected to be there before a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Any record, or none.
    #[default]
    Anything,
    /// No record of the key.
    Nothing,
    /// A record of this version.
    Version(u64),
}

impl Expected {
    /// Whether a record whose version is `known`, or none, is what is expected.
    #[must_use]
    pub fn fits(self, known: Option<u64>) -> bool {
        match self {
            Self::Anything => true,
            Self::Nothing => known.is_none(),
            Self::Version(version) => known == Some(version),
        }
    }
}

impl Expected {
    /// A record of this version; 0: nothing.
    #[must_use]
    pub fn of(version: u64) -> Self {
        match version {
            0 => Self::Nothing,
            version => Self::Version(version),
        }
    }
}

/// The time at which records that do not expire are looked at.
const ALWAYS: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// Refuses what needs the tables of a feature that is not among those that are on.
///
/// # Errors
/// [`StoreError::FeatureOff`].
pub fn expect_feature(
    on: &[&'static str],
    feature: Option<&'static str>,
) -> Result<(), StoreError> {
    match feature {
        Some(feature) if !on.contains(&feature) => Err(StoreError::FeatureOff(feature)),
        _ => Ok(()),
    }
}

/// How a record is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// What has to be there; nothing is written otherwise.
    pub expected: Expected,
    /// How long it lives; for ever without.
    pub ttl: Option<Duration>,
    /// How many records of the table there may be: beyond that those that end first go, but never the
    /// one that is written.
    pub max_records: Option<usize>,
}

/// Tables of JSON records. An expired record is as good as none; a backend forgets it when it likes.
/// As with [`Leases`](super::Leases), a shared backend goes by a clock of its own and ignores `now`.
pub trait Records: Send + Sync + fmt::Debug {
    /// One record.
    fn get(&self, table: Table, key: &str, now: OffsetDateTime) -> StoreFuture<'_, Option<Record>>;
    /// All records of a table, by key.
    fn list(&self, table: Table, now: OffsetDateTime) -> StoreFuture<'_, Vec<Record>>;
    /// Writes a record if what is there is what is expected, in one step with comparing. Answers its
    /// version, or `None` if nothing was written.
    fn put(
        &self,
        table: Table,
        key: &str,
        value: Value,
        terms: PutOptions,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, Option<u64>>;
    /// Deletes a record, if it is there and of that version where one is given, in one step. Answers
    /// whether it did.
    fn delete(
        &self,
        table: Table,
        key: &str,
        version: Option<u64>,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, bool>;
    /// How many records a table has.
    fn count(&self, table: Table, now: OffsetDateTime) -> StoreFuture<'_, u64>;
    /// Forgets expired records of a table; returns how many. Those that a backend forgets by itself
    /// do not count.
    fn prune(&self, table: Table, now: OffsetDateTime) -> StoreFuture<'_, u64>;
}

/// A kind of bounded lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Log {
    /// Runs of a canary.
    CanaryRuns,
    /// Events a sink has not taken.
    CdcOverflow,
}

impl Log {
    /// Its name in a backend.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CanaryRuns => "canary_runs",
            Self::CdcOverflow => "cdc_overflow",
        }
    }

    /// The feature without which a database does not have it.
    #[must_use]
    pub const fn feature(self) -> Option<&'static str> {
        match self {
            Self::CanaryRuns => Some("canaries"),
            Self::CdcOverflow => Some("cdc"),
        }
    }
}

/// How long a list may be: beyond either bound its oldest entries go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Entries.
    pub entries: u64,
    /// Bytes of all entries.
    pub bytes: u64,
}

/// What a list holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Number of entries.
    pub entries: u64,
    /// Bytes of all entries.
    pub bytes: u64,
}

/// Bounded lists of texts, numbered from 1 in the order they came. No number is given twice.
pub trait Logs: Send + Sync + fmt::Debug {
    /// Adds an entry and lets the oldest go where it is too many, in one step. The newest stays
    /// whatever its size. Returns how many went.
    fn append(&self, log: Log, key: &str, entry: String, bound: Bound) -> StoreFuture<'_, u64>;
    /// At most `limit` entries after a number, oldest first.
    fn after(
        &self,
        log: Log,
        key: &str,
        number: u64,
        limit: usize,
    ) -> StoreFuture<'_, Vec<(u64, String)>>;
    /// The newest `limit` entries, newest first.
    fn newest(&self, log: Log, key: &str, limit: usize) -> StoreFuture<'_, Vec<(u64, String)>>;
    /// Forgets entries up to and with a number. Returns how many there were.
    fn trim(&self, log: Log, key: &str, number: u64) -> StoreFuture<'_, u64>;
    /// What a list holds.
    fn size(&self, log: Log, key: &str) -> StoreFuture<'_, Size>;
    /// Forgets a list, but not which numbers it has given.
    fn clear(&self, log: Log, key: &str) -> StoreFuture<'_, ()>;
}

/// What is heard on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Something was said.
    Said(String),
    /// Something may have been missed: whatever the channel is about has to be looked up again.
    Gap,
}

/// Channels: what one process says, all that listen hear at once, those of other pods included. What
/// is said while nobody listens is lost.
pub trait Signals: Send + Sync + fmt::Debug {
    /// Says something.
    fn say(&self, channel: &str, text: &str) -> StoreFuture<'_, ()>;
    /// Listens from now on, until the stream is dropped. It begins with [`Signal::Gap`] once it
    /// listens, and has another wherever it may have missed something.
    fn listen(&self, channel: &str) -> BoxStream<'static, Signal>;
}

/// The typed stores, over a backend's primitives.
#[derive(Clone, Debug)]
pub struct Typed {
    records: Arc<dyn Records>,
    logs: Arc<dyn Logs>,
    signals: Arc<dyn Signals>,
}

impl Typed {
    /// Over these.
    #[must_use]
    pub fn new(
        records: Arc<dyn Records>,
        logs: Arc<dyn Logs>,
        signals: Arc<dyn Signals>,
    ) -> Arc<Self> {
        Arc::new(Self { records, logs, signals })
    }

    async fn one<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &str,
        now: OffsetDateTime,
    ) -> Result<Option<T>, StoreError> {
        self.records.get(table, key, now).await?.map(decode).transpose()
    }

    async fn all<T: DeserializeOwned>(
        &self,
        table: Table,
        now: OffsetDateTime,
    ) -> Result<Vec<T>, StoreError> {
        self.records.list(table, now).await?.into_iter().map(decode).collect()
    }

    async fn write<T: Serialize>(
        &self,
        table: Table,
        key: &str,
        value: &T,
        terms: PutOptions,
        now: OffsetDateTime,
    ) -> Result<Option<u64>, StoreError> {
        self.records.put(table, key, encode(value)?, terms, now).await
    }

    /// Reads, decides and writes until nobody else wrote in between. `decide` returns what to write,
    /// or `None` to leave it as it is.
    async fn change<T: DeserializeOwned + Serialize>(
        &self,
        table: Table,
        key: &str,
        terms: PutOptions,
        now: OffsetDateTime,
        decide: impl Fn(Option<T>) -> Option<T> + Send,
    ) -> Result<(), StoreError> {
        loop {
            let found = self.records.get(table, key, now).await?;
            let expected =
                found.as_ref().map_or(Expected::Nothing, |r| Expected::Version(r.version));
            let Some(new) = decide(found.map(decode).transpose()?) else { return Ok(()) };
            let terms = PutOptions { expected, ..terms };
            if self.write(table, key, &new, terms, now).await?.is_some() {
                return Ok(());
            }
        }
    }
}

fn decode<T: DeserializeOwned>(record: Record) -> Result<T, StoreError> {
    serde_json::from_value(record.value).map_err(|error| StoreError::Backend(error.into()))
}

fn encode<T: Serialize>(value: &T) -> Result<Value, StoreError> {
    serde_json::to_value(value).map_err(|error| StoreError::Backend(error.into()))
}

#[cfg(test)]
mod tests;
