//! What one node would refuse in a document while it indexes, found before any node is called.

use miroir_api::meili::ApiError;
use serde_json::{Map, Value};

use super::ids::DocumentId;
use super::payload::RawDocument;
use super::scan;

/// Names of top-level fields that one payload, and one index, may hold. Meilisearch's message says
/// 65,535 but it accepts one more.
pub(super) const MAX_FIELDS: usize = 65_536;

/// Why a node would fail the task of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFault {
    code: &'static str,
    message: String,
    /// Faults found while indexing name the index, those found while reading the payload do not.
    names_index: bool,
}

impl TaskFault {
    pub(super) fn indexing(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), names_index: true }
    }

    pub(super) fn payload(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), names_index: false }
    }

    pub(super) fn internal(error: &serde_json::Error) -> Self {
        Self::indexing("internal", format!("internal: {error}."))
    }

    pub(super) fn too_many_fields() -> Self {
        let message = "A document cannot contain more than 65,535 fields.";
        Self::payload("max_fields_limit_exceeded", message)
    }

    /// The error of the task, in the words of a node that knows the index by this name.
    #[must_use]
    pub fn into_error(self, index: &str) -> ApiError {
        if self.names_index {
            ApiError::new(self.code, format!("Index `{index}`: {}", self.message))
        } else {
            ApiError::new(self.code, self.message)
        }
    }
}

/// The last top-level member with this name.
pub(super) fn last<'a>(doc: &'a RawDocument, name: &str) -> Option<&'a [u8]> {
    scan::members(&doc.bytes).filter(|member| member.is(name)).last().map(|member| member.value)
}

/// Checks that one document alone has not too many fields.
///
/// # Errors
/// `max_fields_limit_exceeded` above 65,535 different names, as a node fails the task.
pub fn check_fields(doc: &RawDocument) -> Result<(), TaskFault> {
    let names: std::collections::HashSet<_> =
        scan::members(&doc.bytes).map(|member| member.name()).collect();
    if names.len() > MAX_FIELDS { Err(TaskFault::too_many_fields()) } else { Ok(()) }
}

/// Checks `_geo`. Nodes look at it only where the index can filter or sort by `_geo`.
///
/// # Errors
/// `invalid_document_geo_field` if it is neither `null` nor an object of two finite numbers, `lat` and
/// `lng`, or their text; `internal` if it is no JSON that a node can read.
pub fn check_geo(doc: &RawDocument, id: &DocumentId) -> Result<(), TaskFault> {
    last(doc, "_geo").map_or(Ok(()), |value| geo(value, id))
}

pub(super) fn geo(value: &[u8], id: &DocumentId) -> Result<(), TaskFault> {
    let fault = |text: String| Err(TaskFault::indexing("invalid_document_geo_field", text));
    let mut geo: Map<String, Value> = match serde_json::from_slice(value) {
        Ok(Value::Null) => return Ok(()),
        Ok(Value::Object(map)) => map,
        Ok(other) => {
            return fault(format!(
                "The `_geo` field in the document with the id: `\"{id}\"` is not an object. Was \
                 expecting an object with the `_geo.lat` and `_geo.lng` fields but instead got \
                 `{other}`."
            ));
        }
        Err(error) => return Err(TaskFault::internal(&error)),
    };
    // `swap_remove` also decides the order in which unexpected fields are listed.
    let (lat, lng) = match (geo.swap_remove("lat"), geo.swap_remove("lng")) {
        (Some(lat), Some(lng)) => (lat, lng),
        (Some(_), None) => {
            return fault(format!(
                "Could not find longitude in the document with the id: `\"{id}\"`. Was expecting a \
                 `_geo.lng` field."
            ));
        }
        (None, Some(_)) => {
            return fault(format!(
                "Could not find latitude in the document with the id: `\"{id}\"`. Was expecting a \
                 `_geo.lat` field."
            ));
        }
        (None, None) => {
            return fault(format!(
                "Could not find latitude nor longitude in the document with the id: `\"{id}\"`. Was \
                 expecting `_geo.lat` and `_geo.lng` fields."
            ));
        }
    };
    if !geo.is_empty() {
        let rest = Value::Object(geo);
        return fault(format!(
            "The `_geo` field in the document with the id: `\"{id}\"` contains the following \
             unexpected fields: `{rest}`."
        ));
    }
    match (is_finite(&lat), is_finite(&lng)) {
        (true, true) => Ok(()),
        (true, false) => fault(format!(
            "Could not parse longitude in the document with the id: `\"{id}\"`. Was expecting a \
             finite number but instead got `{lng}`."
        )),
        (false, true) => fault(format!(
            "Could not parse latitude in the document with the id: `\"{id}\"`. Was expecting a \
             finite number but instead got `{lat}`."
        )),
        (false, false) => fault(format!(
            "Could not parse latitude nor longitude in the document with the id: `\"{id}\"`. Was \
             expecting finite numbers but instead got `{lat}` and `{lng}`."
        )),
    }
}

/// A number, or a string that is one.
fn is_finite(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(f64::is_finite),
        Value::String(text) => text.parse::<f64>().is_ok_and(f64::is_finite),
        _ => false,
    }
}

/// Checks that a node can read every value: nesting of at most 127, whole surrogate pairs, numbers
/// within a float's range. Payloads that violate this are accepted, and then fail as a task.
///
/// # Errors
/// `internal`, in the words of a node's parser, for the first value that it cannot read.
pub fn check_values(doc: &RawDocument) -> Result<(), TaskFault> {
    let members: Vec<_> = scan::members(&doc.bytes).collect();
    for (index, member) in members.iter().enumerate() {
        let name = member.name();
        if !member.doubtful
            // Nodes read these two for what they are, or not at all.
            || matches!(&*name, b"_geo" | b"_vectors" | b"_geojson")
            // Only the last value of a key is read.
            || members[index + 1..].iter().any(|later| later.name() == name)
        {
            continue;
        }
        serde_json::from_slice::<Value>(member.value).map_err(|e| TaskFault::internal(&e))?;
    }
    Ok(())
}
