//! The smallest steps of a scan, over slices and without state.
//!
//! Eight bytes, or 64, are looked at in one go where that pays. All of it is safe code for any
//! processor.

/// A word of ones.
const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
/// The highest bit of each byte.
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
/// Words of a string that are looked through before a search for long ones begins.
const SHORT: usize = 3;

/// The next eight bytes, the first of them lowest.
#[inline]
fn word(text: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*text.get(at..)?.first_chunk()?))
}

/// The highest bit of the first byte that is a quote or a backslash; bits above it mean nothing.
#[inline]
fn quotes(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    // A byte borrows from the one above it where it is zero.
    (quote.wrapping_sub(ONES) & !quote | backslash.wrapping_sub(ONES) & !backslash) & HIGH
}

/// Whether all bytes are digits.
#[inline]
fn are_digits(word: u64) -> bool {
    let upper = ONES * 0xF0;
    // Six more than a digit stays among the same sixteen characters; what lies above digits does not.
    (word & upper | (word.wrapping_add(ONES * 6) & upper) >> 4) == ONES * 0x33
}

/// White space of JSON.
#[inline]
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\t' | b'\r')
}

/// Where a string ends, behind its closing quote; `at` is behind the opening one.
#[inline]
pub(super) fn string_end(text: &[u8], at: usize) -> Option<usize> {
    if let Some(word) = word(text, at) {
        let found = quotes(word);
        let end = at + found.trailing_zeros() as usize / 8;
        if found != 0 && text.get(end) == Some(&b'"') {
            return Some(end + 1);
        }
    }
    far_string_end(text, at)
}

fn far_string_end(text: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..SHORT {
        let Some(word) = word(text, at) else { break };
        let found = quotes(word);
        if found == 0 {
            at += 8;
            continue;
        }
        at += found.trailing_zeros() as usize / 8;
        if text.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        at += 2;
    }
    long_string_end(text, at)
}

fn long_string_end(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let rest = text.get(at..)?;
        let found = memchr::memchr2(b'"', b'\\', rest)?;
        if rest[found] == b'"' {
            return Some(at + found + 1);
        }
        at += found + 2;
    }
}

/// Where the value that begins at `at` ends; `None` if none begins there, or it does not end.
#[inline]
pub(super) fn value_end(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => string_end(text, at + 1),
        b'{' | b'[' => container_end(text, at),
        b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Some(scalar_end(text, at)),
        _ => None,
    }
}

/// Where the object or array at `at` ends, behind its closing bracket.
pub(super) fn container_end(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_u32;
    loop {
        let byte = *text.get(at)?;
        at += 1;
        match byte {
            b'"' => at = string_end(text, at)?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
}

/// Where a number or a literal ends.
#[inline]
pub(super) fn scalar_end(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let mut rest = decimal(rest).unwrap_or(rest);
    while let [byte, behind @ ..] = rest
        && !(matches!(byte, b',' | b']' | b'}') || is_space(*byte))
    {
        rest = behind;
    }
    text.len() - rest.len()
}

/// What follows a non-negative number without an exponent; `None` if there is none.
#[inline]
pub(super) fn decimal(text: &[u8]) -> Option<&[u8]> {
    let [b'0'..=b'9', rest @ ..] = text else { return None };
    let rest = whole(rest);
    let [b'.', rest @ ..] = rest else { return Some(rest) };
    if let [b'0'..=b'9', b',' | b'}', ..] = rest {
        return Some(&rest[1..]);
    }
    // Scores have as many digits as a float.
    if let Some((digits, behind)) = rest.split_first_chunk::<16>() {
        let (words, _) = digits.as_chunks::<8>();
        if words.iter().all(|word| are_digits(u64::from_le_bytes(*word))) {
            return Some(whole(behind));
        }
    }
    Some(whole(rest))
}

/// What follows digits.
#[inline]
fn whole(mut rest: &[u8]) -> &[u8] {
    while let [b'0'..=b'9', behind @ ..] = rest {
        rest = behind;
    }
    rest
}

/// A number of up to nine digits, and what follows these.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a call costs more than most numbers have digits")]
pub(super) fn digits(text: &[u8]) -> Option<(u32, &[u8])> {
    let [first @ b'0'..=b'9', rest @ ..] = text else { return None };
    let first = u32::from(first - b'0');
    // Nearly all have one digit.
    if !rest.first()?.is_ascii_digit() {
        return Some((first, rest));
    }
    Some(more_digits(first, rest))
}

#[cold]
fn more_digits(first: u32, mut rest: &[u8]) -> (u32, &[u8]) {
    let mut number = first;
    for _ in 1..9 {
        let [digit @ b'0'..=b'9', behind @ ..] = rest else { break };
        number = number * 10 + u32::from(digit - b'0');
        rest = behind;
    }
    (number, rest)
}

/// Powers of ten that a float holds exactly.
const POWERS: [f64; 20] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19,
];

/// Reads a raw JSON number.
pub(crate) fn number(raw: &[u8]) -> Option<f64> {
    match raw.first()? {
        b'0'..=b'9' => short(raw).or_else(|| std::str::from_utf8(raw).ok()?.parse().ok()),
        b'-' => std::str::from_utf8(raw).ok()?.parse().ok(),
        _ => None,
    }
}

/// Reads a decimal whose digits and whose power of ten are exact as floats: of these one division
/// is rounded as is right. `None` if it is not such a number.
fn short(raw: &[u8]) -> Option<f64> {
    const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
    // Scores are at most 1.
    let [whole, b'.', fraction @ ..] = raw else { return None };
    // No more digits than a word holds.
    if fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let mut digits = u64::from(whole.wrapping_sub(b'0'));
    let mut rest = fraction;
    while let Some((eight, behind)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        if !are_digits(word) {
            return None;
        }
        digits = digits * 100_000_000 + value(word);
        rest = behind;
    }
    for byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        digits = digits * 10 + u64::from(digit);
    }
    (digits <= EXACT).then(|| digits as f64 / POWERS[fraction.len()])
}

