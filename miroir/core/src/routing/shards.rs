//! Sets of shards.

use std::fmt;

use miroir_api::ShardId;
use smallvec::{SmallVec, smallvec};

const BITS: u32 = u64::BITS;

/// A set of shards of one index, as a bitset.
///
/// A set knows its *universe*: the number of shards of the index, so that shards are `0..universe`.
/// Two sets are equal when universe and members are. Trailing bits of the last word are always
/// zero, which is what makes the derived `Eq` and `Hash` right.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ShardSet {
    universe: u32,
    /// In place for up to 128 shards: sets are made and copied on the way of every request.
    words: SmallVec<[u64; 2]>,
}

fn place(shard: ShardId) -> (usize, u64) {
    ((shard.0 / BITS) as usize, 1 << (shard.0 % BITS))
}

impl ShardSet {
    /// No shard out of `shards`.
    pub fn empty(shards: u32) -> Self {
        Self { universe: shards, words: smallvec![0; shards.div_ceil(BITS) as usize] }
    }

    /// The set of all shards from 0 to `shards` − 1.
    pub fn full(shards: u32) -> Self {
        let mut words: SmallVec<_> = smallvec![u64::MAX; shards.div_ceil(BITS) as usize];
        let used = shards % BITS;
        if let Some(last) = words.last_mut().filter(|_| used != 0) {
            *last = (1 << used) - 1;
        }
        Self { universe: shards, words }
    }

    /// One shard out of `shards`.
    ///
    /// # Panics
    /// As [`Self::insert`].
    pub fn single(shard: ShardId, shards: u32) -> Self {
        Self::from_iter([shard], shards)
    }

    /// The given shards out of `shards`; duplicates are harmless.
    ///
    /// # Panics
    /// As [`Self::insert`].
    pub fn from_iter(members: impl IntoIterator<Item = ShardId>, shards: u32) -> Self {
        let mut set = Self::empty(shards);
        for shard in members {
            set.insert(shard);
        }
        set
    }

    /// Adds a shard.
    ///
    /// # Panics
    /// When the shard is not in the universe: to drop it silently would lose a part of an answer
    /// or a write.
    pub fn insert(&mut self, shard: ShardId) {
        assert!(shard.0 < self.universe, "shard {shard} is outside of 0..{}", self.universe);
        let (word, bit) = place(shard);
        self.words[word] |= bit;
    }

    /// Takes a shard out; nothing happens if it is not a member.
    pub fn remove(&mut self, shard: ShardId) {
        let (word, bit) = place(shard);
        if let Some(word) = self.words.get_mut(word) {
            *word &= !bit;
        }
    }

    /// Whether the shard is a member.
    pub fn contains(&self, shard: ShardId) -> bool {
        let (word, bit) = place(shard);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Number of shards in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The shards of the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let base = at as u32 * BITS;
            // Each step clears the lowest bit that is set.
            std::iter::successors(Some(*word), |rest| Some(rest & rest.wrapping_sub(1)))
                .take_while(|rest| *rest != 0)
                .map(move |rest| ShardId(base + rest.trailing_zeros()))
        })
    }

    /// Adds every member of `other`. The universe becomes the larger of the two.
    pub fn union_with(&mut self, other: &Self) {
        if other.universe > self.universe {
            self.universe = other.universe;
            self.words.resize(other.words.len(), 0);
        }
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    /// Members of `self` that are not in `other`, in the universe of `self`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |own, other| own & !other)
    }

    /// Members of both, in the universe of `self`.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |own, other| own & other)
    }

    /// Whether every member of `other` is a member of `self`.
    pub fn is_superset(&self, other: &Self) -> bool {
        let own = self.words.iter().copied().chain(std::iter::repeat(0));
        other.words.iter().zip(own).all(|(other, own)| other & !own == 0)
    }

    /// The number of shards there are, members or not.
    pub fn universe(&self) -> u32 {
        self.universe
    }

    fn combine(&self, other: &Self, keep: impl Fn(u64, u64) -> u64) -> Self {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        let words = self.words.iter().zip(others).map(|(own, other)| keep(*own, other)).collect();
        Self { universe: self.universe, words }
    }
}

impl fmt::Debug for ShardSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|shard| shard.0)).finish()?;
        write!(f, "/{}", self.universe)
    }
}
