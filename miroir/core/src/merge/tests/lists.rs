//! Lists of different queries as one: federated, hybrid, similar.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::merge::{
    FederatedOptions, FederatedQuery, Fusion, HitOptions, HybridOptions, Page, RankingInfo,
    SimilarRequest, merge_federated, merge_hybrid, merge_similar, write_federated_hit,
};

fn page(hits: &[Value]) -> Page {
    let body = json!({"hits": hits, "estimatedTotalHits": hits.len()});
    Page::decode(&Bytes::from(body.to_string())).unwrap()
}

/// A hit found by words.
fn word(id: u32, score: f64) -> Value {
    let details =
        json!({"words": {"order": 0, "matchingWords": 1, "maxMatchingWords": 1, "score": 1.0}});
    json!({"id": id, "kind": id % 3, "_rankingScore": score, "_rankingScoreDetails": details})
}

/// A hit found by similarity.
fn near(id: u32, similarity: Option<f64>) -> Value {
    let details = json!({"vectorSort": {"order": 0, "similarity": similarity}});
    let score = similarity.unwrap_or(0.0);
    json!({"id": id, "kind": id % 3, "_rankingScore": score, "_rankingScoreDetails": details})
}

fn sorted(id: u32, asc: bool, value: &Value) -> Value {
    let key = if asc { "price:asc" } else { "price:desc" };
    json!({"id": id, "_rankingScore": 1.0, "_rankingScoreDetails": {key: {"order": 0, "value": value}}})
}

fn placed(id: u32, distance: f64) -> Value {
    let details = json!({"_geoPoint(1, 2):asc": {"order": 0, "value": null, "distance": distance}});
    json!({"id": id, "_rankingScore": 1.0, "_rankingScoreDetails": details})
}

fn query(position: usize, index: usize, weight: f64, hits: &[Value]) -> FederatedQuery {
    FederatedQuery {
        position,
        index,
        weight,
        page: page(hits),
        ranking: RankingInfo::default(),
        primary_key: Some("id".to_owned()),
    }
}

fn ids(queries: &[FederatedQuery], options: &FederatedOptions) -> Vec<u64> {
    let merged = merge_federated(queries, options);
    let id = |(query, hit): &(usize, usize)| {
        let raw = queries[*query].page.field(*hit, "id").unwrap();
        std::str::from_utf8(raw).unwrap().parse().unwrap()
    };
    merged.placed.iter().map(id).collect()
}

fn all(limit: usize) -> FederatedOptions {
    FederatedOptions { limit, ..FederatedOptions::default() }
}

#[test]
fn weights_decide_between_queries() {
    let hits = [&[word(1, 0.9), word(2, 0.5)][..], &[word(11, 0.8), word(12, 0.6)][..]];
    for (weights, expected) in [
        ((1.0, 1.0), [1, 11, 12, 2]),
        ((1.0, 2.0), [11, 12, 1, 2]),
        ((0.0, 1.0), [11, 12, 1, 2]),
        ((1.0, 1.125), [1, 11, 12, 2]),
    ] {
        for index in [0, 1] {
            let queries = [query(0, 0, weights.0, hits[0]), query(1, index, weights.1, hits[1])];
            assert_eq!(ids(&queries, &all(9)), expected, "{weights:?} {index}");
        }
    }
}

#[test]
fn a_document_of_one_index_counts_once_with_its_best_place() {
    let queries = [
        query(0, 0, 1.0, &[word(1, 0.7), word(2, 0.5)]),
        query(1, 0, 1.0, &[word(2, 0.9), word(1, 0.7)]),
        query(2, 1, 1.0, &[word(2, 0.1)]),
    ];
    let merged = merge_federated(&queries, &all(9));
    assert_eq!(merged.placed, [(1, 0), (0, 0), (2, 0)]);
    assert_eq!(merged.repeated, [2, 0]);
    // An index contributes no more than its settings let it.
    let options = FederatedOptions { caps: vec![1, 9], ..all(9) };
    assert_eq!(ids(&queries, &options), [2, 2]);
    let options = FederatedOptions { distinct: Some("kind".to_owned()), ..all(9) };
    let merged = merge_federated(&queries, &options);
    assert_eq!((merged.placed.len(), merged.duplicates), (2, 1));
    let options = FederatedOptions { offset: 1, ..all(1) };
    assert_eq!(ids(&queries, &options), [1]);
}

