//! Searches of what aliases stand for, through the whole pipeline, over nodes that answer what they
//! are told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use miroir_api::IndexUid;
use miroir_control::Miroir;
use miroir_core::topology::Node;
use miroir_layers::operation::AliasLayer;
use miroir_pipeline::cluster::aliases::AliasTable;
use miroir_pipeline::context::Principal;
use miroir_pipeline::http::Decode;
use miroir_pipeline::node;
use miroir_pipeline::stage::{Next, from_fn};
use miroir_pipeline::{ClusterOptions, Error, MultiSearchOptions, Stack};
use miroir_store::clock;
use miroir_store::records::{Alias, AliasTarget};
use miroir_store::{IndexEntry, memory};
use serde_json::{Value, json};
use tower::ServiceExt;

fn uid(name: &str) -> IndexUid {
    IndexUid::new(name).unwrap()
}

fn alias(name: &str, target: AliasTarget) -> Alias {
    let (owner, history) = (None, Vec::new());
    Alias { name: uid(name), target, version: 1, owner, created_at: clock::now(), history }
}

/// A node's answer to a search: two hits, of which the better one is better in `new`.
fn found(index: &str, query: &Value) -> Result<Value, Error> {
    let message = "Attribute `odd` is not filterable.";
    if query["filter"] == "odd = 1" {
        let body = json!({"message": message, "code": "invalid_search_filter",
                          "type": "invalid_request", "link": ""});
        return Err(Error::verbatim(http::StatusCode::BAD_REQUEST, Bytes::from(body.to_string())));
    }
    let best = if index == "new-physical" { 0.9 } else { 0.8 };
    let hit = |at: usize, score: f64| {
        let words = json!({"order": 0, "matchingWords": 1, "maxMatchingWords": 1, "score": score});
        json!({"id": format!("{index}{at}"), "_rankingScore": score,
               "_rankingScoreDetails": {"words": words}})
    };
    Ok(json!({
        "hits": [hit(0, best), hit(1, best - 0.3)],
        "query": query["q"], "processingTimeMs": 1, "limit": 20, "offset": 0,
        "estimatedTotalHits": 2,
        "facetDistribution": {"kind": {"a": 2}}, "facetStats": {},
    }))
}

async fn node_answer(request: node::Request) -> Result<Value, Error> {
    let (request, body) = request.into_parts();
    let body = body.collect().await.map_err(Error::internal)?.to_bytes();
    let query: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = request.uri.path();
    if path.ends_with("/settings") {
        return Ok(json!({
            "filterableAttributes": ["kind", "_miroir_shard"],
            "faceting": {"maxValuesPerFacet": 100},
        }));
    }
    if path == "/multi-search" {
        // It is asked for its opinion.
        let queries = query["queries"].as_array().unwrap();
        let Some(at) = queries.iter().position(|query| query["filter"] == "odd = 1") else {
            return Ok(json!({"hits": []}));
        };
        let body = json!({
            "message": format!("Inside `.queries[{at}]`: Attribute `odd` is not filterable."),
            "code": "invalid_search_filter", "type": "invalid_request", "link": "",
        });
        let body = Bytes::from(body.to_string());
        return Err(Error::verbatim(http::StatusCode::BAD_REQUEST, body));
    }
    let index = path.strip_prefix("/indexes/").and_then(|path| path.strip_suffix("/search"));
    found(index.unwrap_or_default(), &query)
}

/// `shop` is `new`, `both` is `new` and `old`.
async fn service(multi_search: MultiSearchOptions) -> Decode {
    let stores = memory::open();
    for name in ["new", "old"] {
        let entry = IndexEntry {
            primary_key: Some("id".to_owned()),
            settings_version: 3,
            ..IndexEntry::new(uid(name), format!("{name}-physical"), 8, clock::now())
        };
        assert!(stores.indexes.put(entry, None).await.unwrap());
    }
    let factory = |_: &Node| {
        let answers = from_fn(move |request: node::Request, _: Next<node::Request>| async move {
            let body = node_answer(request).await?;
            Ok(Response::new(Bytes::from(body.to_string())))
        });
        let (nobody, _) = miroir_test::mock::mock::<node::Request>();
        Stack::new().push_named("answers", answers).build(nobody)
    };
    let table = Arc::new(AliasTable::of([
        alias("shop", AliasTarget::One(uid("new"))),
        alias("both", AliasTarget::Many(vec![uid("new"), uid("old")])),
    ]));
    let miroir = Miroir::builder()
        .node("only", "http://only", 0)
        .options(ClusterOptions { multi_search, ..ClusterOptions::default() })
        .stores(stores)
        .node_stack(Arc::new(factory))
        .operations(Stack::new().push(AliasLayer::new(table)))
        .build()
        .await
        .unwrap();
    miroir.http(Duration::from_secs(5))
}

async fn post(service: &Decode, path: &str, body: &Value) -> (u16, Value) {
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("content-type", "application/json")
        .header("Meili-Include-Metadata", "true")
        .extension(Principal::MasterKey)
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let answer = service.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["hits"].as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap()).collect()
}

const MERGED: [&str; 4] = ["new-physical0", "old-physical0", "new-physical1", "old-physical1"];

