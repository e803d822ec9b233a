//! The `_geojson` field, which nodes read where the index can filter by it.

use serde_json::{Map, Value};

use super::check::{TaskFault, last};
use super::payload::RawDocument;

/// Checks that `_geojson` is GeoJSON as the parser in Meilisearch takes it. Nodes look at it only
/// where the index can filter by `_geojson`.
///
/// # Errors
/// `invalid_document_geo_field` for the first thing that the parser of a node does not take, in its
/// words.
pub fn check_geojson(doc: &RawDocument) -> Result<(), TaskFault> {
    last(doc, "_geojson").map_or(Ok(()), geojson)
}

pub(super) fn geojson(value: &[u8]) -> Result<(), TaskFault> {
    let value: Value = serde_json::from_slice(value)
        .map_err(|error| bad(format!("Error while deserializing JSON: {error}")))?;
    let object = object(&value)?;
    match object.get("type").and_then(Value::as_str) {
        None => Err(unknown("type")),
        Some("Feature") => {
            feature(object)?;
            if object.get("geometry").is_some_and(Value::is_null) {
                // Id, bounding box and foreign members are left out of the text.
                let properties = object.get("properties").unwrap_or(&Value::Null);
                return Err(bad(format!(
                    "Attempted to a convert a feature without a geometry into a \
                     geo_types::Geometry: `{{\"type\":\"Feature\",\"geometry\":null,\
                     \"properties\":{properties}}}`"
                )));
            }
            rings(object)
        }
        Some("FeatureCollection") => {
            bbox(object)?;
            owned_list(property(object, "features")?)?.iter().try_for_each(|item| {
                let item = self::object(item)?;
                match kind(item)? {
                    "Feature" => feature(item),
                    other => Err(bad(format!("Expected a Feature mapping, but got a `{other}`"))),
                }
            })?;
            rings(object)
        }
        Some(
            "Point" | "MultiPoint" | "LineString" | "MultiLineString" | "Polygon" | "MultiPolygon"
            | "GeometryCollection",
        ) => {
            geometry(object)?;
            rings(object)
        }
        Some(_) => {
            Err(bad("Expected a Feature, FeatureCollection, or Geometry, but got an empty type"))
        }
    }
}

fn bad(text: impl Into<String>) -> TaskFault {
    TaskFault::indexing("invalid_document_geo_field", text)
}

fn unknown(kind: &str) -> TaskFault {
    bad(format!("Encountered an unknown 'geometry' object type: `{kind}`"))
}

fn object(value: &Value) -> Result<&Map<String, Value>, TaskFault> {
    let text = || bad(format!("Expected an owned Object, but got `{value}`"));
    value.as_object().ok_or_else(text)
}

fn property<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a Value, TaskFault> {
    let text = || bad(format!("Expected a GeoJSON property for `{name}`, but got None"));
    object.get(name).ok_or_else(text)
}

fn kind(object: &Map<String, Value>) -> Result<&str, TaskFault> {
    let kind = property(object, "type")?;
    let text = || bad(format!("Expected a String value, but got a `{kind}`"));
    kind.as_str().ok_or_else(text)
}

/// A list, where the parser says what it found instead.
fn owned_list(value: &Value) -> Result<&[Value], TaskFault> {
    let found = match value {
        Value::Array(list) => return Ok(list),
        Value::Null => "Null",
        Value::Bool(_) => "Bool",
        Value::Number(_) => "Number",
        Value::String(_) => "String",
        Value::Object(_) => "Object",
    };
    Err(bad(format!("Expected an Array value, but got `{found}`")))
}

fn list(value: &Value) -> Result<&[Value], TaskFault> {
    match value {
        Value::Array(list) => Ok(list),
        _ => Err(bad("Expected an Array value, but got `None`")),
    }
}

fn bbox(object: &Map<String, Value>) -> Result<(), TaskFault> {
    match object.get("bbox") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(list)) if list.iter().all(Value::is_number) => Ok(()),
        Some(Value::Array(_)) => Err(bad("Encountered non-numeric value within 'bbox' array")),
        Some(other) => {
            Err(bad(format!("Encountered non-array value for a 'bbox' object: `{other}`")))
        }
    }
}

fn feature(object: &Map<String, Value>) -> Result<(), TaskFault> {
    match property(object, "geometry")? {
        Value::Null => {}
        Value::Object(inner) => geometry(inner)?,
        other => {
            return Err(bad(format!(
                "Encountered neither object type nor null type for 'geometry' field on 'feature' \
                 object: `{other}`"
            )));
        }
    }
    match object.get("properties") {
        None | Some(Value::Null | Value::Object(_)) => {}
        Some(other) => {
            return Err(bad(format!(
                "Encountered neither object type nor null type for 'properties' object: `{other}`"
            )));
        }
    }
    match object.get("id") {
        None | Some(Value::Number(_) | Value::String(_)) => bbox(object),
        Some(other) => Err(bad(format!(
            "Encountered neither number type nor string type for 'id' field on 'feature' object: \
             `{other}`"
        ))),
    }
}

/// How deep positions lie in `coordinates`.
fn positions(value: &Value, depth: usize) -> Result<(), TaskFault> {
    let items = list(value)?;
    if depth > 0 {
        return items.iter().try_for_each(|item| positions(item, depth - 1));
    }
    if items.len() < 2 {
        let count = items.len();
        return Err(bad(format!(
            "A position must contain two or more elements, but got `{count}`"
        )));
    }
    if items.iter().all(Value::is_number) {
        Ok(())
    } else {
        Err(bad("Expected a floating-point value, but got None"))
    }
}

fn geometry(object: &Map<String, Value>) -> Result<(), TaskFault> {
    bbox(object)?;
    let depth = match kind(object)? {
        "Point" => 0,
        "MultiPoint" | "LineString" => 1,
        "MultiLineString" | "Polygon" => 2,
        "MultiPolygon" => 3,
        "GeometryCollection" => {
            return owned_list(property(object, "geometries")?)?
                .iter()
                .try_for_each(|item| geometry(self::object(item)?));
        }
        other => return Err(unknown(other)),
    };
    positions(property(object, "coordinates")?, depth)
}

/// The index cannot store a polygon without an outer ring. Of something that is valid GeoJSON.
fn rings(object: &Map<String, Value>) -> Result<(), TaskFault> {
    fn is_open(polygon: &Value) -> bool {
        let outer = polygon.get(0).and_then(Value::as_array);
        outer.is_none_or(Vec::is_empty)
    }
    let inner = |name: &str| object.get(name).and_then(Value::as_array).into_iter().flatten();
    let open = match object.get("type").and_then(Value::as_str) {
        Some("Polygon") => object.get("coordinates").is_some_and(is_open),
        Some("MultiPolygon") => inner("coordinates").any(is_open),
        _ => false,
    };
    if open {
        return Err(TaskFault::indexing("internal", "invalid ring (not enough coordinate)"));
    }
    inner("geometries")
        .chain(inner("features"))
        .chain(object.get("geometry"))
        .filter_map(Value::as_object)
        .try_for_each(rings)
}
