//! Values of facets as the engine tells them apart, and filters that mean exactly them.
//!
//! A filter's literal is a text. The engine compares it with strings by its normal form and, where it
//! reads as a number, with numbers too, so that `a = 5` finds 5 and `"5"`. Facets and the distinct
//! attribute keep the two apart. Conditions here are written so that only one of them is meant:
//!
//! - a number as no string is written, `005e0`;
//! - a string that reads as a number, or that was cut behind a blank, which a literal cannot end with,
//!   as a range of strings that nothing else is in.

use std::fmt::Write as _;

use super::normalize;

/// A value of a facet: two documents have the same where these are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FacetValue(Kind);

/// Numbers come before strings.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    /// The bits of a float, made so that their order is the numbers'. The two zeros are two values.
    Number(u64),
    /// A string's normal form.
    Text(String),
}

const SIGN: u64 = 1 << 63;

/// Behind every string that is the beginning, before every longer one that is not a control character's.
const NEXT: char = '\u{1}';

impl FacetValue {
    /// A number.
    #[must_use]
    pub fn number(number: f64) -> Self {
        let bits = number.to_bits();
        Self(Kind::Number(if bits & SIGN == 0 { bits | SIGN } else { !bits }))
    }

    /// A string, as it is spelt in a document or shown by a node.
    #[must_use]
    pub fn text(spelling: &str) -> Self {
        Self(Kind::Text(normalize::facet(spelling)))
    }

    /// A string by its normal form, which may end with a blank where it was cut.
    pub(crate) fn normal(text: &str) -> Self {
        Self(Kind::Text(text.to_owned()))
    }

    /// A truth value, which is a string.
    pub(crate) fn flag(flag: bool) -> Self {
        Self(Kind::Text(flag.to_string()))
    }

    /// Whether it is a number.
    #[must_use]
    pub fn is_number(&self) -> bool {
        matches!(self.0, Kind::Number(_))
    }

    /// The number, if it is one.
    pub(crate) fn as_number(&self) -> Option<f64> {
        let Kind::Number(bits) = self.0 else { return None };
        Some(f64::from_bits(if bits & SIGN == 0 { !bits } else { bits & !SIGN }))
    }

    /// Whether the value may be shown as one of the other kind is.
    #[must_use]
    pub fn may_have_namesakes(&self) -> bool {
        match &self.0 {
            Kind::Number(_) => true,
            Kind::Text(text) => reads_as_number(text),
        }
    }

    /// What a filter's literal means the value, if one does: a number written so that no string is.
    fn literal(&self) -> Option<String> {
        let Kind::Text(text) = &self.0 else {
            let number = format!("{:e}", self.as_number()?);
            return Some(match number.strip_prefix('-') {
                Some(digits) => format!("\"-00{digits}\""),
                None => format!("\"00{number}\""),
            });
        };
        let plain = !reads_as_number(text) && text.trim() == text;
        plain.then(|| quoted(text))
    }

    /// A range of strings that nothing but this one is in.
    fn range(&self) -> Option<String> {
        let Kind::Text(text) = &self.0 else { return None };
        let (from, to) = (quoted(text.trim()), quoted(&format!("{text}{NEXT}")));
        Some(format!("{from} TO {to}"))
    }

    /// A literal that means the value and may mean others too.
    fn loose(&self) -> String {
        match &self.0 {
            Kind::Text(text) => quoted(text),
            Kind::Number(_) => self.literal().unwrap_or_default(),
        }
    }
}

/// Whether the engine reads a literal as a number.
fn reads_as_number(text: &str) -> bool {
    text.trim().parse::<f64>().is_ok_and(f64::is_finite)
}

/// A value as a node shows it among numbers, if it is written as the engine writes numbers.
pub(crate) fn shown_number(display: &str) -> Option<f64> {
    if !display.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-')) {
        return None;
    }
    let number: f64 = display.parse().ok()?;
    (number.to_string() == display).then_some(number)
}

/// A text between quotes, as filters take attributes and values.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The list and the ranges that values are in.
fn conditions<'v>(
    attribute: &str,
    values: impl IntoIterator<Item = &'v FacetValue>,
    compares: bool,
) -> (Option<String>, String) {
    let (mut list, mut ranges) = (Vec::new(), String::new());
    for value in values {
        match value.literal() {
            Some(literal) => list.push(literal),
            None if !compares => list.push(value.loose()),
            None => {
                if let Some(range) = value.range() {
                    let or = if ranges.is_empty() { "" } else { " OR " };
                    let _ = write!(ranges, "{or}{attribute} {range}");
                }
            }
        }
    }
    ((!list.is_empty()).then(|| format!("[{}]", list.join(","))), ranges)
}

