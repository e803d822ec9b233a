//! `_foreign(field, condition)` in filters: finding it, replacing it, and giving errors their
//! places back.
//!
//! Only what is needed for that is read: quotes, words and parentheses. A text that does not fit is
//! left alone, and a node says what is wrong with it.

use std::ops::Range;

use miroir_core::filter::{Cursor, is_word};

const WORD: &str = "_foreign";

/// One `_foreign(field, condition)`. All places are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// From `_foreign` to the closing parenthesis.
    pub(super) whole: Range<usize>,
    /// The field as it is written.
    pub(super) field: Range<usize>,
    /// The condition.
    pub(super) condition: Range<usize>,
}

impl Call {
    /// The field's name.
    pub(super) fn name(&self, filter: &str) -> String {
        let text = &filter[self.field.clone()];
        let mut chars = text.chars();
        let Some(quote @ ('"' | '\'')) = chars.next() else { return text.to_owned() };
        let mut out = String::new();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some(escaped) if escaped == quote => out.push(escaped),
                    Some(other) => out.extend(['\\', other]),
                    None => {}
                },
                c if c == quote => break,
                c => out.push(c),
            }
        }
        out
    }
}

/// Reads a filter from left to right.
struct Reader<'a>(Cursor<'a>);

impl Reader<'_> {
    /// Takes anything up to a value or a parenthesis.
    fn step(&mut self) -> Option<()> {
        match self.0.peek()? {
            c if is_word(c) || matches!(c, '"' | '\'') => self.0.value().map(|_| ()),
            c => {
                self.0.at += c.len_utf8();
                Some(())
            }
        }
    }

    /// The rest of a call whose `_foreign` began at `from` and was just read.
    fn call(&mut self, from: usize) -> Option<Call> {
        self.0.at += 1;
        self.0.blanks();
        let field = self.0.value()?;
        self.0.blanks();
        if self.0.peek()? != ',' {
            return None;
        }
        self.0.at += 1;
        self.0.blanks();
        let start = self.0.at;
        let mut depth = 0_u32;
        loop {
            match self.0.peek()? {
                ')' if depth == 0 => break,
                ')' => depth -= 1,
                '(' => depth += 1,
                _ => {
                    self.step()?;
                    continue;
                }
            }
            self.0.at += 1;
        }
        let condition = start..self.0.at;
        self.0.at += 1;
        Some(Call { whole: from..self.0.at, field, condition })
    }

    fn calls(mut self) -> Option<Vec<Call>> {
        let mut out = Vec::new();
        while let Some(c) = self.0.peek() {
            let from = self.0.at;
            self.step()?;
            if is_word(c) && &self.0.text[from..self.0.at] == WORD && self.0.peek() == Some('(') {
                out.push(self.call(from)?);
            }
        }
        Some(out)
    }
}

/// The calls of a filter, in order. `None` if the text cannot be a filter.
pub(super) fn calls(filter: &str) -> Option<Vec<Call>> {
    if !filter.contains(WORD) {
        return Some(Vec::new());
    }
    Reader(Cursor::new(filter)).calls()
}

/// A condition as a filter of its own, its characters in the columns they have in the whole.
pub(super) fn aligned(filter: &str, call: &Call) -> String {
    let before = filter[..call.condition.start].chars().count();
    format!("{}{}", " ".repeat(before), &filter[call.condition.clone()])
}

/// Reads `{from}:{to} {rest}` at the end of an error message about `shown`.
fn place<'a>(message: &'a str, shown: &str) -> Option<(&'a str, usize, usize)> {
    let rest = message.strip_suffix(shown)?.strip_suffix(' ')?;
    let (before, place) = rest.rsplit_once('\n')?;
    let (from, to) = place.split_once(':')?;
    Some((before, from.parse().ok()?, to.parse().ok()?))
}

/// An error message about [`aligned`], as one about the whole filter.
pub(super) fn about_whole(message: &str, filter: &str, call: &Call) -> String {
    let Some((before, from, to)) = place(message, &aligned(filter, call)) else {
        return message.to_owned();
    };
    format!("{before}\n{from}:{to} {}", &filter[call.whole.start..])
}

/// A filter whose calls became lists of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    original: String,
    /// What it reads now.
    pub(super) text: String,
    /// The calls, and where what stands for them begins and ends in the new text.
    calls: Vec<(Call, Range<usize>)>,
}

impl Rewritten {
    /// Replaces calls by what their conditions found; the others stay.
    pub(super) fn new(filter: &str, found: Vec<(Call, Vec<String>)>) -> Self {
        let mut text = String::new();
        let mut done = 0;
        let mut calls = Vec::new();
        for (call, ids) in found {
            text.push_str(&filter[done..call.whole.start]);
            let from = text.len();
            text.push_str(&filter[call.field.clone()]);
            text.push_str(" IN [");
            for (at, id) in ids.iter().enumerate() {
                // Ids have letters, digits, hyphens and underscores only.
                text.push_str(if at > 0 { ", \"" } else { "\"" });
                text.push_str(id);
                text.push('"');
            }
            text.push(']');
            done = call.whole.end;
            calls.push((call, from..text.len()));
        }
        text.push_str(&filter[done..]);
        Self { original: filter.to_owned(), text, calls }
    }

