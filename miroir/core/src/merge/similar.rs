//! Documents like one document.
//!
//! The shard that holds the document knows its neighbours there; every other shard was asked for
//! the neighbours of its vectors. Both tell similarities, which can be compared.

use std::collections::HashSet;

use bytes::Bytes;

use super::cross_query::document_id;
use super::details::Kind;
use super::hit::Hit;
use super::hits::{HitOptions, MergedHits, Placed};
use super::page::Page;
use super::scan::{write_int, write_json};

/// What the client asked for.
#[derive(Debug, Clone, Default)]
pub struct SimilarRequest<'a> {
    /// The document's id, as it is echoed.
    pub id: &'a str,
    /// Paging and what is shown; a threshold is applied here too.
    pub hits: HitOptions,
    /// By what documents are told apart.
    pub primary_key: Option<&'a str>,
    /// How many documents could be similar: all that match the filter, less the document itself.
    pub candidates: u64,
    /// The index's `pagination.maxTotalHits` as the client set it.
    pub max_total_hits: usize,
    /// Wall time of the request in milliseconds.
    pub processing_time_ms: u64,
}

fn similarity(page: &Page, hit: &Hit) -> Option<f64> {
    page.rules(hit).iter().find_map(|rule| match rule.kind {
        Kind::Vector(similarity) => similarity,
        _ => None,
    })
}

/// The neighbours on all pages, the most similar first: equal ones by stamp, then by page. A page's own
/// order is kept where it is one.
fn neighbours(pages: &[Page]) -> Vec<(f64, usize, usize)> {
    let mut lists: Vec<_> = pages
        .iter()
        .map(|page| {
            // Documents without a vector are no neighbours.
            let similar = |(at, hit)| Some((similarity(page, hit)?, page.stamp(hit), at));
            page.hits.iter().enumerate().filter_map(similar).peekable()
        })
        .collect();
    let mut found = Vec::new();
    loop {
        let heads = lists.iter_mut().enumerate();
        let heads = heads.filter_map(|(leaf, list)| list.peek().map(|head| (leaf, *head)));
        let best = heads.min_by(|(_, a), (_, b)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let Some((leaf, (similarity, _, at))) = best else { return found };
        found.push((similarity, leaf, at));
        lists[leaf].next();
    }
}

/// Merges the pages of all shards. A document that several of its vectors led to counts once, with
/// the best of its similarities.
#[must_use]
pub fn merge_similar(pages: &[Page], request: &SimilarRequest<'_>) -> Bytes {
    let mut found = neighbours(pages);
    let mut documents = HashSet::new();
    if let Some(key) = request.primary_key {
        found.retain(|(_, leaf, at)| {
            let page = &pages[*leaf];
            document_id(page, &page.hits[*at], key)
                .is_none_or(|id| id != request.id && documents.insert(id))
        });
    }
    let mut merged = MergedHits::default();
    let mut candidates = request.candidates;
    let shown = found.iter().enumerate().skip(request.hits.offset).take(request.hits.limit);
    for (at, (similarity, leaf, hit)) in shown {
        if request.hits.score_threshold.is_some_and(|threshold| *similarity < threshold) {
            // Only those before it are left as candidates.
            candidates = at as u64;
            break;
        }
        merged.placed.push(Placed { leaf: *leaf, hit: *hit, score: None, ranks: None });
    }
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"hits\":");
    merged.write(pages, &request.hits, &mut out);
    out.extend_from_slice(b",\"id\":");
    write_json(&mut out, request.id);
    for (name, value) in [
        ("processingTimeMs", request.processing_time_ms),
        ("limit", request.hits.limit as u64),
        ("offset", request.hits.offset as u64),
        ("estimatedTotalHits", candidates.min(request.max_total_hits as u64)),
    ] {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_int(&mut out, value);
    }
    out.push(b'}');
    Bytes::from(out)
}
