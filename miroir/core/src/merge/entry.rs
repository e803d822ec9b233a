//! The entries of `_rankingScoreDetails`, one rule each: walked over, or read as well.
//!
//! Nodes write the entries of the usual rules in one way. These are recognised by their text, member
//! by member, at about an instruction a byte. Everything else is JSON like any other, and is walked
//! through as such: other rules, other members, another order, white space. Both ways accept the same
//! and read the same of it.

use super::details::{Exact, Kind, Rule, SortValue};
use super::scan::{Result, Scanner, Span, integer, number};

/// Walks over the value `scanner` stands before and hands out its entries, if it is an object.
///
/// Only if it is to `READ` are all entries read; otherwise those of usual rules are
/// [`Kind::Unknown`], and only pins, similarities and [`Kind::Skipped`] are told.
pub(super) fn walk<const READ: bool>(
    scanner: &mut Scanner<'_>,
    take: &mut impl FnMut(Rule),
) -> Result<()> {
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        return Ok(());
    }
    scanner.enter(b'{')?;
    loop {
        let mut look = scanner.clone();
        if let Some(rule) = usual::<READ>(&mut look) {
            *scanner = look;
            take(rule);
            continue;
        }
        let Some(key) = scanner.member()? else { return Ok(()) };
        take(any::<READ>(scanner, key)?);
    }
}

/// An entry as nodes write it for a usual rule. `None` if it is another, with `look` somewhere in it.
#[inline]
fn usual<const READ: bool>(look: &mut Scanner<'_>) -> Option<Rule> {
    if look.byte(0) == Some(b',') {
        look.eat(b",")?;
    }
    if look.byte(0) != Some(b'"') {
        return None;
    }
    let begin = look.clone();
    let rule = match look.byte(1)? {
        b'w' if look.byte(5) == Some(b's') => words::<READ>(look),
        b'w' => score::<READ, _>(look, b"\"wordPosition\":{\"order\":", Kind::WordPosition),
        b't' => typo::<READ>(look),
        b'p' => score::<READ, _>(look, b"\"proximity\":{\"order\":", Kind::Proximity),
        b'a' => score::<READ, _>(look, b"\"attributeRank\":{\"order\":", Kind::AttributeRank),
        b'e' => exactness::<READ>(look),
        _ => None,
    };
    rule.or_else(|| {
        *look = begin;
        sort::<READ>(look)
    })
}

/// What follows the name of a rule.
const ORDER: &[u8; 10] = b":{\"order\":";

/// Consumes the beginning of an entry: its name, and `order`.
#[inline]
fn head<const N: usize>(look: &mut Scanner<'_>, text: &[u8; N]) -> Option<Rule> {
    let start = look.at();
    look.eat(text)?;
    let key = Span { start: start as u32, end: (start + N - ORDER.len()) as u32 };
    Some(Rule { key, value: Span::default(), order: look.digits()?, kind: Kind::Unknown })
}

/// Consumes the end of an entry.
#[inline]
fn end(look: &mut Scanner<'_>, mut rule: Rule, kind: Kind) -> Option<Rule> {
    look.eat(b"}")?;
    rule.value = look.since(rule.key.end as usize + 1);
    rule.kind = kind;
    Some(rule)
}

#[inline]
fn words<const READ: bool>(look: &mut Scanner<'_>) -> Option<Rule> {
    let rule = head(look, b"\"words\":{\"order\":")?;
    look.eat(b",\"matchingWords\":")?;
    let matching = look.digits()?;
    look.eat(b",\"maxMatchingWords\":")?;
    let max = look.digits()?;
    look.eat(b",\"score\":")?;
    look.decimal()?;
    end(look, rule, if READ { Kind::Words { matching, max } } else { Kind::Unknown })
}

