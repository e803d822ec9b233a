//! `_rankingScoreDetails` of one hit, decoded for comparison.

use super::scan::{Result, Scanner, Span, number, text};

/// One entry of `_rankingScoreDetails`, in the order the engine wrote them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    /// Its name with quotes.
    pub(crate) key: Span,
    /// Its value object.
    pub(crate) value: Span,
    /// The engine's counter, echoed when the entry is rewritten.
    pub(crate) order: u32,
    pub(crate) kind: Kind,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Words {
        matching: u32,
        max: u32,
    },
    Typo {
        count: u32,
        max: u32,
    },
    Proximity(f64),
    AttributeRank(f64),
    WordPosition(f64),
    Attribute {
        order: f64,
        distance: f64,
    },
    Exactness {
        level: Exact,
        counts: Option<(u32, u32)>,
    },
    Sort {
        asc: bool,
        value: SortValue,
    },
    Geo {
        asc: bool,
        distance: Option<f64>,
    },
    Vector(Option<f64>),
    Pin(u64),
    Skipped,
    /// Something this version does not know; equal to everything.
    Unknown,
}

impl Kind {
    /// Whether the entry prints a score without the maximum it is relative to.
    pub(crate) fn relative(&self) -> bool {
        matches!(
            self,
            Self::Proximity(_)
                | Self::AttributeRank(_)
                | Self::WordPosition(_)
                | Self::Attribute { .. }
        )
    }

    /// Whether the maximum it is relative to depends on how many words the query has.
    pub(crate) fn depends_on_words(&self) -> bool {
        self.relative()
            || matches!(self, Self::Exactness { level: Exact::Start | Exact::Whole, counts: None })
    }
}

/// `matchType` of the exactness rule; a better match is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exact {
    No = 1,
    Start = 2,
    Whole = 3,
}

/// The value a sort or custom rule compared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SortValue {
    Number(f64),
    Text(Box<str>),
    Missing,
}

impl SortValue {
    /// Reads a raw JSON value.
    pub(crate) fn read(raw: &[u8]) -> Self {
        if let Some(number) = number(raw) {
            Self::Number(number)
        } else {
            text(raw).map_or(Self::Missing, |text| Self::Text(text.into()))
        }
    }
}

/// Decodes the object `scanner` stands before, appending its entries to `rules`.
pub(crate) fn decode(scanner: &mut Scanner<'_>, rules: &mut Vec<Rule>) -> Result<()> {
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        return Ok(());
    }
    scanner.enter(b'{')?;
    while let Some(key) = scanner.member()? {
        let name = key.inner(scanner.body());
        if scanner.peek() != Some(b'{') {
            let value = scanner.value()?;
            rules.push(Rule { key, value, order: 0, kind: Kind::Unknown });
            continue;
        }
        let entry = Entry::decode(scanner)?;
        let kind = entry.kind(name, scanner.body());
        rules.push(Rule { key, value: entry.span, order: entry.order, kind });
    }
    Ok(())
}

/// The members of one entry, whatever its rule.
#[derive(Default)]
struct Entry {
    span: Span,
    order: u32,
    score: f64,
    matching: Option<u32>,
    max: Option<u32>,
    typos: u32,
    max_typos: u32,
    order_score: f64,
    distance_score: f64,
    level: Option<Exact>,
    value: Span,
    distance: Option<f64>,
    similarity: Option<f64>,
    position: u64,
}

impl Entry {
    fn decode(scanner: &mut Scanner<'_>) -> Result<Self> {
        let mut entry = Self::default();
        scanner.peek();
        let start = scanner.at();
        scanner.enter(b'{')?;
        while let Some(key) = scanner.member()? {
            match key.inner(scanner.body()) {
                b"order" => entry.order = scanner.integer()? as u32,
                b"score" => entry.score = scanner.number()?.unwrap_or_default(),
                b"matchingWords" => entry.matching = Some(scanner.integer()? as u32),
                b"maxMatchingWords" => entry.max = Some(scanner.integer()? as u32),
                b"typoCount" => entry.typos = scanner.integer()? as u32,
                b"maxTypoCount" => entry.max_typos = scanner.integer()? as u32,
                b"attributeRankingOrderScore" => {
                    entry.order_score = scanner.number()?.unwrap_or_default();
                }
                b"queryWordDistanceScore" => {
                    entry.distance_score = scanner.number()?.unwrap_or_default();
                }
                b"matchType" => {
                    let value = scanner.value()?;
                    entry.level = Some(match value.inner(scanner.body()) {
                        b"exactMatch" => Exact::Whole,
                        b"matchesStart" => Exact::Start,
                        _ => Exact::No,
                    });
                }
                b"value" => entry.value = scanner.value()?,
                b"distance" => entry.distance = scanner.number()?,
                b"similarity" => entry.similarity = scanner.number()?,
                b"position" => entry.position = scanner.integer()?,
                _ => {
                    scanner.value()?;
                }
            }
        }
        entry.span = scanner.since(start);
        Ok(entry)
    }

    fn kind(&self, name: &[u8], body: &[u8]) -> Kind {
        match name {
            b"words" => Kind::Words {
                matching: self.matching.unwrap_or_default(),
                max: self.max.unwrap_or_default(),
            },
            b"typo" => Kind::Typo { count: self.typos, max: self.max_typos },
            b"proximity" => Kind::Proximity(self.score),
            b"attributeRank" => Kind::AttributeRank(self.score),
            b"wordPosition" => Kind::WordPosition(self.score),
            b"attribute" => {
                Kind::Attribute { order: self.order_score, distance: self.distance_score }
            }
            b"exactness" => Kind::Exactness {
                level: self.level.unwrap_or(Exact::No),
                counts: self.matching.zip(self.max),
            },
            b"vectorSort" => Kind::Vector(self.similarity),
            b"pin" => Kind::Pin(self.position),
            b"skipped" => Kind::Skipped,
            _ => {
                let asc = name.ends_with(b":asc");
                if !asc && !name.ends_with(b":desc") {
                    Kind::Unknown
                } else if name.starts_with(b"_geoPoint(") {
                    Kind::Geo { asc, distance: self.distance }
                } else {
                    Kind::Sort { asc, value: SortValue::read(self.value.of(body)) }
                }
            }
        }
    }
}
