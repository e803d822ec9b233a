//! Values that are equal though they are spelt differently, and values of all kinds beside them.

use serde_json::{Value, json};

use super::{Rng, real};

/// Spellings of one value each.
const SPELLINGS: &[&[&str]] = &[
    &["Drama", "DRAMA", "drama", " Drama "],
    &["Café", "CAFÉ", "Cafe\u{301}"],
    &["cafe"],
    &["Part Ⅱ", "part ii", "PART II "],
    &["ｗｉｄｅ", "Wide"],
    &["Straße", "STRAßE"],
    &["TRUE", "true"],
    &["5"],
    &["7"],
    &["0.5"],
    &["5.0"],
    &["-1"],
];
const NUMBERS: &[f64] = &[5.0, 7.0, 0.5, -1.0, 2.0];

/// One of the spellings.
pub(crate) fn text(rng: &mut Rng) -> String {
    let spellings = *rng.pick(SPELLINGS);
    (*rng.pick(spellings)).to_owned()
}

/// A text of which the engine keeps the beginning only.
fn long(rng: &mut Rng) -> String {
    let head = ["ab ".repeat(157), "Éé ".repeat(80)];
    let head = rng.pick(&head);
    format!("{head}{}", rng.below(4))
}

/// A value that is no blank.
pub(crate) fn value(rng: &mut Rng) -> Value {
    match rng.below(20) {
        0..12 => json!(text(rng)),
        12..16 => json!(rng.pick(NUMBERS)),
        16 => json!(rng.chance(50)),
        17 => json!(long(rng)),
        18 => Value::Null,
        _ => json!(rng.below(3)),
    }
}

/// A value that may be blank. The engine in the process does not survive changes of documents with
/// nothing but blanks.
pub(crate) fn mark(rng: &mut Rng) -> Value {
    let blank = real::binary().is_some();
    match rng.below(10) {
        0 => json!(""),
        1 if blank => json!([" ", "  "][rng.below(2)]),
        2 => json!([]),
        _ => value(rng),
    }
}

/// Up to three values.
pub(crate) fn list(rng: &mut Rng) -> Value {
    let count = rng.below(4);
    (0..count).map(|_| value(rng)).collect()
}
