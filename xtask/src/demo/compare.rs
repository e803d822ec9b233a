//! Whether two answers mean the same. Hits that no ranking rule tells apart may change places.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::Outcome;
use crate::http::Reply;

/// How far scores may be apart: they are sums of the same numbers in another order.
const SCORE_TOLERANCE: f64 = 1e-9;

/// Id and rank of each hit; hits with the same rank are tied.
pub(super) type Ranking = Vec<(String, String)>;

/// The differences of two answers to a search. `ranking` is asked only when the order differs: it
/// gives the reference's complete ranking.
pub(super) fn searches(
    reference: &Reply,
    candidate: &Reply,
    key: &str,
    ranking: impl FnOnce() -> Outcome<Ranking>,
) -> Outcome<Vec<String>> {
    let (left, right) = (reference.json(), candidate.json());
    let mut out = envelopes(reference, candidate, &left, &right, &["hits", "facetDistribution"]);
    facets(&left["facetDistribution"], &right["facetDistribution"], &mut out);
    let (Some(left), Some(right)) = (left["hits"].as_array(), right["hits"].as_array()) else {
        return Ok(out);
    };
    contents(left, right, key, &mut out);
    let (left, right) = (ids(left, key), ids(right, key));
    if left != right {
        let all = ranking()?;
        let ranks: BTreeMap<&str, &str> =
            all.iter().map(|(id, rank)| (id.as_str(), rank.as_str())).collect();
        let ranked = |ids: Vec<String>| -> Ranking {
            ids.into_iter()
                .map(|id| {
                    let rank = ranks.get(id.as_str()).copied().unwrap_or("not a hit");
                    (id, rank.to_owned())
                })
                .collect()
        };
        orders(&ranked(left), &ranked(right), &mut out);
    }
    Ok(out)
}

/// The differences of two lists of documents that are ordered by `fields`.
pub(super) fn lists(
    reference: &Reply,
    candidate: &Reply,
    key: &str,
    fields: &[&str],
) -> Vec<String> {
    let (left, right) = (reference.json(), candidate.json());
    let mut out = envelopes(reference, candidate, &left, &right, &["results"]);
    let (Some(left), Some(right)) = (left["results"].as_array(), right["results"].as_array())
    else {
        return out;
    };
    contents(left, right, key, &mut out);
    let ranked = |documents: &[Value]| -> Ranking {
        documents
            .iter()
            .map(|document| {
                let rank = fields.iter().map(|field| document[*field].to_string()).collect();
                (id(document, key), rank)
            })
            .collect()
    };
    orders(&ranked(left), &ranked(right), &mut out);
    out
}

/// The differences of two answers that have to be equal.
pub(super) fn exact(reference: &Reply, candidate: &Reply) -> Vec<String> {
    let (left, right) = (reference.json(), candidate.json());
    envelopes(reference, candidate, &left, &right, &[])
}

/// The reference's complete ranking, from a search with `showRankingScoreDetails`.
pub(super) fn ranking(reply: &Reply, key: &str) -> Ranking {
    let answer = reply.json();
    let hits = answer["hits"].as_array().map_or(&[][..], Vec::as_slice);
    let rank = |hit: &Value| hit["_rankingScoreDetails"].to_string();
    hits.iter().map(|hit| (id(hit, key), rank(hit))).collect()
}

/// Ids of hits.
pub(super) fn ids(hits: &[Value], key: &str) -> Vec<String> {
    hits.iter().map(|hit| id(hit, key)).collect()
}

fn id(document: &Value, key: &str) -> String {
    document[key].as_str().map_or_else(|| document[key].to_string(), str::to_owned)
}

/// Status, and everything beside the parts that are compared on their own.
fn envelopes(
    reference: &Reply,
    candidate: &Reply,
    left: &Value,
    right: &Value,
    apart: &[&str],
) -> Vec<String> {
    if reference.status != candidate.status {
        return vec![format!(
            "status {} instead of {}: {}",
            candidate.status,
            reference.status,
            candidate.text()
        )];
    }
    let mut out = Vec::new();
    let (Some(left), Some(right)) = (left.as_object(), right.as_object()) else {
        if left != right {
            out.push(format!("{right} instead of {left}"));
        }
        return out;
    };
    let volatile = ["processingTimeMs", "requestUid"];
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    for name in names {
        let (left, right) = (left.get(name), right.get(name));
        let free = volatile.contains(&name.as_str()) || apart.contains(&name.as_str());
        // Even of these, both or none have to be there.
        if free && left.is_some() == right.is_some() {
            continue;
        }
        if !left.zip(right).is_some_and(|(left, right)| same(left, right, name)) {
            out.push(format!("{name}: {} instead of {}", shown(right), shown(left)));
        }
    }
    out
}

