//! Answers of real Meilisearch 1.50 nodes: one holding 900 documents, three holding a third each.

use super::*;

/// Whole, then the three parts.
const CASE_0: [&str; 4] = [
    r#"{"hits":[{"id":108,"_rankingScore":0.21801346801346802,"_rankingScoreDetails":{"words":{"order":0,"matchingWords":1,"maxMatchingWords":3,"score":0.3333333333333333},"typo":{"order":1,"typoCount":1,"maxTypoCount":2,"score":0.6666666666666666},"proximity":{"order":2,"score":1.0},"attributeRank":{"order":3,"score":1.0},"wordPosition":{"order":4,"score":1.0},"exactness":{"order":5,"matchType":"noExactMatch","matchingWords":0,"maxMatchingWords":1,"score":0.16666666666666666},"pop:desc":{"order":6,"value":9.0}}},{"id":313,"_rankingScore":0.14225589225589225,"_rankingScoreDetails":{"words":{"order":0,"matchingWords":1,"maxMatchingWords":3,"score":0.3333333333333333},"typo":{"order":1,"typoCount":1,"maxTypoCount":2,"score":0.6666666666666666},"proximity":{"order":2,"score":1.0},"attributeRank":{"order":3,"score":0.5},"wordPosition":{"order":4,"score":0.6363636363636364},"exactness":{"order":5,"matchType":"noExactMatch","matchingWords":0,"maxMatchingWords":1,"score":0.16666666666666666},"pop:desc":{"order":6,"value":null}}},{"id":590,"_rankingScore":0.13215488215488216,"_rankingScoreDetails":{"words":{"order":0,"matchingWords":1,"maxMatchingWords":3,"score":0.3333333333333333},"typo":{"order":1,"typoCount":1,"maxTypoCount":2,"score":0.6666666666666666},"proximity":{"order":2,"score":1.0},"attributeRank":{"order":3,"score":0.5},"wordPosition":{"order":4,"score":0.45454545454545453},"exactness":{"order":5,"matchType":"noExactMatch","matchingWords":0,"maxMatchingWords":1,"score":0.16666666666666666},"pop:desc":{"order":6,"value":5.0}}}],"query":"sunflower watrfall moon ","processingTimeMs":0,"limit":3,"offset":0,"estimatedTotalHits":3,"requestUid":"uid"}"#,
    r#"{"hits":[{"id":313,"_rankingScore":0.14225589225589225,"_rankingScoreDetails":{"words":{"order":0,"matchingWords":1,"maxMatchingWords":3,"score":0.3333333333333333},"typo":{"order":1,"typoCount":1,"maxTypoCount":2,"score":0.6666666666666666},"proximity":{"order":2,"score":1.0},"attributeRank":{"order":3,"score":0.5},"wordPosition":{"order":4,"score":0.6363636363636364},"exactness":{"order":5,"matchType":"noExactMatch","matchingWords":0,"maxMatchingWords":1,"score":0.16666666666666666},"pop:desc":{"order":6,"value":null}}}],"query":"sunflower watrfall moon ","processingTimeMs":0,"limit":3,"offset":0,"estimatedTotalHits":1,"requestUid":"uid"}"#,
    r#"{"hits":[{"id":108,"_rankingScore":0.21801346801346802,"_rankingScoreDetails":{"words":{"order":0,"matchingWords":1,"maxMatchingWords":3,"score":0.3333333333333333},"typo":{"order":1,"typoCount":1,"maxTypoCount":2,"score":0.6666666666666666},"proximity":{"order":2,"score":1.0},"attributeRank":{"order":3,"score":1.0},"wordPosition":{"order":4,"score":1.0},"exactness":{"order":5,"matchType":"noExactMatch","matchingWords":0,"maxMatchingWords":1,"score":0.16666666666666666},"pop:desc":{"order":6,"value":9.0}}}],"query":"sunflower watrfall moon ","processingTimeMs":0,"limit":3,"offset":0,"estimatedTotalHits":1,"requestUid":"uid"}"#,
    r#"{"hits":[{"id":590,"_rankingScore":0.13215488215488216,"_rankingScoreDetails":{"words":{"order":0,"matchingWords":1,"maxMatchingWords":3,"score":0.3333333333333333},"typo":{"order":1,"typoCount":1,"maxTypoCount":2,"score":0.6666666666666666},"proximity":{"order":2,"score":1.0},"attributeRank":{"order":3,"score":0.5},"wordPosition":{"order":4,"score":0.45454545454545453},"exactness":{"order":5,"matchType":"noExactMatch","matchingWords":0,"maxMatchingWords":1,"score":0.16666666666666666},"pop:desc":{"order":6,"value":5.0}}}],"query":"sunflower watrfall moon ","processingTimeMs":0,"limit":3,"offset":0,"estimatedTotalHits":1,"requestUid":"uid"}"#,
];

/// Whole, then the three parts.
const CASE_1: [&str; 4] = [
    r#"{"hits":[],"query":"lightfire bookstore ","processingTimeMs":0,"limit":3,"offset":0,"estimatedTotalHits":0,"requestUid":"uid"}"#,
    r#"{"hits":[],"query":"lightfire bookstore ","processingTimeMs":0,"limit":3,"offset":0,"estimatedTotalHits":0,"requestUid":"uid"}"#,
    r#"{"hits":[],"query":"lightfire bookstore ","processingTimeMs":0,"limit":3,"offset":0,"estimatedTotalHits":0,"requestUid":"uid"}"#,
    r#"{"hits":[],"query":"lightfire bookstore ","processingTimeMs":0,"limit":3,"offset":0,"estimatedTotalHits":0,"requestUid":"uid"}"#,
];

fn check(query: &str, case: [&str; 4]) {
    let [whole, parts @ ..] = case;
    let pages = parts.map(page);
    let mut request = request();
    request.query = query;
    request.pagination = Pagination::Offset { offset: 0, limit: 3 };
    request.processing_time_ms = 0;
    request.hits.show_score = true;
    request.hits.show_details = true;
    // Two searchable attributes.
    request.hits.ranking.max_weight = 1;
    assert_eq!(merged(&pages, &request), whole);
}

#[test]
fn a_query_of_three_words_with_a_typo_merges_as_recorded() {
    check("sunflower watrfall moon ", CASE_0);
}

#[test]
fn a_query_of_all_words_with_a_sort_merges_as_recorded() {
    check("lightfire bookstore ", CASE_1);
}
