//! Rate limits: how many requests are allowed within how long.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;

use crate::StoreFuture;

/// So many within so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many, at once or spread.
    pub count: u32,
    /// Time in which `count` requests become available again.
    pub per: Duration,
}

/// What a bucket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateDecision {
    /// Whether this one is within the limit.
    pub allowed: bool,
    /// How many more would be, at once.
    pub remaining: u32,
    /// How long until one is again; zero if one is.
    pub retry_after: Duration,
    /// How long until all are again.
    pub reset_after: Duration,
}

/// Rate limits: token buckets, each kept as the instant at which it will be full again (the
/// *theoretical arrival time* of GCRA, ITU-T I.371).
pub trait Buckets: Send + Sync + fmt::Debug {
    /// Takes one from a bucket, in one step with looking. A refusal takes nothing.
    fn take(&self, key: &str, limit: Limit, now: OffsetDateTime) -> StoreFuture<'_, RateDecision>;
}

/// One step of a bucket: when it will be full again, in microseconds, and what it says of taking one
/// at `now`. Pure; backends that cannot call it do the same sums.
#[must_use]
pub fn step(full_at: u64, limit: Limit, now: u64) -> (u64, RateDecision) {
    let count = u64::from(limit.count.max(1));
    let per = u64::try_from(limit.per.as_micros()).unwrap_or(u64::MAX).max(count);
    let each = per / count;
    let whole = each * count;
    let full_at = full_at.max(now);
    let after = full_at + each;
    let micros = Duration::from_micros;
    if after > now + whole {
        let verdict = RateDecision {
            allowed: false,
            remaining: 0,
            retry_after: micros(after - now - whole),
            reset_after: micros(full_at - now),
        };
        return (full_at, verdict);
    }
    let left = now + whole - after;
    let remaining = u32::try_from(left / each).unwrap_or(u32::MAX);
    let verdict = RateDecision {
        allowed: true,
        remaining,
        retry_after: if remaining > 0 { Duration::ZERO } else { micros(each - left % each) },
        reset_after: micros(after - now),
    };
    (after, verdict)
}

#[cfg(test)]
mod tests;
