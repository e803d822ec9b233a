//! The distinct attribute: one hit per value, over all leaves.

use std::collections::HashSet;

use serde_json::Value;

use super::facet_options::{FacetOptions, FacetOrder};
use super::facet_value::FacetValue;
use super::hit::Hit;
use super::namesakes::{doubtful_numbers, leading_numbers};
use super::page::Page;

/// How many hits one node holding everything would find in pages numbered over a distinct
/// attribute: each value once, and every document without one.
///
/// The leaves must have been asked for the attribute as a facet: each lists the values of its own
/// distinct hits. `None` when they were not, when a list reached `limit` and may be cut, when hits have
/// several values, whose groups cannot be told from the counts, and when numbers may be hidden behind
/// strings.
#[must_use]
pub fn distinct_total(pages: &[Page], attribute: &str, limit: usize) -> Option<u64> {
    let mut values = HashSet::new();
    let mut without = 0_u64;
    for (page, listed) in pages.iter().zip(listed(pages, attribute)?) {
        if listed.len() >= limit {
            return None;
        }
        without += page.total.checked_sub(listed.len() as u64)?;
        values.extend(listed);
    }
    Some(without + values.len() as u64)
}

/// The values of each leaf's distinct hits, as it lists them: each once.
pub(crate) fn listed(pages: &[Page], attribute: &str) -> Option<Vec<Vec<FacetValue>>> {
    // Each counts once, so that any order may be one by count.
    let by_count = [("*".to_owned(), FacetOrder::Count)].into_iter().collect();
    let options = FacetOptions { sort_by: by_count, ..FacetOptions::default() };
    if doubtful_numbers(pages, &options).iter().any(|(name, _)| name == attribute) {
        return None;
    }
    let of = |page: &Page| {
        let facets = page.facet_distribution.as_ref()?;
        let listed = facets.iter().find(|facet| facet.name == attribute);
        let Some(listed) = listed else { return Some(Vec::new()) };
        if listed.values.iter().any(|(_, count)| *count != 1) {
            return None;
        }
        let numbers = leading_numbers(listed, page, FacetOrder::Count);
        let numbers = numbers.map(|(_, number)| FacetValue::number(number));
        let numbers: Vec<FacetValue> = numbers.collect();
        let strings = listed.values[numbers.len()..].iter().map(|(text, _)| FacetValue::text(text));
        Some(numbers.iter().cloned().chain(strings).collect())
    };
    pages.iter().map(of).collect()
}

/// The values already shown.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    path: &'a str,
    /// Whether hits are told apart by what they show.
    shown: bool,
    values: HashSet<FacetValue>,
    scratch: Vec<FacetValue>,
}

impl<'a> Seen<'a> {
    /// Nothing shown yet, for the attribute `path` (dotted when nested).
    pub(crate) fn new(path: &'a str) -> Self {
        Self { path, shown: false, values: HashSet::new(), scratch: Vec::new() }
    }

    /// As the engine tells apart hits it is about to show: by what they say instead of by what is
    /// indexed, which empty strings are not, and which the two zeros are apart.
    pub(crate) fn shown(path: &'a str) -> Self {
        Self { shown: true, ..Self::new(path) }
    }

    /// Whether a hit may be shown; if so, its values are taken from now on. A hit without a value
    /// always may.
    pub(crate) fn admit(&mut self, page: &Page, hit: &Hit) -> bool {
        self.scratch.clear();
        values_of(page, hit, self.path, self.shown, &mut self.scratch);
        if self.scratch.iter().any(|key| self.values.contains(key)) {
            return false;
        }
        self.values.extend(self.scratch.iter().cloned());
        true
    }

    /// The values of the hit last asked about.
    pub(crate) fn last(&self) -> &[FacetValue] {
        &self.scratch
    }
}

/// Adds the values that a hit has at `path`.
pub(crate) fn values_of(
    page: &Page,
    hit: &Hit,
    path: &str,
    shown: bool,
    values: &mut Vec<FacetValue>,
) {
    visit(page, hit, path, &mut |value| values.extend(facet_value(value, shown)));
}

/// The values that a hit has at `path`, with how they are spelt.
pub(crate) fn spelt_values_of(page: &Page, hit: &Hit, path: &str) -> Vec<(FacetValue, String)> {
    let mut values = Vec::new();
    visit(page, hit, path, &mut |value| {
        if let Some(key) = facet_value(value, false) {
            let number = key.as_number().map(|number| number.to_string());
            let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            values.push((key, number.unwrap_or_else(text)));
        }
    });
    values
}

fn visit(page: &Page, hit: &Hit, path: &str, take: &mut dyn FnMut(&Value)) {
    for field in page.fields(hit) {
        let name = field.key.of(&page.body);
        let Some(name) = super::scan::text(name) else { continue };
        if let Some(rest) = below(path, &name)
            && let Ok(value) = serde_json::from_slice(field.value.of(&page.body))
        {
            walk(&value, rest, take);
        }
    }
}

/// What is left of `path` below `name`: `""` when it ends there, `None` when it leads elsewhere.
fn below<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(name)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
}

fn walk(value: &Value, path: &str, take: &mut dyn FnMut(&Value)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, path, take)),
        Value::Object(members) if !path.is_empty() => {
            for (name, value) in members {
                if let Some(rest) = below(path, name) {
                    walk(value, rest, take);
                }
            }
        }
        value if path.is_empty() => take(value),
        _ => {}
    }
}

/// What a member of a document is as a facet's value. `shown`: as hits are told apart that are about to
/// be shown.
fn facet_value(value: &Value, shown: bool) -> Option<FacetValue> {
    match value {
        Value::Number(number) => {
            // Adding zero makes the two zeros one.
            let number = number.as_f64().map(|number| if shown { number + 0.0 } else { number });
            number.map(FacetValue::number)
        }
        Value::String(text) if shown || !text.is_empty() => Some(FacetValue::text(text)),
        Value::Bool(flag) => Some(FacetValue::flag(*flag)),
        _ => None,
    }
}
