//! Merging document listings, and hiding Miroir's fields in single documents.

use std::borrow::Cow;
use std::cmp::Ordering;

use bytes::Bytes;

use super::details::SortValue;
use super::normalize;
use super::order::{Tournament, distances, sort_values};
use super::scan::{
    RESERVED, Result, Scanner, Span, copy_object_without, is_reserved, number, write_int,
};
use crate::documents::{ORDER, Stamp};

/// What the merge of a document listing needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentOptions {
    /// The client's offset. The leaves must have been asked for `offset + limit` from 0.
    pub offset: usize,
    /// The client's limit: documents to return at most.
    pub limit: usize,
    /// Whether the listing is sorted: results then carry `_federation.weightedScoreValues`.
    pub sorted: bool,
}

/// One leaf's listing.
#[derive(Debug, Default)]
struct Listing<'a> {
    body: &'a [u8],
    results: Vec<Document<'a>>,
    total: u64,
}

#[derive(Debug)]
struct Document<'a> {
    span: Span,
    keys: Vec<SortKey<'a>>,
    stamp: Stamp,
    /// Whether there is something to hide.
    marked: bool,
}

#[derive(Debug)]
enum SortKey<'a> {
    Field { asc: bool, value: SortValue<'a> },
    Geo { asc: bool, distance: Option<f64> },
}

/// Merges the leaves' `documents` or `documents/fetch` answers into
/// `{results, offset, limit, total}`.
///
/// Listings are merged in each leaf's own order, which is never changed: sorted ones by the values the
/// engine compared, equal documents and unsorted listings by stamp, then by leaf.
///
/// # Errors
/// When a body is not a listing.
pub fn merge_documents(bodies: &[Bytes], options: &DocumentOptions) -> Result<Bytes> {
    let listings: Vec<Listing<'_>> =
        bodies.iter().map(|body| Listing::decode(body, options)).collect::<Result<_>>()?;
    let total = listings.iter().fold(0_u64, |sum, listing| sum.saturating_add(listing.total));

    let mut out = Vec::new();
    out.extend_from_slice(b"{\"results\":[");
    let mut first = true;
    let mut emit = |listing: &Listing<'_>, document: &Document<'_>| {
        if !std::mem::replace(&mut first, false) {
            out.push(b',');
        }
        let raw = document.span.of(listing.body);
        let start = out.len();
        let hidden = |name: &[u8]| is_reserved(name) || (options.sorted && name == b"_federation");
        if !document.marked || copy_object_without(&mut out, raw, hidden).is_none() {
            out.truncate(start);
            out.extend_from_slice(raw);
        }
    };
    merge(&listings, options, &mut emit);
    out.extend_from_slice(b"],\"offset\":");
    write_int(&mut out, options.offset as u64);
    out.extend_from_slice(b",\"limit\":");
    write_int(&mut out, options.limit as u64);
    out.extend_from_slice(b",\"total\":");
    write_int(&mut out, total);
    out.push(b'}');
    Ok(Bytes::from(out))
}

fn merge<'a>(
    listings: &[Listing<'a>],
    options: &DocumentOptions,
    emit: &mut impl FnMut(&Listing<'a>, &Document<'a>),
) {
    if listings.is_empty() {
        return;
    }
    let mut heads = vec![0; listings.len()];
    let beats = |heads: &[usize], a: u32, b: u32| {
        let head = |list: u32| listings[list as usize].results.get(heads[list as usize]);
        match (head(a), head(b)) {
            (Some(x), Some(y)) => {
                compare(&x.keys, &y.keys).then(x.stamp.cmp(&y.stamp)).then(a.cmp(&b)).is_lt()
            }
            (x, _) => x.is_some(),
        }
    };
    let mut tournament = Tournament::new(listings.len(), |a, b| beats(&heads, a, b));
    for at in 0..options.offset.saturating_add(options.limit) {
        let list = tournament.winner() as usize;
        let Some(document) = listings[list].results.get(heads[list]) else { return };
        if at >= options.offset {
            emit(&listings[list], document);
        }
        heads[list] += 1;
        tournament.replay(|a, b| beats(&heads, a, b));
    }
}

