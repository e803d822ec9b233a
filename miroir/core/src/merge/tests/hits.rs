//! A merge of a split is the whole: properties over a model of the ranking rules.

use std::fmt::Write as _;

use miroir_api::TaskUid;
use proptest::prelude::*;

use super::*;
use crate::documents::Stamp;

const WEIGHT: u32 = 3;
const WORDS: u32 = 4;

/// A document as the ranking rules see it, in costs.
#[derive(Debug, Clone, PartialEq)]
struct Doc {
    id: u64,
    leaf: usize,
    missing: u32,
    typos: u32,
    proximity: u32,
    attribute: u32,
    sort: Option<i32>,
    position: u32,
    inexact: u32,
    group: u32,
}

impl Doc {
    fn matching(&self) -> u32 {
        WORDS - self.missing
    }

    /// What the engine orders by: missing sort values last, descending otherwise.
    fn rank(&self) -> impl Ord {
        let sort = (self.sort.is_none(), self.sort.map(|value| -value));
        let before = (self.missing, self.typos, self.proximity, self.attribute);
        (before, sort, self.position, self.inexact)
    }
}

/// `rank`/`max` pairs merged as the engine does.
fn total(ranks: &[(u32, u32)]) -> f64 {
    let (mut rank, mut max) = (1_u32, 1_u32);
    for (inner, inner_max) in ranks {
        rank = (rank - 1).wrapping_mul(*inner_max).wrapping_add(*inner);
        max = max.wrapping_mul(*inner_max);
    }
    f64::from(rank) / f64::from(max)
}

/// Documents come in the order of their ids.
fn stamp(id: u64) -> String {
    String::from_utf8(Stamp::new(TaskUid(1), id as usize).text().to_vec()).expect("UTF-8")
}

/// The answer of an engine holding `docs`: maxima come from the documents it holds.
fn answer(docs: &[Doc]) -> String {
    let mut docs = docs.to_vec();
    docs.sort_by(|a, b| a.rank().cmp(&b.rank()).then(a.id.cmp(&b.id)));
    let mut json = String::from("{\"hits\":[");
    for (at, doc) in docs.iter().enumerate() {
        let k = doc.matching();
        let typos = docs.iter().filter(|other| other.missing == doc.missing);
        let typos = typos.map(|other| other.typos).max().unwrap_or_default() + 1;
        let near = docs
            .iter()
            .filter(|other| (other.missing, other.typos) == (doc.missing, doc.typos))
            .map(|other| other.proximity)
            .max()
            .unwrap_or_default();
        let near = (1..=k).map(|nodes| k + 2 * nodes - 2).find(|max| *max > near).expect("in set");
        let attribute = (1 + WEIGHT * k - doc.attribute, 1 + WEIGHT * k);
        let position = (1 + 10 * k - doc.position, 1 + 10 * k);
        let exact = (k + 1 - doc.inexact, k + 1);
        let score = total(&[
            (k, WORDS),
            (typos - doc.typos, typos),
            (near - doc.proximity, near),
            attribute,
            position,
            (1, 3),
            exact,
        ]);
        let one = |(rank, max): (u32, u32)| f64::from(rank) / f64::from(max);
        let sort = doc.sort.map_or("null".to_owned(), |value| format!("{value}.0"));
        let comma = if at > 0 { "," } else { "" };
        write!(
            json,
            r#"{comma}{{"id":{},"group":{},"_miroir_shard":"x","_miroir_order":"{}","_rankingScore":{score:?},"_rankingScoreDetails":{{"words":{{"order":0,"matchingWords":{k},"maxMatchingWords":{WORDS},"score":{:?}}},"typo":{{"order":1,"typoCount":{},"maxTypoCount":{},"score":{:?}}},"proximity":{{"order":2,"score":{:?}}},"attributeRank":{{"order":3,"score":{:?}}},"pop:desc":{{"order":4,"value":{sort}}},"wordPosition":{{"order":5,"score":{:?}}},"exactness":{{"order":6,"matchType":"noExactMatch","matchingWords":{},"maxMatchingWords":{k},"score":{:?}}}}}}}"#,
            doc.id,
            doc.group,
            stamp(doc.id),
            one((k, WORDS)),
            doc.typos,
            typos - 1,
            one((typos - doc.typos, typos)),
            one((near - doc.proximity, near)),
            one(attribute),
            one(position),
            k - doc.inexact,
            total(&[(1, 3), exact]),
        )
        .expect("a string takes everything");
    }
    write!(json, "],\"estimatedTotalHits\":{}}}", docs.len()).expect("a string");
    json
}

