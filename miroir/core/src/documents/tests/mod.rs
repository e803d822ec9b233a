//! Tests of `documents`: the texts a real node answered, and properties.

mod properties;
mod recorded;

use bytes::Bytes;
use miroir_api::{ShardId, TaskUid};
use twox_hash::XxHash64;

use super::*;

pub(super) fn documents(format: Format, payload: &str) -> Vec<RawDocument> {
    split(format, &Bytes::copy_from_slice(payload.as_bytes())).unwrap()
}

pub(super) fn document(text: &str) -> RawDocument {
    RawDocument::new(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

pub(super) fn shard_of(shards: u32) -> impl Fn(&[u8]) -> ShardId {
    move |id| ShardId((XxHash64::oneshot(0, id) % u64::from(shards)) as u32)
}

const CHECKS: Checks<'_> =
    Checks { index: "movies", method: Method::Replace, geo: false, geojson: false, embedders: &[] };

#[test]
fn documents_are_slices_of_the_payload() {
    let payload =
        Bytes::from_static(b" [ {\"id\" : 1.50,\n \"id\":\"\\u00e9\"} ,{\"b\":{}} ] rest");
    let documents = split(Format::Json, &payload).unwrap();
    assert_eq!(documents[0].bytes, b"{\"id\" : 1.50,\n \"id\":\"\\u00e9\"}"[..]);
    assert_eq!(documents[1].bytes, b"{\"b\":{}}"[..]);
    assert_eq!(documents[0].bytes.as_ptr(), payload[3..].as_ptr());
    let lone = Bytes::from_static(b"\n{\"a\": 1 } ");
    assert_eq!(split(Format::Json, &lone).unwrap()[0].bytes, b"{\"a\": 1 }"[..]);
}

#[test]
fn raw_documents_are_one_object() {
    assert_eq!(document(" {\"a\":1} ").bytes, b"{\"a\":1}"[..]);
    for bad in ["", "1", "[]", "{} {}", "{\"a\":}", "{\"\\ud800\":1}"] {
        assert!(RawDocument::new(&Bytes::copy_from_slice(bad.as_bytes())).is_err(), "{bad}");
    }
}

#[test]
fn a_payload_is_routed_and_put_together_again() {
    let text = "[{\"id\":1, \"x\": 1.0},{\"id\":\"b\"},{\"id\":\"1\"},{\"id\":2,\"y\":{ }}]";
    let prepared = prepare(documents(Format::Json, text), "id", &CHECKS, shard_of(4)).unwrap();
    assert_eq!((prepared.received, prepared.unique_ids), (4, 3));
    let ids: Vec<&str> = prepared.documents.iter().map(|d| d.id.as_str()).collect();
    assert_eq!(ids, ["1", "b", "1", "2"]);
    assert_eq!(prepared.documents[0].shard, prepared.documents[2].shard);

    let fields = [(UPDATED_AT, "\u{E000}\u{E001}\u{E002}\u{E003}")];
    let all = payload_for(&prepared, 4, &fields, |_| true);
    let shard = |i: usize| shard_value(prepared.documents[i].shard.0, 4);
    let stamp = "\"_miroir_updated_at\":\"\u{E000}\u{E001}\u{E002}\u{E003}\",\"_miroir_shard\":";
    assert_eq!(
        std::str::from_utf8(&all).unwrap(),
        format!(
            "[{{\"id\":1, \"x\": 1.0,{stamp}\"{}\"}},{{\"id\":\"b\",{stamp}\"{}\"}},\
             {{\"id\":\"1\",{stamp}\"{}\"}},{{\"id\":2,\"y\":{{ }},{stamp}\"{}\"}}]",
            shard(0),
            shard(1),
            shard(2),
            shard(3)
        )
    );
    // Every document is in the body of its shard, and only there.
    let mut found = 0;
    for wanted in 0..4 {
        let body = payload_for(&prepared, 4, &[], |shard| shard.0 == wanted);
        let body = split(Format::Json, &body).unwrap();
        for document in &body {
            let value = take(document, SHARD).unwrap().0;
            let value: String = serde_json::from_slice(&value).unwrap();
            assert_eq!(parse_shard_value(&value), Some(wanted));
        }
        found += body.len();
    }
    assert_eq!(found, 4);
    assert_eq!(payload_for(&prepared, 4, &[], |_| false), b"[]"[..]);
}

#[test]
fn a_payload_is_split_by_bytes_and_stays_in_order() {
    let list: Vec<String> = (0..200).map(|n| format!("{{\"id\":{n},\"x\":{}}}", n * n)).collect();
    let large = format!("{{\"id\":\"large\",\"x\":\"{}\"}}", "x".repeat(900));
    let text = format!("[{},{large},{{\"id\":1}}]", list.join(","));
    let prepared = prepare(documents(Format::Json, &text), "id", &CHECKS, shard_of(4)).unwrap();
    let whole = split(Format::Json, &payload_for(&prepared, 4, &[], |_| true)).unwrap();
    let bodies = payloads_for(&prepared, 4, &[], false, 500, |_| true);
    assert!(bodies.len() > 10);
    let mut all = Vec::new();
    for NodeBody { bytes, shards, slots } in bodies {
        let documents = split(Format::Json, &bytes).unwrap();
        assert!(bytes.len() <= 500 || documents.len() == 1, "{} bytes", bytes.len());
        for document in &documents {
            let value: String = serde_json::from_slice(&take(document, SHARD).unwrap().0).unwrap();
            assert!(shards.contains(&ShardId(parse_shard_value(&value).unwrap())));
        }
        assert_eq!(slots, []);
        all.extend(documents);
    }
    assert_eq!(all, whole);
    assert_eq!(payloads_for(&prepared, 4, &[], false, 500, |_| false)[0].bytes, b"[]"[..]);
}

#[test]
fn stamps_are_filled_into_their_slots() {
    let text = "[{\"id\":1}, {\"id\":2,\"x\":{}} , {\"id\":3, \"y\":\"}\" }]";
    let prepared = prepare(documents(Format::Json, text), "id", &CHECKS, shard_of(4)).unwrap();
    for most in [1, usize::MAX] {
        let mut places = Vec::new();
        for body in payloads_for(&prepared, 4, &[], true, most, |_| true) {
            let mut bytes = body.bytes.to_vec();
            for slot in &body.slots {
                let stamp = Stamp::new(TaskUid(5), slot.document);
                bytes[slot.at..slot.at + Stamp::BYTES].copy_from_slice(&stamp.text());
            }
            let stamped = split(Format::Json, &Bytes::from(bytes)).unwrap();
            for (document, slot) in stamped.iter().zip(&body.slots) {
                let value = take(document, ORDER).unwrap().0;
                assert_eq!(Stamp::read(&value), Stamp::new(TaskUid(5), slot.document));
                let own = &prepared.documents[slot.document].document;
                assert_eq!(*strip(&document.bytes), own.bytes[..]);
                places.push(slot.document);
            }
        }
        assert_eq!(places, [0, 1, 2]);
    }
}

#[test]
fn fields_of_a_payload_are_counted_over_all_documents() {
    let payload = |documents: usize, fields: usize| {
        let list: Vec<String> = (0..documents)
            .map(|d| {
                let fields: Vec<String> =
                    (0..fields).map(|f| format!("\"f{}\":1", d * fields + f)).collect();
                format!("{{\"id\":{d},{}}}", fields.join(","))
            })
            .collect();
        documents_of(&format!("[{}]", list.join(",")))
    };
    fn documents_of(text: &str) -> Vec<RawDocument> {
        documents(Format::Json, text)
    }
    assert!(prepare(payload(1, 65_535), "id", &CHECKS, shard_of(1)).is_ok());
    assert!(check_fields(&payload(1, 65_535)[0]).is_ok());
    assert!(check_fields(&payload(1, 65_536)[0]).is_err());
    for many in [payload(1, 65_536), payload(66, 1000)] {
        let error = prepare(many, "id", &CHECKS, shard_of(1)).unwrap_err();
        assert_eq!(error.code, "max_fields_limit_exceeded");
        assert_eq!(error.message, "A document cannot contain more than 65,535 fields.");
    }
    // The same keys at other places, or spelt with escapes, are not new ones.
    let same = "{\"id\":1,\"a\":1}".to_owned() + &"{\"a\":1,\"\\u0069d\":1}".repeat(70_000);
    assert!(prepare(documents(Format::Ndjson, &same), "id", &CHECKS, shard_of(1)).is_ok());
}

#[test]
fn reserved_names_are_found_however_they_are_spelt() {
    let find = |text: &str| find_reserved(&document(text), &[SHARD, UPDATED_AT]);
    assert_eq!(find("{\"a\":1,\"_miroir_shard\":2}").as_deref(), Some(SHARD));
    assert_eq!(find("{\"\\u005fmiroir_sh\\u0061rd\":2}").as_deref(), Some(SHARD));
    assert_eq!(find("{\"a\":1, \"_miroir_updated_at\" : null}").as_deref(), Some(UPDATED_AT));
    for other in [
        "{}",
        "{\"_miroir_expires_at\":1}",
        "{\"a\":{\"_miroir_shard\":1}}",
        "{\"a\":\"_miroir_shard\"}",
        "{\"a\":\"\\\"_miroir_shard\\\":1\"}",
        "{\"_miroir_shards\":1,\"x_miroir_shard\":2}",
        "{\"\\\\u005fmiroir_shard\":2}",
    ] {
        assert_eq!(find(other), None, "{other}");
    }
    assert!(RESERVED.into_iter().all(is_reserved));
    for other in ["_miroir_x", "_miroir_shards", "miroir_shard", "_miroir", "_miroir_"] {
        assert!(!is_reserved(other), "{other}");
    }
    for (text, names) in [
        ("_miroir_shard = 1", true),
        ("a = 1 AND `_miroir_order` EXISTS", true),
        ("_miroir_shards = 1 OR _miroir_x EXISTS", false),
        ("_miroir_shard_ = 1 AND _miroir_shard-x = 2", false),
        ("_miroir_shard.a = 1", true),
    ] {
        assert_eq!(names_reserved(text), names, "{text}");
    }
    assert_eq!(reserved_field(SHARD).status(), 400);
}

#[test]
fn members_are_taken_out_with_their_comma() {
    let cases = [
        ("{\"_miroir_shard\":1}", "{}"),
        ("{ \"_miroir_shard\":1 }", "{  }"),
        ("{\"_miroir_shard\":1,\"b\":2}", "{\"b\":2}"),
        ("{\"_miroir_shard\":1,\"_miroir_order\":1 , \"b\":2}", "{ \"b\":2}"),
        ("{\"b\":2 , \"_miroir_shard\":{\"x\":[1]} ,\"c\":3}", "{\"b\":2  ,\"c\":3}"),
        (
            "{\"b\":2,\"_miroir_shard\":1,\"_miroir_order\":\"}\",\"c\":3,\"\\u005fmiroir_shard\":1}",
            "{\"b\":2,\"c\":3}",
        ),
        ("{\"_miroir_a\":1,\"_miroir_shard\":1}", "{\"_miroir_a\":1}"),
        ("{\"b\":{\"_miroir_shard\":1}}", "{\"b\":{\"_miroir_shard\":1}}"),
    ];
    for (with, without) in cases {
        assert_eq!(std::str::from_utf8(&strip(with.as_bytes())).unwrap(), without);
    }
    let doc = document("{\"id\":1,\"_miroir_expires_at\":17,\"z\":0}");
    let (value, rest) = take(&doc, EXPIRES_AT).unwrap();
    assert_eq!((&value[..], &rest.bytes[..]), (&b"17"[..], &b"{\"id\":1,\"z\":0}"[..]));
    assert_eq!(take(&rest, EXPIRES_AT), None);
    assert_eq!(take(&rest, "z").unwrap().1.bytes, b"{\"id\":1}"[..]);
}

#[test]
fn shard_values_are_private_characters() {
    assert_eq!(shard_value(0, 16), "\u{E000}");
    assert_eq!(shard_value(4095, 4096), "\u{EFFF}");
    assert_eq!(shard_value(4096, 4097), "\u{E001}\u{E000}");
    assert_eq!(shard_value(0, u32::MAX), "\u{E000}\u{E000}\u{E000}");
    for (shard, shards) in [(5, 4096), (5, 4097), (70_000, 100_000), (1 << 24, (1 << 24) + 1)] {
        assert_eq!(parse_shard_value(&shard_value(shard, shards)), Some(shard));
    }
    for bad in ["", "a", "\u{F000}", "\u{E000}a", "12", "\u{E000}\u{E000}\u{E000}\u{E000}"] {
        assert_eq!(parse_shard_value(bad), None, "{bad:?}");
    }
}

#[test]
fn timestamps_are_four_private_characters() {
    assert_eq!(timestamp_value(0), "\u{E000}\u{E000}\u{E000}\u{E000}");
    assert_eq!(timestamp_value(0x123_456_789_ABC), "\u{E123}\u{E456}\u{E789}\u{EABC}");
    assert_eq!(timestamp_value(u64::MAX), "\u{EFFF}\u{EFFF}\u{EFFF}\u{EFFF}");
    for bad in ["", "\u{E000}\u{E000}\u{E000}", "\u{E000}\u{E000}\u{E000}\u{E000}\u{E000}", "1234"]
    {
        assert_eq!(parse_timestamp_value(bad), None, "{bad:?}");
    }
}

#[test]
fn delete_batch_ids_are_strings_or_json() {
    for (json, id) in [
        ("\"a\"", "a"),
        ("1", "1"),
        ("1.50", "1.5"),
        ("null", "null"),
        ("true", "true"),
        ("[ 1 ]", "[1]"),
        ("{\"id\": 1}", "{\"id\":1}"),
        ("\"a b\"", "a b"),
    ] {
        let raw: &serde_json::value::RawValue = serde_json::from_str(json).unwrap();
        assert_eq!(parse_id_value(raw).unwrap().as_str(), id);
    }
}

#[test]
fn deep_nesting_is_split_without_recursion() {
    let deep = format!("[{{\"id\":1,\"a\":{}{}}}]", "[".repeat(200_000), "]".repeat(200_000));
    let split = documents(Format::Json, &deep);
    assert_eq!(extract_id(&split[0], "id").unwrap().as_str(), "1");
    let error = prepare(split, "id", &CHECKS, shard_of(1)).unwrap_err();
    assert_eq!(
        error.message,
        "Index `movies`: internal: recursion limit exceeded at line 1 column 128."
    );
}

#[test]
fn distinct_ids_are_counted() {
    let count = |text: &str| {
        let documents = documents(Format::Ndjson, text);
        prepare(documents, "id", &CHECKS, shard_of(3)).unwrap().unique_ids
    };
    assert_eq!(count("{\"id\":1}{\"id\":9}{\"id\":10}"), 3);
    assert_eq!(count("{\"id\":1}{\"id\":2}{\"id\":\"2\"}"), 2);
    assert_eq!(count("{\"id\":2}{\"id\":1}{\"id\":\"2\"}{\"id\":\"a\"}"), 3);
    assert_eq!(count(" "), 0);
}
