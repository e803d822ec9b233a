//! Filters: what the query string says is what the body would have said, and a search with the
//! rules of a tenant token finds exactly what both its own filter and the rules let pass. An
//! expression is read and narrowed without harm.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use http::Method;
use miroir_core::documents::IdCase;
use miroir_core::filter::{Filter, Keys, narrow};
use miroir_pipeline::query::encode;
use miroir_pipeline::operation::Operation;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::http::decode;

/// Two lines: the client's filter, and that of a search rule as JSON.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (own, rules) = text.split_once('\n').unwrap_or((text, "\"tenant = 1\""));
    query(own);
    read(own);
    if let Ok(rules) = serde_json::from_str::<&RawValue>(rules) {
        body(own, rules);
    }
}

/// What is read as an expression is written so that it is read as the same.
fn read(own: &str) {
    if let Ok(filter) = Filter::parse(own) {
        let written = filter.to_string();
        assert_eq!(Filter::parse(&written), Ok(filter), "{written}");
    }
    let keys = Keys { primary_key: Some("id"), id_case: IdCase::ANY, shards: 8 };
    if let Ok(narrowed) = narrow(Some(own), &keys, 16) {
        assert!(!narrowed.shards.is_empty());
    }
}

/// `filter` as a parameter is JSON if it is a list or a string, an expression otherwise.
fn query(own: &str) {
    let target = format!("/indexes/i/search?filter={}&limit=3", encode(own));
    let (seen, _) = decode(Method::GET, &target, b"").expect("an encoded parameter is a URL's");
    let Some(Operation::Search { search, .. }) = seen.map(|request| request.op) else {
        panic!("not a search")
    };
    let body = search.body.as_ref().expect("any text is a filter");
    let wanted = match serde_json::from_str::<Value>(own) {
        Ok(value @ (Value::Array(_) | Value::String(_))) => value,
        _ => own.into(),
    };
    assert_eq!(body.read::<Value>("filter"), Ok(Some(wanted)));
    assert_eq!(body.raw("limit"), Some("3"));
}

fn body(own: &str, rules: &RawValue) {
    let text = format!("{{\"q\":\"a\",\"filter\":{own},\"limit\":2}}");
    let (seen, _) = decode(Method::POST, "/indexes/i/search", text.as_bytes()).expect("a request");
    let mut operation = seen.expect("an operation").op;
    operation.restrict(0, rules);
    let Operation::Search { search, .. } = operation else { panic!("not a search") };
    let before = serde_json::from_str::<Map<String, Value>>(&text);
    let Some(body) = &search.body else {
        assert!(before.is_err(), "an object was not read");
        return;
    };
    // Members may repeat one another, as far as raw values go; then the last counts.
    let Ok(mut before) = before else { return };
    // Nor is a number that only looks like one, which a node refuses.
    let Ok(rules) = serde_json::from_str::<Value>(rules.get()) else { return };
    let after: Map<String, Value> =
        serde_json::from_slice(&body.to_bytes()).expect("a body stays JSON");
    // A rule whose filter is null has none.
    if rules.is_null() {
        return;
    }
    let joined = &after["filter"];
    let own = before.insert("filter".to_owned(), joined.clone()).unwrap_or_default();
    // Everything else is as it was.
    let known =
        |map: &Map<String, Value>| map.keys().cloned().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(known(&before), known(&after));
    assert!(before.iter().all(|(key, value)| after.get(key) == Some(value)));
    for salt in 0..4 {
        match (passes(&own, salt), passes(&rules, salt)) {
            (Some(own), Some(rules)) => assert_eq!(passes(joined, salt), Some(own && rules)),
            // What is no filter on either side stays none: a node refuses the search.
            (_, None) | (None, _) => assert_eq!(passes(joined, salt), None, "{joined}"),
        }
    }
}

/// Whether some document passes; each expression is true or not by its hash. `None`: no filter.
fn passes(filter: &Value, salt: u64) -> Option<bool> {
    let leaf = |value: &Value| {
        let mut hasher = DefaultHasher::new();
        (value.as_str()?, salt).hash(&mut hasher);
        Some(hasher.finish() % 3 != 0)
    };
    match filter {
        Value::Null => Some(true),
        Value::String(_) => leaf(filter),
        Value::Array(all) => all.iter().try_fold(true, |so_far, member| {
            Some(
                so_far
                    & match member {
                        Value::Array(any) => any
                            .iter()
                            .try_fold(any.is_empty(), |so_far, one| Some(so_far | leaf(one)?))?,
                        one => leaf(one)?,
                    },
            )
        }),
        _ => None,
    }
}
