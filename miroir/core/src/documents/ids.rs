//! Document ids: what is one, and how a document carries it.

use std::fmt;

use miroir_api::meili::ApiError;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::payload::{RawDocument, Repeated};
use super::scan;

/// The canonical form of a document's id: the string itself, or the integer in decimal. `"42"` and
/// `42` are one document. This is what is hashed to find the shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentId(String);

impl DocumentId {
    /// The id as text; integers in decimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as owned text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for DocumentId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Why a document has no usable id. The texts are those of the failed task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The document has no such attribute.
    #[error("Document doesn't have a `{primary_key}` attribute: `{document}`.")]
    Missing {
        /// Name of the primary key.
        primary_key: String,
        /// The document, compact.
        document: String,
    },
    /// The value is no id.
    #[error(
        "Document identifier `{value}` is invalid. A document identifier can be of type integer or \
         string, only composed of alphanumeric characters (a-z A-Z 0-9), hyphens (-) and underscores \
         (_), and can not be more than 511 bytes."
    )]
    Invalid {
        /// The value as compact JSON.
        value: String,
    },
    /// The document has the primary key more than once.
    #[error("Document have too many matching `{primary_key}` attribute: `{document}`.")]
    TooMany {
        /// Name of the primary key.
        primary_key: String,
        /// The document, compact.
        document: String,
    },
    /// Meilisearch fails with an internal error on this document.
    #[error("{0}")]
    Internal(String),
}

impl From<DocumentError> for ApiError {
    fn from(error: DocumentError) -> Self {
        let code = match error {
            DocumentError::Missing { .. } => "missing_document_id",
            DocumentError::Invalid { .. } | DocumentError::TooMany { .. } => "invalid_document_id",
            DocumentError::Internal(_) => "internal",
        };
        Self::new(code, error.to_string())
    }
}

/// A fault found while looking for the id, before it is put into words.
enum Fault {
    Invalid(String),
    TooMany,
    Internal(String),
}

/// What the task says when Meilisearch unwraps a serde_json error.
fn crash(error: &serde_json::Error) -> String {
    format!(
        "An unexpected crash occurred when processing the task: called `Result::unwrap()` on an \
         `Err` value: {error:?}"
    )
}

fn is_valid(id: &str) -> bool {
    (1..=511).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The id a JSON value stands for.
fn id_of(value: &[u8]) -> Result<DocumentId, Fault> {
    match value {
        [b'"', text @ .., b'"'] => {
            // A backslash is no character of an id, so this also keeps escaped strings out.
            if let Ok(text) = std::str::from_utf8(text)
                && is_valid(text)
            {
                return Ok(DocumentId(text.to_owned()));
            }
            match serde_json::from_slice::<String>(value) {
                Ok(text) if is_valid(&text) => Ok(DocumentId(text)),
                _ => Err(invalid(value)),
            }
        }
        // `-0` is a float to serde_json.
        [b'-', rest @ ..] if rest != b"0" => {
            parse::<i64>(value).map_or_else(|| Err(invalid(value)), Ok)
        }
        [b'0'..=b'9', ..] => parse::<u64>(value).map_or_else(|| Err(invalid(value)), Ok),
        _ => Err(invalid(value)),
    }
}

/// JSON's grammar forbids a plus sign and leading zeros, so the text of an integer is canonical.
fn parse<T: std::str::FromStr>(value: &[u8]) -> Option<DocumentId> {
    let text = std::str::from_utf8(value).ok()?;
    text.parse::<T>().ok().map(|_| DocumentId(text.to_owned()))
}

fn invalid(value: &[u8]) -> Fault {
    match serde_json::from_slice::<Value>(value) {
        Ok(value) => Fault::Invalid(value.to_string()),
        Err(error) => Fault::Internal(crash(&error)),
    }
}

/// Reads the id of a document. The primary key may be nested: `a.b` is the member `b` of the object
/// `a` as well as a member called `a.b`.
///
/// # Errors
/// [`DocumentError`], with the words of the task that a node would fail.
pub fn extract_id(doc: &RawDocument, primary_key: &str) -> Result<DocumentId, DocumentError> {
    let found = if primary_key.contains('.') {
        nested_id(doc, primary_key)
    } else {
        let mut search = Flat::new(doc.repeated);
        for member in scan::members(&doc.bytes).filter(|m| m.is(primary_key)) {
            search.see(member.value);
        }
        search.finish()
    };
    in_words(found, doc, primary_key)
}

fn in_words(
    found: Result<Option<DocumentId>, Fault>,
    doc: &RawDocument,
    primary_key: &str,
) -> Result<DocumentId, DocumentError> {
    let document = || {
        serde_json::from_slice::<Map<String, Value>>(&doc.bytes)
            .and_then(|map| serde_json::to_string(&map))
            .map_err(|error| DocumentError::Internal(crash(&error)))
    };
    let primary_key = || primary_key.to_owned();
    Err(match found {
        Ok(Some(id)) => return Ok(id),
        Ok(None) => DocumentError::Missing { primary_key: primary_key(), document: document()? },
        Err(Fault::TooMany) => {
            DocumentError::TooMany { primary_key: primary_key(), document: document()? }
        }
        Err(Fault::Invalid(value)) => DocumentError::Invalid { value },
        Err(Fault::Internal(message)) => DocumentError::Internal(message),
    })
}

/// The search for a top-level primary key while somebody walks over the members.
pub(super) struct Flat<'a> {
    repeated: Repeated,
    value: Option<&'a [u8]>,
    fault: Option<Fault>,
}