fn shown(value: Option<&Value>) -> String {
    value.map_or("nothing".to_owned(), Value::to_string)
}

/// Equality of JSON, scores with a tolerance. Keys of objects may come in any order.
fn same(left: &Value, right: &Value, name: &str) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) if name == "_rankingScore" => {
            (a.as_f64().unwrap_or(f64::NAN) - b.as_f64().unwrap_or(f64::NAN)).abs()
                <= SCORE_TOLERANCE
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, name))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b, key)))
        }
        _ => left == right,
    }
}

/// Documents that both show have to be shown alike.
fn contents(left: &[Value], right: &[Value], key: &str, out: &mut Vec<String>) {
    let left: BTreeMap<String, &Value> = left.iter().map(|hit| (id(hit, key), hit)).collect();
    for hit in right {
        let id = id(hit, key);
        if let Some(expected) = left.get(&id)
            && !same(expected, hit, "")
        {
            out.push(format!("{id}: {hit} instead of {expected}"));
        }
        if hit.to_string().contains("_miroir") {
            out.push(format!("{id} shows a reserved field"));
        }
    }
}

/// Order of two pages of one ranking. At every position both have the same rank; a group of ties
/// that lies inside the page is complete in both; nobody is there twice.
fn orders(left: &[(String, String)], right: &[(String, String)], out: &mut Vec<String>) {
    if left.len() != right.len() {
        out.push(format!("{} hits instead of {}", right.len(), left.len()));
        return;
    }
    let mut seen = BTreeSet::new();
    for (position, (expected, found)) in left.iter().zip(right).enumerate() {
        if !seen.insert(&found.0) {
            out.push(format!("position {position}: {} again", found.0));
            return;
        }
        if expected.1 != found.1 {
            out.push(format!("position {position}: {} instead of {}", found.0, expected.0));
            return;
        }
    }
    let mut start = 0;
    while start < left.len() {
        let rank = &left[start].1;
        let end = start + left[start..].iter().take_while(|(_, other)| other == rank).count();
        let set = |page: &[(String, String)]| -> BTreeSet<String> {
            page[start..end].iter().map(|(id, _)| id.clone()).collect()
        };
        // A group at an edge may go on beyond it, with other members on this page.
        if start > 0 && end < left.len() && set(left) != set(right) {
            out.push(format!("positions {start} to {}: other documents", end - 1));
            return;
        }
        start = end;
    }
}

/// Distributions: exact, with their order. Where values are ordered by count, equal counts may
/// change places, and a list that was cut may end in other values of its smallest count.
fn facets(left: &Value, right: &Value, out: &mut Vec<String>) {
    let (Some(left), Some(right)) = (left.as_object(), right.as_object()) else {
        if left != right {
            out.push(format!("facetDistribution: {right} instead of {left}"));
        }
        return;
    };
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    for name in names {
        let none = Map::new();
        let values = |of: &Map<String, Value>| {
            let values = of.get(name).and_then(Value::as_object).unwrap_or(&none);
            values.iter().map(|(v, count)| (v.clone(), count.as_u64())).collect::<Vec<_>>()
        };
        let (a, b) = (values(left), values(right));
        if left.contains_key(name) != right.contains_key(name) || (a != b && !by_count(&a, &b)) {
            let at = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            let value = |list: &[(String, Option<u64>)]| {
                list.get(at).map_or("nothing".to_owned(), |(value, count)| {
                    format!("`{value}` ({})", count.unwrap_or(0))
                })
            };
            out.push(format!(
                "facet {name}, value {}: {} instead of {} ({} values instead of {})",
                at + 1,
                value(&b),
                value(&a),
                b.len(),
                a.len(),
            ));
        }
    }
}

