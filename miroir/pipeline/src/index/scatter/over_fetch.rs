//! `X-Miroir-Over-Fetch`: how many more hits than it needs a search by vector asks every leaf for.

use miroir_api::header::OVER_FETCH;

use crate::codec::Headers;
use crate::extension::{AnswerKey, Extension};

/// Largest factor that is taken.
const MAX: u64 = 100;

/// Factor, from 1 to 100, by which a search by vector asks every leaf for more hits than it needs;
/// without it `vector_search.over_fetch_factor` counts. In the context
/// of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverFetch(pub u32);

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
