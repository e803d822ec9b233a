//! The `_vectors` field: its shape, and what the embedders of the index ask of it.

use std::fmt;

use serde::de::{Deserializer as _, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::check::{TaskFault, last};
use super::ids::DocumentId;
use super::payload::RawDocument;

/// An embedder of the index, as far as documents can violate it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedder {
    /// Name of the embedder, under which documents have its vectors in `_vectors`.
    pub name: String,
    /// Numbers in one embedding; `None` while that is not known.
    pub dimensions: Option<usize>,
}

/// Checks `_vectors`: first its shape, which nodes check without any embedder, then the embeddings
/// of the given embedders.
///
/// Not checked: whether an embedder that needs vectors gets them, since documents that exist keep
/// theirs.
///
/// # Errors
/// `invalid_vectors_type` or `invalid_vector_dimensions` where a node fails the task with it, and
/// `internal` for numbers that it cannot read.
pub fn check_vectors(
    doc: &RawDocument,
    id: &DocumentId,
    embedders: &[Embedder],
) -> Result<(), TaskFault> {
    let Some(value) = last(doc, "_vectors") else { return Ok(()) };
    shape(value, id)?;
    readable(value, id, |name| !is_one_of(name, embedders))?;
    readable(value, id, |name| is_one_of(name, embedders))?;
    embeddings(value, id, embedders)
}

pub(super) fn is_one_of(name: &str, embedders: &[Embedder]) -> bool {
    embedders.iter().any(|embedder| embedder.name == name)
}

/// Meilisearch panics on embeddings with numbers it cannot read, be there an embedder of that name
/// (when it computes vectors) or not (when it writes the document).
pub(super) fn readable(
    value: &[u8],
    id: &DocumentId,
    of: impl Fn(&str) -> bool,
) -> Result<(), TaskFault> {
    for (name, raw) in entries(value)? {
        if !of(&name) {
            continue;
        }
        if let Entry::Embeddings { value, .. } = entry(raw, &name, id)? {
            serde_json::from_str::<Value>(value.get()).map_err(|_| crash())?;
        }
    }
    Ok(())
}

fn crash() -> TaskFault {
    TaskFault::payload(
        "internal",
        "An unexpected crash occurred when processing the task: called `Result::unwrap()` on an \
         `Err` value: Any { .. }",
    )
}

/// What `_vectors.<name>` says.
enum Entry<'a> {
    /// `null`, or embeddings that were not given.
    Nothing,
    /// An array, or the member `embeddings` of an object.
    Embeddings { value: &'a RawValue, explicit: bool },
}

fn entries(value: &[u8]) -> Result<Vec<(String, &RawValue)>, TaskFault> {
    serde_json::Deserializer::from_slice(value)
        .deserialize_map(Entries)
        .map_err(|error| TaskFault::indexing("internal", error.to_string()))
}

pub(super) fn shape(value: &[u8], id: &DocumentId) -> Result<(), TaskFault> {
    for (name, raw) in entries(value)? {
        entry(raw, &name, id)?;
    }
    Ok(())
}

fn bad(id: &DocumentId, cause: &str) -> TaskFault {
    let text = format!("Bad embedder configuration in the document with id: `{id}`. {cause}");
    TaskFault::indexing("invalid_vectors_type", text)
}

fn entry<'a>(raw: &'a RawValue, name: &str, id: &DocumentId) -> Result<Entry<'a>, TaskFault> {
    match raw.deserialize_any(EntryVisitor) {
        Ok(Ok(Given::Nothing)) => Ok(Entry::Nothing),
        Ok(Ok(Given::Array)) => Ok(Entry::Embeddings { value: raw, explicit: false }),
        Ok(Ok(Given::Object(None))) => Ok(Entry::Nothing),
        Ok(Ok(Given::Object(Some(value)))) => Ok(Entry::Embeddings { value, explicit: true }),
        Ok(Err(wrong)) => Err(bad(id, &wrong.text(name))),
        Err(error) => Err(bad(id, &format!("Could not parse `._vectors.{name}`: {error}"))),
    }
}

pub(super) fn embeddings(
    value: &[u8],
    id: &DocumentId,
    embedders: &[Embedder],
) -> Result<(), TaskFault> {
    if embedders.is_empty() {
        return Ok(());
    }
    let entries = entries(value)?;
    for embedder in embedders {
        let name = &embedder.name;
        let Some((_, raw)) = entries.iter().find(|(known, _)| known == name) else { continue };
        let Entry::Embeddings { value, explicit } = entry(raw, name, id)? else { continue };
        let place = if explicit {
            format!("._vectors.{name}.embeddings")
        } else {
            format!("._vectors.{name}")
        };
        let sizes = sizes(value.get(), &place).map_err(|problem| match problem {
            Problem::Kind(text) => bad(id, &text),
            Problem::Crash => crash(),
        })?;
        let Some(expected) = embedder.dimensions else { continue };
        if let Some((index, found)) = sizes.iter().enumerate().find(|(_, size)| **size != expected)
        {
            let text = format!(
                "Invalid vector dimensions in document with id `{id}` in `._vectors.{name}`.\n  - \
                 note: embedding #{index} has dimensions {found}\n  - note: embedder `{name}` \
                 requires {expected}"
            );
            return Err(TaskFault::indexing("invalid_vector_dimensions", text));
        }
    }
    Ok(())
}

enum Problem {
    /// A value of the wrong kind.
    Kind(String),
    /// Meilisearch panics on objects here.
    Crash,
}

