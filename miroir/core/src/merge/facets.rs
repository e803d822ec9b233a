//! Merging facet distributions and statistics.
//!
//! Counts add up by normalised value; what makes it interesting is that every leaf cuts its list
//! at its own limit. With the threshold algorithm (Fagin, Lotem, Naor 2001) over the counts the
//! leaves did list, [`MergedFacets::open`] names exactly those counts that are unknown and could
//! change the answer; after one round asking for them, [`MergedFacets::complete`] is exact.

use std::cmp::Ordering;
use std::collections::HashMap;

use indexmap::IndexMap;

use super::facet_tree;
use super::normalize;
use super::page::{LeafFacet, Page};
use super::scan::{write_int, write_json};

/// Up to this many candidates the engine orders alphabetically by looking at each document, beyond
/// it by walking its value tree; the two differ in how numbers are ordered.
const FEW_CANDIDATES: u64 = 3000;

/// `sortFacetValuesBy`: the order in which the values of a facet are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FacetOrder {
    /// By value, ascending.
    #[default]
    Alpha,
    /// By count, largest first.
    Count,
}

/// What the merge of facets needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FacetOptions {
    /// The client's `maxValuesPerFacet`: values a facet shows at most.
    pub max_values_per_facet: usize,
    /// The order per facet; `"*"` for all others (alphabetical when absent).
    pub sort_by: IndexMap<String, FacetOrder>,
    /// The `maxValuesPerFacet` of the nodes, at least the client's.
    pub node_limit: usize,
    /// Whether every document of the index is a candidate.
    pub everything: bool,
    /// Facets Miroir asked for on its own behalf.
    pub drop_facets: Vec<String>,
}

/// A value whose count is not known on some leaves and could matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenValue {
    /// Name of the facet, dotted when nested.
    pub facet: String,
    /// The value as displayed: equality with it is the filter to ask with.
    pub value: String,
    /// Whether the value is a number.
    pub numeric: bool,
    /// The leaves (indices of pages) whose count is unknown.
    pub leaves_to_ask: Vec<usize>,
}

/// A count a leaf gave when asked for an [`OpenValue`]: (leaf, facet, value, count).
pub type ClosedCount = (usize, String, String, u64);

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
    state: Vec<Facet>,
    max: usize,
}

/// A value as the engine compares it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// The bits of a float, made so that their order is the numbers'.
    Number(u64),
    Text(String),
}

/// A value with what is known of its counts.
#[derive(Debug, Clone)]
struct Value {
    display: String,
    sum: u64,
    /// Leaves whose count is in `sum`, ascending.
    known: Vec<u32>,
}

/// Where a leaf's list ends.
#[derive(Debug, Clone, Copy, Default)]
struct Cut {
    /// The most an unlisted number can count there.
    numbers: u64,
    /// The most an unlisted string can count there.
    strings: u64,
}

#[derive(Debug, Clone)]
struct Facet {
    name: String,
    order: FacetOrder,
    /// Whether the engine would walk its value tree (count order or many candidates).
    tree: bool,
    /// Whether all values of the index are known, so that its tree is.
    everything: bool,
    values: IndexMap<Key, Value>,
    cuts: Vec<Cut>,
}

