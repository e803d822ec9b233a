//! Comparing two answers as far as two correct engines agree.

use serde_json::{Value, json};

use miroir_core::merge::FacetValue;

use crate::support::real::binary;
use crate::support::{Answer, Api};

/// From so many values on a facet is a tree of several levels.
const TREE: usize = 20;

/// Numbers equal within `1e-9`, everything else equal. Objects regardless of the order of keys.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            x == y || (x.as_f64().unwrap() - y.as_f64().unwrap()).abs() <= 1e-9
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len()
                && x.iter().all(|(key, value)| y.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

/// The oracle's whole ranking for a query: hits as the client would see them, and where the hits
/// begin that no rule tells apart from the hit at a position.
pub(super) struct Ranking {
    hits: Vec<Value>,
    class: Vec<usize>,
    /// All facet values.
    facets: Option<Facets>,
}

/// Hits seen, and those whose highlights differ.
#[derive(Clone, Copy, Default)]
pub(super) struct Highlights {
    pub(super) seen: u64,
    pub(super) other: u64,
    /// Queries with a better `matchType` than the oracle's.
    pub(super) exactness: usize,
    /// Queries that made the oracle panic.
    pub(super) panics: usize,
}

/// Score details as far as they tell hits apart: a place does so by its distance, not by itself.
fn ranked(details: &Value) -> Value {
    let mut details = details.clone();
    for (rule, detail) in details.as_object_mut().into_iter().flatten() {
        if rule.starts_with("_geoPoint")
            && let Some(detail) = detail.as_object_mut()
        {
            detail.shift_remove("value");
        }
    }
    details
}

/// A hit without the places in its score details.
fn placeless(hit: &Value) -> Value {
    let mut hit = hit.clone();
    if let Some(details) = hit.get_mut("_rankingScoreDetails") {
        *details = ranked(details);
    }
    hit
}

/// A hit without what depends on highlighting; `None` if nothing does.
pub(super) fn plain_text(hit: &Value, cropped: bool) -> Option<Value> {
    let mut hit = hit.as_object()?.clone();
    let positions = hit.shift_remove("_matchesPosition");
    let formatted = hit.get_mut("_formatted");
    if positions.is_none() && formatted.is_none() {
        return None;
    }
    if let Some(formatted) = formatted {
        let text = formatted.to_string().replace("<em>", "").replace("</em>", "");
        *formatted = serde_json::from_str(&text).unwrap();
        if cropped {
            formatted["body"] = Value::Null;
            formatted["title"] = Value::Null;
        }
    }
    Some(Value::Object(hit))
}

impl Ranking {
    /// `None` where the engine panics on a hit beyond the page.
    pub(super) async fn of(oracle: &Api, index: &str, query: &Value) -> Option<Self> {
        let mut whole = query.as_object().unwrap().clone();
        for key in ["offset", "page", "hitsPerPage"] {
            whole.remove(key);
        }
        let shown = |key: &str| whole.get(key) == Some(&json!(true));
        let (score, details) = (shown("showRankingScore"), shown("showRankingScoreDetails"));
        whole.insert("limit".into(), json!(100_000));
        whole.insert("showRankingScore".into(), json!(true));
        whole.insert("showRankingScoreDetails".into(), json!(true));
        let found = oracle.search(index, &Value::Object(whole)).await;
        if found.status == 500 {
            return None;
        }
        let found = found.expect(200);
        let (mut hits, mut class) = (Vec::new(), Vec::new());
        let mut last: Option<(Value, Value)> = None;
        for (at, hit) in found["hits"].as_array().unwrap().iter().enumerate() {
            let mut hit = hit.clone();
            let rank = (ranked(&hit["_rankingScoreDetails"]), hit["_rankingScore"].clone());
            let object = hit.as_object_mut().unwrap();
            if !score {
                object.shift_remove("_rankingScore");
            }
            if !details {
                object.shift_remove("_rankingScoreDetails");
            }
            hits.push(hit);
            let tied = last.as_ref() == Some(&rank);
            class.push(if tied { class[at - 1] } else { at });
            last = Some(rank);
        }
        Some(Self { hits, class, facets: distribution(&found) })
    }

    /// What is wrong with a page that begins at `offset`, given how many hits it should have.
    pub(super) fn check(
        &self,
        page: &[Value],
        offset: usize,
        expected: usize,
        cropped: bool,
        highlights: &mut Highlights,
    ) -> Option<String> {
        if page.len() != expected {
            return Some(format!("{} hits instead of {expected}", page.len()));
        }
        let mut used = vec![false; self.hits.len()];
        for (at, hit) in page.iter().enumerate() {
            let at = offset + at;
            let class = self.class[at];
            let tied = || {
                let members = class..self.hits.len();
                members.take_while(|i| self.class[*i] == class).filter(|i| !used[*i])
            };
            let text = plain_text(hit, cropped);
            highlights.seen += u64::from(text.is_some());
            let place = || {
                let hit = placeless(hit);
                tied().find(|i| same(&placeless(&self.hits[*i]), &hit))
            };
            let found = tied().find(|i| same(&self.hits[*i], hit)).or_else(place).or_else(|| {
                let text = text.as_ref()?;
                let found = tied().find(|i| {
                    plain_text(&self.hits[*i], cropped).is_some_and(|other| same(&other, text))
                });
                highlights.other += u64::from(found.is_some());
                found
            });
            let Some(found) = found else {
                return Some(format!(
                    "hit {at} is\n    {hit}\n  instead of\n    {}",
                    self.hits[at]
                ));
            };
            used[found] = true;
        }
        None
    }
}

pub(super) type Facets = Vec<(String, Vec<(String, u64)>)>;

/// What is wrong with a facet distribution, given the oracle's and its list of all values.
pub(super) fn check_facets(
    found: &Facets,
    oracle: &Facets,
    all: &Facets,
    by_count: bool,
) -> Option<String> {
    let names = |facets: &Facets| facets.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if names(found) != names(oracle) {
        return Some(format!("facets {:?} instead of {:?}", names(found), names(oracle)));
    }
    for ((name, found), (_, oracle)) in found.iter().zip(oracle) {
        let (_, all) = all.iter().find(|(other, _)| other == name)?;
        let counts = |list: &[(String, u64)]| list.iter().map(|(_, n)| *n).collect::<Vec<_>>();
        // Only fields with many values have a tree; which ones did is not to be seen from outside.
        let tree = by_count
            && (all.len() >= TREE || ["meta.pages", "number", "price"].contains(&name.as_str()));
        let equal = if tree {
            let mut unique = found.clone();
            unique.sort();
            unique.dedup();
            counts(found) == counts(oracle)
                && unique.len() == found.len()
                && found.iter().all(|value| all.contains(value))
        } else {
            found == oracle
        };
        if !equal {
            return Some(format!("facet {name}\n    {found:?}\n  instead of\n    {oracle:?}"));
        }
    }
    None
}

/// A facet distribution as lists, values as the engine tells them apart.
pub(super) fn distribution(answer: &Value) -> Option<Facets> {
    let facets = answer.get("facetDistribution")?.as_object()?;
    let list = |values: &Value| {
        let values = values.as_object().unwrap().iter();
        let normal = |value: &str| format!("{:?}", FacetValue::text(value));
        values.map(|(value, count)| (normal(value), count.as_u64().unwrap())).collect()
    };
    Some(facets.iter().map(|(name, values)| (name.clone(), list(values))).collect())
}

/// What differs between the oracle's answer to a search and another's, if anything. `distinct`: whether
/// hits are distinct, by the query or by a setting.
pub(super) fn compare_search(
    query: &Value,
    oracle: &Answer,
    ranking: Option<&Ranking>,
    other: &Answer,
    (by_count, distinct): (bool, bool),
    highlights: &mut Highlights,
) -> Option<String> {
    if oracle.status != other.status {
        return Some(format!("status {} instead of {}", other.status, oracle.status));
    }
    if oracle.status != 200 {
        return (oracle.body != other.body).then(|| "another error".to_owned());
    }
    if let Some(header) = other.header("x-miroir-degraded") {
        return Some(format!("degraded: {header}"));
    }
    let (left, right) = (&oracle.body, &other.body);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    if keys(left) != keys(right) {
        return Some(format!("keys {:?} instead of {:?}", keys(right), keys(left)));
    }
    let pages = left.get("page").is_some();
    let estimate = query.get("rankingScoreThreshold").is_some();
    // This engine's total depends on how far it looked, whatever hits score; a real one is compared.
    let uncounted = estimate && (binary().is_none() || distinct);
    // This engine looks at no hit where it has fewer than are skipped; 1.50 looks at all of them.
    let skipped = !pages && query.get("distinct").is_some() && left["hits"] == json!([]);
    for key in [
        "query",
        "limit",
        "offset",
        "estimatedTotalHits",
        "page",
        "hitsPerPage",
        "totalHits",
        "totalPages",
    ] {
        let free = (uncounted || skipped) && key.contains("otal");
        if left.get(key) != right.get(key) && !free {
            return Some(format!("{key} {:?} instead of {:?}", right.get(key), left.get(key)));
        }
    }
    let (hits, page) = (left["hits"].as_array().unwrap(), right["hits"].as_array().unwrap());
    let offset = if pages {
        let page = left["page"].as_u64().unwrap().saturating_sub(1);
        page * left["hitsPerPage"].as_u64().unwrap()
    } else {
        left["offset"].as_u64().unwrap()
    };
    let ranking = ranking.expect("the oracle answered");
    let cropped = query.get("attributesToCrop").is_some();
    if let Some(wrong) = ranking.check(page, offset as usize, hits.len(), cropped, highlights) {
        return Some(wrong);
    }
    if estimate {
        return None;
    }
    if let (Some(a), Some(b)) = (distribution(left), distribution(right)) {
        let all = ranking.facets.as_ref().expect("the oracle counted");
        if let Some(wrong) = check_facets(&b, &a, all, by_count) {
            return Some(wrong);
        }
    }
    let (a, b) = (left.get("facetStats"), right.get("facetStats"));
    if !same(a.unwrap_or(&Value::Null), b.unwrap_or(&Value::Null)) {
        return Some(format!("facet stats {b:?} instead of {a:?}"));
    }
    None
}
