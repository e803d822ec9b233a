//! Merging facet distributions and statistics.
//!
//! Counts add up by [`FacetValue`]; what makes it interesting is that every leaf cuts its list
//! at its own limit. With the threshold algorithm (Fagin, Lotem, Naor 2001) over the counts the
//! leaves did list, [`MergedFacets::open`] names exactly those counts that are unknown and could
//! change the answer; after one round asking for them, [`MergedFacets::complete`] is exact.
//!
//! A node shows a string that is written like a number at the number's place, with its own count for
//! the number's. Leaves whose lists may hide numbers that way are named by [`doubtful_numbers`](super::doubtful_numbers);
//! [`Namesakes`] say what they hide.

use std::cmp::Ordering;
use std::collections::HashMap;

use indexmap::IndexMap;

use super::distinct::spelt_values_of;
use super::facet_options::{FacetOptions, FacetOrder};
use super::facet_tree;
use super::facet_value::{FacetValue, shown_number};
use super::namesakes::{Namesakes, leading_numbers};
use super::page::{LeafFacet, Page};
use super::scan::{write_int, write_json};
use super::spellings::Spellings;

/// Up to this many candidates the engine orders alphabetically by looking at each document, beyond
/// it by walking its value tree; the two differ in how numbers are ordered.
const FEW_CANDIDATES: u64 = 3000;

/// A value whose count is not known on some leaves and could matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenValue {
    /// Name of the facet, dotted when nested.
    pub facet: String,
    /// The value.
    pub value: FacetValue,
    /// The leaves (indices of pages) whose count is unknown.
    pub leaves_to_ask: Vec<usize>,
}

/// A count a leaf gave when asked for an [`OpenValue`]: (leaf, facet, value, count).
pub type ClosedCount = (usize, String, FacetValue, u64);

/// Facets of all leaves as one list each, and the counts that are still open.
#[derive(Debug, Clone, Default)]
pub struct MergedFacets {
    /// Facet → (value, count), ordered and cut as one node would.
    pub distribution: Option<Vec<(String, Vec<(String, u64)>)>>,
    /// (facet, min, max) of numeric facets.
    pub stats: Option<Vec<(String, f64, f64)>>,
    /// What to ask for before the distribution is exact; empty in most cases.
    pub open: Vec<OpenValue>,
    /// Whether no value that every leaf left out could belong into the answer. Together with an
    /// empty `open` it means that every count shown is exact.
    pub bound_holds: bool,
    pub(super) state: Vec<Facet>,
    pub(super) max: usize,
}

/// A value with what is known of its counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Value {
    pub(super) spellings: Spellings,
    pub(super) sum: u64,
    /// Leaves whose count is in `sum`, ascending.
    pub(super) known: Vec<u32>,
}

/// Where a leaf's list ends.
#[derive(Debug, Clone, Copy, Default)]
struct Cut {
    /// The most an unlisted number can count there.
    numbers: u64,
    /// The most an unlisted string can count there.
    strings: u64,
}

/// A value with its counts.
type Counted<'a> = (&'a FacetValue, &'a Value);

#[derive(Debug, Clone)]
pub(super) struct Facet {
    pub(super) name: String,
    order: FacetOrder,
    /// Whether the engine would walk its value tree (count order or many candidates).
    tree: bool,
    /// Whether all values of the index are known, so that its tree is.
    everything: bool,
    pub(super) values: IndexMap<FacetValue, Value>,
    /// The list of an only leaf, which is one node's.
    only: Option<Vec<(String, u64)>>,
    cuts: Vec<Cut>,
}

/// Merges the facets of the leaves' pages; leaves are told apart by their index in `pages`.
#[must_use]
pub fn merge_facets(pages: &[Page], options: &FacetOptions) -> MergedFacets {
    merge_facets_apart(pages, options, None)
}

/// As [`merge_facets`], with what leaves said that may hide numbers behind strings. `None`: they could
/// not be asked, so that an only leaf's list is better left as it is.
#[must_use]
pub fn merge_facets_apart(
    pages: &[Page],
    options: &FacetOptions,
    namesakes: Option<&[Namesakes]>,
) -> MergedFacets {
    let only = pages.len() == 1 && namesakes.is_none();
    let namesakes = namesakes.unwrap_or_default();
    let mut merged =
        MergedFacets { max: options.max_values_per_facet, bound_holds: true, ..<_>::default() };
    let dropped = |name: &str| options.drop_facets.iter().any(|drop| drop == name);
    let mut facets: IndexMap<&str, Facet> = IndexMap::new();
    let candidates: u64 = pages.iter().fold(0, |sum, page| sum.saturating_add(page.total));
    for (leaf, page) in pages.iter().enumerate() {
        for facet in page.facet_distribution.iter().flatten() {
            if dropped(&facet.name) {
                continue;
            }
            let new = || Facet::new(&facet.name, candidates, pages.len(), options);
            let merged = facets.entry(&facet.name).or_insert_with(new);
            let apart = namesakes.iter().filter(|n| n.leaf == leaf && n.facet == facet.name);
            merged.add(leaf, facet, page, apart, options.node_limit.max(1));
            merged.only = only.then(|| facet.values.clone());
        }
    }
    facets.sort_unstable_keys();
    merged.state = facets.into_values().collect();
    if pages.iter().any(|page| page.facet_distribution.is_some()) {
        merged.arrange();
    }
    merged.stats = merge_stats(pages, dropped);
    merged
}

