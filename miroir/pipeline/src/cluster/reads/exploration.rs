//! How many requests explore: as many as configured, and no more than are needed to learn something.

use std::time::Duration;

use miroir_core::lock::Lock;
use tokio::time::Instant;

/// How long equal queries draw the same numbers: longer than a program takes from one page to the
/// next, and short for a query that alone makes up the load.
const PERIOD: Duration = Duration::from_secs(10);
/// How often in a half-life each copy should be asked, for its figures to follow what it does.
const NEWS: f64 = 4.0;

/// Counts requests by periods.
///
/// The share is fixed for a period, by how many requests the one before had: requests that draw the
/// same so decide the same.
#[derive(Debug)]
pub(super) struct ExplorationRate {
    began: Instant,
    counts: Lock<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    period: u64,
    requests: u64,
    before: u64,
}

impl ExplorationRate {
    pub(super) fn new(began: Instant) -> Self {
        Self { began, counts: Lock::default() }
    }

    /// Counts a request. Returns the number of its period, and the share of requests that need to
    /// explore in it so that each of so many copies is asked often enough.
    pub(super) fn step(&self, now: Instant, copies: u32, half_life: Duration) -> (u64, f64) {
        let period = now.saturating_duration_since(self.began).as_secs() / PERIOD.as_secs();
        let mut counts = self.counts.lock();
        if counts.period != period {
            let before = if counts.period + 1 == period { counts.requests } else { 0 };
            *counts = Counts { period, requests: 0, before };
        }
        counts.requests += 1;
        let half_lives = PERIOD.as_secs_f64() / half_life.as_secs_f64().max(1e-3);
        let wanted = NEWS * half_lives * f64::from(copies);
        (period, wanted / (counts.before as f64).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_share_follows_the_requests_of_the_period_before() {
        let start = Instant::now();
        let pace = ExplorationRate::new(start);
        let step = |seconds: u64| pace.step(start + Duration::from_secs(seconds), 2, PERIOD / 2);
        // Sixteen are wanted, of nobody knows how many.
        for _ in 0..1600 {
            assert_eq!(step(3), (0, 16.0));
        }
        assert_eq!(step(10), (1, 0.01));
        assert_eq!(step(19), (1, 0.01));
        assert_eq!(step(20), (2, 8.0));
        // A period without requests.
        assert_eq!(step(45), (4, 16.0));
    }
}
