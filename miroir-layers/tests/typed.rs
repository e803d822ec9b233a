//! A half-typed last word is marked alike in the hits of all nodes.

use miroir_api::NodeId;
use miroir_pipeline::{Error, NodeFailure};
use serde_json::{Value, json};

mod support;

/// What decides about the marks, for one test.
#[derive(Clone, Copy, Default)]
struct World {
    /// Whether a node knows the beginning as a word.
    word: bool,
    /// Whether nodes fail to say.
    silent: bool,
}

/// Node `n0` has a table of the words that begin with `b`, others have none. Only others find anything
/// if there is a filter.
fn found(id: &str, world: World, body: &Value) -> Value {
    let total = usize::from(id == "n1" && world.word);
    if body["limit"] == 0 {
        return json!({"hits": [], "estimatedTotalHits": total, "processingTimeMs": 1});
    }
    if id == "n0" && body["filter"].to_string().contains("mark") {
        return json!({"hits": [], "estimatedTotalHits": 0, "processingTimeMs": 1});
    }
    let (text, positions) = if id == "n0" {
        ("a bee", json!({}))
    } else {
        ("a <em>b</em>ay", json!({"t": [{"start": 2, "length": 1}]}))
    };
    let words = json!({"order": 0, "matchingWords": 1, "maxMatchingWords": 1, "score": 1.0});
    let plain = text.replace("<em>", "").replace("</em>", "");
    let mut hit = json!({
        "id": id, "_formatted": {"t": text},
        "_rankingScore": 1.0, "_rankingScoreDetails": {"words": words},
    });
    let listed = body["attributesToRetrieve"].as_array();
    if listed.is_none_or(|list| list.iter().any(|name| name == "t" || name == "*")) {
        hit["t"] = json!(plain);
    }
    if listed.is_none_or(|list| list.iter().any(|name| name == "_geo" || name == "*")) {
        hit["_geo"] = json!({"lat": 1, "lng": 2});
        hit["_geoDistance"] = json!(5);
    }
    if body["showMatchesPosition"] == true {
        hit["_matchesPosition"] = positions;
    }
    json!({"hits": [hit], "estimatedTotalHits": 1, "processingTimeMs": 1})
}

/// Nodes of one group, which together have every shard once.
struct Service(support::Service);

async fn service(nodes: usize, world: World) -> Service {
    let settings = json!({"filterableAttributes": ["_miroir_shard"]});
    let answer = move |id: &NodeId, body: &Value| {
        if world.silent && body["limit"] == 0 {
            return Err(Error::node(id, NodeFailure::ServerError));
        }
        Ok(found(id.as_str(), world, body))
    };
    Service(support::Service::start(&vec![0; nodes], &[], settings, answer).await)
}

impl Service {
    /// The hits by id, and what nodes were asked for them.
    async fn search(&self, query: &Value) -> (Value, Vec<Value>) {
        let (mut answer, asked) = self.0.search(query).await;
        let mut hits = answer["hits"].take();
        hits.as_array_mut().unwrap().sort_by_key(|hit| hit["id"].to_string());
        (hits, asked.into_iter().map(|(body, _)| body).collect())
    }
}

fn query() -> Value {
    json!({"q": "b", "attributesToHighlight": ["t"], "attributesToRetrieve": ["id"]})
}

#[tokio::test(start_paused = true)]
async fn a_word_that_one_node_knows_is_marked_in_the_hits_of_all() {
    let service = service(2, World { word: true, silent: false }).await;
    let (hits, asked) = service.search(&query()).await;
    let wanted = json!([
        {"id": "n0", "_formatted": {"t": "a <em>b</em>ee"}},
        {"id": "n1", "_formatted": {"t": "a <em>b</em>ay"}},
    ]);
    assert_eq!(hits, wanted);
    // One more question to each node, for the word and nothing else.
    assert_eq!(asked.len(), 4);
    let probes: Vec<&Value> = asked.iter().filter(|body| body["limit"] == 0).collect();
    assert_eq!(probes.len(), 2);
    assert!(probes.iter().all(|body| body["q"] == "\"b\"" && body["sort"].is_null()), "{probes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_distance_that_comes_with_what_miroir_asks_for_is_not_shown() {
    let service = service(2, World { word: true, silent: false }).await;
    for (asked, shown) in [(json!(["id"]), false), (json!(["_geo"]), true), (json!(["*"]), true)] {
        let query =
            json!({"q": "b", "attributesToHighlight": ["*"], "attributesToRetrieve": asked});
        let (hits, asked) = service.search(&query).await;
        let all = |body: &Value| body["attributesToRetrieve"].to_string().contains("\"*\"");
        assert!(asked.iter().filter(|body| body["limit"] != 0).all(all), "{asked:?}");
        for hit in hits.as_array().unwrap() {
            let both = [hit.get("_geoDistance").is_some(), hit.get("_geo").is_some()];
            assert_eq!(both, [shown; 2], "{query}: {hit}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_beginning_that_no_node_knows_as_a_word_is_marked_in_no_hit() {
    let service = service(2, World::default()).await;
    let mut query = query();
    query["showMatchesPosition"] = json!(true);
    let (hits, _) = service.search(&query).await;
    let wanted = json!([
        {"id": "n0", "_formatted": {"t": "a bee"}, "_matchesPosition": {}},
        {"id": "n1", "_formatted": {"t": "a bay"}, "_matchesPosition": {}},
    ]);
    assert_eq!(hits, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_table_of_a_node_that_finds_nothing_counts() {
    let service = service(2, World::default()).await;
    let mut query = query();
    query["filter"] = json!("mark = 1");
    let (hits, asked) = service.search(&query).await;
    assert_eq!(hits, json!([{"id": "n1", "_formatted": {"t": "a bay"}}]));
    // The search and the word of both, and then some hits of the one that showed none.
    assert_eq!(asked.len(), 5);
    let shown = asked.last().unwrap();
    assert!(shown["q"] == "b" && shown["filter"].is_null(), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn what_nodes_do_not_say_leaves_their_marks() {
    let service = service(2, World { word: true, silent: true }).await;
    let (hits, _) = service.search(&query()).await;
    let wanted = json!([
        {"id": "n0", "_formatted": {"t": "a bee"}},
        {"id": "n1", "_formatted": {"t": "a <em>b</em>ay"}},
    ]);
    assert_eq!(hits, wanted);
}

#[tokio::test(start_paused = true)]
async fn nobody_asks_for_words_whose_marks_nodes_agree_on() {
    let two = service(2, World::default()).await;
    for change in [
        json!({"q": "begun"}),
        json!({"q": "b "}),
        json!({"attributesToHighlight": null}),
        json!({"limit": 0}),
    ] {
        let mut query = query();
        for (key, value) in change.as_object().unwrap() {
            query[key] = value.clone();
        }
        let (_, asked) = two.search(&query).await;
        assert_eq!(asked.len(), 2, "{change}");
        assert!(asked.iter().all(|body| body["showMatchesPosition"].is_null()), "{change}");
    }
    let one = service(1, World::default()).await;
    let (_, asked) = one.search(&query()).await;
    assert_eq!(asked.len(), 1);
}