impl<'a> Flat<'a> {
    pub(super) fn new(repeated: Repeated) -> Self {
        Self { repeated, value: None, fault: None }
    }

    /// The value of a member with the primary key's name.
    pub(super) fn see(&mut self, value: &'a [u8]) {
        if self.repeated == Repeated::AllCount
            && self.fault.is_none()
            && let Some(earlier) = self.value
        {
            // The first fault counts: an invalid earlier value, an invalid later one, two of them.
            self.fault = Some(id_of(earlier).and(id_of(value)).err().unwrap_or(Fault::TooMany));
        }
        self.value = Some(value);
    }

    fn finish(self) -> Result<Option<DocumentId>, Fault> {
        match (self.fault, self.value) {
            (Some(fault), _) => Err(fault),
            (None, Some(value)) => id_of(value).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The id, or the error for this document.
    pub(super) fn id(
        self,
        doc: &RawDocument,
        primary_key: &str,
    ) -> Result<DocumentId, DocumentError> {
        in_words(self.finish(), doc, primary_key)
    }
}

/// Splits `a.b.c` for a member name: `a` leaves `b.c`, `a.b` leaves `c`, `a.b.c` leaves nothing.
fn rest_of<'a>(path: &'a str, name: &[u8]) -> Option<&'a str> {
    let rest = path.as_bytes().strip_prefix(name)?;
    match rest {
        [] => Some(""),
        [b'.', ..] if !name.is_empty() => path.get(name.len() + 1..),
        _ => None,
    }
}

fn nested_id(doc: &RawDocument, path: &str) -> Result<Option<DocumentId>, Fault> {
    let mut seen: Vec<(&str, &[u8])> = Vec::new();
    for member in scan::members(&doc.bytes) {
        let Some(rest) = rest_of(path, &member.name()) else { continue };
        match seen.iter_mut().find(|(known, _)| *known == rest) {
            Some((_, value)) if doc.repeated == Repeated::LastWins => *value = member.value,
            _ => seen.push((rest, member.value)),
        }
    }
    let mut id = None;
    for (rest, value) in seen {
        component(rest, value, &mut id)?;
    }
    Ok(id)
}

/// One value on the way to the id.
fn component(rest: &str, value: &[u8], id: &mut Option<DocumentId>) -> Result<(), Fault> {
    let found = if rest.is_empty() {
        id_of(value)?
    } else {
        let mut deserializer = serde_json::Deserializer::from_slice(value);
        match deserializer.deserialize_map(Inner { path: rest }) {
            Ok(Ok(Some(found))) => found,
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(fault)) => return Err(fault),
            // Not an object: then the id is not here.
            Err(error) if error.is_data() => return Ok(()),
            // Meilisearch stops reading an object at the first fault, which is a syntax error to
            // its parser when more members follow; it then reports that one.
            Err(error) => return Err(Fault::Internal(error.to_string())),
        }
    };
    if id.replace(found).is_some() { Err(Fault::TooMany) } else { Ok(()) }
}

struct Inner<'a> {
    path: &'a str,
}

impl<'de> Visitor<'de> for Inner<'_> {
    type Value = Result<Option<DocumentId>, Fault>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut id = None;
        while let Some(rest) = map.next_key_seed(Step { path: self.path })? {
            let value: &RawValue = map.next_value()?;
            let Some(rest) = rest else { continue };
            match component(rest, value.get().as_bytes(), &mut id) {
                Ok(()) => {}
                Err(Fault::Internal(message)) => return Err(serde::de::Error::custom(message)),
                Err(fault) => return Ok(Err(fault)),
            }
        }
        Ok(Ok(id))
    }
}

/// Reads a key as far as it lies on the path.
struct Step<'a> {
    path: &'a str,
}

impl<'de, 'a> DeserializeSeed<'de> for Step<'a> {
    type Value = Option<&'a str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Step<'a> {
    type Value = Option<&'a str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(rest_of(self.path, name.as_bytes()))
    }
}

/// The id that an element of a delete-batch body names. Strings stand for themselves and anything
/// else for its JSON text, as in Meilisearch: what is no id matches no document, and is no error.
///
/// # Errors
/// If the value is not JSON that fits a [`Value`], for example a number out of a float's range.
pub fn parse_id_value(value: &RawValue) -> Result<DocumentId, serde_json::Error> {
    Ok(DocumentId(match serde_json::from_str(value.get())? {
        Value::String(text) => text,
        other => other.to_string(),
    }))
}