/// Merges the facets of the leaves' pages; leaves are told apart by their index in `pages`.
#[must_use]
pub fn merge_facets(pages: &[Page], options: &FacetOptions) -> MergedFacets {
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
            let merged = facets.entry(&facet.name).or_insert_with(|| {
                let order = options.sort_by.get(&facet.name).or_else(|| options.sort_by.get("*"));
                let order = order.copied().unwrap_or_default();
                Facet {
                    name: facet.name.clone(),
                    order,
                    tree: order == FacetOrder::Count || candidates > FEW_CANDIDATES,
                    everything: options.everything,
                    values: IndexMap::new(),
                    cuts: vec![Cut::default(); pages.len()],
                }
            });
            merged.add(leaf, facet, page, options.node_limit.max(1));
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
    /// Adds one leaf's list.
    fn add(&mut self, leaf: usize, facet: &LeafFacet, page: &Page, limit: usize) {
        // Only a facet with statistics has numbers, and they come before the strings. A string
        // that looks like a number is taken for one when it directly follows the numbers; the
        // two then add up, as they do within one node.
        let range = page
            .facet_stats
            .iter()
            .flatten()
            .find_map(|(name, min, max)| (*name == facet.name).then_some(*min..=*max));
        let mut numbers = 0;
        for (at, (display, count)) in facet.values.iter().enumerate() {
            let number = range
                .as_ref()
                .filter(|_| at == numbers)
                .and_then(|range| as_number(display).filter(|number| range.contains(number)));
            let key = if let Some(number) = number {
                numbers += 1;
                Key::Number(ordered(number))
            } else {
                Key::Text(normalize::facet(display))
            };
            let value = self.values.entry(key).or_insert_with(|| Value {
                display: display.clone(),
                sum: 0,
                known: Vec::new(),
            });
            value.sum = value.sum.saturating_add(*count);
            if value.known.last() != Some(&(leaf as u32)) {
                value.known.push(leaf as u32);
            }
        }
        self.cuts[leaf] = self.cut(facet, numbers, page.total, limit);
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

    /// Orders and cuts the values as the engine does.
    fn arrange(&self, max: usize) -> (Vec<(&Key, &Value)>, usize) {
        let mut numbers: Vec<(&Key, &Value)> = Vec::new();
        let mut strings: Vec<(&Key, &Value)> = Vec::new();
        for entry in self.values.iter().filter(|(_, value)| value.sum > 0) {
            match entry.0 {
                Key::Number(_) => numbers.push(entry),
                Key::Text(_) => strings.push(entry),
            }
        }
        if self.everything
            && self.order == FacetOrder::Count
            && self.cuts.iter().all(|cut| cut.numbers == 0)
        {
            numbers.sort_by(|a, b| by_value(a.0, b.0));
            let counts: Vec<u64> = numbers.iter().map(|(_, value)| value.sum).collect();
            numbers = facet_tree::walk(&counts).into_iter().map(|at| numbers[at]).collect();
        } else {
            numbers.sort_by(|a, b| self.compare(a, b));
        }
        strings.sort_by(|a, b| self.compare(a, b));
        numbers.truncate(self.room(0, max));
        strings.truncate(self.room(numbers.len(), max));
        let count = numbers.len();
        numbers.append(&mut strings);
        (numbers, count)
    }

    /// How many more values fit a list that has `listed` of `max`. Walking the tree stops when the
    /// list is exactly full, looked at after each value: a list that is full before it begins
    /// takes everything.
    fn room(&self, listed: usize, max: usize) -> usize {
        if listed >= max && self.tree { usize::MAX } else { max.saturating_sub(listed) }
    }

    fn compare(&self, a: &(&Key, &Value), b: &(&Key, &Value)) -> Ordering {
        match self.order {
            FacetOrder::Count => b.1.sum.cmp(&a.1.sum).then_with(|| by_value(b.0, a.0)),
            FacetOrder::Alpha => match (a.0, b.0) {
                (Key::Number(_), Key::Number(_)) if !self.tree => a.1.display.cmp(&b.1.display),
                _ => by_value(a.0, b.0),
            },
        }
    }

    /// The most `value` can count beyond its known sum, and the leaves where it might.
    fn unknown<'a>(
        &'a self,
        key: &Key,
        value: &'a Value,
    ) -> impl Iterator<Item = (usize, u64)> + 'a {
        let numeric = matches!(key, Key::Number(_));
        self.cuts.iter().enumerate().filter_map(move |(leaf, cut)| {
            let most = if numeric { cut.numbers } else { cut.strings };
            (most > 0 && value.known.binary_search(&(leaf as u32)).is_err()).then_some((leaf, most))
        })
    }

    /// The open values of this facet; `bound_holds` is cleared when a value no leaf listed could
    /// belong into the answer.
    fn open(&self, max: usize, open: &mut Vec<OpenValue>, bound_holds: &mut bool) {
        let (shown, numbers) = self.arrange(max);
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
                if matches!(key, Key::Number(_)) != numeric || room == 0 {
                    continue;
                }
                let leaves: Vec<_> = self.unknown(key, value).collect();
                let most = leaves.iter().fold(value.sum, |sum, leaf| sum.saturating_add(leaf.1));
                if !leaves.is_empty() && most >= bar {
                    open.push(OpenValue {
                        facet: self.name.clone(),
                        value: value.display.clone(),
                        numeric,
                        leaves_to_ask: leaves.into_iter().map(|(leaf, _)| leaf).collect(),
                    });
                }
            }
        }
    }
}

/// Counts of values in a list of a leaf, which ends at `limit` values. A value that is not in it has
/// none, unless the list may have had no room for it: `None`. `wanted` says of each value whether it
/// is a number.
#[must_use]
pub fn counts_of<'a>(
    list: &[(&str, u64)],
    wanted: impl IntoIterator<Item = (&'a str, bool)>,
    limit: usize,
) -> Vec<Option<u64>> {
    let absent = (list.len() < limit).then_some(0);
    let keys = |value: &str| {
        let number = as_number(value).map(|number| Key::Number(ordered(number)));
        [number, Some(Key::Text(normalize::facet(value)))]
    };
    let mut counts: HashMap<Key, u64> = HashMap::new();
    for (value, count) in list {
        for key in keys(value).into_iter().flatten() {
            counts.insert(key, *count);
        }
    }
    let count = |(value, numeric): (&str, bool)| {
        let [number, text] = keys(value);
        let key = if numeric { number } else { text };
        key.and_then(|key| counts.get(&key).copied()).or(absent)
    };
    wanted.into_iter().map(count).collect()
}

impl MergedFacets {
    fn arrange(&mut self) {
        self.open.clear();
        self.bound_holds = true;
        let mut distribution = Vec::with_capacity(self.state.len());
        for facet in &self.state {
            let (values, _) = facet.arrange(self.max);
            let values =
                values.iter().map(|(_, value)| (value.display.clone(), value.sum)).collect();
            distribution.push((facet.name.clone(), values));
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
            let number = as_number(value).map(|number| Key::Number(ordered(number)));
            let key = number
                .filter(|key| facet.values.contains_key(key))
                .unwrap_or_else(|| Key::Text(normalize::facet(value)));
            let Some(value) = facet.values.get_mut(&key) else { continue };
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

fn by_value(a: &Key, b: &Key) -> Ordering {
    match (a, b) {
        (Key::Number(a), Key::Number(b)) => a.cmp(b),
        (Key::Text(a), Key::Text(b)) => a.cmp(b),
        (Key::Number(_), Key::Text(_)) => Ordering::Less,
        (Key::Text(_), Key::Number(_)) => Ordering::Greater,
    }
}

/// A facet value as a number, if it is written as the engine writes numbers.
fn as_number(display: &str) -> Option<f64> {
    if !display.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-')) {
        return None;
    }
    let number: f64 = display.parse().ok()?;
    (number.to_string() == display).then_some(number)
}

/// Bits of a float in an order that is the numbers' own.
fn ordered(number: f64) -> u64 {
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}
