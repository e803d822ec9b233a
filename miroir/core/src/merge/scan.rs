//! A small JSON scanner that finds the pieces of an answer without building a tree.
//!
//! Hits leave Miroir as the bytes they came in as, so all a merge needs is to know where each
//! field begins and ends. The scanner checks what it walks through (names, strings, balanced
//! brackets) and leaves the inside of skipped values alone. It neither recurses nor panics.

use memchr::memchr2;
use serde::de::Error as _;

use crate::documents::PREFIX;
use crate::documents::is_reserved_name;

/// The outcome of a scan.
pub(crate) type Result<T> = std::result::Result<T, serde_json::Error>;

/// A half-open byte range of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// The bytes of the span; empty when it does not lie inside `body`.
    pub(crate) fn of(self, body: &[u8]) -> &[u8] {
        body.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// The bytes of a string span without its quotes, escapes left as they are.
    pub(crate) fn inner(self, body: &[u8]) -> &[u8] {
        body.get(self.start as usize + 1..(self.end as usize).saturating_sub(1)).unwrap_or_default()
    }
}

/// A position in a JSON text.
#[derive(Debug, Clone)]
pub(crate) struct Scanner<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Starts at the beginning of `body`, which must be UTF-8 and shorter than 4 GiB.
    pub(crate) fn new(body: &'a [u8]) -> Result<Self> {
        if u32::try_from(body.len()).is_err() {
            return Err(serde_json::Error::custom("answer is larger than 4 GiB"));
        }
        if std::str::from_utf8(body).is_err() {
            return Err(serde_json::Error::custom("answer is not UTF-8"));
        }
        Ok(Self { body, at: 0 })
    }

    /// Starts at `span` of `body`, which was scanned before.
    pub(crate) fn within(body: &'a [u8], span: Span) -> Self {
        Self { body: &body[..span.end as usize], at: span.start as usize }
    }

    /// The text being scanned.
    pub(crate) fn body(&self) -> &'a [u8] {
        self.body
    }

    fn fail<T>(&self, expected: &str) -> Result<T> {
        Err(serde_json::Error::custom(format_args!("expected {expected} at byte {}", self.at)))
    }

    /// The next byte that is not white space, not consumed.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.body.get(self.at) {
            if byte > b' ' || !is_space(byte) {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Consumes `bracket`, the beginning of an object or array.
    pub(crate) fn enter(&mut self, bracket: u8) -> Result<()> {
        if self.peek() == Some(bracket) {
            self.at += 1;
            return Ok(());
        }
        self.fail(if bracket == b'{' { "an object" } else { "an array" })
    }

    /// The next member's name (with quotes), its value being next; `None` after the last one.
    pub(crate) fn member(&mut self) -> Result<Option<Span>> {
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') => self.at += 1,
            _ => {}
        }
        let key = self.string()?;
        if self.peek() != Some(b':') {
            return self.fail("`:`");
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Whether another element follows (it is next) or the array has ended.
    pub(crate) fn element(&mut self) -> Result<bool> {
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(_) => Ok(true),
            None => self.fail("`]`"),
        }
    }

    /// Consumes a string; the span includes its quotes.
    pub(crate) fn string(&mut self) -> Result<Span> {
        if self.peek() != Some(b'"') {
            return self.fail("a string");
        }
        let start = self.at as u32;
        self.at += 1;
        self.finish_string()?;
        Ok(Span { start, end: self.at as u32 })
    }

    /// Consumes the rest of a string: most are short, so a few words are looked through here.
    #[inline]
    fn finish_string(&mut self) -> Result<()> {
        for _ in 0..SHORT {
            let Some(word) = self.word() else { break };
            let found = quotes(word);
            if found == 0 {
                self.at += 8;
                continue;
            }
            let at = self.at + found.trailing_zeros() as usize / 8;
            if self.body[at] == b'"' {
                self.at = at + 1;
                return Ok(());
            }
            self.at = at + 2;
        }
        self.finish_long_string()
    }

    fn finish_long_string(&mut self) -> Result<()> {
        loop {
            let rest = self.body.get(self.at..).unwrap_or_default();
            match memchr2(b'"', b'\\', rest) {
                Some(found) if rest[found] == b'"' => {
                    self.at += found + 1;
                    return Ok(());
                }
                Some(found) => self.at += found + 2,
                None => return self.fail("the end of a string"),
            }
        }
    }

    /// Consumes any value and tells where it was.
    pub(crate) fn value(&mut self) -> Result<Span> {
        let Some(first) = self.peek() else { return self.fail("a value") };
        let start = self.at as u32;
        match first {
            b'"' => {
                self.at += 1;
                self.finish_string()?;
            }
            b'{' | b'[' => {
                let mut depth = 0_u32;
                loop {
                    let Some(&byte) = self.body.get(self.at) else {
                        return self.fail("a closing bracket");
                    };
                    self.at += 1;
                    match byte {
                        b'"' => self.finish_string()?,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => {
                            depth -= 1;
                            if depth == 0 {
                                break;
                            }
                        }
                        _ => {}
                    }
                }
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                while let Some(&byte) = self.body.get(self.at) {
                    if matches!(byte, b',' | b']' | b'}') || is_space(byte) {
                        break;
                    }
                    self.at += 1;
                }
            }
            _ => return self.fail("a value"),
        }
        Ok(Span { start, end: self.at as u32 })
    }

    /// Consumes `text` if it is next, to the byte.
    #[inline]
    pub(crate) fn eat<const N: usize>(&mut self, text: &[u8; N]) -> Option<()> {
        let next = self.body.get(self.at..)?.first_chunk::<N>()?;
        (next == text).then(|| self.at += N)
    }

    /// Consumes a number of up to nine digits if it is next. What follows is not looked at.
    #[inline]
    pub(crate) fn digits(&mut self) -> Option<u32> {
        let mut number = 0;
        for read in 0..9 {
            match self.body.get(self.at) {
                Some(digit @ b'0'..=b'9') => number = number * 10 + u32::from(digit - b'0'),
                _ => return (read > 0).then_some(number),
            }
            self.at += 1;
        }
        Some(number)
    }

    /// Consumes what looks like a non-negative number if it is next. What follows is not looked at.
    #[inline]
    pub(crate) fn decimal(&mut self) -> Option<Span> {
        let start = self.at;
        let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
        while is_digit(self.body.get(self.at)) {
            self.at += 1;
        }
        if self.at == start {
            return None;
        }
        if self.body.get(self.at) == Some(&b'.') {
            self.at += 1;
            while self.word().is_some_and(are_digits) {
                self.at += 8;
            }
            while is_digit(self.body.get(self.at)) {
                self.at += 1;
            }
        }
        while matches!(self.body.get(self.at), Some(b'0'..=b'9' | b'e' | b'E' | b'+' | b'-')) {
            self.at += 1;
        }
        Some(self.since(start))
    }

    /// The next eight bytes, the first of them lowest.
    #[inline]
    fn word(&self) -> Option<u64> {
        let next = self.body.get(self.at..)?.first_chunk::<8>()?;
        Some(u64::from_le_bytes(*next))
    }

    /// The next byte, whatever it is, not consumed.
    #[inline]
    pub(crate) fn byte(&self, ahead: usize) -> Option<u8> {
        self.body.get(self.at + ahead).copied()
    }

    /// Consumes a value and reads it as a number; anything else is `None`.
    pub(crate) fn number(&mut self) -> Result<Option<f64>> {
        let span = self.value()?;
        Ok(number(span.of(self.body)))
    }

    /// Consumes a value and reads it as a non-negative integer; anything else is 0.
    pub(crate) fn integer(&mut self) -> Result<u64> {
        let span = self.value()?;
        Ok(integer(span.of(self.body)))
    }

    /// Where the scanner stands, in bytes.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// From `start` to here.
    pub(crate) fn since(&self, start: usize) -> Span {
        Span { start: start as u32, end: self.at as u32 }
    }

    /// Fails when anything but white space is left.
    pub(crate) fn finish(&mut self) -> Result<()> {
        if self.peek().is_some() { self.fail("the end of the answer") } else { Ok(()) }
    }
}

