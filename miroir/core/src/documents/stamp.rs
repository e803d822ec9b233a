//! Order stamps: where a document came first, among all that a cluster was ever given.
//!
//! One Meilisearch breaks ties and lists documents by a number of its own that a document gets when it
//! first comes and keeps when it is replaced. No API shows it, and the nodes of a cluster number their
//! documents each for itself. So every document carries a stamp, [`super::ORDER`]: the uid of the task
//! that brought it first, and its place in that payload.
//!
//! A stamp is text that the engine's tokenizer takes for separators alone, so that documents get no
//! word for it: nothing is added to the dictionary of an index, and no query can hit it. (Private-use
//! characters, which [`super::SHARD`] is made of, are one word a document: a dictionary as long as the
//! index.) The digits are from Unicode's Supplemental Punctuation, which no keyboard types and no
//! settings are known to name.

use miroir_api::TaskUid;

use super::payload::RawDocument;
use super::reserved::ORDER;
use super::scan;

/// Bits of a digit.
const DIGIT_BITS: u32 = 6;
/// Digits of a stamp.
const DIGITS: usize = 10;
/// Bits of the place in a payload.
const PLACE_BITS: u32 = 28;
/// The digit zero, U+2E00; up to U+2E2E each character is a digit.
const ZERO: u32 = 0x2E00;
/// The first digit that does not follow its predecessor: U+2E2F is a letter.
const GAP: u32 = 47;

/// Where a document came first; the lesser the earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// Bytes of a stamp's text.
    pub const BYTES: usize = DIGITS * 3;
    /// Of documents without a stamp: they come before all others.
    pub const NONE: Self = Self(0);

    /// Of a document that a task brings, at a place of its payload from 0. Places above 268,435,455 are
    /// taken for that one.
    #[must_use]
    pub fn new(task: TaskUid, place: usize) -> Self {
        let most = (1_u64 << PLACE_BITS) - 1;
        Self(u64::from(task.0) << PLACE_BITS | (place as u64).min(most))
    }

    /// The task that brought the document.
    #[must_use]
    pub fn task(self) -> TaskUid {
        TaskUid((self.0 >> PLACE_BITS) as u32)
    }

    /// The text: [`Stamp::BYTES`] bytes of UTF-8, in the order of the stamps.
    #[must_use]
    pub fn text(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        for (at, place) in out.chunks_exact_mut(3).enumerate() {
            let shift = DIGIT_BITS * (DIGITS - 1 - at) as u32;
            let digit = (self.0 >> shift & ((1 << DIGIT_BITS) - 1)) as u32;
            let code = ZERO + digit + u32::from(digit >= GAP);
            // Three bytes of UTF-8, as all characters from U+0800 to U+FFFF.
            place[0] = 0xE0 | (code >> 12) as u8;
            place[1] = 0x80 | (code >> 6 & 0x3F) as u8;
            place[2] = 0x80 | (code & 0x3F) as u8;
        }
        out
    }

    /// Reads a stamp from a JSON value as nodes write it. [`Stamp::NONE`] when it is none.
    #[must_use]
    pub fn read(json: &[u8]) -> Self {
        let [b'"', text @ .., b'"'] = json else { return Self::NONE };
        if text.len() != Self::BYTES {
            return Self::NONE;
        }
        let mut stamp = 0;
        for place in text.chunks_exact(3) {
            let [a, b, c] = [place[0], place[1], place[2]].map(u32::from);
            let code = (a & 0x0F) << 12 | (b & 0x3F) << 6 | c & 0x3F;
            let digit = code.wrapping_sub(ZERO);
            let digit = digit.wrapping_sub(u32::from(digit > GAP));
            if digit >> DIGIT_BITS != 0 {
                return Self::NONE;
            }
            stamp = stamp << DIGIT_BITS | u64::from(digit);
        }
        Self(stamp)
    }
}

/// The stamp of a document that a node holds.
#[must_use]
pub fn stamp_of(document: &RawDocument) -> Stamp {
    let value = scan::members(&document.bytes).find(|member| member.is(ORDER));
    value.map_or(Stamp::NONE, |member| Stamp::read(member.value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(stamp: Stamp) -> Vec<u8> {
        [b"\"", &stamp.text()[..], b"\""].concat()
    }

    proptest! {
        #[test]
        fn texts_are_read_back_and_have_the_stamps_order(a: (u32, u32), b: (u32, u32)) {
            let stamp = |(task, place): (u32, u32)| Stamp::new(TaskUid(task), place as usize);
            let (a, b) = (stamp(a), stamp(b));
            prop_assert_eq!(Stamp::read(&json(a)), a);
            prop_assert_eq!(a.text().cmp(&b.text()), a.cmp(&b));
            prop_assert!(std::str::from_utf8(&a.text()).is_ok());
        }
    }

    #[test]
    fn a_stamp_says_its_task_and_comes_after_earlier_ones() {
        let stamp = |task, place| Stamp::new(TaskUid(task), place);
        assert_eq!(stamp(7, 3).task(), TaskUid(7));
        let grow =
            [Stamp::NONE, stamp(0, 1), stamp(1, 0), stamp(1, 1), stamp(1, usize::MAX), stamp(2, 0)];
        assert!(grow.is_sorted_by(|a, b| a < b));
        // The first document of the first task is as good as unstamped: it is the first of all.
        assert_eq!(stamp(0, 0), Stamp::NONE);
    }

    #[test]
    fn every_digit_is_a_separator_of_the_engine() {
        let separators = ('\u{2E00}'..='\u{2E4F}').filter(|c| *c != '\u{2E2F}');
        let separators: Vec<char> = separators.collect();
        for place in 0..64 {
            for c in
                String::from_utf8(Stamp::new(TaskUid(9), place).text().to_vec()).unwrap().chars()
            {
                assert!(separators.contains(&c), "{c:?}");
            }
        }
    }

    #[test]
    fn what_is_no_stamp_is_read_as_none() {
        let mut longer = json(Stamp::new(TaskUid(1), 1));
        longer.insert(1, b'x');
        for other in
            [&b"null"[..], b"\"\"", b"12", b"\"", b"", "\"ééééééééééééééé\"".as_bytes(), &longer]
        {
            assert_eq!(Stamp::read(other), Stamp::NONE);
        }
    }
}
