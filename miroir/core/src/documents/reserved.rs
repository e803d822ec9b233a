//! The fields that belong to Miroir: spliced into documents, encoded so that no query can hit them.
//!
//! Meilisearch indexes a number as a word. With a shard number in every document the query `12`
//! finds all of shard 12, and a timestamp in milliseconds makes the prefix `17` match everything. So
//! values are characters of Unicode's private use area, U+E000 to U+EFFF, one per base-4096 digit:
//! no keyboard types them, the tokenizer knows no word in them, and equality, `IN` and comparison
//! filters work on them as on any string.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use miroir_api::ShardId;
use miroir_api::meili::ApiError;

use super::payload::RawDocument;
use super::scan;

/// What the name of every reserved field begins with. Other names that do are the clients'.
pub const PREFIX: &str = "_miroir_";
/// The shard of the document.
pub const SHARD: &str = "_miroir_shard";
/// When the document was last written.
pub const UPDATED_AT: &str = "_miroir_updated_at";
/// When the document shall vanish.
pub const EXPIRES_AT: &str = "_miroir_expires_at";
/// Where the document came first, among all of an index.
pub const ORDER: &str = "_miroir_order";
/// All of them.
pub const RESERVED: [&str; 4] = [SHARD, UPDATED_AT, EXPIRES_AT, ORDER];

/// The character of the digit zero.
const ZERO: u32 = 0xE000;
/// Digits per character.
const BASE: u32 = 4096;
/// The largest timestamp: 48 bits, which last for 8,900 years.
const MAX_TIMESTAMP: u64 = (1 << 48) - 1;

/// Does the name belong to Miroir?
pub fn is_reserved(name: &str) -> bool {
    is_reserved_name(name.as_bytes())
}

/// As [`is_reserved`], of a name in bytes.
pub(crate) fn is_reserved_name(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes()) && RESERVED.iter().any(|own| own.as_bytes() == name)
}

/// Whether a text names a reserved field somewhere, as a word of its own.
pub fn names_reserved(text: &str) -> bool {
    named(text).next().is_some()
}

/// Where a text names reserved fields: the places of their prefixes.
pub fn named(text: &str) -> impl Iterator<Item = usize> {
    memchr::memmem::find_iter(text.as_bytes(), PREFIX).filter(|at| {
        let rest = &text[*at..];
        let ends =
            |after: &str| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-');
        RESERVED.iter().any(|own| rest.strip_prefix(own).is_some_and(ends))
    })
}

/// The first of `names` that is a top-level key of the document, however it is spelt there.
pub fn find_reserved(doc: &RawDocument, names: &[&str]) -> Option<String> {
    if !may_hold_reserved(&doc.bytes) {
        return None;
    }
    scan::members(&doc.bytes)
        .find_map(|member| names.iter().find(|name| member.is(name)).map(|name| (*name).to_owned()))
}

/// Only where this holds is the document worth walking over.
fn may_hold_reserved(bytes: &[u8]) -> bool {
    static PLAIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PREFIX));
    PLAIN.find(bytes).is_some() || memchr::memchr(b'\\', bytes).is_some()
}

/// The refusal of a document in which a client wrote a reserved field.
pub fn reserved_field(name: &str) -> ApiError {
    ApiError::new(
        "miroir_reserved_field",
        format!("The field `{name}` is reserved. Remove it from the documents."),
    )
}

fn digit(value: u32) -> char {
    // Always a character: the range lies inside the private use area.
    char::from_u32(ZERO + value % BASE).unwrap_or('\u{E000}')
}

fn undigit(c: char) -> Option<u32> {
    u32::from(c).checked_sub(ZERO).filter(|value| *value < BASE)
}

/// The value of [`SHARD`] for a shard of an index with that many shards.
///
/// One character up to 4,096 shards, two up to 16,777,216, three above; injective for one number of
/// shards. The order of the values means nothing.
pub fn shard_value(shard: u32, shards: u32) -> String {
    shard_digits(shard, shards).collect()
}

fn shard_digits(shard: u32, shards: u32) -> impl Iterator<Item = char> {
    let first = usize::from(shards <= BASE * BASE) + usize::from(shards <= BASE);
    [shard / (BASE * BASE), shard / BASE, shard].into_iter().skip(first).map(digit)
}