fn docs() -> impl Strategy<Value = Vec<Doc>> {
    let doc = (0..5_usize, 0..3_u32, 0..4_u32, 0..100_u32, 0..100_u32).prop_flat_map(
        |(leaf, missing, typos, near, attribute)| {
            let k = WORDS - missing;
            let doc = Doc {
                id: 0,
                leaf,
                missing,
                typos,
                proximity: near % (3 * k - 2),
                attribute: attribute % (WEIGHT * k + 1),
                sort: None,
                position: 0,
                inexact: 0,
                group: 0,
            };
            (Just(doc), proptest::option::of(-2..3_i32), 0..=10 * k, 0..=k, 0..6_u32).prop_map(
                |(doc, sort, position, inexact, group)| Doc {
                    sort,
                    position,
                    inexact,
                    group,
                    ..doc
                },
            )
        },
    );
    proptest::collection::vec(doc, 0..60).prop_map(|mut docs| {
        for (id, doc) in docs.iter_mut().enumerate() {
            doc.id = id as u64;
        }
        docs
    })
}

fn split(docs: &[Doc]) -> Vec<Page> {
    (0..5)
        .map(|leaf| docs.iter().filter(|doc| doc.leaf == leaf).cloned().collect::<Vec<_>>())
        .map(|docs| page(&answer(&docs)))
        .collect()
}

