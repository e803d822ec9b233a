//! Absolute costs behind the relative scores of `_rankingScoreDetails`, and whole-corpus scores.
//!
//! A leaf prints `rank/M` for proximity, attribute rank and word position, where `M` is one more
//! than the largest cost in *its* dictionary. Two leaves may print different scores for the same
//! cost. `M` comes from a small known set and `_rankingScore` is a checksum over all rules, so the
//! costs can be recovered, and with them the scores one node holding everything would print.

use super::details::{Exact, Kind, Rule};

/// What must be known of the index to recover costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankingInfo {
    /// The highest attribute weight: the number of `searchableAttributes` less one; 0 for `["*"]`.
    pub max_weight: u32,
    /// How many words the query may have at most (the engine's limit is 10).
    pub max_words: u32,
}

impl RankingInfo {
    /// The numbers of words a query may have.
    fn words(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.max_words.clamp(1, 100)
    }
}

impl Default for RankingInfo {
    fn default() -> Self {
        Self { max_weight: 0, max_words: 10 }
    }
}

/// `rank` of `max`, 1 ≤ rank ≤ max. `max == 0` means unknown or not a rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rank {
    pub(crate) rank: u32,
    pub(crate) max: u32,
}

impl Rank {
    const ONE: Self = Self { rank: 1, max: 1 };

    fn new(rank: u32, max: u32) -> Self {
        Self { rank, max }
    }

    /// How far from the best, whatever the leaf's maximum.
    pub(crate) fn cost(self) -> u32 {
        self.max.saturating_sub(self.rank)
    }

    pub(crate) fn known(self) -> bool {
        self.max != 0
    }

    /// The engine's own arithmetic: unsigned 32-bit and wrapping, as in its release builds.
    fn then(self, inner: Self) -> Self {
        Self {
            rank: self.rank.saturating_sub(1).wrapping_mul(inner.max).wrapping_add(inner.rank),
            max: self.max.wrapping_mul(inner.max),
        }
    }

    pub(crate) fn score(self) -> f64 {
        f64::from(self.rank) / f64::from(self.max)
    }
}

/// The one or two ranks an entry of the details stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ranks {
    pub(crate) first: Rank,
    pub(crate) second: Rank,
}

/// What costs count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TermCounts {
    /// How many terms.
    pub(crate) terms: Option<u32>,
    /// How many of them do not directly follow the one before.
    pub(crate) gaps: u32,
}

/// Recovers the ranks of one hit into `out` (cleared first), one element per rule.
///
/// `terms` says what the costs count; without it the words rule does. Returns whether the checksum
/// confirmed the ranks. Where it did not, the printed counts are still filled in and the
/// rest is left unknown: comparing falls back to the printed score.
pub(crate) fn recover(
    rules: &[Rule],
    score: Option<f64>,
    info: &RankingInfo,
    terms: TermCounts,
    out: &mut Vec<Ranks>,
) -> bool {
    out.clear();
    out.resize(rules.len(), Ranks::default());
    if let Some(score) = score {
        // When phrases change what counts as a word, neither number may fit: then try them all.
        let words = terms.terms.or_else(|| counted_words(rules, info));
        let candidates = words.into_iter().chain(info.words().filter(|&k| Some(k) != words));
        // Where nothing that is printed depends on the number of words, one try says it all.
        let tries =
            if rules.iter().any(|rule| rule.kind.depends_on_words()) { usize::MAX } else { 1 };
        let mut search = Search { rules, info, score, words: 0, gaps: terms.gaps, out };
        for words in candidates.take(tries) {
            search.words = words;
            if search.from(0, Rank::ONE) {
                return true;
            }
        }
    }
    for (rule, ranks) in rules.iter().zip(out.iter_mut()) {
        *ranks = printed(&rule.kind);
    }
    false
}

/// As many words as the words rule says a hit has, if there is such a rule.
pub(crate) fn counted_words(rules: &[Rule], info: &RankingInfo) -> Option<u32> {
    rules.iter().find_map(|rule| match rule.kind {
        Kind::Words { matching, .. } => Some(matching.clamp(1, *info.words().end())),
        _ => None,
    })
}

