//! What a node usually takes to answer, and how often it fails: moving averages over time.
//!
//! Both forget by time and not by number of calls, so that a node that is spared is not judged for
//! long by what it was, and a busy one not by its last hundred calls alone. What is known loses half
//! of its weight in one *half-life*.
//!
//! - Latency is averaged by its logarithm: one call of a second among calls of two milliseconds
//!   hardly moves it, and a node that was a hundred times too slow is like the others again within
//!   two half-lives and not seven.
//! - What gets worse counts four times as fast as what gets better, though no single call for more
//!   than a quarter. The average so settles above the middle, where the slower fifth of calls begins.
//! - A call that was given up after some time would have taken longer: twice as long is assumed.
//! - A failure says nothing of latency, unless it took longer than answers do. A refusal is quick.
//! - A node is *cold* before its eighth answer, and again after eight half-lives without a call.

use std::time::Duration;

use tokio::time::Instant;

/// What gets worse counts this many times as fast.
const ALARM: f64 = 4.0;
/// A single call counts for at most this much of the latency where it makes that worse.
const MOST: f64 = 0.25;
/// A single failure adds at most this much to the share of failures.
const MOST_FAILED: f64 = 0.1;
/// Answers before a node is judged.
const LEARNING: u32 = 8;
/// Half-lives without a call after which nothing is known.
const FORGOTTEN: f64 = 8.0;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallOutcome {
    Answered,
    Failed,
    GivenUp,
}

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Estimate {
    /// Natural logarithm of the latency in microseconds.
    log: f64,
    failed: f64,
    samples: u32,
    last: Option<Instant>,
}

impl Estimate {
    fn half_lives(&self, now: Instant, half_life: Duration) -> f64 {
        let since = self.last.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        since.as_secs_f64() / half_life.as_secs_f64().max(1e-9)
    }

    /// Learns from a call that took so many microseconds, or that was given up after them.
    pub(super) fn learn(
        &mut self,
        micros: f64,
        outcome: CallOutcome,
        now: Instant,
        half_life: Duration,
    ) {
        let passed = self.half_lives(now, half_life);
        if passed > FORGOTTEN {
            *self = Self::default();
        }
        self.last = Some(now);
        let gain = |speed: f64| 1.0 - (-speed * passed).exp2();
        let micros = if outcome == CallOutcome::GivenUp { 2.0 * micros } else { micros };
        let log = micros.max(1.0).ln();
        let tells = match outcome {
            CallOutcome::Answered => true,
            CallOutcome::Failed | CallOutcome::GivenUp => self.samples == 0 || log > self.log,
        };
        if tells && (outcome != CallOutcome::Failed || self.samples > 0) {
            let by = if self.samples < LEARNING {
                1.0 / f64::from(self.samples + 1)
            } else if log > self.log {
                gain(ALARM).min(MOST)
            } else {
                gain(1.0)
            };
            self.log += by * (log - self.log);
            self.samples = self.samples.saturating_add(1);
        }
        match outcome {
            CallOutcome::Answered => self.failed -= gain(1.0) * self.failed,
            CallOutcome::Failed => {
                // A first failure is as heavy as any.
                let by = if passed > FORGOTTEN { MOST_FAILED } else { gain(ALARM) };
                self.failed += by.min(MOST_FAILED) * (1.0 - self.failed);
            }
            CallOutcome::GivenUp => {}
        }
    }

    /// The latency in microseconds; 0 before the first answer.
    pub(super) fn micros(&self) -> f64 {
        if self.samples == 0 { 0.0 } else { self.log.exp() }
    }