/// Counts facets of documents: of these hits of each leaf's page, `names` being the facets' names. Every
/// count is exact.
#[must_use]
pub fn count_facets(
    pages: &[Page],
    hits: &[Vec<usize>],
    names: &[String],
    options: &FacetOptions,
) -> MergedFacets {
    let candidates = hits.iter().map(Vec::len).sum::<usize>() as u64;
    let mut stats = Vec::new();
    let count = |name: &String| {
        let mut facet = Facet::new(name, candidates, pages.len(), options);
        let mut bounds: Option<(f64, f64)> = None;
        for (leaf, (page, hits)) in pages.iter().zip(hits).enumerate() {
            for hit in hits.iter().filter_map(|at| page.hits.get(*at)) {
                let mut values = spelt_values_of(page, hit, name);
                values.sort();
                values.dedup_by(|a, b| a.0 == b.0);
                for (value, spelling) in values {
                    if let Some(number) = value.as_number() {
                        let (min, max) = bounds.unwrap_or((number, number));
                        bounds = Some((min.min(number), max.max(number)));
                    }
                    facet.count(leaf, value, &spelling, 1);
                }
            }
        }
        stats.extend(bounds.map(|(min, max)| (name.clone(), min, max)));
        facet
    };
    let mut merged = MergedFacets { max: options.max_values_per_facet, ..<_>::default() };
    merged.state = names.iter().map(count).collect();
    merged.state.sort_by(|a, b| a.name.cmp(&b.name));
    merged.arrange();
    stats.sort_by(|a, b| a.0.cmp(&b.0));
    merged.stats = Some(stats);
    merged
}

fn merge_stats(pages: &[Page], dropped: impl Fn(&str) -> bool) -> Option<Vec<(String, f64, f64)>> {
    pages.iter().find(|page| page.facet_stats.is_some())?;
    let mut stats: IndexMap<&str, (f64, f64)> = IndexMap::new();
    for (name, min, max) in pages.iter().flat_map(|page| page.facet_stats.iter().flatten()) {
        if !dropped(name) {
            let bounds = stats.entry(name).or_insert((*min, *max));
            *bounds = (bounds.0.min(*min), bounds.1.max(*max));
        }
    }
    stats.sort_unstable_keys();
    Some(stats.into_iter().map(|(name, (min, max))| (name.to_owned(), min, max)).collect())
}

impl Facet {
    fn new(name: &str, candidates: u64, leaves: usize, options: &FacetOptions) -> Self {
        let order = options.order(name);
        Self {
            name: name.to_owned(),
            order,
            tree: order == FacetOrder::Count || candidates > FEW_CANDIDATES,
            everything: options.everything,
            values: IndexMap::new(),
            only: None,
            cuts: vec![Cut::default(); leaves],
        }
    }

