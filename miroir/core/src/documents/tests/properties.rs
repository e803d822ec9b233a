//! Properties over random documents and random bytes.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;

/// White space that may stand anywhere between tokens.
fn gap() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(""), 1 => Just(" "), 1 => Just("\n"), 1 => Just(" \t\r\n")]
}

/// A JSON string as somebody might write it.
fn quoted() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => "[a-z_ ]{1,6}",
        1 => Just("\\u00e9".to_owned()),
        1 => Just("\\ud83d\\ude00".to_owned()),
        1 => Just("\\\"".to_owned()),
        1 => Just("\\\\".to_owned()),
        1 => Just("\\u005f".to_owned()),
        1 => "[{}\\[\\],:é日😀]",
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        quoted(),
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,2})?",
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            (gap(), proptest::collection::vec((inner.clone(), gap()), 0..5)).prop_map(
                |(gap, list)| {
                    let list: Vec<String> =
                        list.into_iter().map(|(value, after)| value + after).collect();
                    format!("[{gap}{}]", list.join(","))
                }
            ),
            object(quoted(), inner),
        ]
    })
}

fn object(
    key: impl Strategy<Value = String>,
    value: impl Strategy<Value = String>,
) -> impl Strategy<Value = String> {
    let member = (gap(), key, gap(), gap(), value, gap())
        .prop_map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"));
    (gap(), proptest::collection::vec(member, 0..6)).prop_map(|(gap, members)| {
        format!("{{{}{}}}", if members.is_empty() { gap } else { "" }, members.join(","))
    })
}

fn any_document() -> impl Strategy<Value = String> {
    object(quoted(), value())
}

/// Bytes that look like JSON, more often than not.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just(&b"{"[..]),
        Just(&b"}"[..]),
        Just(&b"["[..]),
        Just(&b"]"[..]),
        Just(&b","[..]),
        Just(&b":"[..]),
        Just(&b"\""[..]),
        Just(&b"\"id\""[..]),
        Just(&b"\"_geo\":"[..]),
        Just(&b"\\"[..]),
        Just(&b"\\u"[..]),
        Just(&b"\\ud8"[..]),
        Just(&b"1e9"[..]),
        Just(&b"-"[..]),
        Just(&b"tr"[..]),
        Just(&b"null"[..]),
        Just(&b"\n"[..]),
        Just(&b"_miroir_shard"[..]),
        Just(&b"\xff"[..]),
    ];
    prop_oneof![
        proptest::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat()),
        proptest::collection::vec(any::<u8>(), 0..64),
    ]
}

proptest! {
    #[test]
    fn what_was_spliced_in_is_stripped_byte_for_byte(text in any_document(), shard in 0u32..100_000) {
        let doc = document(&text);
        prop_assume!(*strip(&doc.bytes) == *doc.bytes);
        let value = shard_value(shard, 100_000);
        let mut out = Vec::new();
        splice(&doc, &[(UPDATED_AT, &timestamp_value(u64::from(shard) << 20)), (SHARD, &value)], &mut out);
        let parsed: Map<String, Value> = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(&parsed[SHARD], &Value::from(value));
        prop_assert_eq!(&*strip(&out), &doc.bytes[..]);
        // Without fields nothing changes at all.
        out.clear();
        splice(&doc, &[], &mut out);
        prop_assert_eq!(&out[..], &doc.bytes[..]);
    }

    #[test]
    fn splitting_agrees_with_serde(texts in proptest::collection::vec(any_document(), 0..6), gap in gap()) {
        let expected: Vec<Value> =
            texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let list = format!("{gap}[{gap}{}{gap}]{gap}", texts.join(&format!("{gap},{gap}")));
        for (format, payload) in [(Format::Json, list), (Format::Ndjson, texts.join(gap) + "\n")] {
            let split = documents(format, &payload);
            let parsed: Vec<Value> =
                split.iter().map(|d| serde_json::from_slice(&d.bytes).unwrap()).collect();
            prop_assert_eq!(&parsed, &expected);
            let bytes: Vec<&[u8]> = split.iter().map(|d| &d.bytes[..]).collect();
            let original: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
            prop_assert_eq!(bytes, original);
        }
    }

    #[test]
    fn an_escaped_key_is_not_the_name_it_looks_like(escaped in any::<bool>()) {
        let doc = document(r#"{"\\\"":1,"\"":2}"#);
        let (name, value) = if escaped { ("\\\"", "1") } else { ("\"", "2") };
        prop_assert_eq!(take(&doc, name).unwrap().0, value);
    }

    #[test]
    fn ids_and_fields_agree_with_serde(text in any_document(), name in "[a-z_ ]{1,6}") {
        let doc = document(&text);
        let parsed: Map<String, Value> = serde_json::from_str(&text).unwrap();
        let expected = match parsed.get(&name) {
            Some(Value::String(id)) => Some(id.clone()),
            Some(Value::Number(id)) if !id.is_f64() => Some(id.to_string()),
            _ => None,
        };
        let expected = expected.filter(|id| {
            !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        });
        prop_assert_eq!(extract_id(&doc, &name).ok().map(DocumentId::into_string), expected);
        let names: Vec<&str> = parsed.keys().map(String::as_str).collect();
        for name in names {
            prop_assert_eq!(find_reserved(&document(&format!("{{\"x\\u0020\":1,{}", text.replacen('{', "", 1))), &[name]).is_some(), true);
            let (_, rest) = take(&doc, name).unwrap();
            let mut without = parsed.clone();
            without.shift_remove(name);
            let rest: Map<String, Value> = serde_json::from_slice(&rest.bytes).unwrap();
            prop_assert_eq!(rest, without);
        }
        prop_assert!(check_values(&doc).is_ok());
    }

    #[test]
    fn arbitrary_bytes_cause_no_panic(bytes in noise(), key in "[a-z.]{0,5}") {
        let bytes = Bytes::from(bytes);
        for format in [Format::Json, Format::Ndjson, Format::Csv { delimiter: b',' }] {
            let Ok(documents) = split(format, &bytes) else { continue };
            for doc in &documents {
                let _ = infer(doc);
            }
            let checks = Checks { geo: true, geojson: true, ..CHECKS };
            let _ = prepare(documents, &key, &checks, shard_of(3));
        }
        // Even where somebody made a document of something else.
        let doc = RawDocument { bytes, repeated: Repeated::AllCount };
        let _ = extract_id(&doc, &key);
        let _ = find_reserved(&doc, &[SHARD]);
        let _ = take(&doc, SHARD);
        let _ = strip(&doc.bytes);
        let _ = check_values(&doc);
        splice(&doc, &[(SHARD, "x")], &mut Vec::new());
    }

    #[test]
    fn times_keep_their_order(a in 0u64..1 << 48, b in 0u64..1 << 48) {
        prop_assert_eq!(parse_timestamp_value(&timestamp_value(a)), Some(a));
        prop_assert_eq!(timestamp_value(a).cmp(&timestamp_value(b)), a.cmp(&b));
    }

    #[test]
    fn shards_come_back(shards in 1u32.., a in any::<u32>(), b in any::<u32>()) {
        let (a, b) = (a % shards, b % shards);
        prop_assert_eq!(parse_shard_value(&shard_value(a, shards)), Some(a));
        prop_assert_eq!(shard_value(a, shards) == shard_value(b, shards), a == b);
    }
}
