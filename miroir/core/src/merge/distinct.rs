//! The distinct attribute: one hit per value, over all leaves.

use std::collections::HashSet;

use serde_json::Value;

use super::normalize;
use super::page::{Hit, Page};

/// How many hits one node holding everything would find in pages numbered over a distinct
/// attribute: each value once, and every document without one.
///
/// The leaves must have been asked for the attribute as a facet: each lists the values of its own
/// distinct hits. `None` when they were not, when a list reached `limit` and may be cut, and when
/// hits have several values, whose groups cannot be told from the counts.
#[must_use]
pub fn distinct_total(pages: &[Page], attribute: &str, limit: usize) -> Option<u64> {
    let mut values = HashSet::new();
    let mut without = 0_u64;
    for page in pages {
        let facets = page.facet_distribution.as_ref()?;
        let listed = facets.iter().find(|facet| facet.name == attribute);
        let listed = listed.map(|facet| facet.values.as_slice()).unwrap_or_default();
        if listed.len() >= limit || listed.iter().any(|(_, count)| *count != 1) {
            return None;
        }
        without += page.total.checked_sub(listed.len() as u64)?;
        values.extend(listed.iter().map(|(value, _)| normalize::facet(value)));
    }
    Some(without + values.len() as u64)
}

/// The values already shown.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    path: &'a str,
    /// Whether an empty string is a value.
    empty: bool,
    values: HashSet<Key>,
    scratch: Vec<Key>,
}

/// A value as the engine compares it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Number(u64),
    Text(String),
}

/// A text between quotes, as filters take attributes and values.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Key {
    /// The value as a filter names it.
    pub(crate) fn literal(&self) -> String {
        match self {
            Self::Number(bits) => f64::from_bits(*bits).to_string(),
            Self::Text(text) => quoted(text),
        }
    }
}

impl<'a> Seen<'a> {
    /// Nothing shown yet, for the attribute `path` (dotted when nested).
    pub(crate) fn new(path: &'a str) -> Self {
        Self { path, empty: false, values: HashSet::new(), scratch: Vec::new() }
    }

    /// As the engine tells apart hits it is about to show: by what they say instead of by what is
    /// indexed, which empty strings are not.
    pub(crate) fn shown(path: &'a str) -> Self {
        Self { empty: true, ..Self::new(path) }
    }

    /// Whether a hit may be shown; if so, its values are taken from now on. A hit without a value
    /// always may.
    pub(crate) fn admit(&mut self, page: &Page, hit: &Hit) -> bool {
        self.scratch.clear();
        for field in page.fields(hit) {
            let name = field.key.of(&page.body);
            let Some(name) = super::scan::text(name) else { continue };
            if let Some(rest) = below(self.path, &name)
                && let Ok(value) = serde_json::from_slice(field.value.of(&page.body))
            {
                collect(&value, rest, self.empty, &mut self.scratch);
            }
        }
        if self.scratch.iter().any(|key| self.values.contains(key)) {
            return false;
        }
        self.values.extend(self.scratch.iter().cloned());
        true
    }

    /// The values of the hit last asked about.
    pub(crate) fn last(&self) -> &[Key] {
        &self.scratch
    }
}

/// What is left of `path` below `name`: `""` when it ends there, `None` when it leads elsewhere.
fn below<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(name)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
}

fn collect(value: &Value, path: &str, empty: bool, keys: &mut Vec<Key>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, path, empty, keys)),
        Value::Object(members) if !path.is_empty() => {
            for (name, value) in members {
                if let Some(rest) = below(path, name) {
                    collect(value, rest, empty, keys);
                }
            }
        }
        Value::Number(number) if path.is_empty() => {
            // Adding zero makes the two zeros one.
            keys.extend(number.as_f64().map(|number| Key::Number((number + 0.0).to_bits())));
        }
        Value::String(text) if path.is_empty() && (empty || !text.is_empty()) => {
            keys.push(Key::Text(normalize::facet(text)));
        }
        Value::Bool(flag) if path.is_empty() => keys.push(Key::Text(flag.to_string())),
        _ => {}
    }
}
