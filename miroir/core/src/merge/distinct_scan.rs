//! Which values of the distinct attribute one node looks at to fill a page.
//!
//! A node takes the duplicates of a hit out of its candidates when it looks at the hit, and it stops
//! looking when the page is full. So its estimate of hits, and its facets, tell of all candidates but
//! the duplicates of the hits it looked at. Those are the hits up to the last of the page and all that
//! are tied with it: a node takes hits that no ranking rule tells apart in one go. Where there is no
//! ranking rule at all it takes one hit after the other.

use std::collections::HashMap;

use super::distinct::{Seen, listed};
use super::facet_value::FacetValue;
use super::hits::{Heads, HitOptions, Step, merge_hits};
use super::order::{Side, compare};
use super::page::Page;
use super::score::Ranks;

/// What one node holding everything looks at to fill a page under a distinct attribute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScannedHits {
    /// How many hits it keeps and shows.
    pub shown: usize,
    /// How many hits without an indexed value it drops because they show what an earlier one shows.
    pub dropped: usize,
    /// The leaf of the only kept hit that shows an empty string, which is not indexed.
    pub empty: Option<usize>,
    /// The values of the shown hits of each leaf.
    pub values: Vec<Vec<FacetValue>>,
    /// Values of hits that are not shown.
    pub hidden: Vec<FacetValue>,
    /// How many of the shown hits of each leaf have a value.
    pub valued: Vec<usize>,
    /// Whether a hit has more than one value.
    pub multi_valued: bool,
    /// Whether it runs out of hits before the page is full.
    pub exhausted: bool,
    /// Whether a leaf's list ended where the leaf may have more to be looked at.
    pub unfinished: bool,
}

impl ScannedHits {
    /// All values.
    pub fn all(&self) -> impl Iterator<Item = &FacetValue> {
        self.values.iter().flatten().chain(&self.hidden)
    }

    /// All values but those of the hits of one leaf.
    pub fn of_others(&self, leaf: usize) -> impl Iterator<Item = &FacetValue> {
        let others = self.values.iter().enumerate().filter(move |(at, _)| *at != leaf);
        others.flat_map(|(_, values)| values).chain(&self.hidden)
    }
}

/// Looks at the hits of the leaves until `wanted` are kept, and at those tied with the last of them.
///
/// `asked` is how many hits each leaf was asked for; a shorter list is a whole one. With `wanted + 1`
/// hits the end of the ties is in sight unless there are any.
#[must_use]
pub fn scan_hits(pages: &[Page], options: &HitOptions, wanted: usize, asked: usize) -> ScannedHits {
    let mut scanned = ScannedHits {
        values: vec![Vec::new(); pages.len()],
        valued: vec![0; pages.len()],
        ..ScannedHits::default()
    };
    let Some(attribute) = options.distinct.as_deref() else { return scanned };
    let mut seen = Seen::new(attribute);
    let mut shown = Some(Seen::shown(attribute)).filter(|_| options.distinct_shown);
    let mut last: Option<(u32, u32, Vec<Ranks>)> = None;
    let mut kept = 0;
    let mut taken = vec![0; pages.len()];
    scanned.exhausted = true;
    Heads::new(pages, options).run(|head| {
        let page = &pages[head.leaf as usize];
        let hit = &page.hits[head.hit as usize];
        if let Some((leaf, at, ranks)) = &last {
            let end = &pages[*leaf as usize];
            let end_hit = &end.hits[*at as usize];
            let end = Side {
                body: &end.body,
                rules: end.rules(end_hit),
                ranks,
                score: end.score(end_hit),
            };
            let next = Side {
                body: &page.body,
                rules: page.rules(hit),
                ranks: head.ranks,
                score: page.score(hit),
            };
            if end.rules.is_empty() || compare(end, next).is_ne() {
                scanned.exhausted = false;
                return Step::Stop;
            }
        }
        taken[head.leaf as usize] = head.hit as usize + 1;
        if seen.admit(page, hit) {
            kept += 1;
            if kept == wanted {
                last = Some((head.leaf, head.hit, head.ranks.to_vec()));
            }
            let leaf = head.leaf as usize;
            let values = seen.last();
            scanned.multi_valued |= values.len() > 1;
            let these = values.iter().cloned();
            if let Some(shown) = &mut shown {
                if !shown.admit(page, hit) {
                    scanned.dropped += usize::from(values.is_empty());
                    scanned.hidden.extend(these);
                    return Step::Next;
                }
                if values.is_empty() && !shown.last().is_empty() {
                    scanned.empty = Some(leaf);
                }
            }
            scanned.shown += 1;
            scanned.valued[leaf] += usize::from(!values.is_empty());
            scanned.values[leaf].extend(these);
        }
        Step::Next
    });
    scanned.unfinished =
        pages.iter().zip(&taken).any(|(page, taken)| *taken >= asked && *taken == page.hits.len());
    scanned.exhausted &= !scanned.unfinished;
    scanned
}

