//! Hybrid search: a keyword list and a semantic list as one.
//!
//! Each half was merged over its leaves first. The engine then compares relevancy scores with
//! similarities, each multiplied with its share, and prefers the semantic hit where they are equal.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::cross_query::{Value, document_id, values};
use super::distinct::Seen;
use super::hits::{HitOptions, MergedHits, Placed};
use super::order::{distances, sort_values};
use super::page::Page;
use super::score::RankingInfo;

/// A keyword hit with this much of its score left is good enough for the whole list.
const GOOD_ENOUGH: f64 = 0.45;

/// How two lists become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    /// As the engine does: value by value, sort rules included.
    #[default]
    Details,
    /// By `(1 - ratio) * relevancy + ratio * similarity`.
    Convex,
    /// Reciprocal rank fusion: by the sum of `share / (k + position)` over both lists.
    Rrf,
}

impl Fusion {
    /// Its name in the configuration and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Details => "details",
            Self::Convex => "convex",
            Self::Rrf => "rrf",
        }
    }
}

/// What merging the halves needs.
#[derive(Debug, Clone, Default)]
pub struct HybridOptions {
    /// The share of similarity, from 0 to 1.
    pub ratio: f32,
    /// How the lists become one.
    pub fusion: Fusion,
    /// The `k` of [`Fusion::Rrf`]: how little the first positions stand out.
    pub rrf_k: u32,
    /// By what documents are told apart.
    pub primary_key: Option<String>,
}

impl HybridOptions {
    /// Whether the engine would not look for similar documents at all: the keyword list is as long
    /// as wanted and every hit is good enough.
    #[must_use]
    pub fn good_enough(&self, keyword: &Page, depth: usize) -> bool {
        let share = f64::from(1.0 - self.ratio);
        keyword.hits.len() >= depth
            && keyword
                .hits
                .iter()
                .take(depth)
                .all(|hit| keyword.score(hit).unwrap_or_default() * share >= GOOD_ENOUGH)
    }
}

/// How two hits of different halves compare; `Greater` is better.
fn compare(a: &[Value<'_>], share_a: f64, b: &[Value<'_>], share_b: f64) -> Ordering {
    let (mut left, mut right) = (a.iter(), b.iter());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(Value::Score(a)), Some(Value::Score(b))) => {
                let (a, b) = (a * share_a, b * share_b);
                if (a - b).abs() > f64::EPSILON {
                    return a.partial_cmp(&b).unwrap_or(Ordering::Equal);
                }
            }
            (Some(Value::Sort { asc, value }), Some(Value::Sort { value: other, .. })) => {
                match sort_values(*asc, value, other).reverse() {
                    Ordering::Equal => {}
                    order => return order,
                }
            }
            (Some(Value::Geo { asc, distance }), Some(Value::Geo { distance: other, .. })) => {
                match distances(*asc, *distance, *other).reverse() {
                    Ordering::Equal => {}
                    order => return order,
                }
            }
            // A score is better than a sort rule, unless it is nothing.
            (Some(Value::Score(score)), Some(_)) => {
                return if *score == 0.0 { Ordering::Less } else { Ordering::Greater };
            }
            (Some(_), Some(Value::Score(score))) => {
                return if *score == 0.0 { Ordering::Greater } else { Ordering::Less };
            }
            (Some(_), Some(_)) => return Ordering::Equal,
        }
    }
}

fn read<'a>(page: &'a Page, info: &RankingInfo) -> Vec<Vec<Value<'a>>> {
    page.hits.iter().map(|hit| values(page, hit, info)).collect()
}

/// The order of both lists together, as (half, position): half 0 is the keyword list, half 1 the
/// semantic one.
fn ordered(halves: [&Page; 2], info: &RankingInfo, options: &HybridOptions) -> Vec<(usize, usize)> {
    let [keyword, semantic] = halves;
    let shares = [f64::from(1.0 - options.ratio), f64::from(options.ratio)];
    let all = || {
        let keyword = (0..keyword.hits.len()).map(|at| (0, at));
        (0..semantic.hits.len()).map(|at| (1, at)).chain(keyword)
    };
    let by_score = |score: &dyn Fn(usize, usize) -> f64| {
        // The semantic hits come first, and a stable sort keeps it so among equals.
        let key = |hit: &(usize, usize)| {
            let half = halves[hit.0];
            options.primary_key.as_deref().and_then(|k| document_id(half, &half.hits[hit.1], k))
        };
        let mut sums: HashMap<String, f64> = HashMap::new();
        for hit in all() {
            if let Some(id) = key(&hit) {
                *sums.entry(id).or_insert(0.0) += score(hit.0, hit.1);
            }
        }
        let mut out: Vec<(f64, f64, (usize, usize))> = all()
            .map(|hit| {
                let (sum, own) =
                    (key(&hit).and_then(|id| sums.get(&id).copied()), score(hit.0, hit.1));
                (sum.unwrap_or(own), own, hit)
            })
            .collect();
        // Of a document in both lists, the better place is the one that is shown.
        out.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)));
        out.into_iter().map(|(.., hit)| hit).collect()
    };
    let own =
        |half: usize, at: usize| halves[half].score(&halves[half].hits[at]).unwrap_or_default();
    match options.fusion {
        Fusion::Convex => by_score(&|half, at| shares[half] * own(half, at)),
        Fusion::Rrf => {
            let k = f64::from(options.rrf_k);
            by_score(&|half, at| shares[half] / (k + at as f64 + 1.0))
        }
        Fusion::Details => {
            let (left, right) = (read(semantic, info), read(keyword, info));
            let mut out = Vec::with_capacity(left.len() + right.len());
            let (mut a, mut b) = (0, 0);
            while a < left.len() || b < right.len() {
                let first = match (left.get(a), right.get(b)) {
                    (Some(a), Some(b)) => compare(a, shares[1], b, shares[0]).is_ge(),
                    (left, _) => left.is_some(),
                };
                if first {
                    out.push((1, a));
                    a += 1;
                } else {
                    out.push((0, b));
                    b += 1;
                }
            }
            out
        }
    }
}

/// Merges the halves into the page that `hits.offset` and `hits.limit` ask for. Leaf 0 of the result
/// is the keyword list, leaf 1 the semantic one.
#[must_use]
pub fn merge_hybrid(halves: [&Page; 2], hits: &HitOptions, options: &HybridOptions) -> MergedHits {
    let mut out = MergedHits::default();
    let mut documents = HashSet::new();
    let mut seen = hits.distinct.as_deref().map(Seen::new);
    let mut passed = 0;
    for (half, at) in ordered(halves, &hits.ranking, options) {
        if out.placed.len() >= hits.limit {
            break;
        }
        let page = halves[half];
        let hit = &page.hits[at];
        let id = options.primary_key.as_deref().and_then(|key| document_id(page, hit, key));
        if let Some(id) = id
            && !documents.insert(id)
        {
            continue;
        }
        if let Some(seen) = &mut seen
            && !seen.admit(page, hit)
        {
            out.duplicates += 1;
            continue;
        }
        let marks = page.marks(hit);
        out.degraded |= marks.skipped;
        passed += 1;
        if passed > hits.offset {
            out.semantic += u64::from(marks.semantic);
            out.placed.push(Placed { leaf: half, hit: at, score: None, ranks: None });
        }
    }
    out
}