fn ranking() -> RankingInfo {
    RankingInfo { max_weight: WEIGHT, ..RankingInfo::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Order, scores, details and totals, byte for byte.
    #[test]
    fn a_split_merges_to_the_whole(docs in docs()) {
        let mut request = request();
        request.hits =
            HitOptions { show_score: true, show_details: true, ranking: ranking(), ..<_>::default() };
        let whole = merged(&[page(&answer(&docs))], &request);
        prop_assert_eq!(&merged(&split(&docs), &request), &whole);
        prop_assert!(!whole.contains("_miroir_"));
    }

    /// Without scores the merge stops early; every page is the same slice of the whole.
    #[test]
    fn pages_are_slices(docs in docs(), offset in 0..30_usize, limit in 0..30_usize) {
        let mut request = request();
        request.hits.ranking = ranking();
        let all = ids(&value(&[page(&answer(&docs))], &request));
        request.pagination = Pagination::Offset { offset, limit };
        // A leaf is asked for no more than offset + limit hits.
        let pages: Vec<Page> = split(&docs)
            .into_iter()
            .map(|mut page| {
                page.hits.truncate(offset + limit);
                page
            })
            .collect();
        let want: Vec<u64> = all.into_iter().skip(offset).take(limit).collect();
        prop_assert_eq!(ids(&value(&pages, &request)), want);
    }

    /// Leaves whose own order of ties is another one are merged in it, so that pages fit together; and it
    /// is told that there are some.
    #[test]
    fn a_leafs_order_is_kept_where_its_stamps_descend(
        docs in docs(), moved in proptest::collection::vec(0..100_u32, 60), at in 0..60_usize,
    ) {
        let mut pages = split(&docs);
        for page in &mut pages {
            for (at, moved) in (0..page.hits.len()).zip(&moved) {
                let content = page.content_mut(at).expect("a hit");
                content.stamp = Stamp::new(TaskUid(1), *moved as usize);
            }
        }
        let options = HitOptions { limit: 100, ranking: ranking(), ..<_>::default() };
        let all = merge_hits(&pages, &options);
        for (leaf, page) in pages.iter().enumerate() {
            let own = all.placed.iter().filter(|placed| placed.leaf == leaf).map(|placed| placed.hit);
            prop_assert!(own.eq(0..page.hits.len()));
        }
        let head = merge_hits(&pages, &HitOptions { limit: at, ..options.clone() }).placed;
        let tail = merge_hits(&pages, &HitOptions { offset: at, ..options }).placed;
        prop_assert_eq!([head, tail].concat(), all.placed);
        let mut descending = 0;
        for leaf in 0..5 {
            let mut own: Vec<&Doc> = docs.iter().filter(|doc| doc.leaf == leaf).collect();
            own.sort_by(|a, b| a.rank().cmp(&b.rank()).then(a.id.cmp(&b.id)));
            let pairs = own.windows(2).zip(moved.windows(2));
            descending += u64::from(pairs.into_iter().any(|(docs, stamps)| {
                docs[0].rank() == docs[1].rank() && stamps[0] > stamps[1]
            }));
        }
        prop_assert_eq!(all.descending, descending);
    }

    /// Scores of a page are those of the whole, although the merge looks no further than needed.
    #[test]
    fn scores_and_details_are_those_of_one_node(docs in docs(), offset in 0..30_usize, limit in 0..30_usize) {
        let mut request = request();
        request.hits =
            HitOptions { show_score: true, show_details: true, ranking: ranking(), ..<_>::default() };
        request.pagination = Pagination::Offset { offset, limit };
        let whole = merged(&[page(&answer(&docs))], &request);
        prop_assert_eq!(merged(&split(&docs), &request), whole);
    }

    /// Distinct: the first hit of each value stays, and the count of the dropped ones is exact.
    #[test]
    fn distinct_keeps_the_first(docs in docs()) {
        let mut request = request();
        request.hits.ranking = ranking();
        let mut seen = std::collections::BTreeSet::new();
        let groups: std::collections::BTreeMap<u64, u32> =
            docs.iter().map(|doc| (doc.id, doc.group)).collect();
        let mut want = ids(&value(&[page(&answer(&docs))], &request));
        want.retain(|id| seen.insert(groups[id]));
        request.hits.distinct = Some("group".to_owned());
        let got = value(&split(&docs), &request);
        prop_assert_eq!(got["estimatedTotalHits"].as_u64(), Some(want.len() as u64));
        prop_assert_eq!(ids(&got), want);
    }

    /// The threshold compares whole-corpus scores.
    #[test]
    fn hits_below_the_threshold_are_dropped(docs in docs(), threshold in 0.0..1.0_f64) {
        let mut request = request();
        request.hits = HitOptions { show_score: true, ranking: ranking(), ..<_>::default() };
        let whole = value(&[page(&answer(&docs))], &request);
        let hits = whole["hits"].as_array().expect("hits");
        let want: Vec<u64> = hits
            .iter()
            .filter(|hit| hit["_rankingScore"].as_f64() >= Some(threshold))
            .filter_map(|hit| hit["id"].as_u64())
            .collect();
        request.hits.score_threshold = Some(threshold);
        let got = value(&split(&docs), &request);
        prop_assert_eq!(got["estimatedTotalHits"].as_u64(), Some(want.len() as u64));
        prop_assert_eq!(ids(&got), want);
    }
}

#[test]
fn what_was_not_asked_for_is_stripped() {
    let body = r#"{"hits":[{"id":1,"_miroir_shard":"a","name":"x","pop":3,"_formatted":{"id":"1","_miroir_shard":"a","pop":"3"},"_matchesPosition":{"_miroir_shard":[]},"_rankingScore":0.5,"_rankingScoreDetails":{"pop:asc":{"order":0,"value":3.0}}}],"estimatedTotalHits":1}"#;
    let mut request = request();
    request.hits.drop_fields = vec!["pop".to_owned()];
    request.hits.drop_formatted = vec!["pop".to_owned()];
    assert_eq!(
        merged(&[page(body)], &request),
        r#"{"hits":[{"id":1,"name":"x","_formatted":{"id":"1"},"_matchesPosition":{}}],"query":"q","processingTimeMs":3,"limit":1000,"offset":0,"estimatedTotalHits":1,"requestUid":"uid"}"#
    );
}

#[test]
fn pinned_hits_take_their_slots() {
    let hit = |id: u64, pin: Option<u64>, value: u64| {
        let pin =
            pin.map_or(String::new(), |at| format!(r#""pin":{{"order":0,"position":{at}}},"#));
        format!(
            r#"{{"id":{id},"_rankingScoreDetails":{{{pin}"a:asc":{{"order":1,"value":{value}.0}}}}}}"#
        )
    };
    let leaf = |hits: &[String]| page(&format!(r#"{{"hits":[{}]}}"#, hits.join(",")));
    let pages = [
        leaf(&[hit(1, None, 1), hit(9, Some(2), 0), hit(3, None, 3)]),
        leaf(&[hit(8, Some(0), 0), hit(2, None, 2), hit(7, Some(50), 0)]),
    ];
    assert_eq!(ids(&value(&pages, &request())), [8, 1, 9, 2, 3, 7]);
    // A leaf that left out what comes before its page: the pins are those of the page.
    for (offset, limit, own, wanted) in [
        (1, 2, vec![hit(1, None, 1), hit(9, Some(2), 0)], vec![1, 9]),
        (2, 2, vec![hit(9, Some(2), 0), hit(2, None, 2)], vec![9, 2]),
        (3, 9, vec![hit(9, Some(2), 0), hit(2, None, 2), hit(7, Some(50), 0)], vec![9, 2, 7]),
        (8, 0, vec![], vec![]),
    ] {
        let options = HitOptions { offset, limit, begins: offset, ..HitOptions::default() };
        let pages = [leaf(&own)];
        let merged = merge_hits(&pages, &options);
        let mut body = Vec::new();
        merged.write(&pages, &options, &mut body);
        let hits: Vec<serde_json::Value> = serde_json::from_slice(&body).expect("JSON");
        let found: Vec<u64> = hits.iter().filter_map(|hit| hit["id"].as_u64()).collect();
        assert_eq!(found, wanted);
    }
}

#[test]
fn hidden_costs_decide_across_leaves() {
    // 2 of 8 and 4 of 10 are the same proximity cost, so the position decides.
    let hit = |id: u64, near: (u32, u32), at: u32| {
        let score = total(&[(4, 4), near, (41 - at, 41)]);
        format!(
            r#"{{"hits":[{{"id":{id},"_rankingScore":{score:?},"_rankingScoreDetails":{{"words":{{"order":0,"matchingWords":4,"maxMatchingWords":4,"score":1.0}},"proximity":{{"order":1,"score":{:?}}},"wordPosition":{{"order":2,"score":{:?}}}}}}}]}}"#,
            f64::from(near.0) / f64::from(near.1),
            f64::from(41 - at) / 41.0
        )
    };
    let pages = [page(&hit(1, (4, 10), 7)), page(&hit(2, (2, 8), 5))];
    assert_eq!(ids(&value(&pages, &request())), [2, 1]);
}

#[test]
fn page_mode_counts_pages() {
    let pages =
        [page(r#"{"hits":[{"id":1}],"totalHits":3}"#), page(r#"{"hits":[],"totalHits":2}"#)];
    let mut request = request();
    request.pagination = Pagination::Page { page: 1, hits_per_page: 2 };
    assert_eq!(
        merged(&pages, &request),
        r#"{"hits":[{"id":1}],"query":"q","processingTimeMs":3,"hitsPerPage":2,"page":1,"totalPages":3,"totalHits":5,"requestUid":"uid"}"#
    );
    request.pagination = Pagination::Page { page: 0, hits_per_page: 0 };
    let answer = value(&pages, &request);
    assert_eq!((ids(&answer).len(), answer["totalPages"].as_u64()), (0, Some(0)));
    assert_eq!(Pagination::Page { page: 4, hits_per_page: 20 }.window(70), (60, 10));
    assert_eq!(Pagination::Offset { offset: 90, limit: 20 }.depth(70), 0);
}

#[test]
fn semantic_hits_are_those_of_the_page() {
    let hit = |id: u64, similarity: f64| {
        format!(
            r#"{{"id":{id},"_rankingScore":{similarity:?},"_rankingScoreDetails":{{"vectorSort":{{"order":0,"similarity":{similarity:?}}}}}}}"#
        )
    };
    let leaf = |hits: &[String]| {
        page(&format!(
            r#"{{"hits":[{}],"queryVector":[0.5,1.0],"estimatedTotalHits":2,"semanticHitCount":2}}"#,
            hits.join(",")
        ))
    };
    let pages = [leaf(&[hit(1, 0.9), hit(2, 0.1)]), leaf(&[hit(3, 0.8), hit(4, 0.7)])];
    let mut request = request();
    request.pagination = Pagination::Offset { offset: 1, limit: 2 };
    request.hits.show_score = true;
    request.show_query_vector = true;
    assert_eq!(
        merged(&pages, &request),
        r#"{"hits":[{"id":3,"_rankingScore":0.8},{"id":4,"_rankingScore":0.7}],"query":"q","queryVector":[0.5,1.0],"processingTimeMs":3,"limit":2,"offset":1,"estimatedTotalHits":4,"requestUid":"uid","semanticHitCount":2}"#
    );
}

#[test]
fn distinct_values_are_normalised_and_nested() {
    let pages = [
        page(
            r#"{"hits":[{"id":1,"info":{"brand":"Écru "}},{"id":2},{"id":3,"info.brand":[2,"b"]}]}"#,
        ),
        page(
            r#"{"hits":[{"id":4,"info":[{"brand":"x"},{"brand":2.0}]},{"id":5,"info":{"brand":"éCRU"}},{"id":6,"info":{}}]}"#,
        ),
    ];
    let mut request = request();
    request.hits.distinct = Some("info.brand".to_owned());
    assert_eq!(ids(&value(&pages, &request)), [1, 2, 3, 6]);
}
