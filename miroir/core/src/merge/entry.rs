//! The entries of `_rankingScoreDetails`, one rule each.
//!
//! Nodes write the entries of the usual rules in one way. These are recognised by their text, member
//! by member. Everything else is JSON like any other, and is read as such: other rules, other members,
//! another order, white space. Both ways accept the same and read the same of it.

use super::details::{Exact, Kind, Rule, Rules, SortKey};
use super::lex::{decimal, digits, number, string_end};
use super::scan::{Result, Scanner, Span, integer};

/// Decodes the value `scanner` stands before, appending its entries to `rules`; what is not an object
/// has none.
///
/// # Errors
/// When the details, their entries or the members of these are not JSON; deeper values are only
/// checked for balanced brackets.
pub(crate) fn decode(scanner: &mut Scanner<'_>, rules: &mut Rules) -> Result<()> {
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        return Ok(());
    }
    scanner.enter(b'{')?;
    loop {
        let mut rest = scanner.rest();
        while let Some((rule, behind)) = usual(scanner.body(), rest) {
            rest = behind;
            rules.push(rule);
        }
        scanner.skip_to(scanner.body().len() - rest.len());
        let Some(key) = scanner.member()? else { return Ok(()) };
        rules.push(any(scanner, key)?);
    }
}

/// Reads the entry at the beginning of `rest` as nodes write it for a usual rule, and tells what
/// follows it. `None` if it is another. `rest` is the end of `body`.
#[inline]
fn usual<'a>(body: &[u8], rest: &'a [u8]) -> Option<(Rule, &'a [u8])> {
    let rest = if let [b',', rest @ ..] = rest { rest } else { rest };
    let len = body.len();
    let [b'"', first, _, _, _, fifth, ..] = rest else { return None };
    let usual = match first {
        b'w' if *fifth == b's' => words(len, rest),
        b'w' => scored(len, rest, b"\"wordPosition\":{\"order\":", Kind::WordPosition),
        b't' => typo(len, rest),
        b'p' => scored(len, rest, b"\"proximity\":{\"order\":", Kind::Proximity),
        b'a' => scored(len, rest, b"\"attributeRank\":{\"order\":", Kind::AttributeRank),
        b'e' => exactness(len, rest),
        _ => None,
    };
    usual.or_else(|| sorted(body, rest))
}

/// What follows the name of a rule.
const ORDER: &[u8; 10] = b":{\"order\":";

/// What follows `text`, if it is next.
#[inline]
fn eat<'a, const N: usize>(rest: &'a [u8], text: &[u8; N]) -> Option<&'a [u8]> {
    let (next, behind) = rest.split_first_chunk::<N>()?;
    (next == text).then_some(behind)
}

/// The beginning of an entry, `text` with its name, and `order`.
#[inline]
fn begin<'a, const N: usize>(
    len: usize,
    rest: &'a [u8],
    text: &[u8; N],
) -> Option<(Rule, &'a [u8])> {
    let start = len - rest.len();
    let key = Span { start: start as u32, end: (start + N - ORDER.len()) as u32 };
    let (order, rest) = digits(eat(rest, text)?)?;
    Some((Rule { key, value: Span::default(), order, kind: Kind::Unknown }, rest))
}

/// The end of an entry.
#[inline]
fn end(len: usize, rest: &[u8], rule: Rule, kind: Kind) -> Option<(Rule, &[u8])> {
    let rest = eat(rest, b"}")?;
    let value = Span { start: rule.key.end + 1, end: (len - rest.len()) as u32 };
    Some((Rule { value, kind, ..rule }, rest))
}

/// The end of an entry that closes with its score.
#[inline]
fn score_and_end(len: usize, rest: &[u8], rule: Rule, kind: Kind) -> Option<(Rule, &[u8])> {
    end(len, decimal(eat(rest, b",\"score\":")?)?, rule, kind)
}

#[inline]
fn words(len: usize, rest: &[u8]) -> Option<(Rule, &[u8])> {
    let (rule, rest) = begin(len, rest, b"\"words\":{\"order\":")?;
    let (matching, max, rest) =
        counts(eat(rest, b",\"matchingWords\":")?, b",\"maxMatchingWords\":")?;
    let kind = Kind::Words { matching, max };
    score_and_end(len, rest, rule, kind)
}

#[inline]
fn typo(len: usize, rest: &[u8]) -> Option<(Rule, &[u8])> {
    let (rule, rest) = begin(len, rest, b"\"typo\":{\"order\":")?;
    let (count, max, rest) = counts(eat(rest, b",\"typoCount\":")?, b",\"maxTypoCount\":")?;
    let kind = Kind::Typo { count, max };
    score_and_end(len, rest, rule, kind)
}

/// A count and, behind `text`, how many there could be.
#[inline]
fn counts<'a, const N: usize>(rest: &'a [u8], text: &[u8; N]) -> Option<(u32, u32, &'a [u8])> {
    let (count, rest) = digits(rest)?;
    let (max, rest) = digits(eat(rest, text)?)?;
    Some((count, max, rest))
}

/// Of a rule that says no more than its score.
#[inline]
fn scored<'a, const N: usize>(
    len: usize,
    rest: &'a [u8],
    text: &[u8; N],
    kind: fn(f64) -> Kind,
) -> Option<(Rule, &'a [u8])> {
    let (rule, rest) = begin(len, rest, text)?;
    let score = eat(rest, b",\"score\":")?;
    let rest = decimal(score)?;
    let score = score.get(..score.len() - rest.len()).unwrap_or_default();
    end(len, rest, rule, kind(number(score).unwrap_or_default()))
}

