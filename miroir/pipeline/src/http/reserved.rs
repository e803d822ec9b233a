//! Names of Miroir's own attributes in requests.
//!
//! For a client they are names of attributes that do not exist. So they are replaced, where they name
//! attributes, by names that no index has, and what comes back says what the client said: everything
//! is answered as one node answers for any other name that nothing has. Literals, words that are searched for
//! and functions stay as they are.

use http::Method;
use miroir_core::filter;
use serde_json::Value;

use super::routes::{Action, Route};
use crate::node_errors::{hidden, names_reserved, stand_in};
use crate::query::{ClientRequest, encode, query_pairs};

/// Members of requests that are a name or a list of names.
const NAMES: [&str; 9] = [
    "sort",
    "facets",
    "distinct",
    "facetName",
    "attributesToRetrieve",
    "attributesToHighlight",
    "attributesToCrop",
    "attributesToSearchOn",
    "fields",
];

/// Settings that name no attributes.
const WORDS: [&str; 5] =
    ["stopWords", "synonyms", "dictionary", "separatorTokens", "nonSeparatorTokens"];

/// Replaces reserved names in a request. Answers whether there were any.
pub(super) fn hide(route: &Route, original: &mut ClientRequest) -> bool {
    if original.method == Method::GET {
        let Some(query) = original.query.as_deref().and_then(query_string) else { return false };
        original.query = Some(query);
        return true;
    }
    let named = |text: &[u8]| std::str::from_utf8(text).is_ok_and(names_reserved);
    if !original.is_json() || !named(&original.body) {
        return false;
    }
    let Ok(mut body) = serde_json::from_slice::<Value>(&original.body) else { return false };
    let before = body.clone();
    match route.action {
        Action::Search
        | Action::FacetSearch
        | Action::Similar
        | Action::MultiSearch
        | Action::Explain
        | Action::ExplainMulti
        | Action::Fetch
        | Action::DeleteFilter
        | Action::Edit => inside(&mut body),
        Action::SettingsChange(Some(setting)) if !WORDS.contains(&setting) => everywhere(&mut body),
        Action::SettingsChange(None) => {
            for (setting, value) in body.as_object_mut().into_iter().flatten() {
                if !WORDS.contains(&setting.as_str()) {
                    everywhere(value);
                }
            }
        }
        _ => {}
    }
    let any = body != before;
    if any {
        original.body = body.to_string().into();
    }
    any
}

fn inside(body: &mut Value) {
    for (name, value) in body.as_object_mut().into_iter().flatten() {
        match name.as_str() {
            "filter" => by_filter(value),
            "facetsByIndex" => {
                value.as_object_mut().into_iter().flatten().for_each(|(_, facets)| names(facets));
            }
            "queries" => value.as_array_mut().into_iter().flatten().for_each(inside),
            "federation" => inside(value),
            name if NAMES.contains(&name) => names(value),
            _ => {}
        }
    }
}

fn names(value: &mut Value) {
    match value {
        Value::String(name) => {
            if let Some(other) = stand_in(name) {
                *name = other;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(names),
        _ => {}
    }
}

/// One that cannot be read stays as it is: a node complains of it.
fn by_filter(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Ok(other) = filter::renamed(text, stand_in) {
                *text = other;
            }
        }
        Value::Array(members) => members.iter_mut().for_each(by_filter),
        _ => {}
    }
}

/// Settings hold names in patterns, templates, and as names of members.
fn everywhere(value: &mut Value) {
    let text = value.to_string();
    if names_reserved(&text)
        && let Ok(other) = serde_json::from_str(&hidden(&text))
    {
        *value = other;
    }
}

/// A query string with other names, if it has reserved ones.
fn query_string(query: &str) -> Option<String> {
    let mut any = false;
    let mut out = Vec::new();
    for (name, value) in query_pairs(query) {
        let other = match name.as_str() {
            "filter" => other_filter(&value),
            name if NAMES.contains(&name) => {
                let list: Vec<String> = value
                    .split(',')
                    .map(|name| match stand_in(name.trim()) {
                        Some(other) => name.replace(name.trim(), &other),
                        None => name.to_owned(),
                    })
                    .collect();
                Some(list.join(","))
            }
            _ => None,
        };
        let other = other.filter(|other| *other != value);
        any |= other.is_some();
        out.push(format!("{}={}", encode(&name), encode(&other.unwrap_or(value))));
    }
    any.then(|| out.join("&"))
}