#[inline]
fn typo<const READ: bool>(look: &mut Scanner<'_>) -> Option<Rule> {
    let rule = head(look, b"\"typo\":{\"order\":")?;
    look.eat(b",\"typoCount\":")?;
    let count = look.digits()?;
    look.eat(b",\"maxTypoCount\":")?;
    let max = look.digits()?;
    look.eat(b",\"score\":")?;
    look.decimal()?;
    end(look, rule, if READ { Kind::Typo { count, max } } else { Kind::Unknown })
}

/// Of a rule that says no more than its score.
#[inline]
fn score<const READ: bool, const N: usize>(
    look: &mut Scanner<'_>,
    text: &[u8; N],
    kind: fn(f64) -> Kind,
) -> Option<Rule> {
    let rule = head(look, text)?;
    look.eat(b",\"score\":")?;
    let score = look.decimal()?;
    let read = || kind(number(score.of(look.body())).unwrap_or_default());
    let kind = if READ { read() } else { Kind::Unknown };
    end(look, rule, kind)
}

#[inline]
fn exactness<const READ: bool>(look: &mut Scanner<'_>) -> Option<Rule> {
    let rule = head(look, b"\"exactness\":{\"order\":")?;
    look.eat(b",\"matchType\":\"")?;
    let level = match look.byte(0)? {
        b'n' => {
            look.eat(b"noExactMatch\"")?;
            Exact::No
        }
        b'e' => {
            look.eat(b"exactMatch\"")?;
            Exact::Whole
        }
        _ => {
            look.eat(b"matchesStart\"")?;
            Exact::Start
        }
    };
    let mut counts = None;
    if look.eat(b",\"matchingWords\":").is_some() {
        let matching = look.digits()?;
        look.eat(b",\"maxMatchingWords\":")?;
        counts = Some((matching, look.digits()?));
    }
    look.eat(b",\"score\":")?;
    look.decimal()?;
    end(look, rule, if READ { Kind::Exactness { level, counts } } else { Kind::Unknown })
}

/// Of a field that hits are sorted by.
fn sort<const READ: bool>(look: &mut Scanner<'_>) -> Option<Rule> {
    let key = look.string().ok()?;
    let asc = direction(key.inner(look.body()))?;
    look.eat(ORDER)?;
    let order = look.digits()?;
    look.eat(b",\"value\":")?;
    let value = look.value().ok()?;
    let rule = Rule { key, value: Span::default(), order, kind: Kind::Unknown };
    let read = || Kind::Sort { asc, value: SortValue::read(value.of(look.body())) };
    let kind = if READ { read() } else { Kind::Unknown };
    end(look, rule, kind)
}

/// Whether a rule that sorts by a field does so ascending; `None` of other rules.
fn direction(name: &[u8]) -> Option<bool> {
    let asc = name.ends_with(b":asc");
    let sorts = (asc || name.ends_with(b":desc")) && !name.starts_with(b"_geoPoint(");
    sorts.then_some(asc)
}

/// An entry of any rule, whatever is in it.
fn any<const READ: bool>(scanner: &mut Scanner<'_>, key: Span) -> Result<Rule> {
    let body = scanner.body();
    if scanner.peek() != Some(b'{') {
        let value = scanner.value()?;
        return Ok(Rule { key, value, order: 0, kind: Kind::Unknown });
    }
    let members = Members::read(scanner)?;
    let name = key.inner(body);
    let told = READ || matches!(name, b"pin" | b"vectorSort" | b"skipped");
    let kind = if told { members.kind(name, body) } else { Kind::Unknown };
    let order = if READ { integer(members.order.of(body)) as u32 } else { 0 };
    Ok(Rule { key, value: members.all, order, kind })
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
                Some(asc) => Kind::Sort { asc, value: SortValue::read(self.value.of(body)) },
                None if name.ends_with(b":asc") || name.ends_with(b":desc") => {
                    Kind::Geo { asc: name.ends_with(b":asc"), distance: float(self.distance) }
                }
                None => Kind::Unknown,
            },
        }
    }
}