    /// The latency, unless the node is cold, and the share of failures.
    pub(super) fn at(&self, now: Instant, half_life: Duration) -> (Option<Duration>, f64) {
        if self.half_lives(now, half_life) > FORGOTTEN {
            return (None, 0.0);
        }
        let known = self.samples >= LEARNING;
        (known.then(|| Duration::from_secs_f64(self.micros() / 1e6)), self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_LIFE: Duration = Duration::from_secs(5);

    /// Learns from one call every 100 ms.
    struct Node {
        estimate: Estimate,
        now: Instant,
    }

    impl Node {
        fn new() -> Self {
            Self { estimate: Estimate::default(), now: Instant::now() }
        }

        fn calls(&mut self, count: u32, millis: f64, outcome: CallOutcome) -> &mut Self {
            for _ in 0..count {
                self.now += Duration::from_millis(100);
                self.estimate.learn(millis * 1e3, outcome, self.now, HALF_LIFE);
            }
            self
        }

        fn millis(&self) -> f64 {
            self.estimate.micros() / 1e3
        }

        fn known(&self) -> (Option<Duration>, f64) {
            self.estimate.at(self.now, HALF_LIFE)
        }
    }

    #[test]
    fn half_of_what_is_known_is_forgotten_in_a_half_life() {
        let mut node = Node::new();
        node.calls(100, 400.0, CallOutcome::Answered);
        assert!((node.millis() - 400.0).abs() < 1e-6);
        // Half way down the logarithms: from 400 to 4 by way of 40.
        node.calls(50, 4.0, CallOutcome::Answered);
        assert!((node.millis() - 40.0).abs() < 0.1, "{}", node.millis());
        // Four times as fast up.
        node.calls(100, 4.0, CallOutcome::Answered);
        let before = node.millis();
        node.calls(25, 400.0, CallOutcome::Answered);
        let expected = before * (400.0 / before).powf(0.75);
        assert!((node.millis() / expected - 1.0).abs() < 0.01, "{}", node.millis());
    }

    #[test]
    fn one_slow_call_does_not_move_the_estimate() {
        let mut node = Node::new();
        node.calls(50, 2.0, CallOutcome::Answered);
        node.calls(1, 1_000.0, CallOutcome::Answered);
        assert!(node.millis() < 3.0, "{}", node.millis());
        // Not even after a long silence.
        node.now += 7 * HALF_LIFE;
        node.calls(1, 1_000.0, CallOutcome::Answered).calls(1, 2.0, CallOutcome::Failed);
        assert!(node.millis() < 15.0 && node.known().1 <= 0.1, "{}", node.millis());
    }

    #[test]
    fn failures_are_counted_and_tell_no_speed() {
        let mut node = Node::new();
        node.calls(50, 20.0, CallOutcome::Answered).calls(50, 0.1, CallOutcome::Failed);
        assert!((node.millis() - 20.0).abs() < 1e-6);
        assert!(node.known().1 > 0.9, "{:?}", node.known());
        node.calls(100, 20.0, CallOutcome::Answered);
        assert!(node.known().1 < 0.25, "{:?}", node.known());
        node.calls(30, 5_000.0, CallOutcome::Failed);
        assert!(node.millis() > 1_000.0);
        let mut unknown = Node::new();
        unknown.calls(50, 0.1, CallOutcome::Failed);
        assert_eq!(unknown.known().0, None);
    }

    #[test]
    fn calls_given_up_take_longer_and_never_make_a_node_quick() {
        let mut node = Node::new();
        node.calls(50, 2.0, CallOutcome::Answered).calls(50, 20.0, CallOutcome::GivenUp);
        assert!((25.0..40.0).contains(&node.millis()), "{}", node.millis());
        let before = node.millis();
        node.calls(50, 1.0, CallOutcome::GivenUp);
        assert!((node.millis() - before).abs() < 1e-6);
    }

    #[test]
    fn a_node_is_cold_until_it_answered_some_times_and_after_a_long_silence() {
        let mut node = Node::new();
        node.calls(7, 2.0, CallOutcome::Answered);
        assert_eq!(node.known().0, None);
        node.calls(1, 2.0, CallOutcome::Answered);
        assert!(node.known().0.is_some());
        node.now += 8 * HALF_LIFE;
        assert!(node.known().0.is_some());
        node.now += Duration::from_secs(1);
        assert_eq!(node.known(), (None, 0.0));
        node.calls(1, 2.0, CallOutcome::Answered);
        assert_eq!(node.known().0, None);
    }
}