    /// Adds one leaf's list.
    fn add<'a>(
        &mut self,
        leaf: usize,
        facet: &LeafFacet,
        page: &Page,
        apart: impl Iterator<Item = &'a Namesakes>,
        limit: usize,
    ) {
        let numbers = leading_numbers(facet, page, self.order).count();
        let apart: HashMap<&str, &Namesakes> =
            apart.map(|namesakes| (namesakes.display.as_str(), namesakes)).collect();
        for (at, (display, count)) in facet.values.iter().enumerate() {
            let number = (at < numbers).then(|| shown_number(display)).flatten();
            let number = number.map(FacetValue::number);
            match apart.get(display.as_str()) {
                Some(both) => {
                    let number = number.or_else(|| shown_number(display).map(FacetValue::number));
                    let text = FacetValue::text(display);
                    for (value, count) in [(number, both.number), (Some(text), both.text)] {
                        if let Some(value) = value.filter(|_| count > 0) {
                            self.count(leaf, value, display, count);
                        }
                    }
                }
                None => {
                    let value = number.unwrap_or_else(|| FacetValue::text(display));
                    self.count(leaf, value, display, *count);
                }
            }
        }
        self.cuts[leaf] = self.cut(facet, numbers, page.total, limit);
    }

    fn count(&mut self, leaf: usize, value: FacetValue, display: &str, count: u64) {
        let value = self.values.entry(value).or_default();
        value.sum = value.sum.saturating_add(count);
        value.spellings.add(display, count);
        if value.known.last() != Some(&(leaf as u32)) {
            value.known.push(leaf as u32);
        }
    }

    /// What a leaf's list leaves open.
    fn cut(&self, facet: &LeafFacet, numbers: usize, candidates: u64, limit: usize) -> Cut {
        let listed = facet.values.len();
        let last = facet.values.last().map_or(0, |(_, count)| *count);
        // By value, the merged list needs of each leaf no more than the leaf lists, unless the
        // leaf ordered its numbers differently because it has few candidates of the many.
        let by_count = self.order == FacetOrder::Count;
        let leaf_tree = by_count || candidates > FEW_CANDIDATES;
        let unknown = candidates;
        if listed < limit || (listed > limit && leaf_tree) {
            // Complete; longer than its limit because of the engine's quirk with full numbers.
            Cut::default()
        } else if by_count {
            if numbers == listed {
                Cut { numbers: last, strings: 0 }
            } else {
                Cut { numbers: 0, strings: last }
            }
        } else if numbers == listed {
            let numbers = if leaf_tree == self.tree { 0 } else { unknown };
            Cut { numbers, strings: if leaf_tree { 0 } else { unknown } }
        } else {
            Cut::default()
        }
    }

    /// Numbers and strings with a count, each in the engine's order.
    fn ordered(&self) -> (Vec<Counted<'_>>, Vec<Counted<'_>>) {
        let counted = self.values.iter().filter(|(_, value)| value.sum > 0);
        let (mut numbers, mut strings): (Vec<Counted<'_>>, Vec<Counted<'_>>) =
            counted.partition(|(value, _)| value.is_number());
        if self.everything
            && self.order == FacetOrder::Count
            && self.cuts.iter().all(|cut| cut.numbers == 0)
        {
            numbers.sort_by(|a, b| a.0.cmp(b.0));
            let counts: Vec<u64> = numbers.iter().map(|(_, value)| value.sum).collect();
            numbers = facet_tree::walk(&counts).into_iter().map(|at| numbers[at]).collect();
        } else {
            numbers.sort_by(|a, b| self.compare(a, b));
        }
        strings.sort_by(|a, b| self.compare(a, b));
        (numbers, strings)
    }

    /// Values that are shown, and how many of them are numbers.
    pub(super) fn shown(&self, max: usize) -> (Vec<Counted<'_>>, usize) {
        let (mut numbers, mut strings) = self.ordered();
        numbers.truncate(self.room(0, max));
        strings.truncate(self.room(numbers.len(), max));
        let count = numbers.len();
        numbers.append(&mut strings);
        (numbers, count)
    }

    /// The list as the engine writes it: a string takes the place of a number that is written like it.
    fn list(&self, max: usize) -> Vec<(String, u64)> {
        if let Some(only) = self.only.as_ref().filter(|only| only.len() <= max) {
            return only.clone();
        }
        let (numbers, strings) = self.ordered();
        let mut out: IndexMap<&str, u64> = IndexMap::new();
        let mut left = max;
        for section in [numbers, strings] {
            let room = if self.tree { usize::MAX } else { left };
            for (_, value) in section.into_iter().take(room) {
                out.insert(value.spellings.shown(), value.sum);
                // Walking the tree stops when the list is exactly full, looked at after each value.
                if self.tree && out.len() == max {
                    break;
                }
            }
            left = max.saturating_sub(out.len());
        }
        out.into_iter().map(|(display, count)| (display.to_owned(), count)).collect()
    }

    /// How many more values fit a list that has `listed` of `max`. Walking the tree stops when the
    /// list is exactly full, looked at after each value: a list that is full before it begins
    /// takes everything.
    fn room(&self, listed: usize, max: usize) -> usize {
        if listed >= max && self.tree { usize::MAX } else { max.saturating_sub(listed) }
    }

    fn compare(&self, a: &Counted<'_>, b: &Counted<'_>) -> Ordering {
        match self.order {
            FacetOrder::Count => b.1.sum.cmp(&a.1.sum).then_with(|| b.0.cmp(a.0)),
            FacetOrder::Alpha if !self.tree && a.0.is_number() && b.0.is_number() => {
                a.1.spellings.shown().cmp(b.1.spellings.shown())
            }
            FacetOrder::Alpha => a.0.cmp(b.0),
        }
    }

    /// The most `value` can count beyond its known sum, and the leaves where it might.
    fn unknown<'a>(
        &'a self,
        key: &FacetValue,
        value: &'a Value,
    ) -> impl Iterator<Item = (usize, u64)> + 'a {
        let numeric = key.is_number();
        self.cuts.iter().enumerate().filter_map(move |(leaf, cut)| {
            let most = if numeric { cut.numbers } else { cut.strings };
            (most > 0 && value.known.binary_search(&(leaf as u32)).is_err()).then_some((leaf, most))
        })
    }

    /// The open values of this facet; `bound_holds` is cleared when a value no leaf listed could
    /// belong into the answer.
    fn open(&self, max: usize, open: &mut Vec<OpenValue>, bound_holds: &mut bool) {
        let (shown, numbers) = self.shown(max);
        for numeric in [true, false] {
            let most = |cut: &Cut| if numeric { cut.numbers } else { cut.strings };
            let unseen: u64 = self.cuts.iter().map(most).fold(0, u64::saturating_add);
            if unseen == 0 {
                continue;
            }
            let section = if numeric { &shown[..numbers] } else { &shown[numbers..] };
            let room = self.room(if numeric { 0 } else { numbers }, max);
            // The smallest sum in a full list: what a value must be able to reach to matter. In
            // alphabetical order counts decide nothing, and any value might matter.
            let bar = if section.len() < room || self.order == FacetOrder::Alpha {
                0
            } else {
                section.iter().map(|(_, value)| value.sum).min().unwrap_or(u64::MAX)
            };
            if room > 0 && unseen >= bar.max(1) {
                *bound_holds = false;
            }
            for (key, value) in &self.values {
                if key.is_number() != numeric || room == 0 {
                    continue;
                }
                let leaves: Vec<_> = self.unknown(key, value).collect();
                let most = leaves.iter().fold(value.sum, |sum, leaf| sum.saturating_add(leaf.1));
                if !leaves.is_empty() && most >= bar {
                    open.push(OpenValue {
                        facet: self.name.clone(),
                        value: key.clone(),
                        leaves_to_ask: leaves.into_iter().map(|(leaf, _)| leaf).collect(),
                    });
                }
            }
        }
    }
}