/// The number of words of a query that requires all of them, so that its details have no words
/// rule: the smallest number that explains the scores of all `hits`.
///
/// One hit may fit several numbers (the best possible hit fits all); a few together do not.
pub(crate) fn required_words<'a>(
    hits: impl Iterator<Item = (&'a [Rule], Option<f64>)>,
    info: &RankingInfo,
) -> Option<u32> {
    let mut possible: Vec<u32> = info.words().collect();
    let mut out = Vec::new();
    for (rules, score) in hits {
        let Some(score) = score else { continue };
        if counted_words(rules, info).is_some() || !rules.iter().any(|rule| rule.kind.relative()) {
            return None;
        }
        out.clear();
        out.resize(rules.len(), Ranks::default());
        let mut search = Search { rules, info, score, words: 0, gaps: 0, out: &mut out };
        let fits: Vec<u32> = possible
            .iter()
            .copied()
            .filter(|&words| {
                search.words = words;
                search.from(0, Rank::ONE)
            })
            .collect();
        if !fits.is_empty() {
            possible = fits;
        }
        if possible.len() == 1 {
            break;
        }
    }
    possible.first().copied()
}

/// The ranks an entry prints in full.
fn printed(kind: &Kind) -> Ranks {
    match *kind {
        Kind::Words { matching, max } => {
            Ranks { first: Rank::new(matching, max), ..<_>::default() }
        }
        Kind::Typo { count, max } => {
            let max = max.saturating_add(1);
            Ranks { first: Rank::new(max.saturating_sub(count), max), ..<_>::default() }
        }
        Kind::Exactness { level, counts } => Ranks {
            first: Rank::new(level as u32, 3),
            second: counts.map_or(Rank::default(), |(matching, max)| {
                Rank::new(matching.saturating_add(1), max.saturating_add(1))
            }),
        },
        Kind::Skipped => Ranks { first: Rank::new(0, 1), ..<_>::default() },
        _ => Ranks::default(),
    }
}

/// Depth-first search over the possible maxima, checked against `_rankingScore`.
struct Search<'a> {
    rules: &'a [Rule],
    info: &'a RankingInfo,
    score: f64,
    words: u32,
    gaps: u32,
    out: &'a mut Vec<Ranks>,
}

impl Search<'_> {
    fn from(&mut self, start: usize, mut outer: Rank) -> bool {
        let mut at = start;
        loop {
            let Some(rule) = self.rules.get(at) else {
                return (outer.score() - self.score).abs() < 4e-16;
            };
            let k = self.words;
            match rule.kind {
                // The search branches only here; at most `max_words` ways at each.
                Kind::Proximity(score) => {
                    // Several maxima fit a hit that is perfect on every later rule. One that is
                    // perfect here too fits all: the smallest cannot mislead the rest of its
                    // group. Otherwise the largest, of a path through every word, is likeliest.
                    // Terms that do not follow each other cost nothing.
                    let gaps = self.gaps.min(k - 1);
                    return (1 + gaps..=k).any(|nodes| {
                        let nodes = if score >= 1.0 { nodes } else { k + 1 + gaps - nodes };
                        rank_of(score, k + 2 * nodes - 2 - 3 * gaps).is_some_and(|rank| {
                            self.out[at] = Ranks { first: rank, ..<_>::default() };
                            self.from(at + 1, outer.then(rank))
                        })
                    });
                }
                Kind::Exactness { level, counts: None } if level != Exact::No => {
                    let first = Rank::new(level as u32, 3);
                    let highest = self.info.max_words.max(k);
                    return std::iter::once(k).chain((1..=highest).filter(|&max| max != k)).any(
                        |max| {
                            (0..=max).rev().any(|matching| {
                                let second = Rank::new(matching + 1, max + 1);
                                self.out[at] = Ranks { first, second };
                                self.from(at + 1, outer.then(first).then(second))
                            })
                        },
                    );
                }
                Kind::AttributeRank(score) => {
                    let Some(rank) = self.weighed(score) else { return false };
                    self.out[at] = Ranks { first: rank, ..<_>::default() };
                }
                Kind::WordPosition(score) => {
                    let Some(rank) = rank_of(score, 1 + 10 * k) else { return false };
                    self.out[at] = Ranks { first: rank, ..<_>::default() };
                }
                Kind::Attribute { order, distance } => {
                    let Some(first) = self.weighed(order) else { return false };
                    let Some(second) = rank_of(distance, 1 + 10 * k) else { return false };
                    self.out[at] = Ranks { first, second };
                }
                ref kind => self.out[at] = printed(kind),
            }
            let ranks = self.out[at];
            for rank in [ranks.first, ranks.second] {
                if rank.known() {
                    outer = outer.then(rank);
                }
            }
            at += 1;
        }
    }

    fn weighed(&self, score: f64) -> Option<Rank> {
        rank_of(score, self.info.max_weight.saturating_mul(self.words).saturating_add(1))
    }
}

