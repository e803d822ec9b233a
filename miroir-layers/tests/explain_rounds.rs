//! An explained search names the questions that come after its first.

use serde_json::{Value, json};

mod support;
use support::Service;

/// What a node answers to one search: `n0` and `n1` have three hits each, none better than another, and
/// only the first one finds the word `b`.
fn found(node: &str, body: &Value) -> Value {
    let first = node == "n0";
    let words = json!({"order": 0, "matchingWords": 1, "maxMatchingWords": 1, "score": 1.0});
    let hits = (0..3).map(|at| {
        json!({"id": format!("{node}-{at}"), "kind": format!("{node}-{at}"), "t": "a bay",
               "_formatted": {"t": "a <em>b</em>ay"},
               "_matchesPosition": {"t": [{"start": 2, "length": 1}]},
               "_rankingScore": 1.0, "_rankingScoreDetails": {"words": words}})
    });
    let most = body["limit"].as_u64().unwrap_or(20) as usize;
    let hidden = body["q"] == "b" && !first;
    let hits: Vec<Value> = hits.take(if hidden { 0 } else { most }).collect();
    let mut out = json!({"hits": hits, "estimatedTotalHits": 3});
    if body["q"] == "\"b\"" {
        out["estimatedTotalHits"] = json!(0);
    }
    if let Some(facets) = body["facets"].as_array() {
        let lists = facets.iter().map(|facet| {
            let values = match facet.as_str() {
                Some("spelt") if first => json!({"Red": 1}),
                Some("spelt") => json!({"red": 1}),
                // As long as nodes list values.
                Some("many") if first => json!({"a": 9, "b": 8}),
                Some("many") => json!({"c": 9, "d": 8}),
                _ => json!({}),
            };
            (facet.as_str().unwrap().to_owned(), values)
        });
        out["facetDistribution"] = Value::Object(lists.collect());
        out["facetStats"] = json!({});
    }
    out
}

async fn service() -> Service {
    let settings = json!({
        "filterableAttributes": ["kind", "many", "spelt", "_miroir_shard"],
        "faceting": {"maxValuesPerFacet": 2, "sortFacetValuesBy": {"*": "count"}},
    });
    Service::start(&[0, 0], &[("maxValuesPerFacet", json!(2))], settings, |id, body| {
        let Some(queries) = body["queries"].as_array() else {
            return Ok(found(id.as_str(), body));
        };
        let results: Vec<Value> = queries.iter().map(|query| found(id.as_str(), query)).collect();
        Ok(json!({"results": results}))
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn rounds_are_named_in_the_order_in_which_they_begin() {
    let service = service().await;
    for (query, rounds) in [
        (json!({"q": "bay"}), json!([])),
        (json!({"q": "b", "attributesToHighlight": ["t"]}), json!(["beginnings", "tables"])),
        (json!({"distinct": "kind", "limit": 1}), json!(["ties"])),
        (json!({"facets": ["spelt"]}), json!(["facet_spellings"])),
        (json!({"facets": ["many", "spelt"]}), json!(["facet_counts", "facet_spellings"])),
        (
            json!({"facets": ["spelt"], "distinct": "kind", "limit": 1}),
            json!(["ties", "distinct_counts"]),
        ),
        (
            json!({"q": "a bay", "matchingStrategy": "frequency", "facets": ["spelt"]}),
            json!(["words", "facet_spellings"]),
        ),
    ] {
        let (searched, calls) = service.search(&query).await;
        let (answer, asked) = service.ask("/indexes/films/explain?execute=true", &query).await;
        assert_eq!(answer["plan"]["rounds"], rounds, "{query}: {asked:?}");
        assert_eq!(answer["result"]["hits"], searched["hits"], "{query}");
        assert_eq!(asked.len(), calls.len(), "{query}: explaining asks nothing more");
        // Without rounds there is one question to each node.
        assert_eq!(rounds == json!([]), asked.len() == 2, "{query}: {asked:?}");

        let (planned, asked) = service.ask("/indexes/films/explain", &query).await;
        assert_eq!((&planned["plan"]["rounds"], asked.len()), (&Value::Null, 0), "{query}");
    }
}
