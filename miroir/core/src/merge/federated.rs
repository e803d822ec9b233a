//! Federated search: the lists of several queries, over one or several indexes, as one list.
//!
//! As in the engine, the queries of one index are merged first, and then the indexes.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::cross_query::{Heap, Value, document_id, values};
use super::distinct::Seen;
use super::hits::{HitOptions, MergedHits, Placed};
use super::order::sort_values;
use super::page::Page;
use super::scan::{write_int, write_json};
use super::score::RankingInfo;

/// The hits of one query, merged over its leaves, with scores and details.
#[derive(Debug, Clone)]
pub struct FederatedQuery {
    /// Position of the query in the request.
    pub position: usize,
    /// Which index it searches: a number that counts indexes by name.
    pub index: usize,
    /// Factor of its hits' scores; 1 is usual.
    pub weight: f64,
    /// Its merged hits, best first, with scores and details.
    pub page: Page,
    /// The ranking rules and sort of the query, by which details are compared.
    pub ranking: RankingInfo,
    /// By what documents of its index are told apart.
    pub primary_key: Option<String>,
}

/// Paging and distinct attribute of the whole federated search.
#[derive(Debug, Clone, Default)]
pub struct FederatedOptions {
    /// Hits to leave out at the beginning.
    pub offset: usize,
    /// Number of hits returned at most.
    pub limit: usize,
    /// The distinct attribute over all queries.
    pub distinct: Option<String>,
    /// How many hits each index contributes at most.
    pub caps: Vec<usize>,
}

/// The hits of the requested page, best first, and what was left out on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FederatedHits {
    /// Which hit of which query, by their indices.
    pub placed: Vec<(usize, usize)>,
    /// How many hits were dropped because their distinct value was there already.
    pub duplicates: u64,
    /// How many hits of the page were found by similarity.
    pub semantic: u64,
    /// For each index, how many hits of its queries were the same document again.
    pub repeated: Vec<u64>,
}

/// One hit, as it is compared.
struct Candidate<'a> {
    values: Vec<Value<'a>>,
    weight: f64,
    score: f64,
    position: usize,
}

impl Candidate<'_> {
    /// How two hits compare; `Greater` is better.
    fn compare(&self, other: &Self) -> Ordering {
        let (mut left, mut right) = (self.values.iter(), other.values.iter());
        loop {
            match (left.next(), right.next()) {
                (None, None) => return Ordering::Equal,
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some(a), Some(b)) => match compare(a, self.weight, b, other.weight) {
                    Some(Ordering::Equal) => {}
                    Some(order) => return order,
                    // Rules that cannot be compared: whoever has more of them left, or the score.
                    None => {
                        return left.len().cmp(&right.len()).then_with(|| {
                            self.score.partial_cmp(&other.score).unwrap_or(Ordering::Equal)
                        });
                    }
                },
            }
        }
    }

    fn before(&self, other: &Self) -> bool {
        match self.compare(other) {
            Ordering::Greater => true,
            Ordering::Equal => self.position < other.position,
            Ordering::Less => false,
        }
    }
}

/// Compares two values; `Greater` is better, `None` if they are of different kinds.
fn compare(a: &Value<'_>, weight_a: f64, b: &Value<'_>, weight_b: f64) -> Option<Ordering> {
    let numbers = |a: f64, b: f64| {
        if (a - b).abs() <= f64::EPSILON {
            Ordering::Equal
        } else {
            a.partial_cmp(&b).unwrap_or(Ordering::Equal)
        }
    };
    match (a, b) {
        (Value::Score(a), Value::Score(b)) => Some(numbers(a * weight_a, b * weight_b)),
        (Value::Sort { asc, value: a }, Value::Sort { asc: other, value: b }) => {
            (asc == other).then(|| sort_values(*asc, a, b).reverse())
        }
        // One node looks at the distance alone: here the farther hit comes first, also where the
        // nearest are wanted.
        (Value::Geo { asc, distance: a }, Value::Geo { asc: other, distance: b }) => (asc == other)
            .then(|| match (a, b) {
                (Some(a), Some(b)) => numbers(*a, *b),
                (a, b) => a.is_some().cmp(&b.is_some()),
            }),
        _ => None,
    }
}

