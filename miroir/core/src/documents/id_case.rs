//! Which letters the ids of an index have, as far as case goes.
//!
//! A filter compares ids without case, while documents are routed by their exact id: `id = "ab"` may
//! find `ab`, `Ab`, `aB` and `AB`, in four shards. Where no id ever had a capital letter, only `ab`
//! can be there. This is written down in the catalogue before any node gets the first document that
//! changes it, and never taken back.

use serde::{Deserialize, Serialize};

/// The cases of the letters that some id of an index has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdCase {
    /// Some id has had a small letter of ASCII.
    pub lower: bool,
    /// Some id has had a capital letter of ASCII.
    pub upper: bool,
}

impl IdCase {
    /// No id has had a letter.
    pub const NONE: Self = Self { lower: false, upper: false };
    /// Ids may have letters of both cases.
    pub const ANY: Self = Self { lower: true, upper: true };

    /// [`Self::ANY`]: what is known of an index whose ids nobody watched.
    pub fn any() -> Self {
        Self::ANY
    }

    /// Whether both cases may occur, so that nothing can be concluded.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub fn is_any(&self) -> bool {
        *self == Self::ANY
    }

    /// The letters of one id.
    pub fn of(id: &str) -> Self {
        Self {
            lower: id.bytes().any(|byte| byte.is_ascii_lowercase()),
            upper: id.bytes().any(|byte| byte.is_ascii_uppercase()),
        }
    }

    /// The cases of either.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { lower: self.lower || other.lower, upper: self.upper || other.upper }
    }
}
