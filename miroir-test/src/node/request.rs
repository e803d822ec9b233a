//! A request to a fake node.

use bytes::Bytes;
use http::{Method, StatusCode};
use miroir_pipeline::query::query_pairs;
use serde_json::{Map, Value};

use super::errors::error;

/// A request, taken apart.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Method.
    pub method: Method,
    /// Path, from the first `/`.
    pub path: String,
    /// Query.
    pub query: String,
    /// Body.
    pub body: Bytes,
    /// Whether who sent it says that it changes nothing.
    pub reads: bool,
}

pub(super) fn bad(code: &str, message: &str) -> (StatusCode, Value) {
    (StatusCode::BAD_REQUEST, error(code, message))
}

impl Incoming {
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        query_pairs(&self.query).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(super) fn json(&self) -> Result<Value, (StatusCode, Value)> {
        serde_json::from_slice(&self.body)
            .map_err(|_| bad("malformed_payload", "The payload is not valid JSON."))
    }

    pub(super) fn object(&self) -> Result<Map<String, Value>, (StatusCode, Value)> {
        match self.json()? {
            Value::Object(map) => Ok(map),
            _ => Err(bad("bad_request", "Invalid value: expected an object.")),
        }
    }
}