/// Like [`member`] for [`SHARD`], without allocating for the value.
pub(super) fn shard_member(shard: ShardId, shards: u32, out: &mut Vec<u8>) {
    member(SHARD, "", out);
    // Back over the closing quote.
    out.pop();
    for c in shard_digits(shard.0, shards) {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.push(b'"');
}

/// Reads a value of [`shard_value`]. `None` when the text is none.
pub fn parse_shard_value(text: &str) -> Option<u32> {
    let mut shard = 0u32;
    for (index, c) in text.chars().enumerate() {
        if index == 3 {
            return None;
        }
        shard = shard.checked_mul(BASE)?.checked_add(undigit(c)?)?;
    }
    (!text.is_empty()).then_some(shard)
}

/// The value of [`UPDATED_AT`] and [`EXPIRES_AT`] for milliseconds since 1970: four characters, most
/// significant first. Comparing the texts compares the times. What needs more than 48 bits is taken
/// as the end of time.
pub fn timestamp_value(ms: u64) -> String {
    let ms = ms.min(MAX_TIMESTAMP);
    [36, 24, 12, 0].iter().map(|shift| digit((ms >> shift & 0xFFF) as u32)).collect()
}

/// Reads a value of [`timestamp_value`]. `None` when the text is none.
pub fn parse_timestamp_value(text: &str) -> Option<u64> {
    let mut digits = text.chars();
    let mut ms = 0;
    for _ in 0..4 {
        ms = ms << 12 | u64::from(undigit(digits.next()?)?);
    }
    digits.next().is_none().then_some(ms)
}

/// Appends the document to `out` with the fields put before its last brace.
///
/// Names and values must need no escaping in JSON, which holds for the reserved names and for the
/// values this module makes.
pub fn splice(doc: &RawDocument, fields: &[(&str, &str)], out: &mut Vec<u8>) {
    let mut members = Vec::new();
    for (name, value) in fields {
        member(name, value, &mut members);
    }
    splice_members(doc, &members, out);
}

/// Appends `,"name":"value"`.
pub(super) fn member(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

/// Like [`splice`], with members made by [`member`].
pub(super) fn splice_members(doc: &RawDocument, members: &[u8], out: &mut Vec<u8>) {
    let bytes = doc.bytes.trim_ascii_end();
    let [open @ .., b'}'] = bytes else {
        out.extend_from_slice(bytes);
        return;
    };
    out.extend_from_slice(open);
    let is_empty = open.trim_ascii_end().trim_ascii_start() == b"{";
    out.extend_from_slice(members.get(usize::from(is_empty)..).unwrap_or_default());
    out.push(b'}');
}

/// Takes every reserved top-level member out of an object. Undoes [`splice`] byte for byte.
pub fn strip(object: &[u8]) -> Cow<'_, [u8]> {
    if !may_hold_reserved(object) {
        return Cow::Borrowed(object);
    }
    without(object, |member| is_reserved_name(&member.name()))
}

/// Takes one top-level member out of a document: its last value, and the document without it.
pub fn take(doc: &RawDocument, name: &str) -> Option<(Bytes, RawDocument)> {
    if !may_hold_reserved(&doc.bytes) && is_reserved(name) {
        return None;
    }
    let value = scan::members(&doc.bytes).filter(|m| m.is(name)).last()?.value;
    let rest = without(&doc.bytes, |member| member.is(name)).into_owned();
    let rest = RawDocument { bytes: Bytes::from(rest), repeated: doc.repeated };
    Some((doc.bytes.slice_ref(value), rest))
}

fn without(object: &[u8], unwanted: impl Fn(&scan::Member<'_>) -> bool) -> Cow<'_, [u8]> {
    let mut out: Option<Vec<u8>> = None;
    // Everything before this offset has been copied or dropped.
    let mut copied = 0;
    // End of the last member that stays, whose following comma goes with the member behind it.
    let mut kept_end: Option<usize> = None;
    let mut drop_comma_behind = false;
    for member in scan::members(object) {
        if unwanted(&member) {
            let out = out.get_or_insert_with(|| Vec::with_capacity(object.len()));
            let from = match kept_end {
                // From the comma on, which is gone already behind another unwanted member.
                Some(end) => end.max(copied) + comma(&object[end.max(copied)..member.start]),
                None if drop_comma_behind => copied,
                None => member.start,
            };
            out.extend_from_slice(&object[copied..from]);
            copied = member.end;
            drop_comma_behind = kept_end.is_none();
        } else {
            if drop_comma_behind {
                // The members before this one are gone, and so is the comma between.
                let gap = &object[copied..member.start];
                copied += (comma(gap) + 1).min(gap.len());
                drop_comma_behind = false;
            }
            kept_end = Some(member.end);
        }
    }
    match out {
        None => Cow::Borrowed(object),
        Some(mut out) => {
            out.extend_from_slice(&object[copied..]);
            Cow::Owned(out)
        }
    }
}

fn comma(gap: &[u8]) -> usize {
    memchr::memchr(b',', gap).unwrap_or(gap.len())
}
