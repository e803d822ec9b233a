//! A node that holds everything is asked for the client's page itself.

use miroir_pipeline::{Error, NodeFailure};
use serde_json::{Value, json};

mod support;
use support::Service;

/// The page of a node that has the documents with these numbers. Its total is one more than the end of
/// the page, so that what it was asked shows.
fn found(numbers: &[u32], body: &Value) -> Value {
    let [offset, limit] = ["offset", "limit"].map(|key| body[key].as_u64().unwrap_or(0) as usize);
    let hits = numbers.iter().skip(offset).take(limit).map(|number| {
        let details = json!({"a:asc": {"order": 0, "value": f64::from(*number)}});
        json!({"id": number, "kind": format!("k{number}"), "_rankingScore": 1.0,
               "_rankingScoreDetails": details})
    });
    let hits: Vec<Value> = hits.collect();
    let mut out = json!({"hits": hits, "estimatedTotalHits": offset + limit + 1});
    if body["facets"].is_array() {
        out["facetDistribution"] = json!({"kind": {"k": offset + limit}});
        out["facetStats"] = json!({});
    }
    out
}

/// `n0` has everything and, if there are `others`, `n1` and `n2` have half of it each. `n0` fails then.
async fn service(others: bool) -> Service {
    let settings = json!({"filterableAttributes": ["kind", "_miroir_shard"],
                          "pagination": {"maxTotalHits": 100}});
    let groups: &[u32] = if others { &[0, 1, 1] } else { &[0] };
    Service::start(groups, &[("maxTotalHits", json!(5))], settings, move |id, body| {
        let numbers: &[u32] = match id.as_str() {
            "n0" if others => return Err(Error::node(id, NodeFailure::ServerError)),
            "n0" => &[1, 2, 3, 4, 5, 6],
            "n1" => &[1, 3, 5],
            _ => &[2, 4, 6],
        };
        Ok(found(numbers, body))
    })
    .await
}

fn ids(answer: &Value) -> Vec<u64> {
    answer["hits"].as_array().unwrap().iter().map(|hit| hit["id"].as_u64().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_holds_everything_is_asked_for_the_page_itself() {
    let one = service(false).await;
    for (query, own, hits) in [
        (json!({"offset": 2, "limit": 2}), (2, 2), vec![3, 4]),
        (json!({"offset": 2, "limit": 2, "distinct": "kind"}), (2, 2), vec![3, 4]),
        (json!({"limit": 2, "distinct": "kind"}), (0, 2), vec![1, 2]),
        (json!({"offset": 3, "limit": 0, "distinct": "kind"}), (3, 0), vec![]),
        (json!({"limit": 2, "rankingScoreThreshold": 0.1}), (0, 2), vec![1, 2]),
        // No hit after `maxTotalHits` is shown.
        (json!({"offset": 3, "limit": 9}), (3, 2), vec![4, 5]),
        (json!({"offset": 9, "limit": 9}), (5, 0), vec![]),
    ] {
        let mut query = query;
        query["facets"] = json!(["kind"]);
        let (answer, asked) = one.search(&query).await;
        let [(body, _)] = &asked[..] else { panic!("{query}: {asked:?}") };
        let (offset, limit) = own;
        let of = |key: &str| body[key].as_u64().unwrap_or(0);
        assert_eq!((of("offset"), of("limit")), (offset, limit), "{query}");
        assert_eq!(body["rankingScoreThreshold"], query["rankingScoreThreshold"], "{query}");
        assert_eq!(ids(&answer), hits, "{query}");
        assert_eq!(answer["estimatedTotalHits"], offset + limit + 1, "{query}");
        assert_eq!(answer["facetDistribution"]["kind"]["k"], offset + limit, "{query}");
        assert_eq!(answer["offset"], *query.get("offset").unwrap_or(&json!(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn several_nodes_that_stand_in_for_it_are_asked_up_to_the_end_of_the_page() {
    let three = service(true).await;
    let mut stood_in = 0;
    // Pages of one query go to one group.
    for word in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let (answer, asked) = three.search(&json!({"q": word, "offset": 1, "limit": 2})).await;
        assert_eq!(ids(&answer), [2, 3], "{asked:?}");
        stood_in += usize::from(asked.iter().any(|(body, _)| body["offset"] == 1));
    }
    assert!(stood_in > 0, "n0 was never asked first");
}
