//! Percent-encoding, query strings, and the paths of indexes on nodes.

use indexmap::IndexMap;

/// Digits of percent-encoding.
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Percent-encodes one path segment or query value.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push('%');
            out.push(HEX[usize::from(byte >> 4)] as char);
            out.push(HEX[usize::from(byte & 15)] as char);
        }
    }
    out
}

/// Decodes percent-encoding; malformed escapes stay as they are. `plus`: `+` is a space.
pub fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], escape.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) if plus => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The decoded pairs of a query string, in order. Of a key that is given twice only the last value
/// is there: nodes do not look at the others, be they ever so wrong.
pub fn query_pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(key, true), decode(value, true))
    });
    let last: IndexMap<String, String> = pairs.collect();
    last.into_iter().collect()
}

/// The path of an index on a node, by the name it has there.
pub fn index_path(name: &str) -> String {
    format!("/indexes/{}", encode(name))
}
