//! What the hits of a page have in common, so that most of a hit is compared as text and no more.
//!
//! Hits have the same fields in the same order, and their details say the same but for the numbers.
//! So the names and the details of one hit, which were scanned, are the pattern for the next one: where
//! its text is the same, what was found in it is the same too. Where it is not, it is scanned.

use super::details::Marks;
use super::lex::{decimal, string_end, strip};
use super::scan::{Span, is_reserved};
use crate::documents::ORDER;

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
    /// Of the field with this name; whether a mirror shows reserved fields is not known yet.
    pub(super) fn of(name: &[u8]) -> Self {
        // Everything special begins with an underscore; most fields do not.
        if name.first() != Some(&b'_') {
            return Self::Plain;
        }
        match name {
            b"_rankingScore" => Self::Score,
            b"_rankingScoreDetails" => Self::Details,
            b"_formatted" | b"_matchesPosition" => Self::Mirror { reserved: false },
            name if name == ORDER.as_bytes() => Self::Order,
            name if is_reserved(name) => Self::Reserved,
            _ => Self::Plain,
        }
    }
}

/// The layout of the hit that was last scanned.
#[derive(Debug, Default)]
pub(super) struct Layout<'a> {
    /// The names of its fields, from the comma to the colon.
    names: Vec<(&'a [u8], FieldKind)>,
    details: Details<'a>,
    /// How often details were remembered.
    remembered: usize,
}

/// Where details differ in more than numbers, as those of a sort by text do, learning them costs more
/// than scanning: so many are learnt in a page.
const MOST_REMEMBERED: usize = 4;

/// Details as pieces of text with a number between each two.
#[derive(Debug, Default)]
struct Details<'a> {
    pieces: Vec<&'a [u8]>,
    marks: Marks,
}

impl<'a> Layout<'a> {
    /// The field `number` of the last hit, if its name is at `at`: the name here, and its kind.
    #[inline]
    pub(super) fn name(&self, body: &[u8], at: usize, number: usize) -> Option<(Span, FieldKind)> {
        let (name, kind) = self.names.get(number)?;
        strip(body.get(at..)?, name)?;
        let start = at + usize::from(name.first() == Some(&b','));
        Some((Span { start: start as u32, end: (at + name.len() - 1) as u32 }, *kind))
    }

    /// Remembers the name of field `number`, which was found at `key`, the value being at `value`.
    pub(super) fn set_name(
        &mut self,
        body: &'a [u8],
        number: usize,
        (key, kind): (Span, FieldKind),
        value: usize,
    ) {
        self.names.truncate(number);
        let comma = usize::from(number > 0);
        let name = (key.start as usize).checked_sub(comma).and_then(|start| body.get(start..value));
        // White space is no part of a layout.
        let name = name.filter(|name| {
            name.len() == key.len() + comma + 1 && (number == 0 || name.first() == Some(&b','))
        });
        if let Some(name) = name
            && self.names.len() == number
        {
            self.names.push((name, kind));
        }
    }

    /// Where details at `at` end, if but for their numbers they are the last ones. What they say
    /// besides is added to `marks`.
    pub(super) fn details_end(&self, body: &[u8], at: usize, marks: &mut Marks) -> Option<usize> {
        let rest = behind(&self.details.pieces, body.get(at..)?)?;
        marks.add(self.details.marks);
        Some(body.len() - rest)
    }

    /// Remembers details that were scanned, and what they say.
    pub(super) fn set_details(&mut self, text: &'a [u8], marks: Marks) {
        // The number of a pin matters.
        if self.remembered < MOST_REMEMBERED
            && marks.pinned.is_none()
            && let Some(pieces) = pieces(text)
        {
            self.details = Details { pieces, marks };
            self.remembered += 1;
        }
    }
}

/// How much of a text follows the pieces with numbers between them.
#[inline(never)] // Inside of another loop its registers would be spilled.
fn behind(pieces: &[&[u8]], text: &[u8]) -> Option<usize> {
    let (first, more) = pieces.split_first()?;
    let mut rest = strip(text, first)?;
    for piece in more {
        // Counts have one digit.
        let behind = match rest {
            [b'0'..=b'9', b',' | b'}', ..] => &rest[1..],
            _ => decimal(rest)?,
        };
        rest = strip(behind, piece)?;
    }
    Some(rest.len())
}

/// The pieces of a JSON text between the numbers that are values of members, and end with these. The
/// place of a rule is part of a piece: it is the same in all details of one query.
fn pieces(text: &[u8]) -> Option<Vec<&[u8]>> {
    let mut pieces = Vec::with_capacity(16);
    let (mut from, mut at) = (0, 0);
    while let Some(byte) = text.get(at) {
        at = match byte {
            b'"' => string_end(text, at + 1)?,
            b':' => match text.get(at + 1..).and_then(decimal) {
                Some(rest)
                    if matches!(rest.first(), Some(b',' | b'}'))
                        && !text[..at].ends_with(b"\"order\"") =>
                {
                    pieces.push(text.get(from..=at)?);
                    from = text.len() - rest.len();
                    from
                }
                _ => at + 1,
            },
            _ => at + 1,
        };
    }
    pieces.push(text.get(from..)?);
    Some(pieces)
}