/// White space of JSON.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\t' | b'\r')
}

/// Words of a string that are looked through before a search for long ones begins.
const SHORT: usize = 3;
/// A word of ones.
const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
/// The highest bit of each byte.
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// The highest bit of the first byte that is a quote or a backslash; bits above it mean nothing.
fn quotes(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    // A byte borrows from the one above it where it is zero.
    (quote.wrapping_sub(ONES) & !quote | backslash.wrapping_sub(ONES) & !backslash) & HIGH
}

/// Whether all bytes are digits.
fn are_digits(word: u64) -> bool {
    let high_halves = ONES * 0xF0;
    // Six more than a digit stays in the same sixteen; what lies above the digits does not.
    (word & high_halves | (word.wrapping_add(ONES * 6) & high_halves) >> 4) == ONES * 0x33
}

/// Reads a raw JSON value as a non-negative integer; anything else is 0.
pub(crate) fn integer(raw: &[u8]) -> u64 {
    let text = std::str::from_utf8(raw).unwrap_or_default();
    text.parse().unwrap_or_else(|_| number(raw).unwrap_or_default() as u64)
}

/// Reads a raw JSON number.
pub(crate) fn number(raw: &[u8]) -> Option<f64> {
    match raw.first() {
        Some(b'-' | b'0'..=b'9') => std::str::from_utf8(raw).ok()?.parse().ok(),
        _ => None,
    }
}

