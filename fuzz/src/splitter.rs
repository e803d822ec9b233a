//! The document splitter: agrees with serde_json about what is a list of objects, cuts the payload
//! into exactly the bytes the client wrote, and what goes to a node and back stays those bytes.

use std::collections::HashMap;

use bytes::Bytes;
use miroir_core::documents::{Checks, Format, Method, RawDocument, payload_for, prepare, split, strip};
use miroir_api::ShardId;
use serde::de::IgnoredAny;
use serde_json::{Deserializer, Map, Value};

/// Shards of the index.
const SHARDS: u32 = 7;

type Object = HashMap<String, IgnoredAny>;

/// The first byte chooses the format, the rest is the payload.
pub fn check(data: &[u8]) {
    let Some((first, payload)) = data.split_first() else { return };
    let payload = Bytes::copy_from_slice(payload);
    let format = if first % 2 == 0 { Format::Json } else { Format::Ndjson };
    let found = split(format, &payload);
    let wanted = match format {
        Format::Json => list(&payload),
        _ => lines(&payload),
    };
    match (&found, wanted) {
        (Ok(found), Some(wanted)) => assert_eq!(found.len(), wanted, "other documents"),
        (Ok(_), None) => panic!("took what serde_json does not take"),
        (Err(error), Some(_)) => panic!("refused what serde_json takes: {error}"),
        (Err(error), None) => assert!(!error.0.message.is_empty()),
    }
    let Ok(documents) = found else { return };
    cuts(format, &payload, &documents);
    journey(documents);
}

/// How many objects a JSON payload is, according to serde_json.
fn list(payload: &[u8]) -> Option<usize> {
    if payload.trim_ascii_start().first() != Some(&b'[') {
        return serde_json::from_slice::<Map<String, Value>>(payload).ok().map(|_| 1);
    }
    let mut stream = Deserializer::from_slice(payload).into_iter::<Vec<Object>>();
    let list = stream.next()?.ok()?;
    std::str::from_utf8(&payload[..stream.byte_offset()]).ok()?;
    Some(list.len())
}

/// How many objects an NDJSON payload is, according to serde_json.
fn lines(payload: &[u8]) -> Option<usize> {
    if payload.is_empty() {
        return None;
    }
    std::str::from_utf8(payload).ok()?;
    let stream = Deserializer::from_slice(payload).into_iter::<Object>();
    stream.collect::<Result<Vec<_>, _>>().ok().map(|list| list.len())
}

/// Between the documents there is nothing but what separates them.
fn cuts(format: Format, payload: &Bytes, documents: &[RawDocument]) {
    let base = payload.as_ptr() as usize;
    let lone = format == Format::Json && payload.trim_ascii_start().first() != Some(&b'[');
    let (open, comma): (&[u8], &[u8]) = match format {
        Format::Json if !lone => (b"[", b","),
        _ => (b"", b""),
    };
    let mut end = 0;
    for (position, document) in documents.iter().enumerate() {
        let start = document.bytes.as_ptr() as usize - base;
        let between = payload[end..start].trim_ascii();
        assert_eq!(between, if position == 0 { open } else { comma });
        assert_eq!(document.bytes.first(), Some(&b'{'));
        assert_eq!(document.bytes.last(), Some(&b'}'));
        end = start + document.bytes.len();
        assert_eq!(payload[start..end], document.bytes[..]);
    }
    let rest = payload[end..].trim_ascii();
    match format {
        Format::Json if !lone && documents.is_empty() => {
            assert!(rest.strip_prefix(b"[").is_some_and(|r| r.trim_ascii().starts_with(b"]")));
        }
        Format::Json if !lone => assert!(rest.starts_with(b"]")),
        _ => assert!(rest.is_empty()),
    }
}

/// Documents as they are sent to nodes are JSON, and come back as they were.
fn journey(documents: Vec<RawDocument>) {
    let checks =
        Checks { index: "i", method: Method::Replace, geo: true, geojson: true, embedders: &[] };
    let shard_of = |id: &[u8]| ShardId(id.iter().map(|b| u32::from(*b)).sum::<u32>() % SHARDS);
    let Ok(prepared) = prepare(documents.clone(), "id", &checks, shard_of) else { return };
    assert_eq!(prepared.documents.len(), documents.len());
    assert!(prepared.unique_ids <= prepared.received);
    let mut sent = 0;
    for shard in 0..SHARDS {
        let body = payload_for(&prepared, SHARDS, &[], |s| s == ShardId(shard));
        let arrived = split(Format::Json, &body).expect("what is sent to a node can be read");
        let expected = prepared.documents.iter().filter(|d| d.shard == ShardId(shard));
        let mut count = 0;
        for (arrived, expected) in arrived.iter().zip(expected) {
            count += 1;
            // A client's own reserved fields are refused before; here they may be stripped.
            if *strip(&expected.document.bytes) == expected.document.bytes[..] {
                assert_eq!(*strip(&arrived.bytes), expected.document.bytes[..]);
            }
        }
        assert_eq!(count, arrived.len());
        sent += count;
    }
    assert_eq!(sent, documents.len());
}
