//! The whole merged answer of a search.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::facet_options::FacetOptions;
use super::facets::{MergedFacets, merge_facets};
use super::hits::{HitOptions, MergedHits, merge_hits};
use super::page::Page;
use super::scan::{write_int, write_json};

/// How the client pages through hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pagination {
    /// `offset`/`limit`, with an estimated total.
    Offset {
        /// Hits to skip at the beginning of the merged list.
        offset: usize,
        /// Hits to return at most.
        limit: usize,
    },
    /// `page`/`hitsPerPage`, with an exhaustive total.
    Page {
        /// 1 for the first page; page 0 has no hits.
        page: usize,
        /// Hits on a page at most; 0 returns totals only.
        hits_per_page: usize,
    },
}

impl Pagination {
    /// The slice of the merged list a client sees: (offset, limit), where `max_total_hits` caps
    /// how deep the list goes.
    #[must_use]
    pub fn window(self, max_total_hits: usize) -> (usize, usize) {
        let (offset, limit) = match self {
            Self::Offset { offset, limit } => (offset, limit),
            Self::Page { page: 0, .. } => (0, 0),
            Self::Page { page, hits_per_page } => {
                ((page - 1).saturating_mul(hits_per_page), hits_per_page)
            }
        };
        (offset, limit.min(max_total_hits.saturating_sub(offset)))
    }

    /// How many hits each leaf must be asked for, from the first.
    #[must_use]
    pub fn depth(self, max_total_hits: usize) -> usize {
        match self.window(max_total_hits) {
            (_, 0) => 0,
            (offset, limit) => offset.saturating_add(limit),
        }
    }
}

/// Where the facets of the answer come from.
#[derive(Debug, Clone, Copy, Default)]
pub enum Facets<'a> {
    /// The client asked for none.
    #[default]
    None,
    /// Merge what the leaves answered; open counts stay lower bounds.
    Merge(&'a FacetOptions),
    /// Already merged (and completed) by the caller.
    Ready(&'a MergedFacets),
}

/// Everything [`merge_search`] needs to know of the request.
#[derive(Debug, Clone)]
pub struct MergeRequest<'a> {
    /// `q` as sent, `""` when absent.
    pub query: &'a str,
    /// The client's pagination, echoed in the answer.
    pub pagination: Pagination,
    /// The index's `pagination.maxTotalHits` as the client set it: no hit beyond it is shown.
    pub max_total_hits: usize,
    /// What to do with hits; its `offset` and `limit` are replaced by those of `pagination`.
    pub hits: HitOptions,
    /// Where the facets of the answer come from.
    pub facets: Facets<'a>,
    /// The total, where the caller knows better than the sum (distinct with pages, hybrid).
    pub total: Option<u64>,
    /// Whether the leaves' `queryVector` is shown.
    pub show_query_vector: bool,
    /// Wall time of the request in milliseconds.
    pub processing_time_ms: u64,
    /// `requestUid`, a fresh UUID for every answer.
    pub request_uid: &'a str,
    /// `metadata`, raw, when the client asked for it.
    pub metadata: Option<&'a RawValue>,
}

/// Merges the leaves' answers into the body of one answer.
#[must_use]
pub fn merge_search(pages: &[Page], request: &MergeRequest<'_>) -> Bytes {
    let mut options = request.hits.clone();
    (options.offset, options.limit) = request.pagination.window(request.max_total_hits);
    let merged = merge_hits(pages, &options);
    write_search(pages, &merged, &options, request)
}

/// Writes the answer around hits that are already merged (with `options`), for callers that want
/// to look at the merge first.
#[must_use]
pub fn write_search(
    pages: &[Page],
    merged: &MergedHits,
    options: &HitOptions,
    request: &MergeRequest<'_>,
) -> Bytes {
    let mut out = Vec::with_capacity(capacity(pages, merged));
    out.extend_from_slice(b"{\"hits\":");
    merged.write(pages, options, &mut out);
    out.extend_from_slice(b",\"query\":");
    write_json(&mut out, request.query);
    if request.show_query_vector
        && let Some(vector) = pages.iter().find_map(|page| page.query_vector.as_deref())
    {
        out.extend_from_slice(b",\"queryVector\":");
        out.extend_from_slice(vector.get().as_bytes());
    }
    let mut number = |name: &str, value: u64| {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_int(&mut out, value);
    };
    number("processingTimeMs", request.processing_time_ms);
    let total = request.total.unwrap_or_else(|| {
        let found: u64 = pages.iter().fold(0, |sum, page| sum.saturating_add(page.total));
        found.saturating_sub(merged.duplicates + merged.below_threshold)
    });
    match request.pagination {
        Pagination::Page { page, hits_per_page } => {
            let per_page = hits_per_page as u64;
            number("hitsPerPage", per_page);
            number("page", page as u64);
            number("totalPages", if per_page == 0 { 0 } else { total.div_ceil(per_page) });
            number("totalHits", total);
        }
        Pagination::Offset { offset, limit } => {
            number("limit", limit as u64);
            number("offset", offset as u64);
            number("estimatedTotalHits", total);
        }
    }
    match request.facets {
        Facets::None => {}
        Facets::Merge(options) => write_facets(&merge_facets(pages, options), &mut out),
        Facets::Ready(facets) => write_facets(facets, &mut out),
    }
    out.extend_from_slice(b",\"requestUid\":");
    write_json(&mut out, request.request_uid);
    if let Some(metadata) = request.metadata {
        out.extend_from_slice(b",\"metadata\":");
        out.extend_from_slice(metadata.get().as_bytes());
    }
    if pages.iter().any(|page| page.semantic_hit_count.is_some()) {
        out.extend_from_slice(b",\"semanticHitCount\":");
        write_int(&mut out, merged.semantic);
    }
    out.push(b'}');
    Bytes::from(out)
}

fn write_facets(facets: &MergedFacets, out: &mut Vec<u8>) {
    if facets.distribution.is_some() {
        out.extend_from_slice(b",\"facetDistribution\":");
        facets.write_distribution(out);
    }
    if facets.stats.is_some() {
        out.extend_from_slice(b",\"facetStats\":");
        facets.write_stats(out);
    }
}

/// Roughly how large the answer will be: the share of the received bytes that is shown.
fn capacity(pages: &[Page], merged: &MergedHits) -> usize {
    let bytes: usize = pages.iter().map(|page| page.body.len()).sum();
    let hits: usize = pages.iter().map(|page| page.hits.len()).sum();
    bytes / hits.max(1) * merged.placed.len() + 1024
}
