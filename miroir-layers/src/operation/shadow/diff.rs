//! In what two answers differ. Pure: bytes in, values out.
//!
//! A document is known by its primary key where that is known and shown, else by its contents. What
//! an engine computes for a hit (scores, formatted fields, match positions, distances, vectors) is
//! not compared, nor is the order of fields.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use miroir_pipeline::operation::Operation;
use miroir_pipeline::query::SearchKind;
use serde_json::Value;

/// Where in an answer the documents are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `hits`, also of a federated search.
    Hits,
    /// `facetHits`.
    FacetHits,
    /// `results`, each with `hits`.
    Queries,
    /// `results`, which are documents.
    Documents,
    /// The whole answer is one document.
    Document,
    /// Nowhere: only status and time are compared.
    Opaque,
}

impl Shape {
    /// The shape of an operation's answer.
    pub fn of(op: &Operation) -> Self {
        match op {
            Operation::Search { search, .. } => match search.kind {
                SearchKind::FacetValues => Self::FacetHits,
                _ => Self::Hits,
            },
            Operation::MultiSearch(multi) if multi.is_federated() => Self::Hits,
            Operation::MultiSearch(_) => Self::Queries,
            Operation::List { .. } => Self::Documents,
            Operation::FetchOne { .. } => Self::Document,
            _ => Self::Opaque,
        }
    }
}

/// One document of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What the document is known by in both lists: equal ids are one document.
    pub id: String,
    /// The whole document as text; equal documents have equal texts.
    pub content: String,
}

/// In what lists of documents differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Ids of documents that only the first list has.
    pub missing: Vec<String>,
    /// Ids of documents that only the second list has.
    pub extra: Vec<String>,
    /// Ids of documents that both have, with other contents.
    pub changed: Vec<String>,
    /// Kendall's tau of each pair of lists that have two documents in common.
    pub taus: Vec<f64>,
}

impl Difference {
    /// Whether the documents differ, whatever their order.
    pub fn in_hits(&self) -> bool {
        !(self.missing.is_empty() && self.extra.is_empty() && self.changed.is_empty())
    }

    /// The lowest tau.
    pub fn tau(&self) -> Option<f64> {
        self.taus.iter().copied().reduce(f64::min)
    }

    /// Compares one more pair of lists. Of several documents with one id the first counts.
    pub fn compare(&mut self, first: &[Item], second: &[Item]) {
        let mut seen: HashMap<&str, (usize, &str)> = HashMap::new();
        for (position, item) in second.iter().enumerate() {
            seen.entry(&item.id).or_insert((position, &item.content));
        }
        let mut positions = Vec::new();
        let mut met: HashSet<&str> = HashSet::new();
        for item in first {
            if !met.insert(&item.id) {
                continue;
            }
            let Some((position, content)) = seen.remove(item.id.as_str()) else {
                self.missing.push(item.id.clone());
                continue;
            };
            if content != item.content {
                self.changed.push(item.id.clone());
            }
            positions.push(position);
        }
        // In the order of the list, so that a hash map's order never shows.
        for item in second {
            if seen.remove(item.id.as_str()).is_some() {
                self.extra.push(item.id.clone());
            }
        }
        self.taus.extend(kendall_tau(&positions));
    }
}

/// Kendall's tau between the order of a list and 0, 1, 2, …: 1 for the same, -1 for the reverse.
/// `None` for fewer than two positions, which are to be distinct.
pub fn kendall_tau(positions: &[usize]) -> Option<f64> {
    let n = positions.len();
    if n < 2 {
        return None;
    }
    let pairs = (n * (n - 1) / 2) as f64;
    let discordant = inversions(&mut positions.to_vec()) as f64;
    Some(1.0 - 2.0 * discordant / pairs)
}