/// The rank of which `score` is `rank / max`, if there is one.
fn rank_of(score: f64, max: u32) -> Option<Rank> {
    let scaled = score * f64::from(max);
    // `f64::round` is a call into libm on baseline x86-64; scores are never negative.
    let rank = f64::from((scaled + 0.5) as u32);
    ((scaled - rank).abs() < 1e-9 && rank >= 1.0 && rank <= f64::from(max))
        .then(|| Rank::new(rank as u32, max))
}

/// `_rankingScore` of a hit with these ranks.
pub(crate) fn total(ranks: &[Ranks]) -> f64 {
    let mut outer = Rank::ONE;
    for ranks in ranks {
        for rank in [ranks.first, ranks.second] {
            if rank.known() {
                outer = outer.then(rank);
            }
        }
    }
    outer.score()
}

/// The score an entry prints for its ranks.
pub(crate) fn local(ranks: &Ranks) -> f64 {
    if ranks.second.known() { ranks.first.then(ranks.second).score() } else { ranks.first.score() }
}

/// A merged hit on its way to whole-corpus scores.
#[derive(Debug, Clone)]
pub(crate) struct Ranked {
    pub(crate) leaf: u32,
    pub(crate) hit: u32,
    /// Where its ranks begin in the shared list, and how many there are.
    pub(crate) ranks: (u32, u32),
    /// Whether the checksum confirmed the ranks, so that they may be rewritten.
    pub(crate) confirmed: bool,
}

/// Raises every maximum to the largest one among the hits that share the costs of all rules before
/// it, which is the maximum one node holding all documents would have had.
///
/// `hits` must be in merged order. `same_sort(a, b, rule)` says whether two hits are equal on a
/// rule that is not a rank.
pub(crate) fn raise(
    hits: &[Ranked],
    ranks: &mut [Ranks],
    same_sort: impl Fn(&Ranked, &Ranked, usize) -> bool,
) {
    let levels = hits.iter().map(|hit| hit.ranks.1).max().unwrap_or_default() as usize;
    let mut groups: Vec<_> = std::iter::once(0..hits.len()).collect();
    let at = |hit: &Ranked, level: usize| {
        (hit.confirmed && level < hit.ranks.1 as usize).then_some(hit.ranks.0 as usize + level)
    };
    for level in 0..levels {
        for second in [false, true] {
            let mut finer = Vec::with_capacity(groups.len());
            for group in groups {
                let members = &hits[group.clone()];
                // A group from one leaf has that leaf's maxima already, now and further down.
                if members.iter().all(|hit| hit.leaf == members[0].leaf) {
                    continue;
                }
                let get = |ranks: &[Ranks], hit: &Ranked| {
                    at(hit, level).map_or(Rank::default(), |at| {
                        if second { ranks[at].second } else { ranks[at].first }
                    })
                };
                let max = members.iter().map(|hit| get(ranks, hit).max).max().unwrap_or_default();
                for hit in members {
                    let Some(at) = at(hit, level) else { continue };
                    let rank = if second { &mut ranks[at].second } else { &mut ranks[at].first };
                    if rank.known() {
                        *rank = Rank::new(max - rank.cost(), max);
                    }
                }
                let mut start = group.start;
                for next in group.start + 1..=group.end {
                    let split = hits.get(next).filter(|_| next < group.end).is_none_or(|hit| {
                        let first = &hits[start];
                        get(ranks, first) != get(ranks, hit)
                            || (!second && !same_sort(first, hit, level))
                    });
                    if split {
                        finer.push(start..next);
                        start = next;
                    }
                }
            }
            groups = finer;
        }
    }
}
