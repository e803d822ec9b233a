//! `_rankingScoreDetails` of one hit, decoded for comparison.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::scan::{Span, number, text};

/// One entry of `_rankingScoreDetails`, in the order the engine wrote them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rule {
    /// Its name with quotes.
    pub(crate) key: Span,
    /// Its value object.
    pub(crate) value: Span,
    /// The engine's counter, echoed when the entry is rewritten.
    pub(crate) order: u32,
    pub(crate) kind: Kind,
}

/// The entries of a hit: as many as the default ranking rules and a sort make are kept in place.
pub(crate) type Rules = SmallVec<[Rule; 8]>;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq)]
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
        value: SortKey,
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
    /// Whether two entries of one page say the same.
    pub(crate) fn is_same(&self, other: &Self, body: &[u8]) -> bool {
        match (self, other) {
            (Self::Sort { asc, value }, Self::Sort { asc: other_asc, value: other }) => {
                asc == other_asc && value.value(body) == other.value(body)
            }
            _ => self == other,
        }
    }

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

/// The value a sort or custom rule compared, as far as it is known without its page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum SortKey {
    Number(f64),
    /// Where the page has a string, with its quotes.
    Text(Span),
    Missing,
}

impl SortKey {
    /// Reads the raw JSON value at `span`.
    pub(crate) fn read(body: &[u8], span: Span) -> Self {
        let raw = span.of(body);
        match raw.first() {
            Some(b'"') => Self::Text(span),
            _ => number(raw).map_or(Self::Missing, Self::Number),
        }
    }

    /// The value itself; `body` is that of its page.
    pub(crate) fn value(self, body: &[u8]) -> SortValue<'_> {
        match self {
            Self::Number(number) => SortValue::Number(number),
            Self::Text(span) => SortValue::read(span.of(body)),
            Self::Missing => SortValue::Missing,
        }
    }
}

/// The value a sort or custom rule compared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SortValue<'a> {
    Number(f64),
    Text(Cow<'a, str>),
    Missing,
}

impl<'a> SortValue<'a> {
    /// Reads a raw JSON value.
    pub(crate) fn read(raw: &'a [u8]) -> Self {
        match number(raw) {
            Some(number) => Self::Number(number),
            None => text(raw).map_or(Self::Missing, Self::Text),
        }
    }
}

/// What details say of a hit beyond its rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) pinned: Option<u64>,
    pub(crate) semantic: bool,
    pub(crate) skipped: bool,
}

impl Marks {
    /// Adds what an entry says.
    pub(crate) fn take(&mut self, kind: &Kind) {
        match kind {
            Kind::Pin(slot) => self.pinned = Some(*slot),
            Kind::Vector(_) => self.semantic = true,
            Kind::Skipped => self.skipped = true,
            _ => {}
        }
    }
}
