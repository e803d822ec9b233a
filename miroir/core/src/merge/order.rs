//! The order of hits: rule by rule, by absolute costs and sort values.

use std::cmp::Ordering;

use super::details::{Kind, Rule, SortKey, SortValue};
use super::score::{Rank, Ranks};

/// What the comparison needs of one hit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side<'a> {
    /// Of the hit's page.
    pub(crate) body: &'a [u8],
    pub(crate) rules: &'a [Rule],
    pub(crate) ranks: &'a [Ranks],
    pub(crate) score: Option<f64>,
}

/// Compares two hits of the same query; `Less` comes first.
pub(crate) fn compare(a: Side<'_>, b: Side<'_>) -> Ordering {
    if a.rules.is_empty() && b.rules.is_empty() {
        // An engine without details: the score is all there is.
        return scores(b.score, a.score);
    }
    let ranked_a = a.rules.iter().zip(a.ranks);
    let ranked_b = b.rules.iter().zip(b.ranks);
    for ((rule_a, ranks_a), (rule_b, ranks_b)) in ranked_a.zip(ranked_b) {
        let order = compare_rule((&rule_a.kind, a.body), ranks_a, (&rule_b.kind, b.body), ranks_b)
            .unwrap_or_else(|| scores(b.score, a.score));
        if order.is_ne() {
            return order;
        }
    }
    // A list that is the beginning of the other loses.
    b.rules.len().cmp(&a.rules.len())
}

/// Compares one rule, each with the body of its page; `None` when the two are not the same rule.
pub(crate) fn compare_rule(
    (a, body_a): (&Kind, &[u8]),
    ra: &Ranks,
    (b, body_b): (&Kind, &[u8]),
    rb: &Ranks,
) -> Option<Ordering> {
    Some(match (a, b) {
        // Missing words: the maximum is the query's and the same on all leaves.
        (Kind::Words { .. }, Kind::Words { .. }) => ra.first.cost().cmp(&rb.first.cost()),
        (Kind::Typo { count: x, .. }, Kind::Typo { count: y, .. }) => x.cmp(y),
        (Kind::Proximity(x), Kind::Proximity(y))
        | (Kind::AttributeRank(x), Kind::AttributeRank(y))
        | (Kind::WordPosition(x), Kind::WordPosition(y)) => costs(ra.first, *x, rb.first, *y),
        (Kind::Attribute { order, distance }, Kind::Attribute { order: y, distance: far }) => {
            costs(ra.first, *order, rb.first, *y)
                .then_with(|| costs(ra.second, *distance, rb.second, *far))
        }
        (Kind::Exactness { level: x, .. }, Kind::Exactness { level: y, .. }) => {
            y.cmp(x).then_with(|| {
                if ra.second.known() && rb.second.known() {
                    ra.second.cost().cmp(&rb.second.cost())
                } else {
                    Ordering::Equal
                }
            })
        }
        (Kind::Sort { asc, value: x }, Kind::Sort { value: y, .. }) => {
            sort_values(*asc, &x.value(body_a), &y.value(body_b))
        }
        (Kind::Geo { asc, distance: x }, Kind::Geo { distance: y, .. }) => distances(*asc, *x, *y),
        (Kind::Vector(x), Kind::Vector(y)) => distances(false, *x, *y),
        (Kind::Pin(_), Kind::Pin(_))
        | (Kind::Skipped, Kind::Skipped)
        | (Kind::Unknown, Kind::Unknown) => Ordering::Equal,
        // A hit the leaf had no time to rank further comes after those it ranked.
        (Kind::Skipped, _) => Ordering::Greater,
        (_, Kind::Skipped) => Ordering::Less,
        _ => return None,
    })
}

fn costs(ra: Rank, a: f64, rb: Rank, b: f64) -> Ordering {
    if ra.known() && rb.known() { ra.cost().cmp(&rb.cost()) } else { scores(Some(b), Some(a)) }
}