/// The values each leaf should have left out, where a hit with several values was dropped.
///
/// Such a hit may have hidden others on its leaf that share another value with it, though it is not
/// shown itself. Up to the first of them in merged order the lists are right. So are the lists of
/// leaves that leave out what the hits kept up to there have on other leaves: of the documents with
/// these values none comes before, or it would have been kept, and none is kept after.
///
/// A hit with several values may also be kept, and drop several others of one leaf: the list of that one,
/// of `wanted` hits, ends before so many are kept then, and what comes behind its end is as hidden.
/// `None` when neither happens before `wanted` are kept.
#[must_use]
pub fn hidden_behind(
    pages: &[Page],
    options: &HitOptions,
    wanted: usize,
) -> Option<Vec<Vec<FacetValue>>> {
    let mut seen = Seen::new(options.distinct.as_deref()?);
    let mut values: Vec<Vec<FacetValue>> = vec![Vec::new(); pages.len()];
    let (mut kept, mut hides) = (0, false);
    let mut left: Vec<usize> = pages.iter().map(|page| page.hits.len()).collect();
    Heads::new(pages, options).run(|head| {
        if kept >= wanted {
            return Step::Stop;
        }
        let page = &pages[head.leaf as usize];
        left[head.leaf as usize] -= 1;
        if seen.admit(page, &page.hits[head.hit as usize]) {
            kept += 1;
            values[head.leaf as usize].extend(seen.last().iter().cloned());
        } else {
            hides = seen.last().len() > 1;
        }
        hides |= left[head.leaf as usize] == 0 && page.hits.len() >= wanted && kept < wanted;
        if hides { Step::Stop } else { Step::Next }
    });
    let elsewhere = |leaf| {
        let others = values.iter().enumerate().filter(|(at, _)| *at != leaf);
        others.flat_map(|(_, values)| values.iter().cloned()).collect()
    };
    hides.then(|| (0..pages.len()).map(elsewhere).collect())
}

/// How many hits one node counts whose page of `wanted` shows the last of them.
///
/// `pages` are the lists of the leaves to their ends, in which a document may come more than once
/// ([`HitOptions::unique`]). `None` where there are more, where a hit of several values may hide
/// others, and under a threshold.
#[must_use]
pub fn total_at_the_end(pages: &[Page], options: &HitOptions, wanted: usize) -> Option<usize> {
    if options.score_threshold.is_some() || hidden_behind(pages, options, usize::MAX).is_some() {
        return None;
    }
    let all = HitOptions { offset: 0, limit: wanted.saturating_add(1), ..options.clone() };
    let merged = merge_hits(pages, &all);
    (!merged.full).then_some(merged.placed.len())
}

/// For pages numbered over a distinct attribute: which values each leaf must leave out so that every
/// value is on one leaf only, that of the hit that was kept. The leaves must have been asked for the
/// attribute as a facet. `None` when they were not, when hits have several values, and when numbers may
/// be hidden behind strings.
#[must_use]
pub fn apportion(
    pages: &[Page],
    attribute: &str,
    scanned: &ScannedHits,
) -> Option<Vec<Vec<FacetValue>>> {
    let mut owners: HashMap<FacetValue, usize> = HashMap::new();
    for (leaf, values) in scanned.values.iter().enumerate() {
        owners.extend(values.iter().map(|value| (value.clone(), leaf)));
    }
    let mut without = vec![Vec::new(); pages.len()];
    for (leaf, values) in listed(pages, attribute)?.into_iter().enumerate() {
        for value in values {
            match owners.get(&value) {
                Some(owner) if *owner != leaf => without[leaf].push(value),
                Some(_) => {}
                None => {
                    owners.insert(value, leaf);
                }
            }
        }
    }
    Some(without)
}
