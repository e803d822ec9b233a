//! The normalisation Meilisearch applies to facet and sort strings.
//!
//! Two spellings with the same normal form are one facet value: `"Action"` and `" ACTION"`.

use unicode_normalization::UnicodeNormalization as _;

/// Trimmed, decomposed for compatibility (character by character, as the engine does), lower case.
pub(crate) fn facet(original: &str) -> String {
    let trimmed = original.trim();
    if trimmed.is_ascii() {
        return trimmed.to_ascii_lowercase();
    }
    trimmed.chars().flat_map(|c| std::iter::once(c).nfkd()).collect::<String>().to_lowercase()
}

/// [`facet`] without combining marks: the order in which a facet search with a query walks values.
pub(crate) fn loose(original: &str) -> String {
    let mut normal = facet(original);
    if !normal.is_ascii() {
        normal.retain(|c| !unicode_normalization::char::is_combining_mark(c));
    }
    normal
}
