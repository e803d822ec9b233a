//! Matches in one text: read from positions, settled, written as positions.

use std::ops::RangeInclusive;

use charabia::Token;
use serde::{Deserialize, Serialize};

use super::typed::{Beginning, Mark, Typed};
use super::words::Cut;

/// One entry of `_matchesPosition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bound {
    /// Byte of the text at which the match starts.
    pub(super) start: usize,
    /// Bytes of the match.
    pub(super) length: usize,
    /// The places in the arrays around the text; `None` for a text in no array.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) indices: Option<Vec<usize>>,
}

/// A match in a [`Cut`] text: one token, or several for a phrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// First and last token.
    pub(super) tokens: (usize, usize),
    /// First and last word.
    pub(super) words: (usize, usize),
    /// Characters that are marked, from the first on.
    pub(super) chars: usize,
    /// Places in the query.
    pub(super) ids: RangeInclusive<u16>,
}

/// How many characters of a token a beginning takes; `None` if it does not begin so.
fn begun(token: &Token<'_>, beginning: &Beginning) -> Option<usize> {
    (!token.is_separator() && token.lemma().starts_with(&beginning.text))
        .then(|| token.original_lengths(beginning.text.len()).0)
}

impl Cut<'_> {
    fn one(&self, token: usize, chars: usize, ids: RangeInclusive<u16>) -> Option<Match> {
        let word = *self.words.get(token)?;
        Some(Match { tokens: (token, token), words: (word, word), chars, ids })
    }

    /// Reads a node's positions. `None` if it cut the text in another way.
    pub(super) fn read(&self, bounds: &[Bound], typed: &Typed) -> Option<Vec<Match>> {
        bounds.iter().map(|bound| self.read_one(bound, typed)).collect()
    }

    fn read_one(&self, bound: &Bound, typed: &Typed) -> Option<Match> {
        let first = self
            .tokens
            .iter()
            .position(|token| token.byte_start == bound.start && !token.is_separator())?;
        let token = self.tokens.get(first)?;
        let mut length = 0;
        for (index, bytes) in Self::lengths(token).into_iter().enumerate() {
            length += bytes;
            if length == bound.length {
                let chars = index + 1;
                let beginning = typed.beginnings.iter().find(|b| begun(token, b) == Some(chars));
                let ids = beginning.map_or_else(|| typed.ids(token.lemma()), |b| b.ids.clone());
                return self.one(first, chars, ids);
            }
        }
        for (last, token_after) in self.tokens.iter().enumerate().skip(first + 1) {
            length += Self::lengths(token_after).into_iter().sum::<usize>();
            if length == bound.length && !token_after.is_separator() {
                let words = (*self.words.get(first)?, *self.words.get(last)?);
                let chars = token_after.char_end - token.char_start;
                let ids = typed.ids(token.lemma());
                return Some(Match { tokens: (first, last), words, chars, ids });
            }
        }
        None
    }

    /// What a node matches if words have no typing errors: words of the query, and with `begun` those
    /// that begin so.
    pub(super) fn likely(&self, typed: &Typed, with_begun: bool) -> Vec<Match> {
        let find = |index: usize| {
            let token = self.tokens.get(index).filter(|token| !token.is_separator())?;
            if typed.words.iter().any(|word| word.text == token.lemma()) {
                let chars = token.char_end - token.char_start;
                return self.one(index, chars, typed.ids(token.lemma()));
            }
            let beginning = typed.beginnings.iter().find(|b| begun(token, b).is_some());
            let beginning = beginning.filter(|_| with_begun)?;
            self.one(index, begun(token, beginning)?, beginning.ids.clone())
        };
        (0..self.tokens.len()).filter_map(find).collect()
    }

    /// The matches of the whole, where they are others than the node's. `marks` are those of the
    /// query's beginnings.
    pub(super) fn settle(
        &self,
        node: &[Match],
        typed: &Typed,
        marks: &[Mark],
    ) -> Option<Vec<Match>> {
        let mut out = node.to_vec();
        let mut changed = false;
        for (index, token) in self.tokens.iter().enumerate() {
            if typed.beginnings.iter().all(|b| begun(token, b).is_none()) {
                continue;
            }
            let at = out.iter().position(|m| m.tokens.0 <= index && index <= m.tokens.1);
            let now = at.and_then(|at| out.get(at));
            // What matches as a phrase, as a whole word or by its synonyms has nothing to do with it.
            if now.is_some_and(|m| {
                m.tokens.0 != m.tokens.1
                    || typed.beginnings.iter().all(|b| begun(token, b) != Some(m.chars))
            }) {
                continue;
            }
            let wanted = self.wanted(index, now, typed, marks);
            if wanted.as_ref().map(|m| m.chars) == now.map(|m| m.chars) {
                continue;
            }
            changed = true;
            if let Some(at) = at {
                out.remove(at);
            }
            out.extend(wanted);
        }
        out.sort_by_key(|m| m.tokens.0);
        changed.then_some(out)
    }

    fn wanted(
        &self,
        index: usize,
        now: Option<&Match>,
        typed: &Typed,
        marks: &[Mark],
    ) -> Option<Match> {
        let token = self.tokens.get(index)?;
        for (beginning, mark) in typed.beginnings.iter().zip(marks) {
            let Some(chars) = begun(token, beginning) else { continue };
            let marked = match mark {
                Mark::All => true,
                Mark::None => false,
                Mark::AsTheyAre => now.is_some_and(|m| m.chars == chars),
            };
            if marked {
                return self.one(index, chars, beginning.ids.clone());
            }
        }
        None
    }

    /// Which beginnings the node did not mark although words begin so: it has a table of them.
    pub(super) fn tabled(
        &self,
        node: &[Match],
        typed: &Typed,
        stop_words: &[String],
        found: &mut [bool],
    ) {
        for (index, token) in self.tokens.iter().enumerate() {
            // An index does not know its stop words.
            if stop_words.iter().any(|word| word == token.lemma()) {
                continue;
            }
            let now = node.iter().find(|m| m.tokens.0 <= index && index <= m.tokens.1);
            for (beginning, found) in typed.beginnings.iter().zip(found.iter_mut()) {
                let Some(chars) = begun(token, beginning) else { continue };
                let shorter =
                    typed.beginnings.iter().filter(|b| b.text.len() < beginning.text.len());
                let mut shorter = shorter.filter_map(|b| begun(token, b));
                *found |= now.is_none_or(|m| m.chars != chars && shorter.any(|c| c == m.chars));
            }
        }
    }

    /// A match as nodes write it.
    pub(super) fn bound(&self, m: &Match, indices: &[usize]) -> Bound {
        let tokens = self.tokens.get(m.tokens.0..=m.tokens.1).unwrap_or_default();
        Bound {
            start: tokens.first().map_or(0, |token| token.byte_start),
            length: tokens.iter().flat_map(Self::lengths).take(m.chars).sum(),
            indices: (!indices.is_empty()).then(|| indices.to_vec()),
        }
    }
}