impl MergedFacets {
    pub(super) fn arrange(&mut self) {
        self.open.clear();
        self.bound_holds = true;
        let mut distribution = Vec::with_capacity(self.state.len());
        for facet in &self.state {
            distribution.push((facet.name.clone(), facet.list(self.max)));
            facet.open(self.max, &mut self.open, &mut self.bound_holds);
        }
        self.distribution = Some(distribution);
    }

    /// Takes the counts asked for and orders and cuts again. Answers nobody asked for, and second
    /// answers for the same leaf and value, change nothing.
    #[must_use]
    pub fn complete(mut self, answers: &[ClosedCount]) -> Self {
        for (leaf, facet, value, count) in answers {
            let Some(facet) = self.state.iter_mut().find(|state| state.name == *facet) else {
                continue;
            };
            let Some(value) = facet.values.get_mut(value) else { continue };
            if *leaf < facet.cuts.len()
                && let Err(at) = value.known.binary_search(&(*leaf as u32))
            {
                value.known.insert(at, *leaf as u32);
                value.sum = value.sum.saturating_add(*count);
            }
        }
        if self.distribution.is_some() {
            self.arrange();
        }
        self
    }

    /// Appends the value of `facetDistribution` to `out`, as JSON.
    pub fn write_distribution(&self, out: &mut Vec<u8>) {
        let facets = self.distribution.iter().flatten();
        write_object(out, facets.map(|(name, values)| (name.as_str(), values)), |out, values| {
            let values = values.iter().map(|(value, count)| (value.as_str(), *count));
            write_object(out, values, write_int);
        });
    }

    /// Appends the value of `facetStats` to `out`, as JSON.
    pub fn write_stats(&self, out: &mut Vec<u8>) {
        let stats = self.stats.iter().flatten();
        let stats = stats.map(|(name, min, max)| (name.as_str(), (*min, *max)));
        write_object(out, stats, |out, (min, max)| {
            write_object(out, [("min", min), ("max", max)], |out, bound| write_json(out, &bound));
        });
    }
}

fn write_object<'a, T>(
    out: &mut Vec<u8>,
    members: impl IntoIterator<Item = (&'a str, T)>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'{');
    for (at, (name, value)) in members.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_json(out, name);
        out.push(b':');
        write(out, value);
    }
    out.push(b'}');
}
