//! Pages far down the list take no more documents from nodes than they show.

use miroir_pipeline::{Error, NodeFailure};
use serde_json::{Value, json};

mod support;
use support::{Asked, Service};

/// What happens between the first round and the second.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Between {
    Nothing,
    /// A document that comes before all others of its node is deleted.
    Deletion,
    /// A node stops to answer such questions.
    Silence,
}

/// Documents of a node, every other number.
const EACH: u64 = 400;
const TEXT: usize = 5_000;

/// The page of the node that has the even numbers, or the odd ones.
fn found(odd: bool, deleted: bool, body: &Value) -> Value {
    let number = |key: &str| body[key].as_u64().unwrap_or(0);
    let from = number("offset") + u64::from(deleted);
    let hits: Vec<Value> = (from..EACH.min(from + number("limit")))
        .map(|at| {
            let number = at * 2 + u64::from(odd);
            let mut hit = json!({"id": number});
            if body["attributesToRetrieve"].is_null() {
                hit["text"] = json!("x".repeat(TEXT));
            }
            let value = json!({"order": 0, "value": number as f64});
            hit["_rankingScore"] = json!(1.0);
            hit["_rankingScoreDetails"] = json!({"a:asc": value});
            hit
        })
        .collect();
    let mut out = json!({"hits": hits, "query": "", "estimatedTotalHits": EACH});
    if body["facets"].is_array() {
        out["facetDistribution"] = json!({"kind": {"k": EACH}});
        out["facetStats"] = json!({});
    }
    out
}

async fn service(between: Between) -> Service {
    let settings = json!({"filterableAttributes": ["kind", "_miroir_shard"]});
    Service::start(&[0, 0], &[], settings, move |id, body| {
        let odd = id.as_str() == "n1";
        let second = odd && body["offset"].is_u64();
        if second && between == Between::Silence {
            return Err(Error::node(id, NodeFailure::ServerError));
        }
        Ok(found(odd, second && between == Between::Deletion, body))
    })
    .await
}

fn page(offset: u64, limit: u64) -> Value {
    json!({"q": "", "sort": ["a:asc"], "offset": offset, "limit": limit, "facets": ["kind"]})
}

fn ids(answer: &Value) -> Vec<u64> {
    let hits = answer["hits"].as_array().unwrap();
    assert!(hits.iter().all(|hit| hit["text"].as_str().unwrap().len() == TEXT));
    hits.iter().map(|hit| hit["id"].as_u64().unwrap()).collect()
}

fn bytes(asked: &[Asked]) -> usize {
    asked.iter().map(|(_, bytes)| bytes).sum()
}

#[tokio::test(start_paused = true)]
async fn hits_are_fetched_when_it_is_known_which_are_shown() {
    let service = service(Between::Nothing).await;
    let (whole, asked) = service.search(&page(300, 20)).await;
    // Nothing was known of the size of documents.
    assert_eq!((ids(&whole), asked.len()), ((300..320).collect(), 2));
    let moved = bytes(&asked);
    for offset in [300, 301, 420, 780, 795, 900] {
        let (answer, asked) = service.search(&page(offset, 20)).await;
        let shown: Vec<u64> = (offset..(offset + 20).min(2 * EACH)).collect();
        assert_eq!(ids(&answer), shown, "{offset}");
        assert_eq!(answer["estimatedTotalHits"], 2 * EACH);
        assert_eq!(answer["facetDistribution"]["kind"]["k"], 2 * EACH);
        assert!(bytes(&asked) < moved / 5, "{offset}: {} of {moved}", bytes(&asked));
        let [first, second] = [false, true].map(|second| {
            asked.iter().filter(|(body, _)| body["offset"].is_u64() == second).count()
        });
        assert_eq!((first, second), (2, if shown.is_empty() { 0 } else { 2 }), "{offset}");
    }
    // What is shown is most of what is moved, or little is moved.
    for (offset, limit) in [(0, 20), (40, 20), (100, 150)] {
        let (answer, asked) = service.search(&page(offset, limit)).await;
        assert_eq!((ids(&answer).len() as u64, asked.len()), (limit, 2));
    }
    // What decides about the order has to come with the hits.
    let mut distinct = page(300, 20);
    distinct["distinct"] = json!("kind");
    let (_, asked) = service.search(&distinct).await;
    assert!(asked.iter().all(|(body, _)| !body["offset"].is_u64()));
}

#[tokio::test(start_paused = true)]
async fn what_changed_between_the_rounds_is_asked_for_as_a_whole() {
    for between in [Between::Deletion, Between::Silence] {
        let service = service(between).await;
        for _ in 0..3 {
            let (answer, _) = service.search(&page(300, 20)).await;
            assert_eq!(ids(&answer), (300..320).collect::<Vec<_>>(), "{between:?}");
        }
    }
}
