//! A node that holds everything is asked for the client's page itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use miroir_api::{IndexUid, header};
use miroir_control::Miroir;
use miroir_core::lock::Lock;
use miroir_core::topology::Node;
use miroir_layers::leaf::FailoverLayer;
use miroir_pipeline::context::Principal;
use miroir_pipeline::http::Decode;
use miroir_pipeline::stage::{Next, from_fn};
use miroir_pipeline::{ClusterOptions, Error, NodeFailure, Stack, node};
use miroir_store::{IndexEntry, clock, memory};
use serde_json::{Value, json};
use tower::ServiceExt;

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

struct Service {
    http: Decode,
    /// The bodies of searches that nodes were asked.
    asked: Arc<Lock<Vec<Value>>>,
}

/// `n0` has everything and, if there are `others`, `n1` and `n2` have half of it each. `n0` fails then.
async fn service(others: bool) -> Service {
    let stores = memory::open();
    let name = IndexUid::new("films").unwrap();
    let mut entry = IndexEntry {
        primary_key: Some("id".to_owned()),
        ..IndexEntry::new(name, "films".to_owned(), 8, clock::now())
    };
    entry.overlay.insert("maxTotalHits".to_owned(), json!(5));
    assert!(stores.indexes.put(entry, None).await.unwrap());
    let asked: Arc<Lock<Vec<Value>>> = Arc::default();
    let noted = Arc::clone(&asked);
    let factory = move |node: &Node| {
        let (id, noted) = (node.id.clone(), Arc::clone(&noted));
        let answers = from_fn(move |request: node::Request, _: Next<node::Request>| {
            let (id, noted) = (id.clone(), Arc::clone(&noted));
            async move {
                let (request, body) = request.into_parts();
                let body = body.collect().await.map_err(Error::internal)?.to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                if request.uri.path().ends_with("/settings") {
                    let settings = json!({"filterableAttributes": ["kind", "_miroir_shard"],
                                          "pagination": {"maxTotalHits": 100}});
                    return Ok(Response::new(Bytes::from(settings.to_string())));
                }
                noted.lock().push(body.clone());
                let numbers = match id.as_str() {
                    "n0" if others => return Err(Error::node(&id, NodeFailure::ServerError)),
                    "n0" => vec![1, 2, 3, 4, 5, 6],
                    "n1" => vec![1, 3, 5],
                    _ => vec![2, 4, 6],
                };
                Ok(Response::new(Bytes::from(found(&numbers, &body).to_string())))
            }
        });
        let (nobody, _) = miroir_test::mock::mock::<node::Request>();
        Stack::new().push_named("answers", answers).build(nobody)
    };
    let mut builder = Miroir::builder().node("n0", "http://n0", 0);
    if others {
        builder = builder.node("n1", "http://n1", 1).node("n2", "http://n2", 1);
    }
    let miroir = builder
        .replication_factor(1)
        .options(ClusterOptions::default())
        .stores(stores)
        .node_stack(Arc::new(factory))
        .leaves(Stack::new().push(FailoverLayer::default()))
        .build()
        .await
        .unwrap();
    Service { http: miroir.http(Duration::from_secs(5)), asked }
}

impl Service {
    /// The answer, and what nodes were asked for it.
    async fn search(&self, query: &Value) -> (Value, Vec<Value>) {
        self.asked.lock().clear();
        let request = Request::post("/indexes/films/search")
            .header("content-type", "application/json")
            .extension(Principal::MasterKey)
            .body(Full::new(Bytes::from(query.to_string())))
            .unwrap();
        let answer = self.http.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(answer.headers().get(header::DEGRADED), None);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (serde_json::from_slice(&body).unwrap(), std::mem::take(&mut *self.asked.lock()))
    }
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
        let [body] = &asked[..] else { panic!("{query}: {asked:?}") };
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
        stood_in += usize::from(asked.iter().any(|body| body["offset"] == 1));
    }
    assert!(stood_in > 0, "n0 was never asked first");
}