/// The number that eight digits spell, the first of them lowest in the word.
#[inline]
fn value(word: u64) -> u64 {
    let digits = word & (ONES * 0x0F);
    // Neighbours become numbers of two digits, then four, then eight.
    let pairs = (digits.wrapping_mul(10) + (digits >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    (fours.wrapping_mul(10_000) + (fours >> 32)) & 0xFFFF_FFFF
}

/// Whether a text is UTF-8. Most of what nodes answer is ASCII, which is looked through in blocks.
pub(super) fn is_utf8(mut rest: &[u8]) -> bool {
    loop {
        rest = match rest {
            [] => return true,
            [..=0x7F, ..] => &rest[ascii(rest)..],
            [0xC2..=0xDF, 0x80..=0xBF, behind @ ..]
            | [0xE1..=0xEC | 0xEE..=0xEF, 0x80..=0xBF, 0x80..=0xBF, behind @ ..] => behind,
            _ => {
                let run = rest.iter().take_while(|byte| !byte.is_ascii()).count();
                let (run, behind) = rest.split_at(run);
                if std::str::from_utf8(run).is_err() {
                    return false;
                }
                behind
            }
        }
    }
}

/// How many bytes at the beginning are ASCII.
fn ascii(text: &[u8]) -> usize {
    let mut rest = text;
    while let Some((block, behind)) = rest.split_first_chunk::<64>()
        && is_ascii(block)
    {
        rest = behind;
    }
    while let Some((bytes, behind)) = rest.split_first_chunk::<8>() {
        let high = u64::from_le_bytes(*bytes) & HIGH;
        if high != 0 {
            return text.len() - rest.len() + high.trailing_zeros() as usize / 8;
        }
        rest = behind;
    }
    text.len() - rest.len() + rest.iter().take_while(|byte| byte.is_ascii()).count()
}

fn is_ascii(block: &[u8; 64]) -> bool {
    let (words, _) = block.as_chunks::<8>();
    words.iter().fold(0, |all, word| all | u64::from_ne_bytes(*word)) & HIGH == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_those_of_the_standard_library(
            text in prop_oneof![
                "[0-9]{1,3}\\.[0-9]{0,20}", "[0-9.eE+-]{0,20}", "0\\.[0-9]{15,18}", "[0-9]{1,20}",
                any::<f64>().prop_map(|number| format!("{number:?}")),
                (0..1000_u32, 1..1000_u32).prop_map(|(a, b)| format!("{:?}", f64::from(a) / f64::from(b))),
            ],
        ) {
            let want = text.starts_with(|c: char| c.is_ascii_digit() || c == '-').then(|| text.parse().ok());
            let bits = |number: Option<f64>| number.map(f64::to_bits);
            prop_assert_eq!(bits(number(text.as_bytes())), bits(want.flatten()));
        }

        #[test]
        fn text_is_told_from_bytes(
            parts in proptest::collection::vec(prop_oneof![
                "[a-z]{0,80}".prop_map(String::into_bytes),
                "\\PC{0,9}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..3),
            ], 0..4),
        ) {
            let bytes = parts.concat();
            prop_assert_eq!(is_utf8(&bytes), std::str::from_utf8(&bytes).is_ok());
        }

        #[test]
        fn decimals_end_where_their_digits_do(text in "[0-9.]{0,30}[,}e x]?") {
            let point = text.find('.').unwrap_or(text.len());
            let digits = |from: usize| {
                from + text[from..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - from)
            };
            let mut end = digits(0);
            if end == point && end > 0 && end < text.len() {
                end = digits(end + 1);
            }
            let want = (end > 0).then(|| &text.as_bytes()[end..]);
            prop_assert_eq!(decimal(text.as_bytes()), want);
        }
    }
}