#[test]
fn rules_are_compared_as_one_node_does() {
    let cheap = |id, value: Value| sorted(id, true, &value);
    let queries = [
        query(0, 0, 1.0, &[cheap(1, json!(1.0)), cheap(2, json!("a")), cheap(3, Value::Null)]),
        query(1, 1, 1.0, &[cheap(11, json!(0.5)), cheap(12, json!(7.0))]),
    ];
    assert_eq!(ids(&queries, &all(9)), [11, 1, 12, 2, 3]);
    // Where the nearest are wanted, one node puts the farther of two heads first.
    let queries = [
        query(0, 0, 1.0, &[placed(1, 111.0), placed(2, 333.0)]),
        query(1, 1, 1.0, &[placed(11, 222.0), placed(12, 444.0)]),
    ];
    assert_eq!(ids(&queries, &all(9)), [11, 12, 1, 2]);
    // Opposite directions cannot be compared: the earlier query wins at equal scores.
    let queries = [
        query(0, 0, 1.0, &[sorted(1, true, &json!(1.0))]),
        query(1, 1, 1.0, &[sorted(11, false, &json!(9.0))]),
    ];
    assert_eq!(ids(&queries, &all(9)), [1, 11]);
}

#[test]
fn a_hit_says_where_it_comes_from() {
    let query = query(3, 0, 0.5, &[word(1, 0.5)]);
    let mut out = Vec::new();
    let options = HitOptions { show_score: true, ..HitOptions::default() };
    write_federated_hit(&query, 0, ("movies", query.position), &options, &mut out);
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        "{\"id\":1,\"kind\":1,\"_federation\":{\"indexUid\":\"movies\",\"queriesPosition\":3,\
         \"weightedRankingScore\":0.25},\"_rankingScore\":0.5}"
    );
    out.clear();
    let options = HitOptions { drop_fields: vec!["id".to_owned()], ..HitOptions::default() };
    write_federated_hit(&query, 0, ("movies", query.position), &options, &mut out);
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        "{\"kind\":1,\"_federation\":{\"indexUid\":\"movies\",\"queriesPosition\":3,\
         \"weightedRankingScore\":0.25}}"
    );
}

fn hybrid(ratio: f32, fusion: Fusion) -> HybridOptions {
    HybridOptions { ratio, fusion, rrf_k: 60, primary_key: Some("id".to_owned()) }
}

fn fused(words: &[Value], vectors: &[Value], options: &HybridOptions) -> Vec<(usize, usize)> {
    let hits = HitOptions { limit: 9, ..HitOptions::default() };
    let merged = merge_hybrid([&page(words), &page(vectors)], &hits, options);
    merged.placed.iter().map(|hit| (hit.leaf, hit.hit)).collect()
}