#[tokio::test(start_paused = true)]
async fn a_query_of_several_indexes_has_an_answer_like_any() {
    let service = service(MultiSearchOptions::default()).await;
    let body = json!({"queries": [
        {"indexUid": "shop", "q": "x"}, {"indexUid": "both", "q": "x", "facets": ["kind"]},
        {"indexUid": "old", "q": "x"},
    ]});
    let (status, answer) = post(&service, "/multi-search", &body).await;
    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().unwrap();
    let names: Vec<_> = results.iter().map(|result| &result["indexUid"]).collect();
    assert_eq!(names, ["shop", "both", "old"]);
    assert_eq!(ids(&results[0]), ["new-physical0", "new-physical1"]);
    assert_eq!(ids(&results[1]), MERGED);
    assert_eq!(ids(&results[2]), ["old-physical0", "old-physical1"]);
    assert_eq!(results[1]["query"], "x");
    assert_eq!(results[1]["estimatedTotalHits"], 4);
    assert_eq!(results[1]["facetDistribution"], json!({"kind": {"a": 4}}));
    assert_eq!(results[1]["metadata"]["indexUid"], "both");
    assert!(!answer.to_string().contains("_federation"), "{answer}");
    // So has a search by itself.
    let (_, alone) = post(&service, "/indexes/both/search", &json!({"q": "x"})).await;
    assert_eq!(ids(&alone), MERGED);
    assert_eq!(alone["metadata"]["indexUid"], "both");
}

#[tokio::test(start_paused = true)]
async fn a_federation_has_the_names_that_were_asked() {
    let service = service(MultiSearchOptions::default()).await;
    let body = json!({
        "federation": {"facetsByIndex": {"both": ["kind"]}},
        "queries": [{"indexUid": "both", "q": "x"}],
    });
    let (status, answer) = post(&service, "/multi-search", &body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(ids(&answer), MERGED);
    for hit in answer["hits"].as_array().unwrap() {
        let told = &hit["_federation"];
        assert_eq!((&told["indexUid"], &told["queriesPosition"]), (&json!("both"), &json!(0)));
    }
    let facets = json!({"both": {"distribution": {"kind": {"a": 4}}, "stats": {}}});
    assert_eq!(answer["facetsByIndex"], facets);
    let metadata = answer["metadata"].as_array().unwrap();
    assert_eq!((metadata.len(), &metadata[0]["indexUid"]), (1, &json!("both")));

    let body = json!({
        "federation": {"facetsByIndex": {"shop": ["kind"], "old": ["kind"]}},
        "queries": [{"indexUid": "old", "q": "x"}, {"indexUid": "shop", "q": "x"}],
    });
    let (_, answer) = post(&service, "/multi-search", &body).await;
    let of = |hit: &Value| {
        let told = &hit["_federation"];
        format!("{} {}", told["indexUid"].as_str().unwrap(), told["queriesPosition"])
    };
    let asked: Vec<String> = answer["hits"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(asked, ["shop 1", "old 0", "shop 1", "old 0"]);
    let facets = answer["facetsByIndex"].as_object().unwrap();
    assert_eq!(facets.keys().collect::<Vec<_>>(), ["old", "shop"]);
}

#[tokio::test(start_paused = true)]
async fn errors_are_about_the_queries_that_were_asked() {
    let service = service(MultiSearchOptions::default()).await;
    let odd = |name: &str| json!({"indexUid": name, "filter": "odd = 1"});
    let fine = json!({"indexUid": "both"});
    for (body, at) in [
        (json!({"queries": [fine, odd("both")]}), 1),
        (json!({"queries": [fine, fine, odd("shop"), odd("both")]}), 2),
        (json!({"queries": [fine, odd("both")], "federation": {}}), 1),
        (json!({"queries": [fine, fine, odd("old")], "federation": {}}), 2),
    ] {
        let (status, answer) = post(&service, "/multi-search", &body).await;
        assert_eq!(status, 400, "{answer}");
        let expected = format!("Inside `.queries[{at}]`: Attribute `odd` is not filterable.");
        assert_eq!(answer["message"], expected, "{body}");
    }
    let (status, answer) = post(&service, "/indexes/both/search", &odd("both")).await;
    let (code, message) = (answer["code"].clone(), answer["message"].as_str().unwrap());
    assert_eq!((status, message), (400, "Attribute `odd` is not filterable."), "{code}");
}

#[tokio::test(start_paused = true)]
async fn limits_of_batches_are_about_what_the_client_asks() {
    let one = MultiSearchOptions { max_queries_per_batch: 1, ..MultiSearchOptions::default() };
    let two = service(one).await;
    let query = json!({"indexUid": "both", "q": "x"});
    for federation in [Value::Null, json!({})] {
        let body = json!({"queries": [query], "federation": federation});
        let (status, answer) = post(&two, "/multi-search", &body).await;
        assert_eq!(status, 200, "{answer}");
        let body = json!({"queries": [query, query], "federation": federation});
        let (status, answer) = post(&two, "/multi-search", &body).await;
        assert_eq!((status, &answer["code"]), (400, &json!("miroir_too_many_queries")));
        assert!(answer["message"].as_str().unwrap().contains("this one has 2"), "{answer}");
    }
    // One search is no batch, however many indexes it is about.
    let off = service(MultiSearchOptions { enabled: false, ..MultiSearchOptions::default() }).await;
    let (status, answer) = post(&off, "/indexes/both/search", &json!({"q": "x"})).await;
    assert_eq!((status, ids(&answer)), (200, MERGED.to_vec()));
}
