//! A small JSON scanner that finds the pieces of an answer without building a tree.
//!
//! Hits leave Miroir as the bytes they came in as, so all a merge needs is to know where each
//! field begins and ends. The scanner checks what it walks through (names, strings, balanced
//! brackets) and leaves the inside of skipped values alone. It neither recurses nor panics.

use std::borrow::Cow;

use serde::de::Error as _;

use super::lex;
pub(crate) use super::lex::number;
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
        if !lex::is_utf8(body) {
            return Err(serde_json::Error::custom("answer is not UTF-8"));
        }
        Ok(Self { body, at: 0 })
    }

    /// Starts inside of `body`, whose beginning was scanned before.
    pub(crate) fn within(body: &'a [u8], at: usize) -> Self {
        Self { body, at }
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
            if byte > b' ' || !lex::is_space(byte) {
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
    #[inline]
    pub(crate) fn member(&mut self) -> Result<Option<Span>> {
        let start = match self.rest() {
            [b',', b'"', ..] => self.at + 1,
            [b'"', ..] => self.at,
            _ => return self.far_member(),
        };
        match lex::string_end(self.body, start + 1) {
            Some(end) if self.body.get(end) == Some(&b':') => {
                self.at = end + 1;
                Ok(Some(Span { start: start as u32, end: end as u32 }))
            }
            _ => self.far_member(),
        }
    }

    /// The same with white space, or the end.
    fn far_member(&mut self) -> Result<Option<Span>> {
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

    fn finish_string(&mut self) -> Result<()> {
        match lex::string_end(self.body, self.at) {
            Some(end) => {
                self.at = end;
                Ok(())
            }
            None => self.fail("the end of a string"),
        }
    }

    /// Consumes any value and tells where it was.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<Span> {
        if let Some(end) = lex::value_end(self.body, self.at) {
            let start = std::mem::replace(&mut self.at, end);
            return Ok(self.since(start));
        }
        self.far_value()
    }

    /// Consumes a value behind white space, or fails.
    #[cold]
    fn far_value(&mut self) -> Result<Span> {
        let first = self.peek();
        match lex::value_end(self.body, self.at) {
            Some(end) => {
                let start = std::mem::replace(&mut self.at, end);
                Ok(self.since(start))
            }
            None => self.fail(match first {
                Some(b'"') => "the end of a string",
                Some(b'{' | b'[') => "a closing bracket",
                _ => "a value",
            }),
        }
    }

    /// What is left of the text.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    /// Goes on at `at`.
    #[inline]
    pub(crate) fn skip_to(&mut self, at: usize) {
        self.at = at;
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

/// Reads a raw JSON value as a non-negative integer; anything else is 0.
pub(crate) fn integer(raw: &[u8]) -> u64 {
    let text = std::str::from_utf8(raw).unwrap_or_default();
    text.parse().unwrap_or_else(|_| number(raw).unwrap_or_default() as u64)
}

/// Reads a raw JSON string (with quotes); borrowed unless something is escaped in it.
pub(crate) fn text(raw: &[u8]) -> Option<Cow<'_, str>> {
    if raw.len() < 2 || raw.first() != Some(&b'"') {
        return None;
    }
    let inner = &raw[1..raw.len() - 1];
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice(raw).ok().map(Cow::Owned)
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
