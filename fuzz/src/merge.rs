//! Answers of nodes: whatever they are, merging gives the same twice, JSON from JSON, hits that one
//! of the nodes sent, not more of them than asked for, and no field of Miroir's.

use bytes::Bytes;
use miroir_core::merge::{DocumentOptions, FacetOptions, FacetOrder, FacetHits, FacetSearchOptions, Facets, HitOptions, HybridOptions, MergeRequest, Page, Pagination, SimilarRequest, distinct_total, merge_documents, merge_hits, merge_hybrid, merge_search, merge_similar, strip_reserved};
use serde_json::{Map, Value};

/// Hits of a page.
const LIMIT: usize = 5;

/// The first byte chooses options; then one answer per line.
pub fn check(data: &[u8]) {
    let Some((options, rest)) = data.split_first() else { return };
    let bodies: Vec<Bytes> =
        rest.split(|byte| *byte == b'\n').take(4).map(Bytes::copy_from_slice).collect();
    let options = *options;
    let valid: Vec<bool> = bodies
        .iter()
        .map(|body| serde_json::from_slice::<Map<String, Value>>(body).is_ok())
        .collect();
    search(&bodies, &valid, options);
    listings(&bodies, valid.iter().all(|valid| *valid), options);
    for (body, valid) in bodies.iter().zip(valid) {
        let shown = strip_reserved(body);
        if valid {
            let shown: Map<String, Value> =
                serde_json::from_slice(&shown).expect("still an object");
            assert!(!shown.keys().any(|key| miroir_core::documents::is_reserved(key)) || escapes(body));
        }
    }
}

/// Whether something is escaped. Nodes escape no letters, so that a name may hide behind escapes.
fn escapes(body: &[u8]) -> bool {
    body.contains(&b'\\')
}

fn hit_options(options: u8) -> HitOptions {
    let set = |bit: u8| options & (1 << bit) != 0;
    let mut hits = HitOptions { offset: 0, limit: LIMIT, ..HitOptions::default() };
    hits.show_score = set(0);
    hits.show_details = set(1);
    hits.score_threshold = set(2).then_some(0.25);
    hits.distinct = set(3).then(|| "a.b".to_owned());
    hits.unique = set(4).then(|| "id".to_owned());
    if set(5) {
        hits.drop_fields = vec!["a".to_owned()];
        hits.drop_formatted = vec!["a".to_owned()];
    }
    hits
}

fn search(bodies: &[Bytes], valid: &[bool], options: u8) {
    let decoded: Vec<_> = bodies.iter().map(Page::decode).collect();
    let json = decoded.iter().zip(valid).all(|(page, valid)| page.is_err() || *valid);
    let pages: Vec<Page> = decoded.into_iter().filter_map(Result::ok).collect();
    let facets = FacetOptions { max_values_per_facet: 3, node_limit: 4, ..FacetOptions::default() };
    let pagination = if options & 64 == 0 {
        Pagination::Offset { offset: 1, limit: LIMIT }
    } else {
        Pagination::Page { page: 1, hits_per_page: LIMIT }
    };
    let request = MergeRequest {
        query: "a \"b\"",
        pagination,
        max_total_hits: 1000,
        hits: hit_options(options),
        facets: if options & 128 == 0 { Facets::None } else { Facets::Merge(&facets) },
        total: None,
        show_query_vector: true,
        processing_time_ms: 1,
        request_uid: "u",
        metadata: None,
    };
    let once = merge_search(&pages, &request);
    assert_eq!(once, merge_search(&pages, &request), "another answer the second time");
    let similar = merge_similar(
        &pages,
        &SimilarRequest {
            id: "1",
            hits: hit_options(options),
            primary_key: Some("id"),
            candidates: 9,
            max_total_hits: 1000,
            processing_time_ms: 1,
        },
    );
    let _ = distinct_total(&pages, "a.b", 100);
    if let [first, second, ..] = &pages[..] {
        let hybrid = HybridOptions { ratio: 0.5, primary_key: Some("id".into()), ..<_>::default() };
        let merged = merge_hybrid([first, second], &hit_options(options), &hybrid);
        assert!(merged.placed.len() <= LIMIT);
    }
    let merged = merge_hits(&pages, &hit_options(options));
    assert!(merged.placed.len() <= LIMIT);
    let mut places: Vec<_> = merged.placed.iter().map(|placed| (placed.leaf, placed.hit)).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), merged.placed.len(), "a hit is there twice");
    assert!(places.iter().all(|(leaf, hit)| *hit < pages[*leaf].hits.len()));
    if json {
        let escaped = bodies.iter().any(|body| escapes(body));
        for body in [&once, &similar] {
            let answer: Map<String, Value> = serde_json::from_slice(body).expect("JSON from JSON");
            let hits = answer["hits"].as_array().expect("hits");
            assert!(hits.len() <= LIMIT);
            for hit in hits {
                let hit = hit.as_object().expect("a hit is an object");
                assert!(escaped || !hit.keys().any(|key| miroir_core::documents::is_reserved(key)));
                let shown = |key: &str| hit.contains_key(key);
                assert!(escaped || options & 1 != 0 || !shown("_rankingScore"));
                assert!(escaped || options & 2 != 0 || !shown("_rankingScoreDetails"));
            }
        }
    }
}

fn listings(bodies: &[Bytes], json: bool, options: u8) {
    for sorted in [false, true] {
        let listing = DocumentOptions { limit: LIMIT, sorted, ..DocumentOptions::default() };
        if let Ok(merged) = merge_documents(bodies, &listing)
            && json
        {
            let answer: Map<String, Value> =
                serde_json::from_slice(&merged).expect("JSON from JSON");
            assert!(answer["results"].as_array().expect("results").len() <= LIMIT);
        }
    }
    let order = if options & 1 == 0 { FacetOrder::Alpha } else { FacetOrder::Count };
    let facets = FacetSearchOptions {
        max_values_per_facet: 3,
        order,
        query: options & 2 != 0,
        processing_time_ms: 1,
    };
    if let Ok(merged) = FacetHits::read(bodies).map(|hits| hits.write(&facets))
        && json
    {
        let answer: Map<String, Value> = serde_json::from_slice(&merged).expect("JSON from JSON");
        assert!(answer["facetHits"].as_array().expect("hits").len() <= 3);
    }
}