/// Merges the queries' hits. `queries` must be ordered by index, then by position.
#[must_use]
pub fn merge_federated(queries: &[FederatedQuery], options: &FederatedOptions) -> FederatedHits {
    let candidates: Vec<Vec<Candidate<'_>>> = queries
        .iter()
        .map(|query| {
            let hits = query.page.hits.iter();
            hits.map(|hit| Candidate {
                values: values(&query.page, hit, &query.ranking),
                weight: query.weight,
                score: query.page.score(hit).unwrap_or_default() * query.weight,
                position: query.position,
            })
            .collect()
        })
        .collect();
    let mut out = FederatedHits::default();
    let mut lists: Vec<Vec<(usize, usize)>> = Vec::new();
    let mut start = 0;
    while let Some(first) = queries.get(start) {
        let length = queries[start..].iter().take_while(|q| q.index == first.index).count();
        let cap = options.caps.get(first.index).copied().unwrap_or(usize::MAX);
        lists.push(one_index(queries, &candidates, start..start + length, cap, options, &mut out));
        start += length;
    }
    let lengths = lists.iter().map(Vec::len).collect();
    let candidate = |(list, at): (usize, usize)| {
        let (query, hit) = lists[list][at];
        &candidates[query][hit]
    };
    let merged = Heap::new(lengths, |a, b| candidate(a).before(candidate(b)));
    let mut seen = options.distinct.as_deref().map(Seen::shown);
    let mut left = options.offset;
    for (list, at) in merged {
        let (query, hit) = lists[list][at];
        let page = &queries[query].page;
        if let Some(seen) = &mut seen
            && !seen.admit(page, &page.hits[hit])
        {
            out.duplicates += 1;
        } else if left > 0 {
            left -= 1;
        } else if out.placed.len() < options.limit {
            out.semantic += u64::from(page.marks(&page.hits[hit]).semantic);
            out.placed.push((query, hit));
        } else if seen.is_none() {
            break;
        }
    }
    out
}

/// The list of one index: each document once, at most `cap` of them.
fn one_index(
    queries: &[FederatedQuery],
    candidates: &[Vec<Candidate<'_>>],
    range: std::ops::Range<usize>,
    cap: usize,
    options: &FederatedOptions,
    out: &mut FederatedHits,
) -> Vec<(usize, usize)> {
    let start = range.start;
    let several = range.len() > 1;
    let lengths = candidates[range].iter().map(Vec::len).collect();
    let candidate = |(list, at): (usize, usize)| &candidates[start + list][at];
    let merged = Heap::new(lengths, |a, b| candidate(a).before(candidate(b)));
    let mut documents = HashSet::new();
    let mut seen = options.distinct.as_deref().map(Seen::shown);
    let mut list = Vec::new();
    let mut repeated = 0;
    for (query, at) in merged {
        if !several && list.len() >= cap {
            break;
        }
        let query = start + query;
        let page = &queries[query].page;
        let hit = &page.hits[at];
        if several
            && let Some(key) = &queries[query].primary_key
            && let Some(id) = document_id(page, hit, key)
            && !documents.insert(id)
        {
            repeated += 1;
            continue;
        }
        if list.len() >= cap {
            continue;
        }
        if let Some(seen) = &mut seen
            && !seen.admit(page, hit)
        {
            out.duplicates += 1;
            continue;
        }
        list.push((query, at));
    }
    out.repeated.push(repeated);
    list
}

/// Appends a hit as a JSON object. `options` say what the client is to see of it.
pub fn write_federated_hit(
    query: &FederatedQuery,
    hit: usize,
    (index, position): (&str, usize),
    options: &HitOptions,
    out: &mut Vec<u8>,
) {
    let score = query.page.hits.get(hit).and_then(|hit| query.page.score(hit));
    let score = score.unwrap_or_default();
    let mut federation = Vec::with_capacity(96);
    federation.extend_from_slice(b"\"_federation\":{\"indexUid\":");
    write_json(&mut federation, index);
    federation.extend_from_slice(b",\"queriesPosition\":");
    write_int(&mut federation, position as u64);
    federation.extend_from_slice(b",\"weightedRankingScore\":");
    write_json(&mut federation, &(score * query.weight));
    federation.push(b'}');
    let placed = Placed { leaf: 0, hit, score: None, ranks: None };
    let pages = std::slice::from_ref(&query.page);
    MergedHits::default().write_hit_with(pages, &placed, options, Some(&federation), out);
}