#[test]
fn the_halves_of_a_hybrid_search_share_the_list() {
    let words = [word(1, 0.9), word(2, 0.4)];
    let vectors = [near(2, Some(0.8)), near(3, Some(0.6)), near(1, None)];
    // 1: 0.45 by words; 2: 0.4 by similarity; 3: 0.3.
    let half = hybrid(0.5, Fusion::Details);
    assert_eq!(fused(&words, &vectors, &half), [(0, 0), (1, 0), (1, 1)]);
    let semantic = hybrid(0.9, Fusion::Details);
    assert_eq!(fused(&words, &vectors, &semantic), [(1, 0), (1, 1), (0, 0)]);
    // At equal scores the semantic hit comes first.
    assert_eq!(fused(&[word(1, 0.5)], &[near(2, Some(0.5))], &half), [(1, 0), (0, 0)]);
    // 1: 0.45; 2: 0.2 + 0.4; 3: 0.3.
    let convex = hybrid(0.5, Fusion::Convex);
    assert_eq!(fused(&words, &vectors, &convex), [(1, 0), (0, 0), (1, 1)]);
    let positions = hybrid(0.5, Fusion::Rrf);
    assert_eq!(fused(&words, &vectors, &positions), [(1, 0), (0, 0), (1, 1)]);
}

#[test]
fn a_full_page_of_high_scores_skips_the_semantic_half() {
    let half = hybrid(0.5, Fusion::Details);
    let good = page(&[word(1, 0.95), word(2, 0.9)]);
    assert!(half.good_enough(&good, 2));
    assert!(half.good_enough(&good, 0));
    assert!(!half.good_enough(&good, 3));
    assert!(!half.good_enough(&page(&[word(1, 0.95), word(2, 0.89)]), 2));
    assert!(!hybrid(0.6, Fusion::Details).good_enough(&good, 2));
}

#[test]
fn similar_documents_come_once_and_without_the_document_itself() {
    let pages = [
        page(&[near(2, Some(0.9)), near(3, Some(0.4))]),
        page(&[near(4, Some(0.7)), near(5, None)]),
        page(&[near(4, Some(0.95)), near(1, Some(1.0))]),
    ];
    let ask = |offset, limit, threshold| {
        let hits = HitOptions {
            offset,
            limit,
            score_threshold: threshold,
            show_score: true,
            ..HitOptions::default()
        };
        let request = SimilarRequest {
            id: "1",
            hits,
            primary_key: Some("id"),
            candidates: 40,
            max_total_hits: 30,
            processing_time_ms: 0,
        };
        let value: Value = serde_json::from_slice(&merge_similar(&pages, &request)).unwrap();
        let ids: Vec<u64> =
            value["hits"].as_array().unwrap().iter().map(|h| h["id"].as_u64().unwrap()).collect();
        (ids, value["estimatedTotalHits"].as_u64().unwrap())
    };
    assert_eq!(ask(0, 20, None), (vec![4, 2, 3], 30));
    assert_eq!(ask(1, 1, None), (vec![2], 30));
    assert_eq!(ask(0, 20, Some(0.5)), (vec![4, 2], 2));
    // One node looks no further than the page.
    assert_eq!(ask(0, 2, Some(0.5)), (vec![4, 2], 30));
}

proptest! {
    /// However hits are spread over queries of one weight, their scores come in order, and none is
    /// lost.
    #[test]
    fn federated_scores_descend(
        lists in prop::collection::vec(prop::collection::vec(0..1000_u32, 0..12), 1..6),
        same_index in any::<bool>(),
    ) {
        let mut next = 0;
        let queries: Vec<FederatedQuery> = lists
            .iter()
            .enumerate()
            .map(|(position, scores)| {
                let mut scores = scores.clone();
                scores.sort_unstable_by(|a, b| b.cmp(a));
                let hits: Vec<Value> = scores
                    .iter()
                    .map(|score| {
                        next += 1;
                        word(next, f64::from(*score) / 1000.0)
                    })
                    .collect();
                query(position, if same_index { 0 } else { position }, 1.0, &hits)
            })
            .collect();
        let merged = merge_federated(&queries, &all(1000));
        let scores: Vec<f64> = merged
            .placed
            .iter()
            .map(|(query, hit)| {
                let page = &queries[*query].page;
                page.score(&page.hits[*hit]).unwrap()
            })
            .collect();
        prop_assert_eq!(scores.len(), lists.iter().map(Vec::len).sum::<usize>());
        prop_assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]));
    }
}
