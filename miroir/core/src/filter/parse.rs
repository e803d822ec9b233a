//! The parser: recursive descent, after the grammar that Meilisearch documents.
//!
//! It takes a little more than a node does (any white space where a node wants a blank, say), never
//! with another meaning: a node that refuses the rest says so itself.

use std::ops::Range;

use super::{Comparison, Cursor, Filter, Test, Text, joined};

/// As deep as a node reads, counted as it counts.
const MAX_DEPTH: u32 = 150;

/// What cannot be an attribute or a literal without quotes.
const KEYWORDS: &[&str] = &[
    "AND",
    "OR",
    "IN",
    "NOT",
    "TO",
    "EXISTS",
    "IS",
    "NULL",
    "EMPTY",
    "CONTAINS",
    "STARTS",
    "WITH",
    "_geoRadius",
    "_geoBoundingBox",
];

const GEO: &[&str] = &["_geoRadius", "_geoBoundingBox", "_geoPolygon"];

pub(super) struct Parser<'a> {
    at: Cursor<'a>,
    depth: u32,
    /// Where attributes are named, those inside of functions included, with their quotes.
    attributes: Vec<Range<usize>>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { at: Cursor::new(text), depth: 0, attributes: Vec::new() }
    }

    /// The whole text as one expression.
    pub(super) fn whole(&mut self) -> Option<Filter> {
        let filter = self.expression()?;
        self.at.blanks();
        self.at.rest().is_empty().then_some(filter)
    }

    /// Where the whole text names attributes, from left to right.
    pub(super) fn attributes(mut self) -> Option<Vec<Range<usize>>> {
        self.whole()?;
        Some(self.attributes)
    }

    /// Takes a word if it comes next, as a whole.
    fn word(&mut self, word: &str) -> bool {
        self.at.blanks();
        let found = self.at.word() == word;
        if found {
            self.at.at += word.len();
        }
        found
    }

    /// Takes a keyword that others may follow without a blank.
    fn tag(&mut self, text: &str) -> bool {
        self.at.blanks();
        self.at.take(text)
    }

    /// Takes words with blanks between them, all or none.
    fn phrase(&mut self, words: &[&str]) -> bool {
        let before = self.at.clone();
        let found = words.iter().enumerate().all(|(nth, word)| {
            let from = self.at.at;
            self.at.blanks();
            (nth == 0 || self.at.at > from) && self.at.take(word)
        });
        if !found {
            self.at = before;
        }
        found
    }

    fn expression(&mut self) -> Option<Filter> {
        self.deeper(|parser| {
            parser.list("OR", Filter::Or, |parser| parser.list("AND", Filter::And, Self::negation))
        })
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Option<Filter>) -> Option<Filter> {
        if self.depth >= MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let out = read(self);
        self.depth -= 1;
        out
    }

    fn list(
        &mut self,
        word: &str,
        join: fn(Vec<Filter>) -> Filter,
        member: impl Fn(&mut Self) -> Option<Filter>,
    ) -> Option<Filter> {
        let mut members = vec![member(self)?];
        while self.word(word) {
            members.push(member(self)?);
        }
        joined(members, join)
    }

    fn negation(&mut self) -> Option<Filter> {
        if self.word("NOT") {
            let inner = self.deeper(Self::negation)?;
            return Some(Filter::Not(Box::new(inner)));
        }
        self.primary()
    }

    fn primary(&mut self) -> Option<Filter> {
        self.at.blanks();
        if self.at.take("(") {
            let inner = self.expression()?;
            return self.tag(")").then_some(inner);
        }
        let (from, word) = (self.at.at, self.at.word());
        let calls = self.at.rest()[word.len()..].starts_with('(');
        if GEO.contains(&word) {
            self.at.at += word.len();
            return self.numbers().then(|| self.since(from));
        }
        if word == "_foreign" && calls {
            self.at.at += word.len() + 1;
            self.text()?;
            if !self.tag(",") {
                return None;
            }
            self.expression()?;
            return self.tag(")").then(|| self.since(from));
        }
        let before = self.at.clone();
        if let Some(condition) = self.condition() {
            return Some(condition);
        }
        self.at = before;
        if word.split('.').next() == Some("_vectors") { self.vectors() } else { None }
    }

    fn since(&self, from: usize) -> Filter {
        Filter::Function(self.at.text[from..self.at.at].to_owned())
    }

    /// The arguments of a function about places: numbers, in lists or not.
    fn numbers(&mut self) -> bool {
        let rest = self.at.rest();
        let Some(end) = rest.find(')').filter(|_| rest.starts_with('(')) else { return false };
        self.at.at += end + 1;
        rest[1..end]
            .chars()
            .all(|c| c.is_ascii_digit() || c.is_whitespace() || "+-.eE,[]infatyINFATY".contains(c))
    }

    /// `_vectors`, perhaps an embedder and a part of it, and `EXISTS`.
    fn vectors(&mut self) -> Option<Filter> {
        let from = self.at.at;
        while self.at.value().is_some() {}
        let exists = self.phrase(&["EXISTS"]) || self.phrase(&["NOT", "EXISTS"]);
        exists.then(|| self.since(from))
    }

    /// An attribute or a literal.
    fn text(&mut self) -> Option<Text> {
        self.at.blanks();
        let value = &self.at.text[self.at.value()?];
        (!KEYWORDS.contains(&value)).then(|| Text(value.to_owned()))
    }

    fn condition(&mut self) -> Option<Filter> {
        self.at.blanks();
        let from = self.at.at;
        let attribute = self.text()?;
        let named = from..self.at.at;
        let (negated, test) = self.test()?;
        self.attributes.push(named);
        Some(Filter::Condition { attribute, negated, test })
    }

    fn test(&mut self) -> Option<(bool, Test)> {
        self.at.blanks();
        for (text, comparison) in Comparison::ALL {
            if self.at.take(text) {
                return Some((false, Test::Compare(comparison, self.text()?)));
            }
        }
        let before = self.at.clone();
        let negated = self.word("NOT");
        if self.word("IN") {
            return Some((negated, Test::In(self.literals()?)));
        }
        self.at = before;
        for negated in [false, true] {
            let not: &[&str] = if negated { &["NOT"] } else { &[] };
            let after =
                |before: &[&'static str], words: &[&'static str]| [before, not, words].concat();
            if self.phrase(&after(&["IS"], &["NULL"])) {
                return Some((negated, Test::Null));
            }
            if self.phrase(&after(&["IS"], &["EMPTY"])) {
                return Some((negated, Test::Empty));
            }
            if self.phrase(&after(&[], &["EXISTS"])) {
                return Some((negated, Test::Exists));
            }
            if self.phrase(&after(&[], &["CONTAINS"])) {
                return Some((negated, Test::Contains(self.text()?)));
            }
            if self.phrase(&after(&[], &["STARTS WITH"])) {
                return Some((negated, Test::StartsWith(self.text()?)));
            }
        }
        let from = self.text()?;
        if !self.tag("TO") || !self.at.peek()?.is_whitespace() {
            return None;
        }
        Some((false, Test::Between(from, self.text()?)))
    }

    /// `[a, b, ]`
    fn literals(&mut self) -> Option<Vec<Text>> {
        let mut out = Vec::new();
        if !self.tag("[") {
            return None;
        }
        while !self.tag("]") {
            if !out.is_empty() && !self.tag(",") {
                return None;
            }
            if !out.is_empty() && self.tag("]") {
                break;
            }
            out.push(self.text()?);
        }
        Some(out)
    }
}