/// Reads a raw JSON string (with quotes).
pub(crate) fn text(raw: &[u8]) -> Option<String> {
    if raw.len() < 2 || raw.first() != Some(&b'"') {
        return None;
    }
    let inner = &raw[1..raw.len() - 1];
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(str::to_owned);
    }
    serde_json::from_slice(raw).ok()
}

/// Whether `name`, without quotes, is one of the names Miroir keeps for itself.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    is_reserved_name(name)
}

/// What every name Miroir keeps for itself begins with.
pub(crate) const RESERVED: &[u8] = PREFIX.as_bytes();

/// Appends `value` as JSON: floats as `1.0`, strings escaped.
pub(crate) fn write_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let before = out.len();
    // Writing to a vector cannot fail; a value that cannot be JSON (none is written here) is null.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

/// Appends an integer.
pub(crate) fn write_int(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Copies the object at `span` without the top-level members for which `drop` says so (it gets
/// the name without quotes). Returns `None` when the span is not an object.
pub(crate) fn copy_object_without(
    out: &mut Vec<u8>,
    object: &[u8],
    mut drop: impl FnMut(&[u8]) -> bool,
) -> Option<()> {
    let mut scanner = Scanner { body: object, at: 0 };
    scanner.enter(b'{').ok()?;
    out.push(b'{');
    let mut first = true;
    // Members that stay and follow each other are copied as one run.
    let mut run: Option<Span> = None;
    let flush = |run: Option<Span>, first: &mut bool, out: &mut Vec<u8>| {
        if let Some(span) = run {
            if !std::mem::replace(first, false) {
                out.push(b',');
            }
            out.extend_from_slice(span.of(object));
        }
    };
    while let Some(key) = scanner.member().ok()? {
        let value = scanner.value().ok()?;
        if drop(key.inner(object)) {
            flush(run.take(), &mut first, out);
        } else {
            run = Some(Span { start: run.map_or(key.start, |run| run.start), end: value.end });
        }
    }
    flush(run, &mut first, out);
    out.push(b'}');
    Some(())
}
