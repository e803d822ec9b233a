//! Meilisearch's filter language: reading it, and which shards the documents it finds are in.
//!
//! A filter is a text, or a list whose members all have to hold and may be lists of which one has to.
//! [`Filter::from_json`] reads both into a tree and [`narrow`] finds the ids a filter allows. A text
//! that does not fit has no tree: nothing is narrowed, and a node says what is wrong with it.
//!
//! # When a shard may be left out
//!
//! Documents are routed by their exact id, but a filter compares *normal forms*, so that one literal
//! stands for several ids ([`Text::ids`]):
//!
//! - Letters are compared without case: `id = "ab"` finds `ab`, `Ab`, `aB` and `AB`. All spellings
//!   that ids of the index may have ([`IdCase`](crate::documents::IdCase)) are hashed.
//! - A literal that is a number finds the document whose id is that *integer*, too: `id = "07"` finds
//!   the string `07` and the number 7. Numbers are compared as `f64`: above 2^53 one literal finds
//!   several integers.
//! - Blanks around a literal do not count. Values are cut to 468 bytes, so a literal as long as that
//!   may find longer ids, and narrows nothing.
//!
//! `=` and `IN` on the primary key narrow, a conjunction to the ids all of its members allow, a
//! disjunction to those of any, if each has some. Whatever stands under `NOT`, `!=` and `NOT IN`,
//! comparisons and functions never do. Attribute names are compared exactly. A primary key with a
//! dot never narrows: nested objects give such an attribute values that are not the id.

mod compact;
mod cursor;
mod literal;
mod narrow;
mod parse;
mod rename;
mod size;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

pub use compact::compact;
pub use cursor::{Cursor, is_word};
pub use narrow::{Keys, Narrowed, NotNarrowed, narrow};
pub use rename::{names, renamed};
pub use size::size;

/// An attribute or a literal, as it is written: with its quotes, if it has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// What is meant. `None` if there are escapes in it.
    pub fn plain(&self) -> Option<&str> {
        let inner = self.unquoted();
        (!inner.contains('\\')).then_some(inner)
    }

    fn unquoted(&self) -> &str {
        match self.0.as_bytes() {
            [b'"', .., b'"'] | [b'\'', .., b'\''] => &self.0[1..self.0.len() - 1],
            _ => &self.0,
        }
    }

    /// What is meant, without quotes and escapes.
    fn meant(&self) -> String {
        let mut letters = self.unquoted().chars();
        let mut out = String::new();
        while let Some(letter) = letters.next() {
            out.extend(if letter == '\\' { letters.next() } else { Some(letter) });
        }
        out
    }
}

/// How a value is compared with a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// Longer ones before those they begin with.
    const ALL: [(&'static str, Self); 6] = [
        ("<=", Self::LessOrEqual),
        (">=", Self::GreaterOrEqual),
        ("!=", Self::NotEqual),
        ("<", Self::Less),
        (">", Self::Greater),
        ("=", Self::Equal),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, it)| *it == self).map_or("=", |(text, _)| text)
    }
}

/// A condition on the values of one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// A value compares so with this literal.
    Compare(Comparison, Text),
    /// `from TO to`, both included.
    Between(Text, Text),
    /// `IN [..]`
    In(Vec<Text>),
    /// `EXISTS`
    Exists,
    /// `IS NULL`
    Null,
    /// `IS EMPTY`
    Empty,
    /// `CONTAINS`
    Contains(Text),
    /// `STARTS WITH`
    StartsWith(Text),
}

/// A filter expression as a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Every member holds; at least two of them.
    And(Vec<Filter>),
    /// Some member holds; at least two of them.
    Or(Vec<Filter>),
    /// The member does not hold.
    Not(Box<Filter>),
    /// A condition on one attribute.
    Condition {
        /// Name of the attribute, dotted when nested.
        attribute: Text,
        /// Whether the opposite is said: `NOT IN`, `IS NOT NULL`, ….
        negated: bool,
        /// The condition.
        test: Test,
    },
    /// `_geoRadius(..)`, `_geoBoundingBox(..)`, `_geoPolygon(..)`, `_foreign(..)`, and `_vectors …
    /// EXISTS` where it has quoted names, as written.
    Function(String),
}

