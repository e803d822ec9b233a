//! Merging facet-search answers.

use bytes::Bytes;
use indexmap::IndexMap;

use super::facets::FacetOrder;
use super::normalize;
use super::scan::{Result, Scanner, text, write_int, write_json};
use super::spellings::Spellings;

/// What the merge of a facet search needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetSearchOptions {
    /// The client's `maxValuesPerFacet`: values to return at most.
    pub max_values_per_facet: usize,
    /// The facet's `sortFacetValuesBy`: the order of the values.
    pub order: FacetOrder,
    /// Whether `facetQuery` was given and not null: with a query the engine walks values without
    /// their accents first.
    pub query: bool,
    /// Wall time of the request in milliseconds.
    pub processing_time_ms: u64,
}

/// Merges the leaves' facet-search answers: counts add up by normalised value, the spelling is
/// that of most documents, `facetQuery` is echoed as the first leaf did.
///
/// # Errors
/// When a body is not a JSON object, or there is none at all.
pub fn merge_facet_search(bodies: &[Bytes], options: &FacetSearchOptions) -> Result<Bytes> {
    let mut values: IndexMap<String, (Spellings, u64)> = IndexMap::new();
    let mut facet_query: &[u8] = b"null";
    for (leaf, body) in bodies.iter().enumerate() {
        let mut scanner = Scanner::new(body)?;
        scanner.enter(b'{')?;
        while let Some(key) = scanner.member()? {
            match key.inner(body) {
                b"facetHits" => {
                    scanner.enter(b'[')?;
                    while scanner.element()? {
                        let (value, count) = facet_hit(&mut scanner)?;
                        let entry = values.entry(normalize::facet(&value)).or_default();
                        entry.0.add(&value, count);
                        entry.1 = entry.1.saturating_add(count);
                    }
                }
                b"facetQuery" => {
                    let value = scanner.value()?;
                    if leaf == 0 {
                        facet_query = value.of(body);
                    }
                }
                _ => {
                    scanner.value()?;
                }
            }
        }
        scanner.finish()?;
    }
    let shown = |(normal, (spellings, count)): (String, (Spellings, u64))| {
        (normal, (spellings.shown().to_owned(), count))
    };
    let mut values: Vec<(String, (String, u64))> = values.into_iter().map(shown).collect();
    match options.order {
        // The engine breaks ties by the displayed spelling here, the other way round.
        FacetOrder::Count => {
            values.sort_by(|(_, a), (_, b)| b.1.cmp(&a.1).then_with(|| b.0.cmp(&a.0)));
        }
        FacetOrder::Alpha if options.query => {
            values.sort_by_cached_key(|(normal, (value, _))| {
                (normalize::loose(value), normal.clone())
            });
        }
        FacetOrder::Alpha => values.sort_by(|a, b| a.0.cmp(&b.0)),
    }
    values.truncate(options.max_values_per_facet);

    let mut out = Vec::with_capacity(values.len() * 48 + 64);
    out.extend_from_slice(b"{\"facetHits\":[");
    for (at, (_, (value, count))) in values.iter().enumerate() {
        out.extend_from_slice(if at > 0 { b",{\"value\":" } else { b"{\"value\":" });
        write_json(&mut out, value);
        out.extend_from_slice(b",\"count\":");
        write_int(&mut out, *count);
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"facetQuery\":");
    out.extend_from_slice(facet_query);
    out.extend_from_slice(b",\"processingTimeMs\":");
    write_int(&mut out, options.processing_time_ms);
    out.push(b'}');
    Ok(Bytes::from(out))
}

fn facet_hit(scanner: &mut Scanner<'_>) -> Result<(String, u64)> {
    let (mut value, mut count) = (String::new(), 0);
    scanner.enter(b'{')?;
    while let Some(key) = scanner.member()? {
        match key.inner(scanner.body()) {
            b"value" => {
                let span = scanner.value()?;
                value = text(span.of(scanner.body())).unwrap_or_default();
            }
            b"count" => count = scanner.integer()?,
            _ => {
                scanner.value()?;
            }
        }
    }
    Ok((value, count))
}
