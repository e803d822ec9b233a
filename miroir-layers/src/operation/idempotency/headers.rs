//! `Idempotency-Key` and `X-Miroir-Idempotency-Replayed`.

use std::sync::Arc;

use http::HeaderValue;
use miroir_api::header::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED};
use miroir_pipeline::codec::Headers;
use miroir_pipeline::extension::Extension;

/// The `Idempotency-Key` of a request, 1 to 255 visible characters; in its context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(pub Arc<str>);

impl Extension for IdempotencyKey {}

/// Set where an answer is the one to an earlier request with the same key; in its `Meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Whether an API key in it was derived anew: the store has answers without.
    pub derived: bool,
}

impl Extension for Replayed {}

/// The headers of the two.
pub(super) fn codec() -> Headers {
    Headers::new()
        .name(IDEMPOTENCY_KEY, |key, cx| cx.insert(IdempotencyKey(key)))
        .value::<Replayed>(IDEMPOTENCY_REPLAYED, |Replayed { derived }| {
            HeaderValue::from_static(if *derived { "derived" } else { "true" })
        })
}
