//! Hits of different queries: what can be compared of them, and how lists of them become one.
//!
//! Hits of one query are compared rule by rule. Between queries the rules differ, so the engine
//! reduces each hit to a list of values: every run of rules about relevancy becomes one score.

use serde_json::Value as Json;

use super::details::{Kind, SortValue};
use super::hit::Hit;
use super::page::Page;
use super::score::{self, RankingInfo, Ranks};

/// One value of the list a hit is reduced to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    /// A run of rules about relevancy, or a similarity, from 0 to 1.
    Score(f64),
    Sort {
        asc: bool,
        value: SortValue<'a>,
    },
    Geo {
        asc: bool,
        distance: Option<f64>,
    },
}

fn is_rank(kind: &Kind) -> bool {
    kind.relative()
        || matches!(
            kind,
            Kind::Words { .. } | Kind::Typo { .. } | Kind::Exactness { .. } | Kind::Skipped
        )
}

/// Reduces a hit to its values.
pub(crate) fn values<'a>(page: &'a Page, hit: &'a Hit, info: &RankingInfo) -> Vec<Value<'a>> {
    let (rules, score) = (page.rules(hit), page.score(hit));
    let runs = rules
        .iter()
        .enumerate()
        .filter(|(at, rule)| is_rank(&rule.kind) && (*at == 0 || !is_rank(&rules[at - 1].kind)))
        .count();
    let mut ranks = Vec::new();
    if runs > 1 {
        // One run is the hit's whole score; of several, each has to be computed.
        score::recover(rules, score, info, score::TermCounts::default(), &mut ranks);
    }
    let mut out = Vec::with_capacity(rules.len());
    let mut at = 0;
    while let Some(rule) = rules.get(at) {
        let end = at + rules[at..].iter().take_while(|rule| is_rank(&rule.kind)).count();
        if end > at {
            out.push(Value::Score(match score {
                Some(score) if runs == 1 && !page.marks(hit).semantic => score,
                _ => run_score(ranks.get(at..end).unwrap_or_default()),
            }));
            at = end;
            continue;
        }
        match &rule.kind {
            Kind::Sort { asc, value } => {
                out.push(Value::Sort { asc: *asc, value: value.value(&page.body) });
            }
            Kind::Geo { asc, distance } => {
                out.push(Value::Geo { asc: *asc, distance: *distance });
            }
            Kind::Vector(similarity) => out.push(Value::Score(similarity.unwrap_or_default())),
            _ => {}
        }
        at += 1;
    }
    out
}

/// The score of a run of rules. Ranks that could not be recovered do not count.
fn run_score(ranks: &[Ranks]) -> f64 {
    score::total(ranks)
}

/// The id of a document, as text: what makes two hits of different queries the same.
pub(crate) fn document_id(page: &Page, hit: &Hit, primary_key: &str) -> Option<String> {
    let fields = page.fields(hit).iter().filter(|field| !field.key.inner(&page.body).is_empty());
    for field in fields {
        let name = super::scan::text(field.key.of(&page.body))?;
        let Some(rest) = primary_key.strip_prefix(&*name) else { continue };
        let mut value: Json = serde_json::from_slice(field.value.of(&page.body)).ok()?;
        if !rest.is_empty() {
            let Some(path) = rest.strip_prefix('.') else { continue };
            for step in path.split('.') {
                value = value.get_mut(step)?.take();
            }
        }
        return match value {
            Json::String(text) => Some(text),
            Json::Number(number) => Some(number.to_string()),
            _ => None,
        };
    }
    None
}

/// Merges sorted lists with a heap of their heads. `before(a, b)` says whether head `a` comes before
/// head `b`; where it is no order, as between queries with different rules, the outcome depends on
/// the walk, which is the engine's.
pub(crate) struct Heap<F> {
    /// The list and the position of its head, as a binary heap.
    heads: Vec<(usize, usize)>,
    lengths: Vec<usize>,
    before: F,
}

impl<F: FnMut((usize, usize), (usize, usize)) -> bool> Heap<F> {
    /// Lists of these lengths.
    pub(crate) fn new(lengths: Vec<usize>, before: F) -> Self {
        let heads = lengths.iter().enumerate().filter(|(_, length)| **length > 0);
        let heads = heads.map(|(list, _)| (list, 0)).collect();
        let mut heap = Self { heads, lengths, before };
        for node in (0..heap.heads.len() / 2).rev() {
            heap.sink(node);
        }
        heap
    }

    fn sink(&mut self, mut node: usize) {
        loop {
            let left = 2 * node + 1;
            let Some(head) = self.heads.get(left).copied() else { return };
            let mut child = left;
            if let Some(right) = self.heads.get(left + 1).copied()
                && (self.before)(right, head)
            {
                child = left + 1;
            }
            if !(self.before)(self.heads[child], self.heads[node]) {
                return;
            }
            self.heads.swap(child, node);
            node = child;
        }
    }
}

impl<F: FnMut((usize, usize), (usize, usize)) -> bool> Iterator for Heap<F> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let first = *self.heads.first()?;
        if first.1 + 1 < self.lengths[first.0] {
            self.heads[0].1 += 1;
        } else {
            self.heads.swap_remove(0);
        }
        self.sink(0);
        Some(first)
    }
}