/// The text is no filter, as far as Miroir can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread;

impl Filter {
    /// Reads one expression.
    ///
    /// # Errors
    /// [`Unread`] for what is no expression, a blank text included.
    pub fn parse(text: &str) -> Result<Self, Unread> {
        parse::Parser::new(text).whole().ok_or(Unread)
    }

    /// Reads the value of a request's `filter`. `Ok(None)`: there is none, which blank texts, empty
    /// lists and `null` mean.
    ///
    /// # Errors
    /// [`Unread`]
    pub fn from_json(json: &str) -> Result<Option<Self>, Unread> {
        fn expression(text: &str) -> Result<Option<Filter>, Unread> {
            if text.trim().is_empty() { Ok(None) } else { Filter::parse(text).map(Some) }
        }
        let mut all = Vec::new();
        match serde_json::from_str(json).map_err(|_| Unread)? {
            Value::Null => {}
            Value::String(text) => return expression(&text),
            Value::Array(members) => {
                for member in members {
                    match member {
                        Value::String(text) => all.extend(expression(&text)?),
                        Value::Array(members) => {
                            let mut any = Vec::new();
                            for member in members {
                                let Value::String(text) = member else { return Err(Unread) };
                                any.extend(expression(&text)?);
                            }
                            all.extend(joined(any, Self::Or));
                        }
                        _ => return Err(Unread),
                    }
                }
            }
            _ => return Err(Unread),
        }
        Ok(joined(all, Self::And))
    }
}

impl Filter {
    /// The attributes it names, in order, each once. The geo functions need `_geo`.
    pub fn attributes(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect(&mut out);
        out
    }

    fn collect(&self, out: &mut Vec<String>) {
        let name = match self {
            Self::And(members) | Self::Or(members) => {
                return members.iter().for_each(|member| member.collect(out));
            }
            Self::Not(inner) => return inner.collect(out),
            Self::Function(text) if text.starts_with("_geoRadius") => "_geo".to_owned(),
            Self::Function(text) if text.starts_with("_geoBoundingBox") => "_geo".to_owned(),
            Self::Function(_) => return,
            Self::Condition { attribute, .. } => attribute.meant(),
        };
        if !out.contains(&name) {
            out.push(name);
        }
    }
}

/// Several filters as one.
fn joined(mut members: Vec<Filter>, join: fn(Vec<Filter>) -> Filter) -> Option<Filter> {
    if members.len() > 1 { Some(join(members)) } else { members.pop() }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (members, word) = match self {
            Self::And(members) => (members, " AND "),
            Self::Or(members) => (members, " OR "),
            Self::Not(inner) => return write!(f, "NOT ({inner})"),
            Self::Function(text) => return f.write_str(text),
            Self::Condition { attribute, negated, test } => {
                return condition(f, attribute, *negated, test);
            }
        };
        for (at, member) in members.iter().enumerate() {
            if at > 0 {
                f.write_str(word)?;
            }
            match member {
                Self::And(_) | Self::Or(_) => write!(f, "({member})")?,
                _ => write!(f, "{member}")?,
            }
        }
        Ok(())
    }
}

fn condition(
    f: &mut fmt::Formatter<'_>,
    attribute: &Text,
    negated: bool,
    test: &Test,
) -> fmt::Result {
    let not = if negated { "NOT " } else { "" };
    match test {
        Test::Compare(how, literal) => write!(f, "{attribute} {} {literal}", how.as_str()),
        Test::Between(from, to) => write!(f, "{attribute} {from} TO {to}"),
        Test::Exists => write!(f, "{attribute} {not}EXISTS"),
        Test::Null => write!(f, "{attribute} IS {not}NULL"),
        Test::Empty => write!(f, "{attribute} IS {not}EMPTY"),
        Test::Contains(text) => write!(f, "{attribute} {not}CONTAINS {text}"),
        Test::StartsWith(text) => write!(f, "{attribute} {not}STARTS WITH {text}"),
        Test::In(literals) => {
            write!(f, "{attribute} {not}IN [")?;
            for (at, literal) in literals.iter().enumerate() {
                write!(f, "{}{literal}", if at > 0 { ", " } else { "" })?;
            }
            f.write_str("]")
        }
    }
}
