//! Payload formats, the documents that payloads consist of, and their refusals.

use std::fmt;

use bytes::Bytes;
use miroir_api::meili::ApiError;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::scan;

/// The format of a payload, from its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json`: a list of objects, or one object.
    Json,
    /// `application/x-ndjson`: objects one after the other, with or without line ends.
    Ndjson,
    /// `text/csv`: a header line, then one document per record.
    Csv {
        /// The ASCII character between cells.
        delimiter: u8,
    },
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv { .. } => "csv",
        })
    }
}

/// What Meilisearch makes of a top-level key that a document repeats, when it looks for the id.
///
/// It rewrites JSON payloads before it stores them, and only the last value of a key survives. It
/// stores NDJSON as it came, and an id given twice is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// The last value is the id, as in JSON payloads.
    LastWins,
    /// Every value counts, so that a second one is an error, as in NDJSON.
    AllCount,
}

/// One document, exactly as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawDocument {
    /// Exactly one valid JSON object, without white space around it: a slice of the payload.
    pub bytes: Bytes,
    /// How a repeated primary key is taken.
    pub repeated: Repeated,
}

impl RawDocument {
    /// Wraps the bytes of one JSON object, for documents that come from elsewhere than a payload.
    ///
    /// # Errors
    /// serde_json's own error when the bytes are not exactly one JSON object.
    pub fn new(bytes: &Bytes) -> Result<Self, serde_json::Error> {
        let raw: &RawValue = serde_json::from_slice(bytes)?;
        readable(raw)?;
        Ok(Self { bytes: bytes.slice_ref(raw.get().as_bytes()), repeated: Repeated::LastWins })
    }
}

/// The payload was refused as a whole, synchronously.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub ApiError);

impl From<FormatError> for ApiError {
    fn from(error: FormatError) -> Self {
        error.0
    }
}

impl FormatError {
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self(ApiError::new("malformed_payload", message))
    }

    pub(super) fn json(format: Format, error: &serde_json::Error) -> Self {
        let cause = match error.classify() {
            Category::Data => "data are neither an object nor a list of objects".to_owned(),
            _ => error.to_string(),
        };
        Self::malformed(format!(
            "The `{format}` payload provided is malformed. `Couldn't serialize document value: \
             {cause}`."
        ))
    }

    /// An element that is JSON but no object fails inside Meilisearch as an I/O error.
    pub(super) fn element(format: Format, error: &serde_json::Error) -> Self {
        match error.classify() {
            Category::Data => Self(ApiError::new("internal", error.to_string())),
            _ => Self::json(format, error),
        }
    }
}

/// The raw value must be an object whose top-level keys can be decoded. Everything else of it was
/// checked when it was read as a raw value.
pub(super) fn readable(raw: &RawValue) -> Result<(), serde_json::Error> {
    let bytes = raw.get().as_bytes();
    if bytes.first() == Some(&b'{')
        && (memchr::memchr(b'\\', bytes).is_none()
            || scan::members(bytes).all(|m| memchr::memchr(b'\\', m.key).is_none()))
    {
        return Ok(());
    }
    raw.deserialize_map(Keys)
}

/// Reads the keys of a map; says "a map" where there is none.
struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Key)?.is_some() {
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Decodes a string, and forgets it.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}
