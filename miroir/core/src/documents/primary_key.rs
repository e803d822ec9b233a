//! Which field is the primary key, when nobody said so.

use miroir_api::meili::ApiError;

use super::payload::RawDocument;
use super::scan;

/// What Meilisearch's inference finds in the first document of a payload: the top-level keys whose
/// lower-cased name ends with `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inference {
    /// Exactly one: it is the primary key.
    Found(String),
    /// None. Also the answer of an index without primary key to a payload without documents.
    None,
    /// The first two in byte order, and how many there are.
    Multiple(String, String, usize),
}

/// Infers the primary key from the first document of a payload.
pub fn infer(first: &RawDocument) -> Inference {
    let mut candidates: Vec<String> = scan::members(&first.bytes)
        // A cheap look first: no lower-casing of other letters than ASCII's yields `d`.
        .filter(|member| {
            matches!(member.key.last(), Some(b'd' | b'D'))
                || memchr::memchr(b'\\', member.key).is_some()
        })
        .filter_map(|member| String::from_utf8(member.name().into_owned()).ok())
        .filter(|name| name.to_lowercase().ends_with("id"))
        .collect();
    candidates.sort_unstable();
    candidates.dedup();
    let total = candidates.len();
    let mut candidates = candidates.into_iter();
    match (candidates.next(), candidates.next()) {
        (None, _) => Inference::None,
        (Some(only), None) => Inference::Found(only),
        (Some(first), Some(second)) => Inference::Multiple(first, second, total),
    }
}

impl Inference {
    /// The key that was found.
    ///
    /// # Errors
    /// With what a node fails the task: `index_primary_key_no_candidate_found` or
    /// `index_primary_key_multiple_candidates_found`.
    pub fn into_result(self) -> Result<String, ApiError> {
        match self {
            Self::Found(name) => Ok(name),
            Self::None => Err(ApiError::new(
                "index_primary_key_no_candidate_found",
                "The primary key inference failed as the engine did not find any field ending with \
                 `id` in its name. Please specify the primary key manually using the `primaryKey` \
                 query parameter.",
            )),
            Self::Multiple(first, second, total) => Err(ApiError::new(
                "index_primary_key_multiple_candidates_found",
                format!(
                    "The primary key inference failed as the engine found {total} fields ending \
                     with `id` in their names: '{first}' and '{second}'. Please specify the primary \
                     key manually using the `primaryKey` query parameter."
                ),
            )),
        }
    }
}
