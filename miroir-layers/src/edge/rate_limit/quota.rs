//! How much of a rate limit is left, as clients are told: `RateLimit-Limit`, `-Remaining` and
//! `-Reset` after the IETF's `draft-ietf-httpapi-ratelimit-headers` (up to version 06, which named
//! them so), and `Retry-After`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use miroir_pipeline::Error;
use miroir_pipeline::codec::HeaderCodec;
use miroir_pipeline::extension::Extension;
use miroir_pipeline::meta::Meta;
use miroir_store::records::{Limit, RateDecision};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// What is left of one limit; in the [`Meta`] of an answer, and in an [`Error`] that refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests within the limit's time.
    pub limit: u32,
    /// Requests that would be let in now.
    pub remaining: u32,
    /// Seconds until all would be.
    pub reset: u64,
    /// Seconds until one would be, where this one was not.
    pub retry_after: Option<u64>,
}

impl Extension for Quota {}

/// Shows the quotas of answers and refusals.
#[derive(Clone, Copy, Debug)]
struct QuotaHeaders;

impl HeaderCodec for QuotaHeaders {
    fn encode(&self, meta: &Meta, headers: &mut HeaderMap) {
        if let Some(quota) = meta.get::<Quota>() {
            quota.tell(headers);
        }
    }

    fn encode_error(&self, error: &Error, headers: &mut HeaderMap) {
        if let Some(quota) = error.get::<Quota>() {
            quota.tell(headers);
        }
    }
}

/// The headers of limits.
pub(crate) fn codec() -> Arc<dyn HeaderCodec> {
    Arc::new(QuotaHeaders)
}

fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

impl Quota {
    /// The quota that follows from what a bucket of the limiter said.
    #[must_use]
    pub fn new(limit: Limit, verdict: &RateDecision) -> Self {
        Self {
            limit: limit.count,
            remaining: verdict.remaining,
            reset: seconds(verdict.reset_after),
            retry_after: (!verdict.allowed).then(|| seconds(verdict.retry_after).max(1)),
        }
    }

    /// The one that stops the client first.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        let key = |quota: &Self| (quota.retry_after.is_none(), quota.remaining);
        if key(&other) < key(&self) { other } else { self }
    }

    /// Tells the client, unless it is told of a tighter one already.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let told = headers.get(&REMAINING).and_then(|value| value.to_str().ok()?.parse().ok());
        if told.is_some_and(|told: u32| told <= self.remaining) && self.retry_after.is_none() {
            return;
        }
        headers.insert(LIMIT, HeaderValue::from(self.limit));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RESET, HeaderValue::from(self.reset));
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(remaining: u32, retry_after: Option<u64>) -> Quota {
        Quota { limit: 10, remaining, reset: 6, retry_after }
    }

    #[test]
    fn spans_are_rounded_up() {
        let verdict = RateDecision {
            allowed: false,
            remaining: 0,
            retry_after: Duration::from_millis(1),
            reset_after: Duration::from_millis(2_001),
        };
        let limit = Limit { count: 5, per: Duration::from_secs(1) };
        let quota = Quota::new(limit, &verdict);
        assert_eq!((quota.retry_after, quota.reset), (Some(1), 3));
        let allowed = RateDecision { allowed: true, remaining: 4, ..verdict };
        assert_eq!(Quota::new(limit, &allowed).retry_after, None);
    }

    #[test]
    fn of_two_quotas_the_tighter_one_is_shown() {
        assert_eq!(quota(3, None).tighter(quota(2, None)), quota(2, None));
        assert_eq!(quota(0, None).tighter(quota(0, Some(1))), quota(0, Some(1)));
        assert_eq!(quota(0, Some(1)).tighter(quota(0, None)), quota(0, Some(1)));
        let mut headers = HeaderMap::new();
        let told = |headers: &HeaderMap| headers["ratelimit-remaining"].clone();
        quota(3, None).tell(&mut headers);
        quota(5, None).tell(&mut headers);
        assert_eq!(told(&headers), "3");
        quota(1, None).tell(&mut headers);
        assert_eq!(told(&headers), "1");
        assert!(!headers.contains_key("retry-after"));
        quota(0, Some(7)).tell(&mut headers);
        quota(2, None).tell(&mut headers);
        assert_eq!(
            (told(&headers), headers["retry-after"].clone()),
            ("0".parse().unwrap(), "7".parse().unwrap())
        );
        assert_eq!(headers["ratelimit-limit"], "10");
        assert_eq!(headers["ratelimit-reset"], "6");
    }
}
