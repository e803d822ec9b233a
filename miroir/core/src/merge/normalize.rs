//! The normalisation Meilisearch applies to facet and sort strings.
//!
//! Two spellings with the same normal form are one facet value: `"Action"` and `" ACTION"`.

use unicode_normalization::UnicodeNormalization as _;

/// The longest normal form, in bytes: what fits a key of the engine's storage.
const LONGEST: usize = 468;

/// Trimmed, decomposed for compatibility (character by character, as the engine does), lower case,
/// and cut to [`LONGEST`] bytes or, inside a character, before it.
pub(crate) fn facet(original: &str) -> String {
    let trimmed = original.trim();
    let mut normal = if trimmed.is_ascii() {
        trimmed.to_ascii_lowercase()
    } else {
        let decomposed = trimmed.chars().flat_map(|c| std::iter::once(c).nfkd());
        decomposed.collect::<String>().to_lowercase()
    };
    if normal.len() > LONGEST {
        normal.truncate(normal.floor_char_boundary(LONGEST));
    }
    normal
}

/// [`facet`] without combining marks: the order in which a facet search with a query walks values.
pub(crate) fn loose(original: &str) -> String {
    let mut normal = facet(original);
    if !normal.is_ascii() {
        normal.retain(|c| !unicode_normalization::char::is_combining_mark(c));
    }
    normal
}
