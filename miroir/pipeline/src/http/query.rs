//! Query strings, and requests whose parameters are in one.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::query::RawObject;
use crate::query::query_pairs;
#[cfg(test)]
use crate::query::{decode, encode};

fn list(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split(',').collect() }
}

/// Splits a `sort` parameter as a node does: at commas, but for those of a place, which ends with the
/// first part that says its direction. Quotes around all of it and blanks around parts are left out; an
/// empty part stays, so that a node can say what is wrong with it.
fn sort_list(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut open = false;
    for part in text.trim_matches('"').split(',').map(str::trim) {
        match out.last_mut().filter(|_| open && !part.starts_with("_geoPoint(")) {
            Some(place) => {
                place.push(',');
                place.push_str(part);
                open = !(part.ends_with("):asc") || part.ends_with("):desc"));
            }
            None => {
                open = part.starts_with("_geoPoint(");
                out.push(part.to_owned());
            }
        }
    }
    out
}

pub(super) fn flag(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Whether nothing but texts are in lists.
fn is_text(value: &Value) -> bool {
    match value {
        Value::String(_) => true,
        Value::Array(list) => list.iter().all(is_text),
        _ => false,
    }
}

/// A filter parameter is JSON if it reads as a JSON array or string, and an expression otherwise.
/// Numbers in it stay as they are written: read and printed, they may become others.
fn filter(text: &str) -> Option<Box<RawValue>> {
    let json = match serde_json::from_str::<Value>(text) {
        // Written anew, names in it are as a node reads them: `\u005f` is `_`.
        Ok(value) if is_text(&value) => serde_json::value::to_raw_value(&value),
        Ok(Value::Array(_)) => serde_json::from_str(text),
        _ => serde_json::value::to_raw_value(text),
    };
    json.ok()
}

/// The `POST` form of a `GET` search. `None`: a node has to comment on it.
pub(super) fn search_body(query: &str) -> Option<RawObject> {
    let mut out = RawObject::default();
    let (mut embedder, mut ratio) = (None, None);
    for (key, value) in query_pairs(query) {
        match key.as_str() {
            "q" | "cropMarker" | "highlightPreTag" | "highlightPostTag" | "matchingStrategy"
            | "distinct" => out.set(&key, &value),
            "offset" | "limit" | "page" | "hitsPerPage" | "cropLength" => {
                out.set(&key, &value.parse::<usize>().ok()?);
            }
            "attributesToRetrieve"
            | "attributesToCrop"
            | "attributesToHighlight"
            | "facets"
            | "attributesToSearchOn"
            | "locales" => out.set(&key, &list(&value)),
            "showMatchesPosition"
            | "showRankingScore"
            | "showRankingScoreDetails"
            | "retrieveVectors"
            | "showPerformanceDetails"
            | "useNetwork" => {
                out.set(&key, &flag(&value)?);
            }
            "rankingScoreThreshold" => out.set(&key, &value.parse::<f64>().ok()?),
            "sort" => out.set(&key, &sort_list(&value)),
            "filter" => out.set_raw(&key, filter(&value)?),
            "vector" => {
                let numbers: Option<Vec<f32>> =
                    list(&value).into_iter().map(|n| n.trim().parse().ok()).collect();
                out.set(&key, &numbers?);
            }
            "hybridEmbedder" => embedder = Some(value),
            "hybridSemanticRatio" => ratio = Some(value.parse::<f32>().ok()?),
            _ => return None,
        }
    }
    match (embedder, ratio) {
        (Some(embedder), ratio) => out.set(
            "hybrid",
            &serde_json::json!({"embedder": embedder, "semanticRatio": ratio.unwrap_or(0.5)}),
        ),
        (None, Some(_)) => return None,
        (None, None) => {}
    }
    Some(out)
}

/// The `POST` form of `GET …/similar`. `None`: a node has to comment on it.
pub(super) fn similar_body(query: &str) -> Option<RawObject> {
    let mut out = RawObject::default();
    for (key, value) in query_pairs(query) {
        match key.as_str() {
            "id" | "embedder" => out.set(&key, &value),
            "offset" | "limit" => out.set(&key, &value.parse::<usize>().ok()?),
            "attributesToRetrieve" => out.set(&key, &list(&value)),
            "retrieveVectors"
            | "showRankingScore"
            | "showRankingScoreDetails"
            | "showPerformanceDetails" => out.set(&key, &flag(&value)?),
            "rankingScoreThreshold" => out.set(&key, &value.parse::<f64>().ok()?),
            "filter" => out.set_raw(&key, filter(&value)?),
            _ => return None,
        }
    }
    Some(out)
}

/// The `POST …/fetch` form of `GET …/documents`. `None`: a node has to comment on it.
pub(super) fn list_body(query: &str) -> Option<RawObject> {
    let mut out = RawObject::default();
    for (key, value) in query_pairs(query) {
        match key.as_str() {
            "offset" | "limit" => out.set(&key, &value.parse::<usize>().ok()?),
            "fields" if value == "*" => {}
            "fields" | "ids" => out.set(&key, &list(&value)),
            // A node comments on an empty one.
            "sort" if value.is_empty() => return None,
            "sort" => out.set(&key, &sort_list(&value)),
            "retrieveVectors" => out.set(&key, &flag(&value)?),
            "filter" => out.set_raw(&key, filter(&value)?),
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_are_split_as_a_node_splits_them() {
        for (text, parts) in [
            ("a:asc", &["a:asc"][..]),
            (" a:asc , b:desc ", &["a:asc", "b:desc"]),
            ("\"a:asc,b:desc\"", &["a:asc", "b:desc"]),
            ("_geoPoint(1,2):asc", &["_geoPoint(1,2):asc"]),
            ("_geoPoint(1, 2):asc,p:desc", &["_geoPoint(1,2):asc", "p:desc"]),
            ("p:desc,_geoPoint(1,2):desc,q:asc", &["p:desc", "_geoPoint(1,2):desc", "q:asc"]),
            // Whatever comes before its direction is part of the place.
            ("_geoPoint(1,2,p:asc,3):asc,q", &["_geoPoint(1,2,p:asc,3):asc", "q"]),
            ("_geoPoint(1,_geoPoint(2,3):asc", &["_geoPoint(1", "_geoPoint(2,3):asc"]),
            ("a(b,c):asc", &["a(b", "c):asc"]),
            ("a:asc,", &["a:asc", ""]),
            (",a:asc", &["", "a:asc"]),
            ("", &[""]),
        ] {
            assert_eq!(sort_list(text), parts, "{text}");
        }
    }

    #[test]
    fn get_searches_become_posts() {
        let body = search_body(
            "q=a%20b+c&limit=3&filter=a%20%3D%201&sort=_geoPoint(1,%202):asc,p:desc&facets=x,y\
             &showRankingScore=true",
        )
        .unwrap();
        let value: Value = serde_json::from_slice(&body.to_bytes()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "q": "a b c", "limit": 3, "filter": "a = 1",
                "sort": ["_geoPoint(1,2):asc", "p:desc"], "facets": ["x", "y"],
                "showRankingScore": true,
            })
        );
        // What is a list already stays as it is written.
        let body = search_body("filter=%20[%22a%22,66666666666666666666666666666666666]").unwrap();
        let raw = body.raw("filter");
        assert_eq!(raw, Some("[\"a\",66666666666666666666666666666666666]"));
        // Names in a list are read, however they are spelt.
        let body = search_body("filter=[%22_miroir%5Cu005fshard%20EXISTS%22]").unwrap();
        assert_eq!(body.raw("filter"), Some("[\"_miroir_shard EXISTS\"]"));
        assert!(search_body("limit=x").is_none());
        assert!(search_body("nope=1").is_none());
    }

    #[test]
    fn the_last_value_of_a_repeated_parameter_counts() {
        assert_eq!(
            query_pairs("a=1&b=2&a=&%61=3"),
            [("a".to_owned(), "3".to_owned()), ("b".to_owned(), "2".to_owned())]
        );
        let body = search_body("limit=x&showRankingScore=7&limit=2&showRankingScore=true").unwrap();
        assert_eq!(&body.to_bytes()[..], br#"{"limit":2,"showRankingScore":true}"#);
        assert!(search_body("limit=2&limit=x").is_none());
    }

    #[test]
    fn encoding_round_trips() {
        for text in ["a b/ü%", "", "+&="] {
            assert_eq!(decode(&encode(text), true), text);
        }
        assert_eq!(decode("%zz%4", true), "%zz%4");
    }
}
