//! Sessions of the console.

use std::time::Duration;

use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Expected, PutOptions, Signal, Table, Typed, decode};
use crate::StoreFuture;

/// What is said when a session is revoked: its id.
const REVOKED: &str = "admin_session:revoked";

/// A session of the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminSession {
    /// Id, unique among sessions.
    pub id: String,
    /// SHA-256 of the token that guards its changes, in hexadecimal.
    pub csrf: String,
    /// When its owner logged in.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Address of the client that logged in.
    pub source: String,
    /// Whether it was ended before its time.
    #[serde(default)]
    pub revoked: bool,
}

/// Failed logins from one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginFailures {
    /// Failed attempts in a row, from one address.
    pub count: u32,
    /// When the next attempt is looked at.
    #[serde(with = "time::serde::rfc3339")]
    pub next_allowed_at: OffsetDateTime,
}

/// Sessions of the console. They end after `ttl`, or when they are revoked.
pub trait AdminSessions: Send + Sync + std::fmt::Debug {
    /// Adds one.
    fn insert(
        &self,
        session: AdminSession,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, ()>;
    /// One that has not ended; a revoked one says so.
    fn get(&self, id: &str, now: OffsetDateTime) -> StoreFuture<'_, Option<AdminSession>>;
    /// Marks one as revoked for `ttl`, and tells everybody. Returns whether there was one.
    fn revoke(&self, id: &str, ttl: Duration, now: OffsetDateTime) -> StoreFuture<'_, bool>;
    /// The ids of sessions as they are revoked, by whatever pod. After a [`Signal::Gap`] nothing
    /// that was read before can be trusted.
    fn revoked(&self) -> BoxStream<'static, Signal>;
    /// Forgets those that ended; returns how many.
    fn prune(&self, now: OffsetDateTime) -> StoreFuture<'_, u64>;
    /// Failed logins from an address.
    fn failures(&self, source: &str, now: OffsetDateTime)
    -> StoreFuture<'_, Option<LoginFailures>>;
    /// Adds a failed login; `wait` says how long the next one has to wait after that many. Answers
    /// what is known then. None of several at once is lost.
    fn failed<'a>(
        &'a self,
        source: &str,
        wait: &'a (dyn Fn(u32) -> Duration + Send + Sync),
        ttl: Duration,
        now: OffsetDateTime,
    ) -> StoreFuture<'a, LoginFailures>;
    /// Forgets failed logins: somebody got in.
    fn succeeded(&self, source: &str, now: OffsetDateTime) -> StoreFuture<'_, ()>;
}

impl AdminSessions for Typed {
    fn insert(
        &self,
        session: AdminSession,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let terms = PutOptions { ttl: Some(ttl), ..PutOptions::default() };
            self.write(Table::AdminSessions, &session.id, &session, terms, now).await.map(drop)
        })
    }

    fn get(&self, id: &str, now: OffsetDateTime) -> StoreFuture<'_, Option<AdminSession>> {
        let id = id.to_owned();
        Box::pin(async move { self.one(Table::AdminSessions, &id, now).await })
    }

    fn revoke(&self, id: &str, ttl: Duration, now: OffsetDateTime) -> StoreFuture<'_, bool> {
        let id = id.to_owned();
        Box::pin(async move {
            let Some(found) = self.one::<AdminSession>(Table::AdminSessions, &id, now).await?
            else {
                return Ok(false);
            };
            let revoked = AdminSession { revoked: true, ..found };
            let terms = PutOptions { ttl: Some(ttl), ..PutOptions::default() };
            self.write(Table::AdminSessions, &id, &revoked, terms, now).await?;
            self.signals.say(REVOKED, &id).await?;
            Ok(true)
        })
    }

    fn revoked(&self) -> BoxStream<'static, Signal> {
        self.signals.listen(REVOKED)
    }

    fn prune(&self, now: OffsetDateTime) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            let sessions = self.records.prune(Table::AdminSessions, now).await?;
            Ok(sessions + self.records.prune(Table::AdminLoginBackoff, now).await?)
        })
    }

    fn failures(
        &self,
        source: &str,
        now: OffsetDateTime,
    ) -> StoreFuture<'_, Option<LoginFailures>> {
        let source = source.to_owned();
        Box::pin(async move { self.one(Table::AdminLoginBackoff, &source, now).await })
    }

    fn failed<'a>(
        &'a self,
        source: &str,
        wait: &'a (dyn Fn(u32) -> Duration + Send + Sync),
        ttl: Duration,
        now: OffsetDateTime,
    ) -> StoreFuture<'a, LoginFailures> {
        let source = source.to_owned();
        Box::pin(async move {
            loop {
                let found = self.records.get(Table::AdminLoginBackoff, &source, now).await?;
                let expected =
                    found.as_ref().map_or(Expected::Nothing, |r| Expected::Version(r.version));
                let known: Option<LoginFailures> = found.map(decode).transpose()?;
                let count = known.map_or(1, |known| known.count.saturating_add(1));
                let failures = LoginFailures { count, next_allowed_at: now + wait(count) };
                let terms = PutOptions { expected, ttl: Some(ttl), max_records: None };
                let put = self.write(Table::AdminLoginBackoff, &source, &failures, terms, now);
                if put.await?.is_some() {
                    return Ok(failures);
                }
            }
        })
    }

    fn succeeded(&self, source: &str, now: OffsetDateTime) -> StoreFuture<'_, ()> {
        let source = source.to_owned();
        Box::pin(async move {
            self.records.delete(Table::AdminLoginBackoff, &source, None, now).await.map(drop)
        })
    }
}
