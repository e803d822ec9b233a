//! The filters a fake node understands: `a = b`, `a != b`, `a IN ['x','y']`, `a NOT IN ['x']`, joined
//! by `AND`, and arrays of them (outer: all, inner: any).

use serde_json::{Map, Value};

/// Whether a document passes. `None` for a filter this node does not understand.
pub(super) fn passes(filter: &Value, document: &Map<String, Value>) -> Option<bool> {
    match filter {
        Value::Null => Some(true),
        Value::String(text) => expression(text, document),
        Value::Array(all) => {
            let mut out = true;
            for member in all {
                out &= match member {
                    Value::Array(any) => {
                        let mut found = false;
                        for one in any {
                            found |= expression(one.as_str()?, document)?;
                        }
                        found
                    }
                    other => expression(other.as_str()?, document)?,
                };
            }
            Some(out)
        }
        _ => None,
    }
}

/// The attributes a filter names.
pub(super) fn attributes(filter: &Value) -> Vec<String> {
    match filter {
        Value::String(text) => text
            .split(" AND ")
            .filter_map(|part| {
                let field = part.split_once(" NOT IN ").or_else(|| part.split_once(" IN "));
                let field = field.or_else(|| part.split_once("!="));
                field.or_else(|| part.split_once('=')).map(|(field, _)| unquote(field).to_owned())
            })
            .collect(),
        Value::Array(list) => list.iter().flat_map(attributes).collect(),
        _ => Vec::new(),
    }
}

fn unquote(text: &str) -> &str {
    let text = text.trim();
    let inside = |quote: char| text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote));
    inside('\'').or_else(|| inside('"')).unwrap_or(text)
}

fn equals(document: &Map<String, Value>, field: &str, wanted: &str) -> bool {
    let same = |value: &Value| match value {
        Value::String(text) => text.to_lowercase() == wanted.to_lowercase(),
        Value::Number(number) => number.to_string() == wanted,
        Value::Bool(flag) => flag.to_string() == wanted,
        _ => false,
    };
    match document.get(unquote(field)) {
        Some(Value::Array(list)) => list.iter().any(same),
        Some(value) => same(value),
        None => false,
    }
}

fn one_of(document: &Map<String, Value>, field: &str, list: &str) -> Option<bool> {
    let list = list.trim().strip_prefix('[')?.strip_suffix(']')?;
    Some(list.split(',').any(|value| equals(document, field, unquote(value))))
}

fn expression(text: &str, document: &Map<String, Value>) -> Option<bool> {
    let mut out = true;
    for part in text.split(" AND ") {
        out &= if let Some((field, list)) = part.split_once(" NOT IN ") {
            !one_of(document, field, list)?
        } else if let Some((field, list)) = part.split_once(" IN ") {
            one_of(document, field, list)?
        } else if let Some((field, value)) = part.split_once("!=") {
            !equals(document, field, unquote(value))
        } else {
            let (field, value) = part.split_once('=')?;
            equals(document, field, unquote(value))
        };
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_filter_matches_as_on_a_node() {
        let document = json!({"a": "x", "n": 3, "l": ["p", "q"]});
        let document = document.as_object().unwrap();
        for (filter, expected) in [
            (json!(null), Some(true)),
            (json!("a = x"), Some(true)),
            (json!("a = 'y'"), Some(false)),
            (json!("\"n\" = 3 AND a != y"), Some(true)),
            (json!("a IN ['y','x']"), Some(true)),
            (json!("a NOT IN ['y','x']"), Some(false)),
            (json!("b NOT IN ['y','x']"), Some(true)),
            (json!(["a = x", ["n = 4", "l = q"]]), Some(true)),
            (json!(["a = x", "n = 4"]), Some(false)),
            (json!([]), Some(true)),
            (json!("nonsense"), None),
        ] {
            assert_eq!(passes(&filter, document), expected, "{filter}");
        }
    }
}
