//! `X-Miroir-Over-Fetch`: how many more hits than it needs a search by vector asks every leaf for.

use miroir_api::header::OVER_FETCH;

use crate::codec::Headers;
use crate::extension::{AnswerKey, Extension};

/// Largest factor that is taken: whoever may search may send the header, and every node does that many
/// times the work.
const MAX: u64 = 10;
/// Hits beyond which no leaf is asked for more than are needed: among so many the nearest are found.
const ENOUGH: usize = 10_000;

/// Factor, from 1 to 10, by which a search by vector asks every leaf for more hits than it needs;
/// without it `vector_search.over_fetch_factor` counts. In the context
/// of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverFetch(pub u32);

/// How many hits a leaf is asked for where `needed` are: `factor` times as many, but no more than
/// 10,000 for the factor's sake.
pub(super) fn raised(needed: usize, factor: usize) -> usize {
    needed.saturating_mul(factor).min(ENOUGH).max(needed)
}

impl Extension for OverFetch {
    fn answer_key(&self) -> AnswerKey {
        AnswerKey::Part(format!("{OVER_FETCH}:{}", self.0).into_bytes())
    }
}

/// The header.
pub(super) fn headers() -> Headers {
    Headers::new().integer(OVER_FETCH, 1..=MAX, |factor, cx| {
        // No larger than the largest, so it fits.
        cx.insert(OverFetch(u32::try_from(factor).unwrap_or(u32::MAX)));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_enough_is_not_raised() {
        assert_eq!(raised(20, 3), 60);
        assert_eq!(raised(9000, 3), 10_000);
        assert_eq!(raised(50_000, 10), 50_000);
        assert_eq!(raised(usize::MAX, 10), usize::MAX);
    }
}
