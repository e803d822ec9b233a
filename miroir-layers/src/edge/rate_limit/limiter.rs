//! What both layers share: asking the store, and going on without it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use miroir_core::lock::Lock;
use miroir_store::clock;
use miroir_store::records::{Buckets, Limit};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use tokio::time::{Instant, timeout};

use super::quota::Quota;

/// How long a store may take. What it decides is not worth more of a client's time.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a store that failed is not asked.
const PAUSE: Duration = Duration::from_secs(1);

/// So many requests within a second, minute, hour or day: `600/minute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Number of requests, at least 1.
    pub count: u32,
    /// Time in which they may be made.
    pub per: Span,
}

/// A span of time that a limit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Span {
    const ALL: [(Self, &'static str, u64); 4] = [
        (Self::Second, "second", 1),
        (Self::Minute, "minute", 60),
        (Self::Hour, "hour", 3_600),
        (Self::Day, "day", 86_400),
    ];

    fn row(self) -> (Self, &'static str, u64) {
        Self::ALL[self as usize]
    }
}

impl Rate {
    /// As a bucket takes it.
    #[must_use]
    pub fn limit(self) -> Limit {
        Limit { count: self.count, per: Duration::from_secs(self.per.row().2) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.per.row().1)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{text}\" is not a rate; write it as 10/second, 600/minute, 5000/hour or 100000/day"
            )
        };
        let (count, per) = text.split_once('/').ok_or_else(wrong)?;
        let count =
            count.trim().parse::<u32>().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
        let per = per.trim();
        let found = Span::ALL.into_iter().find(|(_, name, _)| *name == per).ok_or_else(wrong)?;
        Ok(Self { count, per: found.0 })
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Who a limit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// An address.
    Ip,
    /// An API key.
    Key,
    /// A tenant.
    Tenant,
}

impl Whose {
    /// A label for metrics, and what the keys of buckets begin with.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Key => "key",
            Self::Tenant => "tenant",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Ip => "from this address",
            Self::Key => "with this API key",
            Self::Tenant => "of this tenant",
        }
    }
}

#[derive(Debug)]
struct State {
    buckets: Arc<dyn Buckets>,
    /// Until when the store is not asked.
    paused: Lock<Option<Instant>>,
    well: AtomicBool,
}

/// Counts requests in a store. Where that does not answer, everything is let in: a limit must not
/// become an outage. Clones share what they know of the store.
#[derive(Clone, Debug)]
pub struct Limiter(Arc<State>);

impl Limiter {
    /// Counts in these buckets.
    #[must_use]
    pub fn new(buckets: Arc<dyn Buckets>) -> Self {
        let (paused, well) = (Lock::default(), AtomicBool::new(true));
        Self(Arc::new(State { buckets, paused, well }))
    }

    /// Counts one request; `None` if the store does not say.
    pub async fn take(&self, whose: Whose, name: &str, rate: Rate) -> Option<Quota> {
        let state = &self.0;
        let paused = *state.paused.lock();
        if paused.is_some_and(|until| Instant::now() < until) {
            metrics::counter!("miroir_rate_limit_errors_total").increment(1);
            return None;
        }
        let (key, limit) = (format!("{}:{name}", whose.as_str()), rate.limit());
        let answer = timeout(PATIENCE, state.buckets.take(&key, limit, clock::now())).await;
        let problem = match answer {
            Ok(Ok(verdict)) => {
                if !state.well.swap(true, Ordering::Relaxed) {
                    tracing::info!("the store of rate limits answers again");
                }
                if !verdict.allowed {
                    metrics::counter!("miroir_rate_limited_total", "limit" => whose.as_str())
                        .increment(1);
                }
                return Some(Quota::new(limit, &verdict));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        metrics::counter!("miroir_rate_limit_errors_total").increment(1);
        if state.well.swap(false, Ordering::Relaxed) {
            tracing::warn!(problem, "the store of rate limits does not answer: no limits");
        }
        let until = Instant::now() + PAUSE;
        *state.paused.lock() = Some(until);
        None
    }

    /// The refusal of a request.
    #[must_use]
    pub fn refusal(whose: Whose, rate: Rate, quota: Quota) -> miroir_pipeline::Error {
        let wait = quota.retry_after.unwrap_or(1);
        let plural = if wait == 1 { "" } else { "s" };
        let message = format!(
            "Too many requests {}: `rate_limit.per_{}` is {rate}. Try again in {wait} second{plural}.",
            whose.words(),
            whose.as_str(),
        );
        miroir_pipeline::Error::api("miroir_rate_limited", message)
            .labelled("rate_limited")
            .and(quota)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use miroir_store::records::RateDecision;
    use miroir_store::{StoreError, StoreFuture, memory};
    use proptest::prelude::*;
    use time::OffsetDateTime;

    use super::*;

    const RATE: Rate = Rate { count: 2, per: Span::Hour };

    /// Fails, or hangs, until it is well.
    #[derive(Debug, Default)]
    struct Trouble {
        asked: AtomicU32,
        well: AtomicBool,
        hangs: bool,
    }

    impl Buckets for Trouble {
        fn take(&self, _: &str, _: Limit, _: OffsetDateTime) -> StoreFuture<'_, RateDecision> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                if self.well.load(Ordering::Relaxed) {
                    let zero = Duration::ZERO;
                    let (allowed, remaining) = (true, 1);
                    return Ok(RateDecision {
                        allowed,
                        remaining,
                        retry_after: zero,
                        reset_after: zero,
                    });
                }
                if self.hangs {
                    std::future::pending::<()>().await;
                }
                Err(StoreError::Backend("away".into()))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_limits_nobody_and_is_given_a_rest() {
        for hangs in [false, true] {
            let trouble = Arc::new(Trouble { hangs, ..Trouble::default() });
            let limiter = Limiter::new(Arc::clone(&trouble) as Arc<dyn Buckets>);
            let begun = Instant::now();
            for _ in 0..50 {
                assert_eq!(limiter.take(Whose::Ip, "::1", RATE).await, None);
            }
            assert!(begun.elapsed() <= PATIENCE, "only one waited");
            assert_eq!(trouble.asked.load(Ordering::Relaxed), 1);
            trouble.well.store(true, Ordering::Relaxed);
            tokio::time::advance(PAUSE).await;
            assert!(limiter.take(Whose::Ip, "::1", RATE).await.is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn names_and_kinds_have_buckets_of_their_own() {
        let limiter = Limiter::new(memory::buckets());
        for (whose, name) in [(Whose::Ip, "a"), (Whose::Ip, "b"), (Whose::Key, "a")] {
            for remaining in [1, 0] {
                let quota = limiter.take(whose, name, RATE).await.unwrap();
                assert_eq!((quota.remaining, quota.retry_after), (remaining, None));
            }
            let quota = limiter.take(whose, name, RATE).await.unwrap();
            assert!(quota.retry_after.is_some_and(|wait| (1_790..=1_800).contains(&wait)));
        }
    }

    #[test]
    fn rates_are_read_as_they_are_written() {
        assert_eq!("600/minute".parse(), Ok(Rate { count: 600, per: Span::Minute }));
        assert_eq!(" 1 / day ".parse(), Ok(Rate { count: 1, per: Span::Day }));
        for wrong in ["", "600", "0/minute", "-1/hour", "1/week", "1/", "/second", "1/2/second"] {
            assert!(wrong.parse::<Rate>().unwrap_err().contains("600/minute"), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(count in 1_u32.., at in 0_usize..4) {
            let rate = Rate { count, per: Span::ALL[at].0 };
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = text.parse::<Rate>();
        }
    }
}
