//! Why Redis did not do what it was asked.

use std::fmt;
use std::time::Duration;

use miroir_store::StoreError;
use redis::RedisError;

/// The code with which `write.lua` refuses what its caller gave up.
const LATE: &str = "MIROIRLATE";
/// The code with which it refuses who was followed by another leader.
const DEPOSED: &str = "MIROIRDEPOSED";

/// What happened to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// There was no connection: nothing was sent.
    Away,
    /// The connection broke: a write may have taken effect.
    Lost,
    /// No answer came in time: a write may have taken effect.
    Slow,
    /// Redis refused it because it came too late: nothing was changed.
    Late,
    /// Redis refused it because another pod leads by now: nothing was changed.
    Deposed,
    /// Redis refused it, or answered what it should not have.
    Refused,
}

/// A call that failed.
#[derive(Clone, Debug)]
pub(crate) struct RedisFailure {
    pub(crate) kind: FailureKind,
    /// Whether the connection is of no use any more.
    pub(crate) broken: bool,
    text: String,
}

impl fmt::Display for RedisFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for RedisFailure {}

impl From<RedisFailure> for StoreError {
    fn from(failure: RedisFailure) -> Self {
        Self::Backend(failure.into())
    }
}

impl RedisFailure {
    pub(crate) fn away(address: &str, reason: impl fmt::Display) -> Self {
        let text = format!("Redis at {address} cannot be used: {reason}");
        Self { kind: FailureKind::Away, broken: true, text }
    }

    pub(crate) fn slow(address: &str, limit: Duration) -> Self {
        let text = format!("Redis at {address} did not answer within {limit:?}");
        Self { kind: FailureKind::Slow, broken: true, text }
    }

    /// Something that should not be in the store or in an answer.
    pub(crate) fn odd(reason: impl fmt::Display) -> Self {
        let text = format!("Redis holds what Miroir does not understand: {reason}");
        Self { kind: FailureKind::Refused, broken: false, text }
    }

    pub(crate) fn of(address: &str, error: &RedisError) -> Self {
        match error.code() {
            Some(LATE) => Self {
                kind: FailureKind::Late,
                broken: true,
                text: format!("Redis at {address} was asked too late"),
            },
            Some(DEPOSED) => Self {
                kind: FailureKind::Deposed,
                broken: false,
                text: "another pod leads by now".to_owned(),
            },
            // No longer the primary, or not yet ready: the next connection may lead elsewhere.
            Some(code @ ("READONLY" | "MASTERDOWN" | "LOADING")) => Self {
                kind: FailureKind::Refused,
                broken: true,
                text: format!("Redis at {address} refused: {code} {}", detail(error)),
            },
            _ if error.is_io_error() || error.is_unrecoverable_error() => Self {
                kind: FailureKind::Lost,
                broken: true,
                text: format!("the connection to Redis at {address} broke: {error}"),
            },
            Some(code) => Self {
                kind: FailureKind::Refused,
                broken: false,
                text: format!("Redis at {address} refused: {code} {}", detail(error)),
            },
            None => Self {
                kind: FailureKind::Refused,
                broken: false,
                text: format!("Redis at {address} failed: {error}"),
            },
        }
    }
}

fn detail(error: &RedisError) -> &str {
    error.detail().unwrap_or_default()
}
