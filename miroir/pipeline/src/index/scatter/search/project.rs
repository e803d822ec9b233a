//! The last touches to a merged answer.

use bytes::Bytes;
use serde_json::{Value, json};

/// Adds a key to a JSON object.
pub(in crate::index::scatter) fn append(body: &Bytes, key: &str, value: &Value) -> Bytes {
    let open = body.strip_suffix(b"}").unwrap_or(body);
    Bytes::from([open, format!(",\"{key}\":{value}}}").as_bytes()].concat())
}

/// Hides what tells of attributes a client may not see: positions of matches in them, and the values
/// hits were sorted by.
pub(crate) fn project(body: &Bytes, displayed: &[String]) -> Bytes {
    let Ok(mut answer) = serde_json::from_slice::<Value>(body) else { return body.clone() };
    let shown = |name: &str| {
        displayed.iter().any(|d| {
            name == d || name.strip_prefix(d.as_str()).is_some_and(|rest| rest.starts_with('.'))
        })
    };
    for hit in answer["hits"].as_array_mut().into_iter().flatten() {
        if let Some(positions) = hit.get_mut("_matchesPosition").and_then(Value::as_object_mut) {
            positions.retain(|name, _| shown(name));
        }
        if let Some(details) = hit.get_mut("_rankingScoreDetails").and_then(Value::as_object_mut) {
            let hidden = |key: &str| {
                let field = key.strip_suffix(":asc").or_else(|| key.strip_suffix(":desc"));
                field.is_some_and(|field| !field.starts_with("_geoPoint(") && !shown(field))
            };
            *details = std::mem::take(details)
                .into_iter()
                .map(|(key, value)| {
                    if !hidden(&key) {
                        return (key, value);
                    }
                    let order = value["order"].clone();
                    (format!("<hidden-rule-{order}>"), json!({"order": order, "value": "<hidden>"}))
                })
                .collect();
        }
    }
    serde_json::to_vec(&answer).map_or_else(|_| body.clone(), Bytes::from)
}
