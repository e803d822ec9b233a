//! One text with marks and crops.

use super::matches::{Bound, Match};
use super::typed::Typed;
use super::words::Cut;

/// How a client wants hits formatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formatting {
    /// `attributesToHighlight`, without what is hidden.
    pub highlight: Vec<String>,
    /// `attributesToCrop`, without what is hidden, each with its length in words.
    pub crop: Vec<(String, usize)>,
    /// `highlightPreTag`.
    pub pre_tag: String,
    /// `highlightPostTag`.
    pub post_tag: String,
    /// `cropMarker`.
    pub marker: String,
}

/// What is done with one text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct How {
    pub(super) highlight: bool,
    /// Length in words; `None` or 0 for all of the text.
    pub(super) crop: Option<usize>,
}

impl Formatting {
    /// Splits entries of `attributesToCrop` into names and lengths. `length` is `cropLength`.
    #[must_use]
    pub fn crops(entries: &[String], length: usize) -> Vec<(String, usize)> {
        let split = |entry: &String| match entry.rsplit_once(':') {
            Some((name, own)) => (name.to_owned(), own.parse().unwrap_or(length)),
            None => (entry.clone(), length),
        };
        entries.iter().map(split).collect()
    }

    /// What is done with the texts of an attribute; `None` if nothing is.
    pub(super) fn how(&self, attribute: &str) -> Option<How> {
        let below = |outer: &str, inner: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let about = |name: &str| name == "*" || below(name, attribute) || below(attribute, name);
        let highlight = self.highlight.iter().any(|name| about(name));
        let own = |name: &str| name == "*" || name == attribute;
        let crop = self.crop.iter().rfind(|(name, _)| own(name));
        let crop = crop.or_else(|| self.crop.iter().find(|(name, _)| about(name)));
        let how = How { highlight, crop: crop.map(|(_, length)| *length) };
        (how != How::default()).then_some(how)
    }

    /// Writes a text. `None` where Miroir does not know how a node would.
    pub(super) fn write(&self, cut: &Cut<'_>, matches: &[Match], how: How) -> Option<String> {
        let text = cut.text;
        let (start, end) = match how.crop {
            Some(size) if size > 0 => cut.window(matches, size)?,
            _ => (0, text.len()),
        };
        let mut out = String::with_capacity(text.len());
        if start > 0 {
            out.push_str(&self.marker);
        }
        let mut at = start;
        for m in matches.iter().filter(|_| how.highlight) {
            let (first, last) = (cut.tokens.get(m.tokens.0)?, cut.tokens.get(m.tokens.1)?);
            if last.byte_end < start || first.byte_start > end {
                continue;
            }
            let (from, to) = (first.byte_start.max(start), last.byte_end.min(end));
            if at < from {
                out.push_str(text.get(at..from)?);
            }
            let after = text.get(from..)?.char_indices().nth(m.chars);
            let marked = after.map_or(to, |(bytes, _)| to.min(from + bytes));
            out.push_str(&self.pre_tag);
            out.push_str(text.get(from..marked)?);
            out.push_str(&self.post_tag);
            out.push_str(text.get(marked..to)?);
            at = to;
        }
        if at < end {
            out.push_str(text.get(at..end)?);
        }
        if end < text.len() {
            out.push_str(&self.marker);
        }
        Some(out)
    }

    /// What a node matched in a text, from what it wrote of it, as well as can be told.
    pub(super) fn guess(
        &self,
        cut: &Cut<'_>,
        typed: &Typed,
        written: Option<(&str, How)>,
    ) -> Vec<Match> {
        let Some((text, how)) = written else { return cut.likely(typed, false) };
        if how.highlight
            && how.crop.unwrap_or(0) == 0
            && let Some(bounds) = self.marks(cut.text, text)
            && let Some(matches) = cut.read(&bounds, typed)
        {
            return matches;
        }
        let (few, many) = (cut.likely(typed, false), cut.likely(typed, true));
        let same = self.write(cut, &many, how).is_some_and(|likely| likely == text);
        if same { many } else { few }
    }

    /// The marks in what a node wrote of a whole text.
    fn marks(&self, text: &str, written: &str) -> Option<Vec<Bound>> {
        let (mut text_left, mut left, mut bounds) = (text, written, Vec::new());
        let mut open = None;
        while !left.is_empty() {
            let at = text.len() - text_left.len();
            let tag = if open.is_some() { &self.post_tag } else { &self.pre_tag };
            if let Some(rest) = left.strip_prefix(tag.as_str()).filter(|_| !tag.is_empty()) {
                left = rest;
                open = match open {
                    Some(start) => {
                        bounds.push(Bound { start, length: at - start, indices: None });
                        None
                    }
                    None => Some(at),
                };
                continue;
            }
            let next = left.chars().next()?;
            left = left.strip_prefix(next)?;
            text_left = text_left.strip_prefix(next)?;
        }
        (open.is_none() && text_left.is_empty()).then_some(bounds)
    }
}
