//! The three payload formats, cut into documents, with Meilisearch's own refusals.

use std::fmt;

use bytes::Bytes;
use miroir_api::meili::ApiError;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::{csv, scan};

/// The content type of the bodies [`super::payload_for`] builds, whatever the client sent: in a JSON
/// array a pretty-printed document keeps every byte; as a line of NDJSON it would not.
pub const CONTENT_TYPE: &str = "application/json";

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

    fn json(format: Format, error: &serde_json::Error) -> Self {
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
    fn element(format: Format, error: &serde_json::Error) -> Self {
        match error.classify() {
            Category::Data => Self(ApiError::new("internal", error.to_string())),
            _ => Self::json(format, error),
        }
    }
}

/// Cuts a payload into documents without copying (CSV is converted, and copied once).
///
/// Accepts and refuses what Meilisearch 1.50 accepts and refuses: trailing bytes behind a list are
/// ignored, NDJSON objects need no line ends, a single JSON object is one document.
///
/// # Errors
/// [`FormatError`] with Meilisearch's own message and code.
pub fn split(format: Format, payload: &Bytes) -> Result<Vec<RawDocument>, FormatError> {
    if payload.is_empty() {
        let message = format!("A {format} payload is missing.");
        return Err(FormatError(ApiError::new("missing_payload", message)));
    }
    match format {
        Format::Json => json(payload),
        Format::Ndjson => ndjson(payload),
        Format::Csv { delimiter } => csv::split(payload, delimiter),
    }
}

fn json(payload: &Bytes) -> Result<Vec<RawDocument>, FormatError> {
    let mut documents = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    // A fault of an element ends the reading of the list, which is an error of its own unless the
    // element was the last: that one is then reported, as Meilisearch does.
    let read = deserializer.deserialize_seq(Elements { payload, documents: &mut documents });
    match read {
        Ok(Ok(())) => Ok(documents),
        Ok(Err(element)) => Err(FormatError::element(Format::Json, &element)),
        Err(error) if error.classify() != Category::Data => {
            Err(not_utf8(Format::Json, payload, &error, false)
                .unwrap_or_else(|| FormatError::json(Format::Json, &error)))
        }
        Err(_) => {
            // Not a list. A lone object is read strictly: depth, numbers, escapes, trailing bytes.
            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(payload).map_err(
                |error| {
                    not_utf8(Format::Json, payload, &error, true)
                        .unwrap_or_else(|| FormatError::json(Format::Json, &error))
                },
            )?;
            let bytes = payload.slice_ref(payload.trim_ascii());
            Ok(vec![RawDocument { bytes, repeated: Repeated::LastWins }])
        }
    }
}

struct Elements<'a> {
    payload: &'a Bytes,
    documents: &'a mut Vec<RawDocument>,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Result<(), serde_json::Error>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a nonempty sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while let Some(raw) = seq.next_element::<&'de RawValue>()? {
            if let Err(fault) = readable(raw) {
                return Ok(Err(fault));
            }
            let bytes = self.payload.slice_ref(raw.get().as_bytes());
            self.documents.push(RawDocument { bytes, repeated: Repeated::LastWins });
        }
        Ok(Ok(()))
    }
}

fn ndjson(payload: &Bytes) -> Result<Vec<RawDocument>, FormatError> {
    let mut documents = Vec::new();
    for raw in serde_json::Deserializer::from_slice(payload).into_iter::<&RawValue>() {
        let raw = raw.and_then(|raw| readable(raw).map(|()| raw)).map_err(|error| {
            not_utf8(Format::Ndjson, payload, &error, false)
                .unwrap_or_else(|| FormatError::element(Format::Ndjson, &error))
        })?;
        let bytes = payload.slice_ref(raw.get().as_bytes());
        documents.push(RawDocument { bytes, repeated: Repeated::AllCount });
    }
    Ok(documents)
}

/// The error for bytes that are not UTF-8. serde_json has since learnt to point at them; the one in
/// Meilisearch 1.50 points behind the document, or behind the string in a lone object.
fn not_utf8(
    format: Format,
    payload: &Bytes,
    error: &serde_json::Error,
    lone: bool,
) -> Option<FormatError> {
    if !error.to_string().starts_with("invalid unicode code point") {
        return None;
    }
    let bad = std::str::from_utf8(payload).err()?.valid_up_to();
    let end = if lone {
        scan::string(payload, bad, &mut false)?
    } else {
        // With the bad bytes made harmless, the documents before have known ends.
        let mut harmless = payload.to_vec();
        while let Err(error) = std::str::from_utf8(&harmless) {
            let from = error.valid_up_to();
            let to = error.error_len().map_or(harmless.len(), |length| from + length);
            harmless[from..to].fill(b'?');
        }
        let mut start = 0;
        if format == Format::Json {
            start = memchr::memchr(b'[', payload)? + 1;
        }
        loop {
            let rest = &harmless[start..];
            let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
            values.next()?.ok()?;
            let end = start + values.byte_offset();
            if end > bad {
                break end;
            }
            start = end;
            if format == Format::Json {
                start += memchr::memchr(b',', &harmless[end..])? + 1;
            }
        }
    };
    let before = payload.get(..end)?;
    let line = 1 + memchr::memchr_iter(b'\n', before).count();
    let column = end - memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    Some(FormatError::malformed(format!(
        "The `{format}` payload provided is malformed. `Couldn't serialize document value: invalid \
         unicode code point at line {line} column {column}`."
    )))
}

/// The raw value must be an object whose top-level keys can be decoded. Everything else of it was
/// checked when it was read as a raw value.
fn readable(raw: &RawValue) -> Result<(), serde_json::Error> {
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