/// In a query a filter is JSON, or the text itself.
fn other_filter(value: &str) -> Option<String> {
    match serde_json::from_str::<Value>(value) {
        Ok(mut list @ (Value::Array(_) | Value::String(_))) => {
            let before = list.clone();
            by_filter(&mut list);
            (list != before).then(|| list.to_string())
        }
        _ => filter::renamed(value, stand_in).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Router;
    use super::*;

    /// What becomes of a request: its body or query.
    fn hidden_in(method: Method, path: &str, sent: &str) -> Option<String> {
        let router = Router::default();
        let route = router.route(&method, path).unwrap();
        let mut request = ClientRequest::new(method.clone(), path);
        request.content_type = Some("application/json".to_owned());
        if method == Method::GET {
            request.query = Some(sent.to_owned());
        } else {
            request.body = sent.to_owned().into();
        }
        let any = hide(route, &mut request);
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        let now = if method == Method::GET { request.query.unwrap() } else { body };
        assert!(any || now == sent, "{now}");
        any.then_some(now)
    }

    #[test]
    fn names_are_replaced_where_they_name_attributes() {
        let search = |body: &str| hidden_in(Method::POST, "/indexes/a/search", body);
        for (sent, wanted) in [
            (
                r#"{"filter":"_miroir_shard = _miroir_shard"}"#,
                r#"{"filter":"_mir0ir_shard = _miroir_shard"}"#,
            ),
            (
                r#"{"filter":["n = 1",["'_miroir_order' EXISTS"]],"q":"_miroir_order"}"#,
                r#"{"filter":["n = 1",["'_mir0ir_order' EXISTS"]],"q":"_miroir_order"}"#,
            ),
            (
                r#"{"sort":["_miroir_order:asc","a._miroir_order:asc"],"distinct":"_miroir_shard.x"}"#,
                r#"{"sort":["_mir0ir_order:asc","a._miroir_order:asc"],"distinct":"_mir0ir_shard.x"}"#,
            ),
            (
                r#"{"attributesToCrop":["_miroir_shard:3"],"facets":["*","_miroir_updated_at"]}"#,
                r#"{"attributesToCrop":["_mir0ir_shard:3"],"facets":["*","_mir0ir_updated_at"]}"#,
            ),
        ] {
            assert_eq!(search(sent).as_deref(), Some(wanted));
        }
        for sent in [
            r#"{"filter":"n = _miroir_shard"}"#,
            r#"{"filter":"_miroir_shards = 1"}"#,
            r#"{"filter":"_miroir_shard ="}"#,
            r#"{"q":"_miroir_shard"}"#,
            r#"{"sort":["_miroir_own:asc"]}"#,
        ] {
            assert_eq!(search(sent), None, "{sent}");
        }
        let multi = r#"{"federation":{"distinct":"_miroir_shard","facetsByIndex":{"a":["_miroir_shard"]}},"queries":[{"indexUid":"a","sort":["_miroir_shard:desc"]}]}"#;
        assert_eq!(
            hidden_in(Method::POST, "/multi-search", multi),
            Some(multi.replace("_miroir_", "_mir0ir_"))
        );
        let edit = r#"{"function":"doc._miroir_shard = 1","filter":"_miroir_shard EXISTS"}"#;
        assert_eq!(
            hidden_in(Method::POST, "/indexes/a/documents/edit", edit).as_deref(),
            Some(r#"{"function":"doc._miroir_shard = 1","filter":"_mir0ir_shard EXISTS"}"#)
        );
    }

    #[test]
    fn query_strings_and_settings_have_them_too() {
        for (sent, wanted) in [
            (
                "filter=_miroir_shard%20EXISTS&q=_miroir_shard",
                "filter=_mir0ir_shard%20EXISTS&q=_miroir_shard",
            ),
            ("sort=n:asc,%20%5fmiroir_order:asc", "sort=n%3Aasc%2C%20_mir0ir_order%3Aasc"),
            ("filter=%5B%22_miroir_shard = 1%22%5D", "filter=%5B%22_mir0ir_shard%20%3D%201%22%5D"),
        ] {
            let now = hidden_in(Method::GET, "/indexes/a/search", sent);
            assert_eq!(now.as_deref(), Some(wanted));
        }
        assert_eq!(hidden_in(Method::GET, "/indexes/a/search", "q=_miroir_shard"), None);
        let settings = r#"{"sortableAttributes":["_miroir_order"],"stopWords":["_miroir_order"],"faceting":{"sortFacetValuesBy":{"_miroir_shard":"count"}}}"#;
        assert_eq!(
            hidden_in(Method::PATCH, "/indexes/a/settings", settings).as_deref(),
            Some(
                r#"{"sortableAttributes":["_mir0ir_order"],"stopWords":["_miroir_order"],"faceting":{"sortFacetValuesBy":{"_mir0ir_shard":"count"}}}"#
            )
        );
        let words = r#"["_miroir_order"]"#;
        assert_eq!(hidden_in(Method::PUT, "/indexes/a/settings/stop-words", words), None);
        assert_eq!(
            hidden_in(Method::PUT, "/indexes/a/settings/sortable-attributes", words).as_deref(),
            Some(r#"["_mir0ir_order"]"#)
        );
    }
}
