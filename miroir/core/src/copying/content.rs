//! What a document is worth in a comparison: one number for everything that replicas must agree on.

use serde_json::{Map, Value};
use twox_hash::XxHash3_64;

use crate::documents::{ORDER, SHARD};

/// Hash of what a document says.
pub type Content = u64;

/// The field that nodes answer vectors in.
const VECTORS: &str = "_vectors";

/// Hash of an id.
pub fn id_hash(id: &str) -> u64 {
    XxHash3_64::oneshot(id.as_bytes())
}

/// Hash of a document: the order of keys does not matter, numbers count by value, the shard's field
/// is left out. Vectors that a client gave count; of those that nodes generate only whether there are
/// some, since each node calls the embedder for itself.
pub fn content(document: &Map<String, Value>) -> Content {
    let mut bytes = Vec::with_capacity(256);
    let left_out = |key: &str| key == SHARD || key == ORDER;
    let mut fields: Vec<_> = document.iter().filter(|(key, _)| !left_out(key)).collect();
    fields.sort_by_key(|(key, _)| *key);
    for (key, value) in fields {
        text(key, &mut bytes);
        match value {
            Value::Object(embedders) if key == VECTORS => vectors(embedders, &mut bytes),
            value => write(value, &mut bytes),
        }
    }
    XxHash3_64::oneshot(&bytes)
}

fn vectors(embedders: &Map<String, Value>, out: &mut Vec<u8>) {
    let mut all: Vec<_> = embedders.iter().collect();
    all.sort_by_key(|(name, _)| *name);
    for (name, value) in all {
        text(name, out);
        let generated = value.get("regenerate") == Some(&Value::Bool(true));
        if generated {
            let list = value.get("embeddings").and_then(Value::as_array);
            out.push(if list.is_none_or(Vec::is_empty) { b'0' } else { b'1' });
        } else {
            write(value, out);
        }
    }
    out.push(b'}');
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(true) => out.push(b't'),
        Value::Bool(false) => out.push(b'f'),
        Value::Number(number) => {
            if let Some(number) = number.as_i64() {
                out.push(b'i');
                out.extend_from_slice(&number.to_le_bytes());
            } else if let Some(number) = number.as_u64() {
                out.push(b'u');
                out.extend_from_slice(&number.to_le_bytes());
            } else {
                real(number.as_f64().unwrap_or(f64::NAN), out);
            }
        }
        Value::String(string) => text(string, out),
        Value::Array(list) => {
            out.push(b'[');
            for value in list {
                write(value, out);
            }
            out.push(b']');
        }
        Value::Object(object) => {
            out.push(b'{');
            let mut fields: Vec<_> = object.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            for (key, value) in fields {
                text(key, out);
                write(value, out);
            }
            out.push(b'}');
        }
    }
}

/// Largest power of two below which every whole number is a float.
const WHOLE: f64 = 9_007_199_254_740_992.0;

fn real(number: f64, out: &mut Vec<u8>) {
    if number.fract() == 0.0 && number.abs() < WHOLE {
        out.push(b'i');
        out.extend_from_slice(&(number as i64).to_le_bytes());
    } else {
        out.push(b'd');
        out.extend_from_slice(&number.to_bits().to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Content {
        content(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn documents_are_equal_by_what_they_say() {
        let same = [
            r#"{"id": 1, "a": {"x": 1, "y": [2.5, "z"]}}"#,
            r#"{"a": {"y": [25e-1, "z"], "x": 1.0}, "id": 1}"#,
            r#"{"id": 1e0, "_miroir_shard": "q", "a": {"x": 1, "y": [2.5, "z"]}}"#,
        ];
        for text in same {
            assert_eq!(of(text), of(same[0]), "{text}");
        }
        let others = [
            r#"{"id": 1, "a": {"x": 1, "y": ["z", 2.5]}}"#,
            r#"{"id": 1, "a": {"x": "1", "y": [2.5, "z"]}}"#,
            r#"{"id": 1, "a": {"x": 1, "y": [2.5, "z"], "n": null}}"#,
            r#"{"id": 1, "a": {"x": 1}, "y": [2.5, "z"]}"#,
            r#"{"id": 1, "_miroir_expires_at": 5, "a": {"x": 1, "y": [2.5, "z"]}}"#,
        ];
        for text in others {
            assert_ne!(of(text), of(same[0]), "{text}");
        }
    }

    #[test]
    fn given_vectors_count_and_generated_ones_by_presence() {
        let with = |vectors: &str| of(&format!(r#"{{"id": 1, "_vectors": {vectors}}}"#));
        let given = r#"{"e": {"embeddings": [[0.1]], "regenerate": false}}"#;
        let made = r#"{"e": {"embeddings": [[0.1]], "regenerate": true}}"#;
        assert_ne!(with(given), with(&given.replace("0.1", "0.2")));
        assert_eq!(with(made), with(&made.replace("0.1", "0.2")));
        assert_ne!(with(made), with(&made.replace("[[0.1]]", "[]")));
        assert_ne!(with(made), with(given));
    }
}