fn by_count(left: &[(String, Option<u64>)], right: &[(String, Option<u64>)]) -> bool {
    let counts = |list: &[(String, Option<u64>)]| list.iter().map(|v| v.1).collect::<Vec<_>>();
    let (a, b) = (counts(left), counts(right));
    let least = a.last().copied();
    let certain = |list: &[(String, Option<u64>)]| -> BTreeSet<String> {
        list.iter().filter(|v| Some(v.1) != least).map(|v| v.0.clone()).collect()
    };
    a == b && a.windows(2).all(|pair| pair[0] >= pair[1]) && certain(left) == certain(right)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reply(body: &Value) -> Reply {
        Reply { status: 200, body: body.to_string().into_bytes(), own_headers: Vec::new() }
    }

    fn page(ids: &[&str]) -> Value {
        let hits: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        json!({ "hits": hits, "estimatedTotalHits": 9, "processingTimeMs": ids.len() })
    }

    /// Differences of two pages of a ranking written as `"a1 b2 c2"`: id and rank.
    fn compare(ranking: &str, left: &[&str], right: &[&str]) -> Vec<String> {
        let ranking = || {
            Ok(ranking
                .split_whitespace()
                .map(|both| (both[..1].to_owned(), both[1..].to_owned()))
                .collect())
        };
        searches(&reply(&page(left)), &reply(&page(right)), "id", ranking).unwrap()
    }

    #[test]
    fn ties_may_change_places_and_nothing_else() {
        let ranking = "a1 b2 c2 d3 e4 f4 g4";
        let none: Vec<String> = Vec::new();
        assert_eq!(compare(ranking, &["a", "b", "c", "d"], &["a", "c", "b", "d"]), none);
        // The last group goes on beyond the page.
        assert_eq!(compare(ranking, &["d", "e"], &["d", "g"]), none);
        for wrong in [
            &["b", "a", "c", "d"][..],
            &["a", "b", "b", "d"],
            &["a", "b", "c"],
            &["a", "b", "c", "x"],
            &["a", "b", "c", "e"],
        ] {
            assert_ne!(compare(ranking, &["a", "b", "c", "d"], wrong), none, "{wrong:?}");
        }
        // A group inside the page has to be complete.
        let wider = "a1 b2 c2 x2 d3";
        assert_ne!(compare(wider, &["a", "b", "c", "d"], &["a", "b", "x", "d"]), none);
    }

    #[test]
    fn totals_contents_and_reserved_fields() {
        let base = page(&["a"]);
        for (pointer, value) in [
            ("/estimatedTotalHits", json!(8)),
            ("/hits/0", json!({ "id": "a", "price": 1 })),
            ("/hits/0", json!({ "id": "a", "_miroir_shard": "x" })),
        ] {
            let mut other = base.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            let found = searches(&reply(&base), &reply(&other), "id", || Ok(Vec::new())).unwrap();
            assert!(!found.is_empty(), "{pointer}");
        }
        let mut other = base.clone();
        other["processingTimeMs"] = json!(77);
        assert_eq!(exact(&reply(&base), &reply(&other)), Vec::<String>::new());
        other.as_object_mut().unwrap().remove("processingTimeMs");
        assert_eq!(exact(&reply(&base), &reply(&other)).len(), 1);
    }

    #[test]
    fn facet_values_keep_their_order() {
        let check = |left: Value, right: Value| {
            let mut out = Vec::new();
            facets(&left, &right, &mut out);
            out.is_empty()
        };
        let f = |values: Value| json!({ "f": values });
        assert!(check(f(json!({"a": 1, "b": 2})), f(json!({"a": 1, "b": 2}))));
        assert!(!check(f(json!({"a": 1, "b": 2})), f(json!({"b": 2, "a": 1}))));
        // By count: ties may swap, and the cut may fall elsewhere among the last.
        assert!(check(f(json!({"a": 3, "b": 3, "c": 1})), f(json!({"b": 3, "a": 3, "d": 1}))));
        assert!(!check(f(json!({"a": 3, "b": 2, "c": 1})), f(json!({"a": 3, "x": 2, "c": 1}))));
        assert!(!check(f(json!({"a": 3})), json!({})));
    }

    #[test]
    fn lists_follow_their_sort_fields() {
        let list = |ids: &[(&str, u64)]| {
            let results: Vec<Value> =
                ids.iter().map(|(id, price)| json!({ "id": id, "price": price })).collect();
            reply(&json!({ "results": results, "total": 9 }))
        };
        let left = list(&[("a", 1), ("b", 2), ("c", 2), ("d", 3)]);
        let swapped = list(&[("a", 1), ("c", 2), ("b", 2), ("d", 3)]);
        assert_eq!(lists(&left, &swapped, "id", &["price"]), Vec::<String>::new());
        let wrong = list(&[("b", 2), ("a", 1), ("c", 2), ("d", 3)]);
        assert_eq!(lists(&left, &wrong, "id", &["price"]).len(), 1);
        assert_eq!(lists(&left, &wrong, "id", &[]), Vec::<String>::new());
    }
}
