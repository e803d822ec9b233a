//! Which requests are chosen.

use std::sync::atomic::{AtomicU64, Ordering};

/// Chooses a share of all requests at random. A generator of its own, so that a seed decides and no
/// lock is taken.
#[derive(Debug)]
pub(super) struct Sampler {
    state: AtomicU64,
    /// Of 2^53 equally likely numbers, those below it are chosen.
    threshold: u64,
}

/// As many numbers as a double tells apart.
const RANGE: f64 = (1_u64 << 53) as f64;

impl Sampler {
    /// Chooses `rate` (0 to 1) of all.
    pub(super) fn new(rate: f64, seed: u64) -> Self {
        let threshold = (rate.clamp(0.0, 1.0) * RANGE).round() as u64;
        Self { state: AtomicU64::new(seed), threshold }
    }

    /// Whether the next one is chosen. SplitMix64 (Steele, Lea and Flood, *Fast Splittable
    /// Pseudorandom Number Generators*, 2014): a counter, mixed.
    pub(super) fn choose(&self) -> bool {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        z >> 11 < self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_what_was_asked_for() {
        for (rate, least, most) in [(0.0, 0, 0), (0.05, 4_700, 5_300), (1.0, 100_000, 100_000)] {
            let sampler = Sampler::new(rate, 7);
            let chosen = (0..100_000).filter(|_| sampler.choose()).count();
            assert!((least..=most).contains(&chosen), "{chosen} at {rate}");
        }
    }

    #[test]
    fn equal_seeds_sample_the_same_requests() {
        let draw = |seed| {
            let sampler = Sampler::new(0.5, seed);
            (0..64).map(|_| sampler.choose()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