/// A condition that holds where a document has one of the values. `compares`: whether the attribute may
/// be compared, and not only be asked for equality; if not, a string that reads as a number is not told
/// from the number. `None` without values.
#[must_use]
pub fn any_of<'v>(
    attribute: &str,
    values: impl IntoIterator<Item = &'v FacetValue>,
    compares: bool,
) -> Option<String> {
    let attribute = quoted(attribute);
    match conditions(&attribute, values, compares) {
        (None, ranges) => (!ranges.is_empty()).then(|| format!("({ranges})")),
        (Some(list), ranges) if ranges.is_empty() => Some(format!("{attribute} IN {list}")),
        (Some(list), ranges) => Some(format!("({attribute} IN {list} OR {ranges})")),
    }
}

/// The opposite of [`any_of`]: a condition that holds where a document has none of the values.
#[must_use]
pub fn none_of<'v>(
    attribute: &str,
    values: impl IntoIterator<Item = &'v FacetValue>,
    compares: bool,
) -> Option<String> {
    let attribute = quoted(attribute);
    match conditions(&attribute, values, compares) {
        (None, ranges) => (!ranges.is_empty()).then(|| format!("NOT ({ranges})")),
        (Some(list), ranges) if ranges.is_empty() => Some(format!("{attribute} NOT IN {list}")),
        (Some(list), ranges) => Some(format!("{attribute} NOT IN {list} AND NOT ({ranges})")),
    }
}

/// A condition that holds where a document has a string that may read as a number.
#[must_use]
pub fn numeral_strings(attribute: &str) -> String {
    format!("{} \"+\" TO \":\"", quoted(attribute))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_equal_where_the_engine_finds_them_equal() {
        let same = [
            ("Action", " ACTION "),
            ("Café", "CAFE\u{301}"),
            ("Part Ⅱ", "part ii"),
            ("ｗｉｄｅ", "Wide"),
            ("ΌΣΟΣ", "όσος"),
        ];
        for (a, b) in same {
            assert_eq!(FacetValue::text(a), FacetValue::text(b), "{a}");
        }
        for (a, b) in [("cafe", "café"), ("straße", "strasse"), ("a b", "a  b"), ("5", "5.0")] {
            assert_ne!(FacetValue::text(a), FacetValue::text(b), "{a}");
        }
        // Values are cut to 468 bytes, at the beginning of a character.
        let long = |letter: &str, tail: &str| FacetValue::text(&(letter.repeat(468) + tail));
        assert_eq!(long("x", "1"), long("X", "2"));
        assert_ne!(FacetValue::text(&"x".repeat(467)), long("x", "1"));
        assert_eq!(long("日", "1"), FacetValue::text(&"日".repeat(156)));
        assert_ne!(FacetValue::number(5.0), FacetValue::text("5"));
        assert_ne!(FacetValue::number(0.0), FacetValue::number(-0.0));
        let sorted = [f64::MIN, -2.0, -0.0, 0.0, 1e-9, 3.0].map(FacetValue::number);
        assert!(sorted.is_sorted());
        assert!(FacetValue::number(f64::MAX) < FacetValue::text(""));
    }

    #[test]
    fn conditions_mean_one_kind_of_value() {
        let values = [
            FacetValue::number(5.0),
            FacetValue::number(-0.25),
            FacetValue::text("a\"b"),
            FacetValue::text("5"),
            FacetValue::text(&"ab ".repeat(200)),
        ];
        let cut = "ab ".repeat(156);
        let strings =
            format!("\"a\" \"5\" TO \"5\u{1}\" OR \"a\" \"{}\" TO \"{cut}\u{1}\"", cut.trim());
        assert_eq!(
            any_of("a", &values, true).unwrap(),
            format!(r#"("a" IN ["005e0","-002.5e-1","a\"b"] OR {strings})"#)
        );
        assert_eq!(none_of("a", &values[3..], true).unwrap(), format!("NOT ({strings})"));
        assert_eq!(any_of("a", &values[1..2], true).unwrap(), r#""a" IN ["-002.5e-1"]"#);
        assert_eq!(none_of("a", &values[3..4], false).unwrap(), r#""a" NOT IN ["5"]"#);
        let both = none_of("a", &values[2..4], true).unwrap();
        assert_eq!(both, "\"a\" NOT IN [\"a\\\"b\"] AND NOT (\"a\" \"5\" TO \"5\u{1}\")");
        assert_eq!(any_of("a", [], true), None);
        assert!(values[3].may_have_namesakes() && !values[2].may_have_namesakes());
    }
}
