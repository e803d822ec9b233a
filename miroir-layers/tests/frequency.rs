//! Searches that drop the words which most documents have, under a distinct attribute.

use serde_json::{Value, json};

mod support;
use support::Service;

/// Documents with their words and kind: of those with the rare word each node has two, one of a kind
/// that both have.
const DOCUMENTS: [(&str, u32, &str, &str); 8] = [
    ("n0", 1, "rare common", "a"),
    ("n0", 2, "rare", "b"),
    ("n0", 5, "common", "y"),
    ("n0", 7, "common", "y"),
    ("n1", 3, "rare", "a"),
    ("n1", 4, "rare", "c"),
    ("n1", 6, "common", "z"),
    ("n1", 8, "common", "z"),
];

/// What a node finds that knows words, and which of them have to match.
fn found(node: &str, kinds: fn(u32, &str) -> Value, body: &Value) -> Value {
    let query = body["q"].as_str().unwrap_or_default();
    let asked: Vec<&str> =
        query.split([' ', '"']).filter(|word| !word.is_empty() && !word.starts_with('-')).collect();
    let all = body["matchingStrategy"] == "all";
    let mut hits = Vec::new();
    for (_, id, words, kind) in DOCUMENTS.iter().filter(|document| document.0 == node) {
        let has = |word: &&&str| words.split(' ').any(|own| own == **word);
        let matching = asked.iter().take_while(has).count();
        if matching == 0 || all && matching < asked.len() {
            continue;
        }
        let score = matching as f64 / asked.len() as f64;
        let details = json!({"words": {"order": 0, "matchingWords": matching,
                                       "maxMatchingWords": asked.len(), "score": score}});
        hits.push(json!({"id": id, "kind": kinds(*id, kind), "_rankingScore": score,
                         "_rankingScoreDetails": details}));
    }
    hits.sort_by_key(|hit| {
        std::cmp::Reverse((hit["_rankingScore"].as_f64().unwrap() * 9.0) as u32)
    });
    let total = hits.len();
    hits.truncate(body["limit"].as_u64().or(body["hitsPerPage"].as_u64()).unwrap_or(20) as usize);
    json!({"hits": hits, "estimatedTotalHits": total})
}

async fn service(rules: Value, kinds: fn(u32, &str) -> Value) -> Service {
    let settings =
        json!({"filterableAttributes": ["kind", "_miroir_shard"], "rankingRules": rules});
    Service::start(&[0, 0], &[], settings, move |id, body| Ok(found(id.as_str(), kinds, body)))
        .await
}

fn one(_: u32, kind: &str) -> Value {
    kind.into()
}

/// As one, and the document that makes way for another node's has one more.
fn several(id: u32, kind: &str) -> Value {
    if id == 3 { json!([kind, "c"]) } else { kind.into() }
}

async fn total(service: &Service, more: Value) -> Value {
    let mut query =
        json!({"q": "rare common", "matchingStrategy": "frequency", "distinct": "kind"});
    query.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (answer, _) = service.search(&query).await;
    let key = if query["hitsPerPage"].is_null() { "estimatedTotalHits" } else { "totalHits" };
    answer[key].clone()
}

#[tokio::test(start_paused = true)]
async fn distinct_hits_that_end_within_the_page_are_counted() {
    let words = service(json!(["words", "typo"]), one).await;
    for page in [json!({}), json!({"limit": 3}), json!({"offset": 3, "limit": 1})] {
        assert_eq!(total(&words, page.clone()).await, 3, "{page}");
    }
    assert_eq!(total(&words, json!({"page": 1, "hitsPerPage": 9})).await, 3);
    // What comes behind the page counts as often as nodes have it.
    for page in [json!({"limit": 2}), json!({"limit": 1}), json!({"limit": 0})] {
        assert_eq!(total(&words, page.clone()).await, 4, "{page}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_be_hidden_is_estimated() {
    let several = service(json!(["words", "typo"]), several).await;
    assert_eq!(total(&several, json!({})).await, 4);
    let sorted = service(json!(["sort", "words"]), one).await;
    assert_eq!(total(&sorted, json!({})).await, 4);
}
