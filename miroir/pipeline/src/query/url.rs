//! Percent-encoding, query strings, and the paths of indexes on nodes.

use indexmap::IndexMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What is escaped in a path segment or query value: all but the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Percent-encodes one path segment or query value.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    out.extend(utf8_percent_encode(text, ESCAPED));
    out
}

/// Decodes percent-encoding; malformed escapes stay as they are, and what is no UTF-8 becomes U+FFFD.
/// `plus`: `+` is a space.
pub fn decode(text: &str, plus: bool) -> String {
    if plus && text.contains('+') {
        return percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    }
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The decoded pairs of a query string, in order. A key that is given several times has its last value
/// only: nodes do not read the others, even where these are wrong.
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
