//! An answer that lacks a shard says so, whichever of its rounds went without.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use miroir_api::{IndexUid, NodeId, header};
use miroir_control::Miroir;
use miroir_core::topology::Node;
use miroir_layers::leaf::FailoverLayer;
use miroir_layers::operation::AliasLayer;
use miroir_pipeline::cluster::aliases::AliasTable;
use miroir_pipeline::context::Principal;
use miroir_pipeline::http::Decode;
use miroir_pipeline::stage::{Next, from_fn};
use miroir_pipeline::{
    ClusterOptions, Error, NodeFailure, ScatterOptions, Stack, UnavailableShardPolicy, node,
};
use miroir_store::records::{Alias, AliasTarget};
use miroir_store::{IndexEntry, clock, memory};
use serde_json::{Value, json};
use tower::ServiceExt;

/// Which questions a node fails to answer.
type Fails = fn(path: &str, body: &Value) -> bool;

fn uid(name: &str) -> IndexUid {
    IndexUid::new(name).unwrap()
}

/// A node's answer to one search. Nodes have other values than each other.
fn found(node: &str, index: &str, body: &Value) -> Value {
    // None is as good as another node's.
    let (id, own, words) = match node {
        "n0" => (1, "b", 3),
        "n1" => (2, "c", 2),
        _ => (3, "d", 1),
    };
    let kinds = if body["q"] == "several" { json!(["a", own]) } else { json!(own) };
    let score = f64::from(words) / 3.0;
    let words = json!({"order": 0, "matchingWords": words, "maxMatchingWords": 3, "score": score});
    let hit = json!({"id": id, "author": 1, "kind": kinds, "_rankingScore": score,
                     "_rankingScoreDetails": {"words": words}});
    let most = body["limit"].as_u64().or(body["hitsPerPage"].as_u64()).unwrap_or(20);
    let hits = vec![hit; most.min(1) as usize];
    let mut out = json!({
        "hits": hits, "query": body["q"], "processingTimeMs": 1, "limit": most, "offset": 0,
        "estimatedTotalHits": 2, "facetStats": {}, "semanticHitCount": 0,
    });
    if body["facets"].is_array() {
        let few = index == "few";
        let values = if few { json!({own: 5, format!("{own}2"): 4}) } else { json!({own: 1}) };
        out["facetDistribution"] = json!({"kind": values});
    }
    out
}

/// What a node knows.
fn told(node: &str, path: &str, body: &Value) -> Value {
    let index = path.split('/').nth(2).unwrap_or_default();
    if path.ends_with("/settings") {
        return json!({
            "filterableAttributes": ["kind", "_miroir_shard"],
            "embedders": {"e": {"source": "userProvided", "dimensions": 2}},
            "faceting": {"maxValuesPerFacet": if index == "few" { 2 } else { 100 },
                         "sortFacetValuesBy": {"*": "count"}},
        });
    }
    if path.ends_with("/documents/fetch") {
        let vectors = json!({"e": {"embeddings": [[1.0, 2.0]], "regenerate": false}});
        let one = json!({"id": 1, "_vectors": vectors});
        return json!({"results": [one], "offset": 0, "limit": 20, "total": 1});
    }
    if body["federation"].is_object() {
        let facets = json!({"films": {"distribution": {"kind": {"b": 1}}, "stats": {}}});
        return json!({"hits": [], "estimatedTotalHits": 1, "facetsByIndex": facets});
    }
    let Some(queries) = body["queries"].as_array() else { return found(node, index, body) };
    let results = queries.iter().map(|query| {
        let index = query["indexUid"].as_str().unwrap_or_default();
        found(node, index, query)
    });
    json!({"results": results.collect::<Vec<_>>()})
}

struct Service {
    http: Decode,
    /// The node that failed.
    failed: Arc<OnceLock<NodeId>>,
}

