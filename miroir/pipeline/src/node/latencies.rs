//! A quantile of the last latencies of one node.
//!
//! Two windows of [`WINDOW`] samples each, the current and the one before, counted in buckets a
//! quarter of an octave wide: the answer is at most 19 % above the true quantile, costs no sorting,
//! and forgets what was more than two windows ago. Windows are counted, not timed, so that a quiet
//! cluster does not forget what its nodes are like.

/// Samples after which a window is full.
const WINDOW: u32 = 256;
/// Samples below which nothing is said.
const LEAST: u32 = 20;
/// Four to an octave: the last one begins at 2^23.75 µs, about 14 s.
const BUCKETS: usize = 96;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Latencies {
    current: [u32; BUCKETS],
    before: [u32; BUCKETS],
    /// Samples in the current window.
    count: u32,
    /// Samples in the window before.
    earlier: u32,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { current: [0; BUCKETS], before: [0; BUCKETS], count: 0, earlier: 0 }
    }
}

fn bucket(micros: f64) -> usize {
    // Negative logarithms and what is too long for the last bucket end up at the edges.
    ((micros.max(1.0).log2() * 4.0) as usize).min(BUCKETS - 1)
}

impl Latencies {
    /// Adds a sample, in microseconds.
    pub(super) fn add(&mut self, micros: f64) {
        if self.count == WINDOW {
            self.before = std::mem::replace(&mut self.current, [0; BUCKETS]);
            self.earlier = std::mem::take(&mut self.count);
        }
        self.current[bucket(micros)] += 1;
        self.count += 1;
    }

    /// The upper end of the bucket below which `percent` of the samples are, in microseconds; `None`
    /// until there are enough.
    pub(super) fn quantile(&self, percent: u32) -> Option<f64> {
        let total = self.count + self.earlier;
        if total < LEAST {
            return None;
        }
        let wanted = u64::from(total) * u64::from(percent.min(100));
        let mut seen = 0;
        let at = self.current.iter().zip(&self.before).position(|(current, before)| {
            seen += u64::from(current + before) * 100;
            seen >= wanted.max(1)
        });
        at.map(|at| ((at + 1) as f64 / 4.0).exp2())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_quantile_is_the_true_one_but_for_the_width_of_a_bucket(
            samples in prop::collection::vec(1.0..1e7_f64, 20..500),
            percent in 1..=100_u32,
        ) {
            let mut latencies = Latencies::default();
            for sample in &samples {
                latencies.add(*sample);
            }
            let mut sorted = samples.clone();
            sorted.sort_by(f64::total_cmp);
            let rank = (samples.len() * percent as usize).div_ceil(100).max(1);
            let exact = sorted[rank - 1];
            let found = latencies.quantile(percent).unwrap();
            prop_assert!(found > exact && found <= exact * 1.19, "{found} for {exact}");
        }
    }

    #[test]
    fn a_quantile_needs_enough_calls_and_follows_the_latest() {
        let mut latencies = Latencies::default();
        for _ in 0..LEAST - 1 {
            latencies.add(1e6);
        }
        assert_eq!(latencies.quantile(95), None);
        for _ in 0..3 * WINDOW {
            latencies.add(1000.0);
        }
        let now = latencies.quantile(100).unwrap();
        assert!((1000.0..1200.0).contains(&now), "{now}");
        for odd in [0.0, -1.0, 1e12, f64::INFINITY] {
            latencies.add(odd);
        }
    }
}
