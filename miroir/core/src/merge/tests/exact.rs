//! Answers that a plain merge of the leaves' own words gets wrong.

use super::*;

/// A leaf's hit under words and word position.
fn hit(id: u64, words: u32, place: (u32, u32)) -> String {
    let (rank, max) = place;
    // Every word matches, so the words rule leaves the score to the position.
    let score = f64::from((words - 1) * max + rank) / f64::from(words * max);
    format!(
        r#"{{"id":{id},"_rankingScore":{score},"_rankingScoreDetails":{{
        "words":{{"order":0,"matchingWords":{words},"maxMatchingWords":{words},"score":1.0}},
        "wordPosition":{{"order":1,"score":{}}}}}}}"#,
        f64::from(rank) / f64::from(max),
    )
}

fn leaf(hits: &[String]) -> Page {
    page(&format!(r#"{{"hits":[{}],"estimatedTotalHits":{}}}"#, hits.join(","), hits.len()))
}

#[test]
fn a_phrase_counts_as_one_term() {
    let pages = [leaf(&[hit(1, 2, (11, 11))]), leaf(&[hit(2, 2, (10, 11))])];
    let mut request = request();
    (request.hits.show_score, request.hits.show_details) = (true, true);
    request.hits.shape = QueryShape::of("\"quick brown\"", &[]);
    let answer = value(&pages, &request);
    assert_eq!(ids(&answer), [1, 2]);
    let place = &answer["hits"][1]["_rankingScoreDetails"]["wordPosition"]["score"];
    // The parser of the test is allowed to miss the last bit.
    assert!((place.as_f64().unwrap() - 10.0 / 11.0).abs() < 1e-12, "{place}");
}

#[test]
fn hits_of_fewer_words_come_after_and_only_once() {
    let terms = QueryTerms::parse("dark knight", &[]).unwrap();
    let levels = terms.levels(&[9, 2]).unwrap();
    let info = RankingInfo::default();
    let all = relevel(leaf(&[hit(1, 2, (20, 21))]), &levels[0], &info);
    let some = relevel(leaf(&[hit(2, 1, (11, 11)), hit(1, 1, (10, 11))]), &levels[1], &info);
    let mut request = request();
    (request.hits.show_score, request.hits.show_details) = (true, true);
    request.hits.unique = Some("id".to_owned());
    let answer = value(&[some, all], &request);
    assert_eq!(ids(&answer), [1, 2]);
    let words = &answer["hits"][1]["_rankingScoreDetails"]["words"];
    assert_eq!(words["matchingWords"], 1);
    assert_eq!(words["maxMatchingWords"], 2);
    let score = answer["hits"][1]["_rankingScore"].as_f64().unwrap();
    assert!((score - 0.5).abs() < 1e-12, "{score}");
}

#[test]
fn a_hit_that_matches_a_part_of_a_level_is_not_of_it() {
    let terms = QueryTerms::parse("dark knight", &[]).unwrap();
    let levels = terms.levels(&[9, 2]).unwrap();
    let partial = r#"{"id":7,"_rankingScore":0.5,"_rankingScoreDetails":{
        "words":{"order":0,"matchingWords":1,"maxMatchingWords":2,"score":0.5}}}"#;
    let page = leaf(&[hit(1, 2, (21, 21)), partial.to_owned()]);
    let page = relevel(page, &levels[0], &RankingInfo::default());
    assert_eq!(page.hits.len(), 1);
}

#[test]
fn a_leaf_without_the_attribute_formats_as_one_with_it() {
    let known = page(
        r#"{"hits":[{"id":1,"more":"a b","_formatted":{"id":"1","more":"a…"},"_rankingScore":1.0}]}"#,
    );
    let unknown = page(r#"{"hits":[{"id":2,"n":[3,{"m":1.5}],"ok":true,"_rankingScore":0.9}]}"#);
    let answer = value(&[known, unknown], &request());
    assert_eq!(
        answer["hits"][1]["_formatted"],
        serde_json::json!({"id": "2", "n": ["3", {"m": "1.5"}], "ok": true}),
    );
    let alone = page(r#"{"hits":[{"id":2,"_rankingScore":0.9}]}"#);
    assert!(value(&[alone.clone(), alone], &request())["hits"][0].get("_formatted").is_none());
}

#[test]
fn equal_counts_of_all_numbers_come_as_from_the_tree() {
    let values: Vec<String> = (1..=21).map(|n| format!("\"{n}\":1")).collect();
    let body = format!(
        r#"{{"hits":[],"estimatedTotalHits":21,"facetDistribution":{{"n":{{{}}}}},"facetStats":{{"n":{{"min":1,"max":21}}}}}}"#,
        values.join(",")
    );
    let mut options = FacetOptions {
        max_values_per_facet: 100,
        node_limit: 1000,
        everything: true,
        ..<_>::default()
    };
    options.sort_by.insert("*".to_owned(), FacetOrder::Count);
    let order = |options: &FacetOptions| {
        let merged = merge_facets(&[page(&body), page("{}")], options);
        let values = merged.distribution.unwrap().remove(0).1;
        (values[0].0.clone(), values[20].0.clone())
    };
    assert_eq!(order(&options), ("20".to_owned(), "21".to_owned()));
    options.everything = false;
    assert_eq!(order(&options), ("21".to_owned(), "1".to_owned()));
}
