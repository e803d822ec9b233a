//! How much a filter asks of a node.

use serde_json::Value;

/// Conditions and bytes of a filter in any of its forms.
pub fn size(filter: &Value) -> (usize, usize) {
    match filter {
        Value::String(text) => (conditions(text), text.len()),
        Value::Array(list) => list.iter().map(size).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        _ => (0, 0),
    }
}

/// Conditions of an expression: one more than the words between them. What is quoted, and what is in
/// the brackets of an `IN`, is no word.
fn conditions(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut count, mut at) = (1, 0);
    while let Some(&byte) = bytes.get(at) {
        let next = match byte {
            b'"' | b'\'' => after(bytes, at + 1, byte),
            b'[' => after_list(bytes, at + 1),
            _ if byte.is_ascii_alphanumeric() || byte == b'_' => {
                let rest = &bytes[at..];
                let word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
                let length = rest.iter().take_while(|b| word(b)).count();
                let word = &rest[..length];
                count += usize::from(
                    word.eq_ignore_ascii_case(b"and") || word.eq_ignore_ascii_case(b"or"),
                );
                at + length
            }
            _ => at + 1,
        };
        at = next;
    }
    count
}

/// Where a quoted text ends that has begun.
fn after(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while let Some(&byte) = bytes.get(at) {
        at += if byte == b'\\' { 2 } else { 1 };
        if byte == quote {
            break;
        }
    }
    at
}

/// Where a list ends that has begun.
fn after_list(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b']' => return at + 1,
            b'"' | b'\'' => at = after(bytes, at + 1, byte),
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_counted_outside_of_texts_and_lists() {
        for (text, expected) in [
            ("a = 1", 1),
            ("a = 1 AND b = 2 or (NOT c EXISTS OR d = 'x OR y')", 4),
            ("a IN [1, 2, 'and', \"]\"] AND b = \"it\\\"s AND\"", 2),
            ("android = 1 AND or_more = 2", 2),
            ("'unclosed AND", 1),
            ("a IN [1 AND", 1),
        ] {
            assert_eq!(conditions(text), expected, "{text}");
        }
        assert_eq!(size(&json!([["a = 1", "b = 2"], "c = 3 AND d = 4"])), (4, 25));
    }
}