fn compare(a: &[SortKey<'_>], b: &[SortKey<'_>]) -> Ordering {
    for pair in a.iter().zip(b) {
        let order = match pair {
            (SortKey::Field { asc, value: x }, SortKey::Field { value: y, .. }) => {
                sort_values(*asc, x, y)
            }
            (SortKey::Geo { asc, distance: x }, SortKey::Geo { distance: y, .. }) => {
                distances(*asc, *x, *y)
            }
            _ => Ordering::Equal,
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

impl<'a> Listing<'a> {
    fn decode(body: &'a Bytes, options: &DocumentOptions) -> Result<Self> {
        let mut scanner = Scanner::new(body)?;
        let mut listing = Self { body: &body[..], ..Self::default() };
        scanner.enter(b'{')?;
        while let Some(key) = scanner.member()? {
            match key.inner(body) {
                b"results" => {
                    scanner.enter(b'[')?;
                    while scanner.element()? {
                        listing.results.push(Document::decode(&mut scanner, options)?);
                    }
                }
                b"total" => listing.total = scanner.integer()?,
                _ => {
                    scanner.value()?;
                }
            }
        }
        scanner.finish()?;
        Ok(listing)
    }
}

impl<'a> Document<'a> {
    fn decode(scanner: &mut Scanner<'a>, options: &DocumentOptions) -> Result<Self> {
        let body = scanner.body();
        let mut document = Self {
            span: Span::default(),
            keys: Vec::new(),
            stamp: Stamp::NONE,
            marked: options.sorted,
        };
        if scanner.peek() != Some(b'{') {
            document.span = scanner.value()?;
            return Ok(document);
        }
        let start = scanner.at();
        scanner.enter(b'{')?;
        while let Some(key) = scanner.member()? {
            let name = key.inner(body);
            if options.sorted && name == b"_federation" && scanner.peek() == Some(b'{') {
                document.keys = federation(scanner)?;
                continue;
            }
            let value = scanner.value()?;
            if is_reserved(name) {
                document.marked = true;
                if name == ORDER.as_bytes() {
                    document.stamp = Stamp::read(value.of(body));
                }
            }
        }
        document.span = scanner.since(start);
        Ok(document)
    }
}

fn federation<'a>(scanner: &mut Scanner<'a>) -> Result<Vec<SortKey<'a>>> {
    let mut keys = Vec::new();
    scanner.enter(b'{')?;
    while let Some(key) = scanner.member()? {
        if key.inner(scanner.body()) != b"weightedScoreValues" || scanner.peek() != Some(b'[') {
            scanner.value()?;
            continue;
        }
        scanner.enter(b'[')?;
        while scanner.element()? {
            if scanner.peek() != Some(b'{') {
                scanner.value()?;
                continue;
            }
            scanner.enter(b'{')?;
            while let Some(kind) = scanner.member()? {
                let geo = kind.inner(scanner.body()) == b"geoSort";
                if scanner.peek() == Some(b'{') {
                    keys.push(sort_key(scanner, geo)?);
                } else {
                    scanner.value()?;
                }
            }
        }
    }
    Ok(keys)
}

fn sort_key<'a>(scanner: &mut Scanner<'a>, geo: bool) -> Result<SortKey<'a>> {
    let (mut asc, mut value) = (true, Span::default());
    scanner.enter(b'{')?;
    while let Some(key) = scanner.member()? {
        let span = scanner.value()?;
        match key.inner(scanner.body()) {
            b"asc" => asc = span.of(scanner.body()) == b"true",
            b"value" | b"distance" => value = span,
            _ => {}
        }
    }
    let raw = value.of(scanner.body());
    Ok(if geo {
        SortKey::Geo { asc, distance: number(raw) }
    } else {
        // Documents are sorted by normal forms and shown with their own spelling.
        let value = match SortValue::read(raw) {
            SortValue::Text(text) => SortValue::Text(normalize::facet(&text).into()),
            other => other,
        };
        SortKey::Field { asc, value }
    })
}

/// A single document without Miroir's top-level fields; borrowed when it has none, or when it is
/// not an object.
#[must_use]
pub fn strip_reserved(document: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memmem::find(document, RESERVED).is_none() {
        return Cow::Borrowed(document);
    }
    let mut out = Vec::with_capacity(document.len());
    match copy_object_without(&mut out, document, is_reserved) {
        Some(()) => Cow::Owned(out),
        None => Cow::Borrowed(document),
    }
}
