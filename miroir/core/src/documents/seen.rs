//! Which ids an index may have: what is not in here, it certainly has not.
//!
//! A scalable Bloom filter (Almeida, Baquero, Preguiça, Hutchison: *Scalable Bloom Filters*, 2007): filters
//! of growing size, each filled up to its capacity. Positions are made of two halves of one hash
//! (Kirsch, Mitzenmacher: *Less Hashing, Same Performance*, 2006). Nothing is ever taken out.

/// Ids of the first filter; each further one has twice as many.
const FIRST: usize = 4_096;
/// Bits an id has. With [`PROBES`] of them set, one id in a hundred that was never put in seems to be.
const BITS: usize = 10;
const PROBES: u64 = 7;

#[derive(Clone, Debug)]
struct Filter {
    words: Box<[u64]>,
    capacity: usize,
    ids: usize,
}

impl Filter {
    fn new(capacity: usize) -> Self {
        Self { words: vec![0; (capacity * BITS).div_ceil(64)].into(), capacity, ids: 0 }
    }

    /// The word and the bit of each probe.
    fn places(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = self.words.len() as u64 * 64;
        let (first, step) = (hash & u64::from(u32::MAX), (hash >> 32) | 1);
        (0..PROBES).map(move |probe| {
            let bit = first.wrapping_add(probe.wrapping_mul(step)) % bits;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }

    fn has(&self, hash: u64) -> bool {
        self.places(hash).all(|(word, bit)| self.words[word] & bit != 0)
    }

    fn put(&mut self, hash: u64) {
        for (word, bit) in self.places(hash) {
            self.words[word] |= bit;
        }
        self.ids += 1;
    }
}

/// Ids by their hashes ([`super::Arrivals::hash`]); see the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    filters: Vec<Filter>,
}

impl Seen {
    /// Puts an id in. Returns whether it may have been there before: never false if it was.
    pub fn put(&mut self, hash: u64) -> bool {
        if self.filters.iter().any(|filter| filter.has(hash)) {
            return true;
        }
        let last = self.filters.last();
        if last.is_none_or(|filter| filter.ids >= filter.capacity) {
            let capacity = last.map_or(FIRST, |filter| filter.capacity * 2);
            self.filters.push(Filter::new(capacity));
        }
        if let Some(filter) = self.filters.last_mut() {
            filter.put(hash);
        }
        false
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.filters.iter().map(|filter| filter.words.len() * 8).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Arrivals;
    use super::*;

    #[test]
    fn what_was_put_in_is_there_and_little_else() {
        let mut seen = Seen::default();
        let hash = |n: u32| Arrivals::hash(&n.to_string());
        let mistaken = (0..100_000).filter(|n| seen.put(hash(*n))).count();
        assert!(mistaken < 4_000, "{mistaken}");
        assert!((0..100_000).all(|n| seen.put(hash(n))));
        // A byte and a quarter an id, in filters of which the last may be as large as all before it.
        assert!(seen.bytes() < 320_000, "{}", seen.bytes());
    }

    #[test]
    fn hashes_that_are_alike_are_told_apart() {
        let mut seen = Seen::default();
        assert!(!seen.put(0) && seen.put(0));
        assert!(!seen.put(u64::MAX) && !seen.put(1 << 32 | 7));
    }
}
