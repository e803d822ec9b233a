//! A decoder that reads all of a page at once, byte by byte: what the lazy one is compared with.

use crate::documents::{ORDER, Stamp, is_reserved_name};
use crate::merge::details::{Exact, Kind, Marks, Rule, SortKey};
use crate::merge::hit::FieldKind;
use crate::merge::scan::Span;

/// A page, all of it decoded. `None` stands for an error.
#[derive(Debug, Default, PartialEq)]
pub(super) struct EagerPage {
    pub(super) body: Vec<u8>,
    pub(super) hits: Vec<EagerHit>,
    pub(super) total: u64,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct EagerHit {
    pub(super) fields: Vec<(Span, Span, FieldKind)>,
    pub(super) score: Option<f64>,
    pub(super) rules: Vec<Rule>,
    pub(super) marks: Marks,
    pub(super) stamp: Stamp,
}

/// Decodes what [`crate::merge::Page::decode`] decodes, less facets and vectors, of which there must
/// be none.
pub(super) fn decode(body: &[u8]) -> Option<EagerPage> {
    std::str::from_utf8(body).ok()?;
    let mut reader = Reader { body, at: 0 };
    let mut page = EagerPage { body: body.to_vec(), ..<_>::default() };
    reader.enter(b'{')?;
    while let Some(key) = reader.member()? {
        match key.inner(body) {
            b"hits" => {
                reader.enter(b'[')?;
                while reader.element()? {
                    page.hits.push(reader.hit()?);
                }
            }
            b"estimatedTotalHits" | b"totalHits" => page.total = reader.integer()?,
            b"semanticHitCount" | b"processingTimeMs" => {
                reader.integer()?;
            }
            _ => {
                reader.value()?;
            }
        }
    }
    reader.peek().is_none().then_some(page)
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.body.get(self.at) {
            self.at += 1;
        }
        self.body.get(self.at).copied()
    }

    fn enter(&mut self, bracket: u8) -> Option<()> {
        (self.peek() == Some(bracket)).then(|| self.at += 1)
    }

