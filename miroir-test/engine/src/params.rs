//! Reading of query strings and JSON bodies, with Meilisearch's error texts for wrong types.

use serde_json::{Map, Value};

use super::errors::ApiError;

/// A decoded query string, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueryString {
    pairs: Vec<(String, String)>,
    raw: String,
}

impl QueryString {
    /// Splits and decodes a query string.
    pub(crate) fn parse(raw: &str) -> Self {
        let pairs = raw
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (percent_decode(key, true), percent_decode(value, true))
            })
            .collect();
        Self { pairs, raw: raw.to_owned() }
    }

    /// The text as it came.
    pub(crate) fn raw(&self) -> &str {
        &self.raw
    }

    /// All pairs.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// The last value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A comma-separated list.
    pub(crate) fn list(&self, key: &str) -> Option<Vec<String>> {
        self.get(key).map(split_list)
    }

    /// A boolean.
    pub(crate) fn bool(&self, key: &str, code: &str) -> Result<Option<bool>, ApiError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(value) => Err(ApiError::new(
                code,
                format!(
                    "Invalid value in parameter `{key}`: could not parse `{value}` as a boolean, expected either `true` or `false`"
                ),
            )),
        }
    }

    /// A number.
    pub(crate) fn number<T: std::str::FromStr>(
        &self,
        key: &str,
        code: &str,
    ) -> Result<Option<T>, ApiError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => value.parse().map(Some).map_err(|_| {
                ApiError::new(
                    code,
                    format!("Invalid value in parameter `{key}`: could not parse `{value}` as a positive integer"),
                )
            }),
        }
    }

    /// Refuses parameters outside of `allowed`.
    pub(crate) fn only(&self, allowed: &[&str]) -> Result<(), ApiError> {
        for (key, _) in &self.pairs {
            if !allowed.contains(&key.as_str()) {
                return Err(ApiError::new(
                    "bad_request",
                    format!("Unknown parameter `{key}`: expected one of {}", quoted(allowed)),
                ));
            }
        }
        Ok(())
    }
}

/// Names between back quotes, separated by commas.
pub(crate) fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Splits at commas that are not inside parentheses, so that `_geoPoint(1,2):asc` stays whole.
pub(crate) fn split_list(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut depth = 0_u32;
    let mut current = String::new();
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    parts.push(current);
    parts.retain(|part| !part.is_empty());
    parts
}

/// Decodes `%XX` (and `+` in query strings).
pub(crate) fn percent_decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match hex {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if plus && bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Parses a JSON body into an object.
pub(crate) fn json_object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match json_value(body)? {
        Value::Object(map) => Ok(map),
        other => Err(ApiError::new(
            "bad_request",
            format!("Invalid value type: expected an object, but found {}", describe(&other)),
        )),
    }
}

/// Parses a JSON body.
pub(crate) fn json_value(body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Err(ApiError::new("missing_payload", "A json payload is missing."));
    }
    serde_json::from_slice(body).map_err(|error| {
        ApiError::new(
            "malformed_payload",
            format!("The json payload provided is malformed. `{error}`."),
        )
    })
}

/// A value with its type, as in "a string: `\"x\"`".
pub(crate) fn describe(value: &Value) -> String {
    let kind = match value {
        Value::Null => return "null".to_owned(),
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_u64() => "a positive integer",
        Value::Number(number) if number.is_i64() => "a negative integer",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    format!("{kind}: `{value}`")
}

/// The error for a value of the wrong type.
pub(crate) fn wrong_type(code: &str, field: &str, expected: &str, value: &Value) -> ApiError {
    ApiError::new(
        code,
        format!(
            "Invalid value type at `.{field}`: expected {expected}, but found {}",
            describe(value)
        ),
    )
}

/// A JSON object being consumed field by field.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
}

impl Fields {
    /// Wraps an object and refuses fields outside of `allowed` (an empty list allows all).
    pub(crate) fn new(map: Map<String, Value>, allowed: &[&str]) -> Result<Self, ApiError> {
        if !allowed.is_empty()
            && let Some(key) = map.keys().find(|key| !allowed.contains(&key.as_str()))
        {
            return Err(ApiError::new(
                "bad_request",
                format!("Unknown field `{key}`: expected one of {}", quoted(allowed)),
            ));
        }
        Ok(Self { map })
    }

    /// Takes a field; null counts as absent.
    pub(crate) fn value(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// Takes a string.
    pub(crate) fn string(&mut self, key: &str, code: &str) -> Result<Option<String>, ApiError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(code, key, "a string", &other)),
        }
    }

    /// Takes a boolean, false when absent.
    pub(crate) fn bool(&mut self, key: &str, code: &str) -> Result<bool, ApiError> {
        match self.value(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(wrong_type(code, key, "a boolean", &other)),
        }
    }

    /// Takes a non-negative integer.
    pub(crate) fn usize(&mut self, key: &str, code: &str) -> Result<Option<usize>, ApiError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(Some(usize::try_from(number).unwrap_or(usize::MAX))),
                None => Err(wrong_type(code, key, "a positive integer", &value)),
            },
        }
    }

    /// Takes a number.
    pub(crate) fn f64(&mut self, key: &str, code: &str) -> Result<Option<f64>, ApiError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(wrong_type(code, key, "a number", &value)),
            },
        }
    }

    /// Takes a list of strings.
    pub(crate) fn strings(
        &mut self,
        key: &str,
        code: &str,
    ) -> Result<Option<Vec<String>>, ApiError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => string_list(&value, key, code).map(Some),
        }
    }
}

/// Reads a list of strings.
pub(crate) fn string_list(value: &Value, key: &str, code: &str) -> Result<Vec<String>, ApiError> {
    let Value::Array(items) = value else {
        return Err(wrong_type(code, key, "an array", value));
    };
    items
        .iter()
        .enumerate()
        .map(|(at, item)| match item {
            Value::String(text) => Ok(text.clone()),
            other => Err(wrong_type(code, &format!("{key}[{at}]"), "a string", other)),
        })
        .collect()
}
