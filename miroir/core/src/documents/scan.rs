//! A scanner over the bytes of one JSON object that is known to be valid JSON.
//!
//! `split` lets serde_json validate every byte once; after that, finding the top-level members needs
//! no parser: strings are skipped with `memchr`, nested values by counting brackets, without
//! recursion. On bytes that are not valid JSON the scanner ends early; it never panics.

use std::borrow::Cow;

use memchr::memchr2;

/// Nesting that serde_json still reads (its recursion limit is 128).
const MAX_DEPTH: u32 = 127;

/// One top-level member of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    /// The key between its quotes, escapes as written.
    pub(super) key: &'a [u8],
    /// The value, without surrounding white space.
    pub(super) value: &'a [u8],
    /// Offset of the key's opening quote.
    pub(super) start: usize,
    /// Offset of the first byte after the value.
    pub(super) end: usize,
    /// The value holds something serde_json may refuse although it is grammatical: deep nesting,
    /// half a surrogate pair, a number out of range.
    pub(super) doubtful: bool,
}

impl<'a> Member<'a> {
    /// The key with its escapes resolved. Borrows unless there are any.
    pub(super) fn name(&self) -> Cow<'a, [u8]> {
        if memchr::memchr(b'\\', self.key).is_none() {
            return Cow::Borrowed(self.key);
        }
        let mut quoted = Vec::with_capacity(self.key.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(self.key);
        quoted.push(b'"');
        match serde_json::from_slice::<String>(&quoted) {
            Ok(name) => Cow::Owned(name.into_bytes()),
            Err(_) => Cow::Borrowed(self.key),
        }
    }

    /// Is this the member with that name?
    pub(super) fn is(&self, name: &str) -> bool {
        // An escaped key is longer than its name, and what it looks like is another name.
        match memchr::memchr(b'\\', self.key) {
            None => self.key == name.as_bytes(),
            Some(_) => self.key.len() > name.len() && *self.name() == *name.as_bytes(),
        }
    }
}

/// The top-level members of an object, in order, repeated keys included.
pub(super) fn members(object: &[u8]) -> Members<'_> {
    let at = space(object, 0);
    let at = if object.get(at) == Some(&b'{') { at + 1 } else { object.len() };
    Members { bytes: object, at }
}

/// See [`members`].
#[derive(Debug)]
pub(super) struct Members<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let bytes = self.bytes;
        let mut doubtful = false;
        let mut at = space(bytes, self.at);
        if bytes.get(at) == Some(&b',') {
            at = space(bytes, at + 1);
        }
        if bytes.get(at) != Some(&b'"') {
            self.at = bytes.len();
            return None;
        }
        let start = at;
        let after_key = string(bytes, start + 1, &mut doubtful)?;
        at = space(bytes, after_key);
        if bytes.get(at) != Some(&b':') {
            self.at = bytes.len();
            return None;
        }
        at = space(bytes, at + 1);
        // Doubts about keys were settled when the payload was split.
        doubtful = false;
        let end = value(bytes, at, &mut doubtful)?;
        self.at = end;
        Some(Member {
            key: &bytes[start + 1..after_key - 1],
            value: &bytes[at..end],
            start,
            end,
            doubtful,
        })
    }
}

fn space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// `at` is behind the opening quote; the result is behind the closing one.
pub(super) fn string(bytes: &[u8], mut at: usize, doubtful: &mut bool) -> Option<usize> {
    loop {
        let found = at + memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[found] == b'"' {
            return Some(found + 1);
        }
        if let Some([b'u', b'd' | b'D', third, ..]) = bytes.get(found + 1..)
            && third.to_ascii_lowercase() >= b'8'
        {
            *doubtful = true;
        }
        at = found + 2;
    }
}

/// The offset behind the value that starts at `at`.
fn value(bytes: &[u8], at: usize, doubtful: &mut bool) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string(bytes, at + 1, doubtful),
        b'{' | b'[' => nested(bytes, at + 1, doubtful),
        b'-' | b'0'..=b'9' => Some(number(bytes, at, doubtful)),
        b't' | b'n' => (at + 4 <= bytes.len()).then_some(at + 4),
        b'f' => (at + 5 <= bytes.len()).then_some(at + 5),
        _ => None,
    }
}

fn nested(bytes: &[u8], mut at: usize, doubtful: &mut bool) -> Option<usize> {
    let mut depth = 1u32;
    loop {
        match bytes.get(at)? {
            b'"' => at = string(bytes, at + 1, doubtful)?,
            b'{' | b'[' => {
                depth += 1;
                *doubtful |= depth > MAX_DEPTH;
                at += 1;
            }
            b'}' | b']' => {
                depth -= 1;
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            b'0'..=b'9' => at = number(bytes, at, doubtful),
            _ => at += 1,
        }
    }
}

fn number(bytes: &[u8], start: usize, doubtful: &mut bool) -> usize {
    let mut at = start;
    // Where the digits of the exponent begin.
    let mut exponent = None;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' | b'.' => {}
            b'e' | b'E' => exponent = Some(at + 1),
            b'-' | b'+' => exponent = exponent.map(|_| at + 1),
            _ => break,
        }
        at += 1;
    }
    // 150 digits times 1e99 stay far below the largest float.
    *doubtful |= at - start > 150 || exponent.is_some_and(|digits| at - digits > 2);
    at
}