    fn member(&mut self) -> Option<Option<Span>> {
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Some(None);
            }
            Some(b',') => self.at += 1,
            _ => {}
        }
        if self.peek() != Some(b'"') {
            return None;
        }
        let key = self.value()?;
        self.enter(b':')?;
        Some(Some(key))
    }

    fn element(&mut self) -> Option<bool> {
        match self.peek()? {
            b']' => {
                self.at += 1;
                return Some(false);
            }
            b',' => self.at += 1,
            _ => {}
        }
        Some(true)
    }

    fn string(&mut self) -> Option<()> {
        loop {
            match self.body.get(self.at)? {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                _ => self.at += 1,
            }
        }
    }

    fn value(&mut self) -> Option<Span> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => {
                self.at += 1;
                self.string()?;
            }
            b'{' | b'[' => {
                let mut depth = 0_u32;
                loop {
                    let byte = *self.body.get(self.at)?;
                    self.at += 1;
                    match byte {
                        b'"' => self.string()?,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                while let Some(byte) = self.body.get(self.at)
                    && !b",]} \n\t\r".contains(byte)
                {
                    self.at += 1;
                }
            }
            _ => return None,
        }
        Some(Span { start: start as u32, end: self.at as u32 })
    }

    fn number(&mut self) -> Option<Option<f64>> {
        Some(number(self.value()?.of(self.body)))
    }

    fn integer(&mut self) -> Option<u64> {
        let text = std::str::from_utf8(self.value()?.of(self.body)).ok()?;
        let float = || number(text.as_bytes()).unwrap_or_default() as u64;
        Some(text.parse().unwrap_or_else(|_| float()))
    }

    fn hit(&mut self) -> Option<EagerHit> {
        let mut hit = EagerHit::default();
        self.enter(b'{')?;
        while let Some(key) = self.member()? {
            let name = key.inner(self.body);
            self.peek();
            let start = self.at;
            let kind = match name {
                b"_rankingScore" => FieldKind::Score,
                b"_rankingScoreDetails" => FieldKind::Details,
                b"_formatted" | b"_matchesPosition" => FieldKind::Mirror { reserved: false },
                name if name == ORDER.as_bytes() => FieldKind::Order,
                name if is_reserved_name(name) => FieldKind::Reserved,
                _ => FieldKind::Plain,
            };
            if kind == FieldKind::Details {
                self.details(&mut hit)?;
            } else {
                self.value()?;
            }
            let value = Span { start: start as u32, end: self.at as u32 };
            let raw = value.of(self.body);
            let kind = match kind {
                FieldKind::Mirror { .. } => {
                    FieldKind::Mirror { reserved: raw.windows(8).any(|part| part == b"_miroir_") }
                }
                kind => kind,
            };
            if kind == FieldKind::Score {
                hit.score = number(raw);
            }
            if name == ORDER.as_bytes() {
                hit.stamp = Stamp::read(raw);
            }
            hit.fields.push((key, value, kind));
        }
        for rule in &hit.rules {
            match rule.kind {
                Kind::Vector(_) => hit.marks.semantic = true,
                Kind::Skipped => hit.marks.skipped = true,
                Kind::Pin(slot) => hit.marks.pinned = Some(slot),
                _ => {}
            }
        }
        Some(hit)
    }

    fn details(&mut self, hit: &mut EagerHit) -> Option<()> {
        if self.peek() != Some(b'{') {
            return self.value().map(|_| ());
        }
        self.enter(b'{')?;
        while let Some(key) = self.member()? {
            let name = key.inner(self.body);
            let mut rule = Rule { key, value: Span::default(), order: 0, kind: Kind::Unknown };
            if self.peek() == Some(b'{') {
                let start = self.at;
                (rule.order, rule.kind) = self.entry(name)?;
                rule.value = Span { start: start as u32, end: self.at as u32 };
            } else {
                rule.value = self.value()?;
            }
            hit.rules.push(rule);
        }
        Some(())
    }

    fn entry(&mut self, name: &[u8]) -> Option<(u32, Kind)> {
        let (mut order, mut score, mut typos, mut max_typos, mut place) = (0, 0.0, 0, 0, 0);
        let (mut matching, mut max) = (None, None);
        let (mut order_score, mut distance_score) = (0.0, 0.0);
        let (mut distance, mut similarity) = (None, None);
        let mut level = Exact::No;
        let mut value = Span::default();
        self.enter(b'{')?;
        while let Some(key) = self.member()? {
            match key.inner(self.body) {
                b"order" => order = self.integer()? as u32,
                b"score" => score = self.number()?.unwrap_or_default(),
                b"matchingWords" => matching = Some(self.integer()? as u32),
                b"maxMatchingWords" => max = Some(self.integer()? as u32),
                b"typoCount" => typos = self.integer()? as u32,
                b"maxTypoCount" => max_typos = self.integer()? as u32,
                b"attributeRankingOrderScore" => order_score = self.number()?.unwrap_or_default(),
                b"queryWordDistanceScore" => distance_score = self.number()?.unwrap_or_default(),
                b"matchType" => {
                    level = match self.value()?.inner(self.body) {
                        b"exactMatch" => Exact::Whole,
                        b"matchesStart" => Exact::Start,
                        _ => Exact::No,
                    }
                }
                b"value" => value = self.value()?,
                b"distance" => distance = self.number()?,
                b"similarity" => similarity = self.number()?,
                b"position" => place = self.integer()?,
                _ => {
                    self.value()?;
                }
            }
        }
        let asc = name.ends_with(b":asc");
        let kind = match name {
            b"words" => {
                Kind::Words { matching: matching.unwrap_or_default(), max: max.unwrap_or_default() }
            }
            b"typo" => Kind::Typo { count: typos, max: max_typos },
            b"proximity" => Kind::Proximity(score),
            b"attributeRank" => Kind::AttributeRank(score),
            b"wordPosition" => Kind::WordPosition(score),
            b"attribute" => Kind::Attribute { order: order_score, distance: distance_score },
            b"exactness" => Kind::Exactness { level, counts: matching.zip(max) },
            b"vectorSort" => Kind::Vector(similarity),
            b"pin" => Kind::Pin(place),
            b"skipped" => Kind::Skipped,
            name if !asc && !name.ends_with(b":desc") => Kind::Unknown,
            name if name.starts_with(b"_geoPoint(") => Kind::Geo { asc, distance },
            _ => Kind::Sort { asc, value: SortKey::read(self.body, value) },
        };
        Some((order, kind))
    }
}

fn number(raw: &[u8]) -> Option<f64> {
    raw.first().filter(|first| first.is_ascii_digit() || **first == b'-')?;
    std::str::from_utf8(raw).ok()?.parse().ok()
}
