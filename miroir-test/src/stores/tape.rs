//! Decisions read from a tape of numbers.

/// A source of decisions that is only a list of numbers, so that a generic tool can shrink what was
/// generated from it. Past its end every decision is the first one.
#[derive(Clone, Debug)]
pub struct Tape {
    numbers: std::vec::IntoIter<u64>,
}

impl Tape {
    /// A tape with these numbers.
    pub fn new(numbers: Vec<u64>) -> Self {
        Self { numbers: numbers.into_iter() }
    }

    /// A tape of `length` pseudo-random numbers (SplitMix64, Steele et al. 2014).
    pub fn seeded(seed: u64, length: usize) -> Self {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self::new((0..length).map(|_| next()).collect())
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.numbers.next().unwrap_or(0) % bound
    }

    /// One of `all`, which must not be empty.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }

    /// Something, once in `odds` times.
    pub fn maybe<T>(&mut self, odds: u64, something: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(odds) == odds - 1).then(|| something(self))
    }

    /// Up to `most` of something.
    pub fn some<T, C: FromIterator<T>>(
        &mut self,
        most: u64,
        mut something: impl FnMut(&mut Self) -> T,
    ) -> C {
        (0..self.below(most + 1)).map(|_| something(self)).collect()
    }
}