    /// An error message about the new text, as one node words it about the original.
    pub(super) fn restore(&self, message: &str) -> Option<String> {
        let (before, from, to) = place(message, &self.text)?;
        let column = |text: &str, byte: usize| text[..byte].chars().count() + 1;
        // The last call that begins at or before the place.
        let call = self.calls.iter().rfind(|(_, new)| column(&self.text, new.start) <= from);
        let Some((call, new)) = call else {
            return Some(format!("{before}\n{from}:{to} {}", self.original));
        };
        let shown = &self.original[call.whole.start..];
        let (was, is) = if from < column(&self.text, new.end) {
            (column(&self.original, call.field.start), column(&self.text, new.start))
        } else {
            (column(&self.original, call.whole.end), column(&self.text, new.end))
        };
        Some(format!("{before}\n{}:{} {shown}", from - is + was, to - is + was))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(filter: &str) -> Option<Vec<(String, &str)>> {
        let found = calls(filter)?;
        Some(found.into_iter().map(|c| (c.name(filter), &filter[c.condition])).collect())
    }

    #[test]
    fn calls_are_found_wherever_they_stand() {
        for (filter, expected) in [
            ("a = 1", vec![]),
            ("a = \"_foreign(b, c = 1)\"", vec![]),
            ("_foreign (a, b = 1)", vec![]),
            ("x_foreign(a, b = 1)", vec![]),
            ("_foreign(a, b = 1)", vec![("a", "b = 1")]),
            (
                "x = 1 AND (_foreign('a b', c = \")\" AND (d > 1 OR e < 2)) OR _foreign( f ,g = 1 ))",
                vec![("a b", "c = \")\" AND (d > 1 OR e < 2)"), ("f", "g = 1 ")],
            ),
            (
                "_foreign(a, _geoRadius(1, 2, 3)) AND é = 'it\\'s' AND _foreign(\"q\\\"\", b = 1)",
                vec![("a", "_geoRadius(1, 2, 3)"), ("q\"", "b = 1")],
            ),
        ] {
            let found = parts(filter).unwrap();
            let found: Vec<_> = found.iter().map(|(name, text)| (name.as_str(), *text)).collect();
            assert_eq!(found, expected, "{filter}");
        }
        for broken in ["_foreign(a)", "_foreign(a, b = 1", "_foreign(a, 'b)", "_foreign(, b)"] {
            assert_eq!(calls(broken), None, "{broken}");
        }
    }

    #[test]
    fn places_in_errors_are_those_of_the_original() {
        let filter = "é = 1 AND _foreign(author, x = 1) AND y = 2 OR _foreign(z, k = 1) OR w = 3";
        let found = calls(filter).unwrap();
        assert_eq!(aligned(filter, &found[0]).find('x'), Some(27));
        let said = format!("no\n28:29 {}", aligned(filter, &found[0]));
        let first = "_foreign(author, x = 1) AND y = 2 OR _foreign(z, k = 1) OR w = 3";
        assert_eq!(about_whole(&said, filter, &found[0]), format!("no\n28:29 {first}"));
        assert_eq!(about_whole("no", filter, &found[0]), "no");

        let ids = vec![vec!["a".to_owned(), "b".to_owned()], Vec::new()];
        let new = Rewritten::new(filter, found.into_iter().zip(ids).collect());
        assert_eq!(new.text, "é = 1 AND author IN [\"a\", \"b\"] AND y = 2 OR z IN [] OR w = 3");
        let said = |text: &str| {
            let at = new.text.find(text).unwrap();
            let column = new.text[..at].chars().count() + 1;
            let words = format!("no\n{column}:{} {}", column + text.chars().count(), new.text);
            new.restore(&words).unwrap()
        };
        assert_eq!(said("é"), format!("no\n1:2 {filter}"));
        assert_eq!(said("author"), format!("no\n20:26 {first}"));
        assert_eq!(said("y"), format!("no\n39:40 {first}"));
        let second = "_foreign(z, k = 1) OR w = 3";
        assert_eq!(said("z"), format!("no\n57:58 {second}"));
        assert_eq!(said("w"), format!("no\n70:71 {second}"));
        assert_eq!(new.restore("something else"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(filter in "[a_ (),'\"\\\\é=]{0,20}(_foreign\\()?[a_ (),'\"é=]{0,20}") {
            if let Some(found) = calls(&filter) {
                let count = found.len();
                let new = Rewritten::new(&filter, found.into_iter().map(|c| (c, vec![])).collect());
                prop_assert_eq!(new.text.matches("IN []").count(), count);
            }
        }
    }
}