#[inline]
fn exactness(len: usize, rest: &[u8]) -> Option<(Rule, &[u8])> {
    let (rule, rest) = begin(len, rest, b"\"exactness\":{\"order\":")?;
    let (level, rest) = if let Some(rest) = eat(rest, b",\"matchType\":\"noExactMatch\"") {
        (Exact::No, rest)
    } else if let Some(rest) = eat(rest, b",\"matchType\":\"exactMatch\"") {
        (Exact::Whole, rest)
    } else {
        (Exact::Start, eat(rest, b",\"matchType\":\"matchesStart\"")?)
    };
    let (words, rest) = match eat(rest, b",\"matchingWords\":") {
        Some(rest) => {
            let (matching, max, rest) = counts(rest, b",\"maxMatchingWords\":")?;
            (Some((matching, max)), rest)
        }
        None => (None, rest),
    };
    let kind = Kind::Exactness { level, counts: words };
    score_and_end(len, rest, rule, kind)
}

/// Of a field that hits are sorted by.
fn sorted<'a>(body: &[u8], rest: &'a [u8]) -> Option<(Rule, &'a [u8])> {
    let len = body.len();
    let start = len - rest.len();
    let name = Span { start: start as u32, end: string_end(body, start + 1)? as u32 };
    let asc = direction(name.inner(body))?;
    let (order, rest) = digits(eat(rest.get(name.end as usize - start..)?, ORDER)?)?;
    let rule = Rule { key: name, value: Span::default(), order, kind: Kind::Unknown };
    let mut scanner = Scanner::within(body, len - eat(rest, b",\"value\":")?.len());
    let value = scanner.value().ok()?;
    let kind = Kind::Sort { asc, value: SortKey::read(body, value) };
    end(len, rest.get(scanner.at() - (len - rest.len())..)?, rule, kind)
}

/// Whether a rule that sorts by a field does so ascending; `None` of other rules.
fn direction(name: &[u8]) -> Option<bool> {
    let asc = name.ends_with(b":asc");
    let sorts = (asc || name.ends_with(b":desc")) && !name.starts_with(b"_geoPoint(");
    sorts.then_some(asc)
}

/// An entry of any rule, whatever is in it.
fn any(scanner: &mut Scanner<'_>, key: Span) -> Result<Rule> {
    let body = scanner.body();
    if scanner.peek() != Some(b'{') {
        let value = scanner.value()?;
        return Ok(Rule { key, value, order: 0, kind: Kind::Unknown });
    }
    let members = Members::read(scanner)?;
    let name = key.inner(body);
    let order = integer(members.order.of(body)) as u32;
    Ok(Rule { key, value: members.all, order, kind: members.kind(name, body) })
}

/// Where the members of an entry are, whatever its rule; those it does not have are empty.
#[derive(Default)]
struct Members {
    all: Span,
    order: Span,
    score: Span,
    matching: Span,
    max: Span,
    typos: Span,
    max_typos: Span,
    order_score: Span,
    distance_score: Span,
    level: Span,
    value: Span,
    distance: Span,
    similarity: Span,
    position: Span,
}

impl Members {
    fn read(scanner: &mut Scanner<'_>) -> Result<Self> {
        let mut members = Self::default();
        scanner.peek();
        let start = scanner.at();
        scanner.enter(b'{')?;
        while let Some(key) = scanner.member()? {
            let value = scanner.value()?;
            match key.inner(scanner.body()) {
                b"order" => members.order = value,
                b"score" => members.score = value,
                b"matchingWords" => members.matching = value,
                b"maxMatchingWords" => members.max = value,
                b"typoCount" => members.typos = value,
                b"maxTypoCount" => members.max_typos = value,
                b"attributeRankingOrderScore" => members.order_score = value,
                b"queryWordDistanceScore" => members.distance_score = value,
                b"matchType" => members.level = value,
                b"value" => members.value = value,
                b"distance" => members.distance = value,
                b"similarity" => members.similarity = value,
                b"position" => members.position = value,
                _ => {}
            }
        }
        members.all = scanner.since(start);
        Ok(members)
    }

    fn kind(&self, name: &[u8], body: &[u8]) -> Kind {
        let float = |span: Span| number(span.of(body));
        let score = |span: Span| float(span).unwrap_or_default();
        let count = |span: Span| integer(span.of(body)) as u32;
        let given = |span: Span| (span != Span::default()).then(|| count(span));
        match name {
            b"words" => Kind::Words { matching: count(self.matching), max: count(self.max) },
            b"typo" => Kind::Typo { count: count(self.typos), max: count(self.max_typos) },
            b"proximity" => Kind::Proximity(score(self.score)),
            b"attributeRank" => Kind::AttributeRank(score(self.score)),
            b"wordPosition" => Kind::WordPosition(score(self.score)),
            b"attribute" => Kind::Attribute {
                order: score(self.order_score),
                distance: score(self.distance_score),
            },
            b"exactness" => Kind::Exactness {
                level: match self.level.inner(body) {
                    b"exactMatch" => Exact::Whole,
                    b"matchesStart" => Exact::Start,
                    _ => Exact::No,
                },
                counts: given(self.matching).zip(given(self.max)),
            },
            b"vectorSort" => Kind::Vector(float(self.similarity)),
            b"pin" => Kind::Pin(integer(self.position.of(body))),
            b"skipped" => Kind::Skipped,
            name => match direction(name) {
                Some(asc) => Kind::Sort { asc, value: SortKey::read(body, self.value) },
                None if name.ends_with(b":asc") || name.ends_with(b":desc") => {
                    Kind::Geo { asc: name.ends_with(b":asc"), distance: float(self.distance) }
                }
                None => Kind::Unknown,
            },
        }
    }
}
