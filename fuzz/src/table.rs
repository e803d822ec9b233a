//! CSV: every cell of the documents is the cell of the record, typed by the header.

use ::csv::ReaderBuilder;
use bytes::Bytes;
use miroir_core::documents::{Format, split};
use serde_json::{Map, Value};

/// The first byte chooses the delimiter, the rest is the payload.
pub fn check(data: &[u8]) {
    let Some((first, payload)) = data.split_first() else { return };
    let delimiter = [b',', b';', b'\t', b'|', b':'][usize::from(first % 5)];
    let found = split(Format::Csv { delimiter }, &Bytes::copy_from_slice(payload));
    let wanted = if payload.is_empty() { None } else { convert(payload, delimiter) };
    match (found, wanted) {
        (Ok(found), Some(wanted)) => {
            assert_eq!(found.len(), wanted.len());
            for (found, wanted) in found.iter().zip(&wanted) {
                let found: Map<String, Value> =
                    serde_json::from_slice(&found.bytes).expect("a document is a JSON object");
                assert!(found.keys().eq(wanted.keys()), "{found:?} {wanted:?}");
                for (a, b) in found.values().zip(wanted.values()) {
                    assert!(same(a, b), "{a} {b}");
                }
            }
        }
        (Err(error), None) => assert!(!error.0.message.is_empty()),
        (Ok(_), None) => panic!("took what cannot be converted"),
        (Err(error), Some(_)) => panic!("refused what can be converted: {error}"),
    }
}

/// Whether two cells are one. serde_json reads decimals to the last digit but one.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(x), Some(y)) if a.is_f64() && b.is_f64() => {
            x == y || ((x - y) / x).abs() < 1e-14 || (x - y).abs() < 1e-300
        }
        _ => a == b,
    }
}

fn convert(payload: &[u8], delimiter: u8) -> Option<Vec<Map<String, Value>>> {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(payload);
    let headers = reader.headers().ok()?.clone();
    let mut out = Vec::new();
    for record in reader.records() {
        let record = record.ok()?;
        let mut document = Map::new();
        for (position, header) in headers.iter().enumerate() {
            let known = ["string", "number", "boolean"];
            let (name, kind) = match header.rsplit_once(':') {
                Some((name, kind)) if known.contains(&kind) => (name, kind),
                _ => (header, "string"),
            };
            let text = record.get(position)?;
            let value = match kind {
                _ if text.is_empty() => Value::Null,
                "string" => text.into(),
                _ if text.trim().is_empty() => Value::Null,
                "number" => match text.trim().parse::<i64>() {
                    Ok(integer) => integer.into(),
                    Err(_) => text.trim().parse::<f64>().ok()?.into(),
                },
                _ => text.trim().parse::<bool>().ok()?.into(),
            };
            document.insert(name.to_owned(), value);
        }
        out.push(document);
    }
    Some(out)
}
