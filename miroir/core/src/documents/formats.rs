//! The three payload formats, cut into documents, with Meilisearch's own refusals.

use std::fmt;

use bytes::Bytes;
use miroir_api::meili::ApiError;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::payload::{Format, FormatError, RawDocument, Repeated, readable};
use super::{csv, scan};

/// The content type of the bodies [`super::payload_for`] builds, whatever the client sent: in a JSON
/// array a pretty-printed document keeps every byte; as a line of NDJSON it would not.
pub const CONTENT_TYPE: &str = "application/json";

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
