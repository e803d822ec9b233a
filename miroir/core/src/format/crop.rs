//! Which part of a text a crop shows.

use charabia::{SeparatorKind, Token, TokenKind};

use super::matches::Match;
use super::words::Cut;

/// From how far away on words count as equally far.
const FAR: usize = 7;

/// How good a run of matches is: different words of the query, closeness, order.
type Score = (usize, i64, usize);

fn score(run: &[Match]) -> Score {
    let mut ids: Vec<u16> = run.iter().flat_map(|m| m.ids.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    let phrases: usize = run.iter().map(|m| m.words.1 - m.words.0).sum();
    let (mut apart, mut ordered) = (phrases, phrases);
    for two in run.windows(2) {
        apart += two[1].words.0.saturating_sub(two[0].words.1).min(FAR);
        ordered += usize::from(two[1].ids.start() > two[0].ids.start());
    }
    (ids.len(), -(apart as i64), ordered)
}

/// The run of matches that a crop of `size` words is put around: first and last of it.
fn best_run(matches: &[Match], size: usize) -> Option<(&Match, &Match)> {
    let mut best: Option<(Score, usize, usize)> = None;
    let mut consider = |first: usize, last: usize| {
        let score = matches.get(first..=last).map(score).unwrap_or_default();
        if best.as_ref().is_none_or(|(known, ..)| score > *known) {
            best = Some((score, first, last));
        }
    };
    let end = matches.len().checked_sub(1)?;
    let fits = |first: usize, m: &Match| {
        let start = matches.get(first).map_or(0, |m| m.words.0);
        start > m.words.1 || m.words.1 - start < size
    };
    let mut first = 0;
    for (index, m) in matches.iter().enumerate() {
        if fits(first, m) {
            continue;
        }
        if let Some(last) = index.checked_sub(1) {
            consider(first, last);
        }
        while first < end {
            first += 1;
            if fits(first, m) {
                break;
            }
        }
    }
    let alone = matches.get(first).map_or(0, |m| m.words.1 - m.words.0 + 1);
    if first != end || alone < size {
        consider(first, end);
    }
    let (first, last) = best.map_or((0, 0), |(_, first, last)| (first, last));
    Some((matches.get(first)?, matches.get(last)?))
}

/// What a token is to a crop: `None` for a word.
fn separator(token: &Token<'_>) -> Option<SeparatorKind> {
    match token.kind {
        TokenKind::Separator(kind) => Some(kind),
        _ => None,
    }
}

impl Cut<'_> {
    /// The bytes that a crop of `size` words shows. `None` for a phrase that is longer than that.
    pub(super) fn window(&self, matches: &[Match], size: usize) -> Option<(usize, usize)> {
        let tokens = &self.tokens;
        // The window is `left..right`; it grows on both sides.
        let (mut left, mut right, mut missing) = (0, 0, size);
        if let Some((first, last)) = best_run(matches, size) {
            let words = last.words.1.checked_sub(first.words.0)? + 1;
            missing = size.checked_sub(words)?;
            (left, right) = (first.tokens.0, last.tokens.1 + 1);
        }
        while missing > 0 {
            let before = left.checked_sub(1).and_then(|at| tokens.get(at)).map(separator);
            let after = tokens.get(right).map(separator);
            match (before, after) {
                (None, None) => break,
                (Some(Some(one)), Some(Some(other))) if one == other => {
                    left -= 1;
                    // No separator stands before the marker at the end.
                    right += usize::from(missing > 1);
                }
                (Some(Some(SeparatorKind::Hard)), Some(Some(_))) => right += 1,
                (Some(Some(_)), Some(Some(_))) => left -= 1,
                (Some(None), Some(None)) => {
                    left -= 1;
                    missing -= 1;
                    if missing > 0 {
                        right += 1;
                        missing -= 1;
                    }
                }
                (Some(None), _) => {
                    left -= 1;
                    missing -= 1;
                }
                (_, Some(None)) => {
                    right += 1;
                    missing -= 1;
                }
                (Some(Some(_)), None) => left -= 1,
                (None, Some(Some(_))) => right += 1,
            }
        }
        let start = left.checked_sub(1).and_then(|at| tokens.get(at)).map_or(0, |t| t.byte_end);
        let end = tokens.get(right).map_or(self.text.len(), |t| t.byte_start);
        Some((start, end))
    }
}