/// `nodes` nodes with `copies` copies of each shard, of which the first that is asked what fails
/// fails at it: `films`, `few` with short lists of facets, and `both`, which is `films` and `people`.
async fn service(nodes: u32, copies: u32, policy: UnavailableShardPolicy, fails: Fails) -> Service {
    let stores = memory::open();
    for name in ["films", "few", "people"] {
        let mut entry = IndexEntry {
            primary_key: Some("id".to_owned()),
            ..IndexEntry::new(uid(name), name.to_owned(), 8, clock::now())
        };
        if name == "films" {
            let keys = json!([{"fieldName": "author", "foreignIndexUid": "people"}]);
            entry.overlay.insert("foreignKeys".to_owned(), keys);
        }
        if name == "few" {
            entry.overlay.insert("faceting".to_owned(), json!({"maxValuesPerFacet": 2}));
        }
        assert!(stores.indexes.put(entry, None).await.unwrap());
    }
    stores.features.set(vec![("foreignKeys".to_owned(), true)]).await.unwrap();
    let failed: Arc<OnceLock<NodeId>> = Arc::default();
    let victim = Arc::clone(&failed);
    let factory = move |node: &Node| {
        let (id, victim) = (node.id.clone(), Arc::clone(&victim));
        let answers = from_fn(move |request: node::Request, _: Next<node::Request>| {
            let (id, victim) = (id.clone(), Arc::clone(&victim));
            async move {
                let (request, body) = request.into_parts();
                let body = body.collect().await.map_err(Error::internal)?.to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let path = request.uri.path();
                if fails(path, &body) && *victim.get_or_init(|| id.clone()) == id {
                    return Err(Error::node(&id, NodeFailure::ServerError));
                }
                Ok(Response::new(Bytes::from(told(id.as_str(), path, &body).to_string())))
            }
        });
        let (nobody, _) = miroir_test::mock::mock::<node::Request>();
        Stack::new().push_named("answers", answers).build(nobody)
    };
    let both = AliasTarget::Many(vec![uid("films"), uid("people")]);
    let (owner, history) = (None, Vec::new());
    let created_at = clock::now();
    let both = Alias { name: uid("both"), target: both, version: 1, owner, created_at, history };
    let scatter = ScatterOptions { unavailable_shard_policy: policy, ..ScatterOptions::default() };
    let mut builder = Miroir::builder();
    for at in 0..nodes {
        builder = builder.node(&format!("n{at}"), &format!("http://n{at}"), 0);
    }
    let miroir = builder
        .replication_factor(copies)
        .options(ClusterOptions { scatter, ..ClusterOptions::default() })
        .stores(stores)
        .node_stack(Arc::new(factory))
        .leaves(Stack::new().push(FailoverLayer::default()))
        .operations(Stack::new().push(AliasLayer::new(Arc::new(AliasTable::of([both])))))
        .build()
        .await
        .unwrap();
    Service { http: miroir.http(Duration::from_secs(5)), failed }
}

impl Service {
    /// The status of the answer, and its `X-Miroir-Degraded`.
    async fn ask(&self, path: &str, body: &str) -> (u16, Option<String>) {
        let request = Request::post(path)
            .header("content-type", "application/json")
            .extension(Principal::MasterKey)
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let answer = self.http.clone().oneshot(request).await.unwrap();
        let degraded = answer.headers().get(header::DEGRADED);
        let degraded = degraded.map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), degraded)
    }
}

/// Whether a body asks for documents that meet a condition of Miroir's.
fn meets(body: &Value, condition: &str) -> bool {
    body["filter"].to_string().contains(condition)
}