/// The number of dimensions of every embedding in an array of numbers, or of such arrays.
fn sizes(text: &str, place: &str) -> Result<Vec<usize>, Problem> {
    if let Some(size) = flat(text.as_bytes()) {
        // `[]` is no embedding at all.
        return Ok(if size == 0 { Vec::new() } else { vec![size] });
    }
    // What cannot be read was refused before (`check_values`), or crashes.
    let value: Value = serde_json::from_str(text).map_err(|_| Problem::Crash)?;
    let list = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        other => return Err(wrong(place, "null or an array", &other)),
    };
    match list.first() {
        None => Ok(Vec::new()),
        Some(Value::Number(_)) => numbers(&list, place).map(|size| vec![size]),
        Some(Value::Array(_)) => list
            .iter()
            .enumerate()
            .map(|(index, inner)| {
                let place = format!("{place}[{index}]");
                match inner {
                    Value::Array(inner) => numbers(inner, &place),
                    other => Err(wrong(&place, "an array", other)),
                }
            })
            .collect(),
        Some(other) => Err(wrong(&format!("{place}[0]"), "a number or an array", other)),
    }
}

/// Length of an array of nothing but numbers, without parsing them.
fn flat(text: &[u8]) -> Option<usize> {
    let [b'[', inner @ .., b']'] = text else { return None };
    let mut commas = 0;
    let mut numbers = false;
    for byte in inner {
        match byte {
            b',' => commas += 1,
            b'0'..=b'9' => numbers = true,
            b'-' | b'+' | b'.' | b'e' | b'E' | b' ' | b'\n' | b'\r' | b'\t' => {}
            _ => return None,
        }
    }
    Some(if numbers { commas + 1 } else { 0 })
}

fn numbers(list: &[Value], place: &str) -> Result<usize, Problem> {
    for (index, value) in list.iter().enumerate() {
        if !value.is_number() {
            return Err(wrong(&format!("{place}[{index}]"), "a number", value));
        }
    }
    Ok(list.len())
}

fn wrong(place: &str, expected: &str, found: &Value) -> Problem {
    let kind = match found {
        Value::Null => {
            let text =
                format!("Invalid value type at `{place}`: expected {expected}, but found null");
            return Problem::Kind(text);
        }
        Value::Object(_) => return Problem::Crash,
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_u64() => "a positive integer",
        Value::Number(number) if number.is_i64() => "a negative integer",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
    };
    Problem::Kind(format!(
        "Invalid value type at `{place}`: expected {expected}, but found {kind}: `{found}`"
    ))
}

/// Reads an object into names and raw values; of a repeated name the last value counts.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries: Self::Value = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            match entries.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => entries.push((name, value)),
            }
        }
        Ok(entries)
    }
}

enum Given<'a> {
    Nothing,
    Array,
    Object(Option<&'a RawValue>),
}

enum Wrong {
    Kind(&'static str, String),
    Regenerate(String),
    Embeddings(String),
    Key(String),
    Field(String),
    NoRegenerate,
}

impl Wrong {
    fn text(&self, name: &str) -> String {
        match self {
            Self::Kind(kind, value) => format!(
                "Expected `._vectors.{name}` to be an array of floats, an array of arrays of floats, \
                 or an object with at least the field `regenerate`, but got the {kind} `{value}`"
            ),
            Self::Regenerate(error) => {
                format!("Could not parse `._vectors.{name}.regenerate`: {error}")
            }
            Self::Embeddings(error) => {
                format!("Could not parse `._vectors.{name}.embeddings`: {error}")
            }
            Self::Key(error) => {
                format!("Could not parse a field at `._vectors.{name}`: {error}")
            }
            Self::Field(field) => format!(
                "Unexpected field `._vectors.{name}.{field}`\n  - note: the allowed fields are \
                 `regenerate` and `embeddings`"
            ),
            Self::NoRegenerate => format!(
                "Missing field `._vectors.{name}.regenerate`\n  - note: `._vectors.{name}` must be \
                 an array of floats, an array of arrays of floats, or an object with field \
                 `regenerate`"
            ),
        }
    }
}

/// Reads `_vectors.<name>`. It stops at the first fault as Meilisearch does: when more members
/// follow, the parser's complaint about them is what the client reads.
struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Result<Given<'de>, Wrong>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map containing at least `regenerate`, or an array of floats`")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Ok(Given::Nothing))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Err(Wrong::Kind("boolean", value.to_string())))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Err(Wrong::Kind("integer", value.to_string())))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Err(Wrong::Kind("integer", value.to_string())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Err(Wrong::Kind("number", value.to_string())))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Err(Wrong::Kind("string", value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<&RawValue>()?.is_some() {}
        Ok(Ok(Given::Array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut regenerate = false;
        let mut embeddings = None;
        loop {
            match map.next_key::<&str>() {
                Ok(Some("regenerate")) => match map.next_value::<bool>() {
                    Ok(_) => regenerate = true,
                    Err(error) => return Ok(Err(Wrong::Regenerate(error.to_string()))),
                },
                Ok(Some("embeddings")) => match map.next_value::<&RawValue>() {
                    Ok(value) if value.get() == "null" => {}
                    Ok(value) => embeddings = Some(value),
                    Err(error) => return Ok(Err(Wrong::Embeddings(error.to_string()))),
                },
                Ok(Some(other)) => return Ok(Err(Wrong::Field(other.to_owned()))),
                Ok(None) if regenerate => return Ok(Ok(Given::Object(embeddings))),
                Ok(None) => return Ok(Err(Wrong::NoRegenerate)),
                Err(error) => return Ok(Err(Wrong::Key(error.to_string()))),
            }
        }
    }
}
