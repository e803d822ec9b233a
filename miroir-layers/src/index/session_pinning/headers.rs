//! `X-Miroir-Session` and `X-Miroir-Session-Stale`.

use std::sync::Arc;

use miroir_api::header::{SESSION, SESSION_STALE};
use miroir_pipeline::codec::Headers;
use miroir_pipeline::extension::{AnswerKey, Extension};

/// Name of the session whose writes a read must show, 1 to 255 visible characters; in its context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session(pub Arc<str>);

impl Extension for Session {
    /// A session may not see less than its own writes, which an answer to others may lack.
    fn answer_key(&self) -> AnswerKey {
        AnswerKey::Unshared
    }
}

/// Set where the wait for a session's last write ended without it, so that it may be missing; in the
/// `Meta` of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStale;

impl Extension for SessionStale {
    fn holds_for_whole(&self) -> bool {
        true
    }
}

/// The headers of the two.
pub(super) fn codec() -> Headers {
    Headers::new()
        .name(SESSION, |name, cx| cx.insert(Session(name)))
        .mark::<SessionStale>(SESSION_STALE)
}
