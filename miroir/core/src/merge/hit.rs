//! One hit of a leaf's answer: where it is, and what it says of itself.

use std::sync::{LazyLock, OnceLock};

use super::details::{Marks, Rule, Rules};
use super::entry;
use super::lex::is_utf8;
use super::scan::{RESERVED, Result, Scanner, Span, is_reserved, number};
use crate::documents::{ORDER, Stamp};

/// Fields that room is made for in advance.
const FIELDS: usize = 12;

/// One hit of a [`Page`](super::Page); its bytes stay in the page's body, from which
/// [`Page::score`](super::Page::score) reads.
#[derive(Debug, Clone, Default)]
pub struct Hit {
    span: Span,
    /// `Some(None)` where no hit is.
    content: OnceLock<Option<Box<Content>>>,
}

/// What a hit says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    /// Its fields, in order of arrival.
    pub(crate) fields: Vec<Field>,
    /// `_rankingScore`, when the leaf was asked for it.
    pub(crate) score: Option<f64>,
    /// `_rankingScoreDetails`, in rule order.
    pub(crate) rules: Rules,
    /// What these say beyond its rank.
    pub(crate) marks: Marks,
    /// Where the document came first: decides between hits that are equal otherwise.
    pub(crate) stamp: Stamp,
}

/// One top-level field of a hit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) key: Span,
    pub(crate) value: Span,
    pub(crate) kind: FieldKind,
}

/// What a top-level field of a hit is to a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldKind {
    Plain,
    /// `_formatted` or `_matchesPosition`, which repeat the document's fields.
    Mirror {
        reserved: bool,
    },
    Score,
    Details,
    /// The order stamp.
    Order,
    /// Another field that Miroir keeps for itself.
    Reserved,
}

impl FieldKind {
    /// Of the field with this name and value.
    fn of(name: &[u8], value: &[u8]) -> Self {
        // Everything special begins with an underscore; most fields do not.
        if name.first() != Some(&b'_') {
            return Self::Plain;
        }
        match name {
            b"_rankingScore" => Self::Score,
            b"_rankingScoreDetails" => Self::Details,
            b"_formatted" | b"_matchesPosition" => {
                Self::Mirror { reserved: memchr::memmem::find(value, RESERVED).is_some() }
            }
            name if name == ORDER.as_bytes() => Self::Order,
            name if is_reserved(name) => Self::Reserved,
            _ => Self::Plain,
        }
    }
}

impl Hit {
    /// The hit that should be at `span`.
    pub(super) fn unread(span: Span) -> Self {
        Self { span, content: OnceLock::new() }
    }

    /// Reads the hit `scanner` stands before.
    ///
    /// # Errors
    /// When it is not an object of members.
    pub(super) fn read(scanner: &mut Scanner<'_>) -> Result<Self> {
        scanner.peek();
        let start = scanner.at();
        let content = Content::read(scanner)?;
        Ok(Self { span: scanner.since(start), content: OnceLock::from(Some(content)) })
    }

    /// What it says of itself; `None` if there is no hit in its place, or more than one.
    pub(super) fn content(&self, body: &[u8]) -> Option<&Content> {
        self.content.get_or_init(|| Content::at(body, self.span)).as_deref()
    }

    /// The same, to be changed.
    pub(super) fn content_mut(&mut self, body: &[u8]) -> Option<&mut Content> {
        self.content(body)?;
        self.content.get_mut()?.as_deref_mut()
    }

    /// Whether it was read.
    #[cfg(test)]
    pub(super) fn is_read(&self) -> bool {
        self.content.get().is_some()
    }
}

impl Content {
    /// Of what is no hit.
    pub(super) fn none() -> &'static Self {
        static NONE: LazyLock<Content> = LazyLock::new(Content::default);
        &NONE
    }

    /// Reads the hit that takes up `span`, neither more nor less.
    fn at(body: &[u8], span: Span) -> Option<Box<Self>> {
        let end = span.end as usize;
        if !is_utf8(span.of(body)) {
            return None;
        }
        let mut scanner = Scanner::within(body.get(..end)?, span.start as usize);
        let content = Self::read(&mut scanner).ok()?;
        (scanner.at() == end).then_some(content)
    }

    fn read(scanner: &mut Scanner<'_>) -> Result<Box<Self>> {
        let body = scanner.body();
        let mut content = Box::<Self>::default();
        content.fields.reserve(FIELDS);
        scanner.enter(b'{')?;
        while let Some(key) = scanner.member()? {
            let name = key.inner(body);
            let value = if name == b"_rankingScoreDetails" {
                scanner.peek();
                let start = scanner.at();
                entry::decode(scanner, &mut content.rules)?;
                scanner.since(start)
            } else {
                scanner.value()?
            };
            let text = value.of(body);
            let kind = FieldKind::of(name, text);
            match kind {
                FieldKind::Score => content.score = number(text),
                FieldKind::Order => content.stamp = Stamp::read(text),
                _ => {}
            }
            content.fields.push(Field { key, value, kind });
        }
        for Rule { kind, .. } in &content.rules {
            content.marks.take(kind);
        }
        Ok(content)
    }
}
