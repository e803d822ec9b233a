//! Tests of the merge.

mod distinct_scan;
mod documents;
mod eager;
mod exact;
mod facets;
mod golden;
mod hits;
mod lazy;
mod lists;
mod robust;

use bytes::Bytes;

use super::*;

/// Decodes a page written as JSON.
fn page(json: &str) -> Page {
    Page::open(&Bytes::copy_from_slice(json.as_bytes())).expect("a search answer")
}

/// A request for everything, with nothing shown beyond the documents.
fn request() -> MergeRequest<'static> {
    MergeRequest {
        query: "q",
        pagination: Pagination::Offset { offset: 0, limit: 1000 },
        max_total_hits: 1000,
        hits: HitOptions::default(),
        facets: Facets::None,
        total: None,
        show_query_vector: false,
        processing_time_ms: 3,
        request_uid: "uid",
        metadata: None,
    }
}

/// The merged answer as text.
fn merged(pages: &[Page], request: &MergeRequest<'_>) -> String {
    String::from_utf8(merge_search(pages, request).to_vec()).expect("UTF-8")
}

/// The merged answer as a value.
fn value(pages: &[Page], request: &MergeRequest<'_>) -> serde_json::Value {
    serde_json::from_str(&merged(pages, request)).expect("JSON")
}

/// The ids of an answer's hits.
fn ids(answer: &serde_json::Value) -> Vec<u64> {
    let hits = answer["hits"].as_array().expect("hits");
    hits.iter().map(|hit| hit["id"].as_u64().expect("an id")).collect()
}