/// Ascending, with the tolerance the engine has for relative scores; missing is lowest.
pub(crate) fn scores(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if (a - b).abs() <= f64::EPSILON => Ordering::Equal,
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// Numbers, then strings, then missing, whatever the direction.
pub(crate) fn sort_values(asc: bool, a: &SortValue<'_>, b: &SortValue<'_>) -> Ordering {
    let order = match (a, b) {
        (SortValue::Number(a), SortValue::Number(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        (SortValue::Text(a), SortValue::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (a, b) => return class(a).cmp(&class(b)),
    };
    if asc { order } else { order.reverse() }
}

fn class(value: &SortValue<'_>) -> u8 {
    match value {
        SortValue::Number(_) => 0,
        SortValue::Text(_) => 1,
        SortValue::Missing => 2,
    }
}

/// By distance (or similarity) in the given direction, missing last.
pub(crate) fn distances(asc: bool, a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => {
            let order = a.total_cmp(&b);
            if asc { order } else { order.reverse() }
        }
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

/// A tournament over the heads of already sorted lists: one comparison per level and step.
///
/// `beats(a, b)` must be a strict order over list numbers in which an exhausted list loses to
/// every other one; equal heads are won by the lower number.
#[derive(Debug)]
pub(crate) struct Tournament {
    /// `losers[0]` is the overall winner; the rest are the losers of the inner matches.
    losers: Vec<u32>,
    lists: usize,
}

impl Tournament {
    pub(crate) fn new(lists: usize, mut beats: impl FnMut(u32, u32) -> bool) -> Self {
        let mut winners = vec![0_u32; lists * 2];
        let mut losers = vec![0_u32; lists.max(1)];
        for list in 0..lists {
            winners[lists + list] = list as u32;
        }
        for node in (1..lists).rev() {
            let (left, right) = (winners[node * 2], winners[node * 2 + 1]);
            let (winner, loser) = if beats(left, right) { (left, right) } else { (right, left) };
            winners[node] = winner;
            losers[node] = loser;
        }
        if lists > 1 {
            losers[0] = winners[1];
        }
        Self { losers, lists }
    }

    /// The list whose head is first.
    pub(crate) fn winner(&self) -> u32 {
        self.losers[0]
    }

    /// To be called after the winner's head changed.
    pub(crate) fn replay(&mut self, mut beats: impl FnMut(u32, u32) -> bool) {
        let mut winner = self.losers[0];
        let mut node = (self.lists + winner as usize) >> 1;
        while node > 0 {
            if beats(self.losers[node], winner) {
                std::mem::swap(&mut self.losers[node], &mut winner);
            }
            node /= 2;
        }
        self.losers[0] = winner;
    }
}

/// How many rules a [`Digest`] holds; the default ranking rules and a sort fit.
const DIGEST: usize = 8;

/// The beginning of a hit's rules as plain numbers, so that most comparisons need no more than a
/// glance at them. Lower is better.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Digest {
    keys: [u64; DIGEST],
    len: usize,
    /// Which rules these are: only digests of the same rules can be compared.
    rules: u64,
    /// Whether every rule of the hit is in it.
    whole: bool,
}

impl Digest {
    /// Takes in rules as far as they can be told in numbers.
    pub(crate) fn of(rules: &[Rule], ranks: &[Ranks]) -> Self {
        let mut digest = Self { whole: !rules.is_empty(), ..Self::default() };
        for (rule, ranks) in rules.iter().zip(ranks) {
            let cost = |rank: Rank| rank.known().then(|| u64::from(rank.cost()));
            let pair = |a: Option<u64>, b: Option<u64>| Some(a? << 32 | b?);
            let (tag, key) = match &rule.kind {
                Kind::Words { .. } => (1, cost(ranks.first)),
                Kind::Typo { count, .. } => (2, Some(u64::from(*count))),
                Kind::Proximity(_) => (3, cost(ranks.first)),
                Kind::AttributeRank(_) => (4, cost(ranks.first)),
                Kind::WordPosition(_) => (5, cost(ranks.first)),
                Kind::Attribute { .. } => (6, pair(cost(ranks.first), cost(ranks.second))),
                Kind::Exactness { level, .. } => {
                    (7, pair(Some(3 - *level as u64), cost(ranks.second)))
                }
                Kind::Sort { asc, value } => {
                    let key = match value {
                        SortKey::Number(number) => Some(ordered(*number, *asc)),
                        SortKey::Missing => Some(u64::MAX),
                        SortKey::Text(_) => None,
                    };
                    (8 + u64::from(*asc), key)
                }
                Kind::Geo { asc, distance } => {
                    (10 + u64::from(*asc), Some(distance.map_or(u64::MAX, |d| ordered(d, *asc))))
                }
                Kind::Vector(similarity) => {
                    (12, Some(similarity.map_or(u64::MAX, |s| ordered(s, false))))
                }
                Kind::Pin(_) | Kind::Skipped | Kind::Unknown => (0, None),
            };
            let Some(key) = key.filter(|_| digest.len < DIGEST) else {
                digest.whole = false;
                break;
            };
            digest.keys[digest.len] = key;
            digest.rules |= tag << (4 * digest.len);
            digest.len += 1;
        }
        digest
    }

    /// The order of two hits, when their digests decide it.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        let len = self.len.min(other.len);
        // The tags beyond the shorter digest do not count.
        let mask = (1_u64 << (4 * len)) - 1;
        if (self.rules ^ other.rules) & mask != 0 {
            return None;
        }
        for (a, b) in self.keys.iter().zip(&other.keys).take(len) {
            if a != b {
                return Some(a.cmp(b));
            }
        }
        (self.whole && other.whole && self.len == other.len).then_some(Ordering::Equal)
    }
}

/// Bits of a float whose order is the numbers', or its reverse, all of them below `u64::MAX`.
fn ordered(number: f64, asc: bool) -> u64 {
    let bits = (number + 0.0).to_bits();
    let bits = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    if asc { bits } else { !bits }
}