/// Requests that ask nodes more than once, and the round in which a node fails.
const ROUNDS: [(&str, &str, &str, Fails); 18] = [
    (
        "the counts of words",
        "/indexes/films/search",
        r#"{"q": "a b", "matchingStrategy": "frequency"}"#,
        |_, body| body["matchingStrategy"] == "all" && body["showRankingScore"].is_null(),
    ),
    (
        "the hits of words",
        "/indexes/films/search",
        r#"{"q": "a b", "matchingStrategy": "frequency"}"#,
        |_, body| body["matchingStrategy"] == "last",
    ),
    (
        "the count of distinct hits",
        "/indexes/films/search",
        r#"{"distinct": "kind", "limit": 1}"#,
        |_, body| meets(body, "NOT IN") && body["limit"] == 0,
    ),
    (
        "the count of distinct hits that were kept",
        "/indexes/films/search",
        r#"{"distinct": "kind", "limit": 1, "facets": ["kind"]}"#,
        |_, body| meets(body, r#"\"kind\" IN"#),
    ),
    (
        "facets of numbered pages",
        "/indexes/films/search",
        r#"{"distinct": "kind", "page": 1, "hitsPerPage": 1, "facets": ["kind"]}"#,
        |_, body| body["hitsPerPage"].is_u64() && body["showRankingScore"].is_null(),
    ),
    (
        "hidden distinct hits",
        "/indexes/films/search",
        r#"{"q": "several", "distinct": "kind", "limit": 2}"#,
        |_, body| meets(body, "NOT IN") && body["limit"] != 0,
    ),
    (
        "hidden hits before a page without any",
        "/indexes/films/search",
        r#"{"q": "several", "distinct": "kind", "offset": 2, "limit": 0}"#,
        |_, body| meets(body, "NOT IN") && body["limit"] != 0,
    ),
    (
        "all candidates of numbered pages",
        "/indexes/few/search",
        r#"{"distinct": "kind", "page": 1, "hitsPerPage": 1}"#,
        |_, body| body["distinct"] == "_miroir_shard.none",
    ),
    ("counts of facets", "/indexes/few/search", r#"{"facets": ["kind"]}"#, |path, _| {
        path == "/multi-search"
    }),
    (
        "counts of facets of words",
        "/indexes/few/search",
        r#"{"q": "a b", "matchingStrategy": "frequency", "facets": ["kind"]}"#,
        |path, _| path == "/multi-search",
    ),
    (
        "both halves of a hybrid search",
        "/indexes/films/search",
        r#"{"q": "a", "vector": [1, 2], "hybrid": {"embedder": "e"}}"#,
        |path, _| path == "/multi-search",
    ),
    (
        "counts of facets of a hybrid search",
        "/indexes/few/search",
        r#"{"q": "a", "vector": [1, 2], "hybrid": {"embedder": "e"}, "facets": ["kind"]}"#,
        |_, body| body["queries"][0]["limit"] == 0,
    ),
    (
        "the neighbours of a document",
        "/indexes/films/similar",
        r#"{"id": 1, "embedder": "e"}"#,
        |path, _| path == "/multi-search",
    ),
    (
        "what several queries find together",
        "/multi-search",
        r#"{"queries": [{"indexUid": "films", "q": "a"}, {"indexUid": "films", "q": "b"}],
            "federation": {"facetsByIndex": {"films": ["kind"]}}}"#,
        |_, body| body["federation"].is_object(),
    ),
    (
        "counts of facets of one query of several",
        "/multi-search",
        r#"{"queries": [{"indexUid": "films", "q": "a"}, {"indexUid": "few", "q": "b"}],
            "federation": {"facetsByIndex": {"few": ["kind"]}}}"#,
        |path, _| path == "/multi-search",
    ),
    (
        "what a condition on another index finds",
        "/indexes/films/search",
        r#"{"filter": "_foreign(author, id = 1)"}"#,
        |path, body| path == "/indexes/people/documents/fetch" && meets(body, "id = 1"),
    ),
    ("documents in place of ids", "/indexes/films/search", "{}", |path, _| {
        path == "/indexes/people/documents/fetch"
    }),
    (
        "the first index of a list",
        "/indexes/both/documents/fetch",
        r#"{"limit": 20}"#,
        |path, _| path == "/indexes/films/documents/fetch",
    ),
];

#[tokio::test(start_paused = true)]
async fn no_round_goes_without_a_shard_in_silence() {
    let mut silent = Vec::new();
    for (what, path, body, fails) in ROUNDS {
        let whole = service(2, 1, UnavailableShardPolicy::Partial, |_, _| false).await;
        assert_eq!(whole.ask(path, body).await, (200, None), "{what}");
        let lacking = service(2, 1, UnavailableShardPolicy::Partial, fails).await;
        let (status, said) = lacking.ask(path, body).await;
        let says = status == 503 || said.is_some_and(|said| said.starts_with("shards="));
        if lacking.failed.get().is_none() || !says {
            silent.push((what, status, lacking.failed.get().cloned()));
        }
    }
    assert!(silent.is_empty(), "incomplete and silent: {silent:#?}");
}

#[tokio::test(start_paused = true)]
async fn where_nothing_may_be_missing_no_round_goes_without_a_shard() {
    let mut answered = Vec::new();
    for (what, path, body, fails) in ROUNDS {
        let lacking = service(2, 1, UnavailableShardPolicy::Error, fails).await;
        let (status, _) = lacking.ask(path, body).await;
        if lacking.failed.get().is_none() || status != 503 {
            answered.push((what, status, lacking.failed.get().cloned()));
        }
    }
    assert!(answered.is_empty(), "answered: {answered:#?}");
}

#[tokio::test(start_paused = true)]
async fn no_round_lacks_a_shard_that_another_node_holds() {
    let mut lacking = Vec::new();
    for (what, path, body, fails) in ROUNDS {
        let service = service(3, 2, UnavailableShardPolicy::Error, fails).await;
        let answer = service.ask(path, body).await;
        if service.failed.get().is_none() || answer != (200, None) {
            lacking.push((what, answer, service.failed.get().cloned()));
        }
    }
    assert!(lacking.is_empty(), "another node was not asked: {lacking:#?}");
}