/// Sorts by merging and counts the pairs that were the wrong way round: O(n log n).
fn inversions(list: &mut [usize]) -> usize {
    let middle = list.len() / 2;
    if middle == 0 {
        return 0;
    }
    let mut count = inversions(&mut list[..middle]) + inversions(&mut list[middle..]);
    let (left, right) = (list[..middle].to_vec(), list[middle..].to_vec());
    let (mut l, mut r) = (0, 0);
    for slot in list.iter_mut() {
        let take_left = l < left.len() && (r == right.len() || left[l] <= right[r]);
        if take_left {
            *slot = left[l];
            l += 1;
        } else {
            *slot = right[r];
            r += 1;
            count += left.len() - l;
        }
    }
    count
}

/// What an engine computes for a hit.
const COMPUTED: [&str; 8] = [
    "_federation",
    "_formatted",
    "_geoDistance",
    "_matchesPosition",
    "_rankingScore",
    "_rankingScoreDetails",
    "_semanticScore",
    "_vectors",
];

/// Compares two answers. `index` is the one that was asked, if it was one, and `key` the primary key
/// of an index. `None` if one of the answers has not the shape.
pub fn difference(
    shape: Shape,
    index: Option<&str>,
    key: &dyn Fn(&str) -> Option<String>,
    first: &[u8],
    second: &[u8],
) -> Option<Difference> {
    let mut out = Difference::default();
    if shape == Shape::Opaque {
        return Some(out);
    }
    let read = |body| {
        let body: Value = serde_json::from_slice(body).ok()?;
        lists(shape, &body, &Keys { index, key })
    };
    let (first, second) = (read(first)?, read(second)?);
    let none = Vec::new();
    for at in 0..first.len().max(second.len()) {
        out.compare(first.get(at).unwrap_or(&none), second.get(at).unwrap_or(&none));
    }
    Some(out)
}

/// How documents are known.
struct Keys<'a> {
    index: Option<&'a str>,
    key: &'a dyn Fn(&str) -> Option<String>,
}

impl Keys<'_> {
    /// Documents of one index or, if they say so themselves, of several.
    fn items(&self, list: &Value, index: Option<&str>) -> Option<Vec<Item>> {
        let asked = index.or(self.index).and_then(|name| (self.key)(name));
        let items = list.as_array()?.iter().map(|hit| {
            let own = hit["_federation"]["indexUid"].as_str();
            let key = own.map_or_else(|| asked.clone(), |name| (self.key)(name));
            let mut item = item(hit, key.as_deref());
            if let Some(name) = own.or(index) {
                item.id = format!("{name}/{}", item.id);
            }
            item
        });
        Some(items.collect())
    }
}

fn lists(shape: Shape, body: &Value, keys: &Keys<'_>) -> Option<Vec<Vec<Item>>> {
    match shape {
        Shape::Hits => Some(vec![keys.items(&body["hits"], None)?]),
        Shape::FacetHits => {
            let hits = body["facetHits"].as_array()?;
            Some(vec![hits.iter().map(|hit| item(hit, Some("value"))).collect()])
        }
        Shape::Queries => {
            let results = body["results"].as_array()?;
            results.iter().map(|one| keys.items(&one["hits"], one["indexUid"].as_str())).collect()
        }
        Shape::Documents => Some(vec![keys.items(&body["results"], None)?]),
        Shape::Document => {
            body.as_object()?;
            let key = keys.index.and_then(|name| (keys.key)(name));
            Some(vec![vec![item(body, key.as_deref())]])
        }
        Shape::Opaque => Some(Vec::new()),
    }
}

fn item(hit: &Value, key: Option<&str>) -> Item {
    let mut content = String::new();
    canonical(hit, true, &mut content);
    let id = match key.map(|key| &hit[key]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => content.clone(),
    };
    Item { id, content }
}

/// JSON in one spelling: fields sorted, at the top without what is computed.
fn canonical(value: &Value, top: bool, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| name.as_str());
            fields.retain(|(name, _)| !(top && COMPUTED.contains(&name.as_str())));
            out.push('{');
            for (position, (name, value)) in fields.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                let _ = write!(out, "{}:", Value::from(name.as_str()));
                canonical(value, false, out);
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for (position, value) in list.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                canonical(value, false, out);
            }
            out.push(']');
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

#[cfg(test)]
mod tests;
