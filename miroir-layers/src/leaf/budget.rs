//! The budget of further attempts: a token bucket that leaves fill and attempts empty, after
//! Finagle's `RetryBudget`.

use std::time::Duration;

use miroir_core::lock::Lock;
use tokio::time::Instant;

/// One further attempt.
const ATTEMPT: u64 = 100;

/// A token bucket in hundredths of an attempt, so that a percentage is a whole number.
#[derive(Debug)]
pub(super) struct Budget {
    percent: u64,
    per_second: u64,
    capacity: u64,
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    tokens: u64,
    refilled: Option<Instant>,
}

impl Budget {
    /// A full bucket. Attempts come from `percent` of all leaves, from `per_second` beside those, and
    /// from at most `burst` that were saved up.
    pub(super) fn new(percent: u32, per_second: u32, burst: u32) -> Self {
        let capacity = u64::from(burst) * ATTEMPT;
        Self {
            percent: u64::from(percent),
            per_second: u64::from(per_second),
            capacity,
            state: Lock::new(State { tokens: capacity, refilled: None }),
        }
    }

    /// A leaf was asked.
    pub(super) fn deposit(&self) {
        let mut state = self.state.lock();
        state.tokens = (state.tokens + self.percent).min(self.capacity);
    }

    /// May that many more attempts be made?
    pub(super) fn withdraw(&self, attempts: usize, now: Instant) -> bool {
        let mut state = self.state.lock();
        let since =
            state.refilled.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        // Whole hundredths only; what is left of the time counts next time.
        let hundredths = since.as_millis() as u64 * self.per_second * ATTEMPT / 1000;
        if state.refilled.is_none() || hundredths > 0 {
            state.refilled = Some(now);
        }
        state.tokens = (state.tokens + hundredths).min(self.capacity);
        let Some(left) = state.tokens.checked_sub(ATTEMPT * attempts as u64) else { return false };
        state.tokens = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(budget: &Budget, now: Instant) -> u32 {
        std::iter::from_fn(|| budget.withdraw(1, now).then_some(())).count() as u32
    }

    #[tokio::test(start_paused = true)]
    async fn leaves_pay_for_attempts() {
        let now = Instant::now();
        let budget = Budget::new(20, 0, 3);
        assert_eq!(drain(&budget, now), 3, "the burst");
        for _ in 0..4 {
            budget.deposit();
        }
        assert_eq!(drain(&budget, now), 0, "four fifths are not enough");
        budget.deposit();
        assert_eq!(drain(&budget, now), 1);
        for _ in 0..1000 {
            budget.deposit();
        }
        assert!(!budget.withdraw(4, now), "no more than the burst is saved");
        assert!(budget.withdraw(2, now), "what was refused was not taken");
        assert_eq!(drain(&budget, now), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn time_pays_for_attempts_up_to_the_capacity() {
        let start = Instant::now();
        let budget = Budget::new(0, 10, 5);
        assert_eq!(drain(&budget, start), 5);
        assert_eq!(drain(&budget, start + Duration::from_millis(99)), 0);
        assert_eq!(drain(&budget, start + Duration::from_millis(100)), 1);
        assert_eq!(drain(&budget, start + Duration::from_mins(1)), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_of_nothing_allows_no_attempt() {
        let now = Instant::now();
        let budget = Budget::new(100, 100, 0);
        budget.deposit();
        assert!(!budget.withdraw(1, now));
        assert!(!budget.withdraw(1, now + Duration::from_secs(10)));
    }
}
