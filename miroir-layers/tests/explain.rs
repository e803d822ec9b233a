//! Explained searches through the whole pipeline, over nodes that answer what they are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use miroir_api::{GroupId, IndexUid, ShardId};
use miroir_control::Miroir;
use miroir_core::hints::Priority;
use miroir_core::routing::ShardSet;
use miroir_core::topology::Node;
use miroir_layers::leaf::{FailoverLayer, HedgeLayer, HedgeOptions};
use miroir_layers::node::LoadLayer;
use miroir_pipeline::context::{Operator, Principal};
use miroir_pipeline::http::Decode;
use miroir_pipeline::index;
use miroir_pipeline::node;
use miroir_pipeline::stage::{Next, from_fn};
use miroir_pipeline::{ClusterOptions, ExplainOptions, Stack};
use miroir_store::{IndexEntry, memory};
use serde_json::{Value, json};
use tower::ServiceExt;

const ANSWER: &str =
    r#"{"hits":[],"query":"","processingTimeMs":1,"limit":20,"offset":0,"estimatedTotalHits":0}"#;

/// How long a node takes to answer, in virtual time.
const NODE_TAKES: Duration = Duration::from_millis(20);

struct Service {
    http: Decode,
    searches: Arc<AtomicUsize>,
}

/// Asks for a shard in the manner of a planner.
type Narrow = Option<u32>;

async fn service(explain: ExplainOptions, narrow: Narrow) -> Service {
    let stores = memory::open();
    for name in ["products", "makers"] {
        let then = time::OffsetDateTime::UNIX_EPOCH;
        let uid = IndexUid::new(name).unwrap();
        let entry = IndexEntry {
            primary_key: Some("id".to_owned()),
            settings_version: 3,
            ..IndexEntry::new(uid, format!("{name}-physical"), 8, then)
        };
        assert!(stores.indexes.put(entry, None).await.unwrap());
    }
    let searches = Arc::new(AtomicUsize::new(0));
    let scores = Arc::new(miroir_pipeline::node::Scores::default());
    let factory = {
        let (searches, scores) = (Arc::clone(&searches), Arc::clone(&scores));
        move |node: &Node| {
            let searches = Arc::clone(&searches);
            let answers = from_fn(move |request: node::Request, _: Next<node::Request>| {
                let body = if request.uri().path().ends_with("/settings") {
                    json!({
                        "filterableAttributes": ["brand", "_miroir_shard"],
                        "faceting": {"maxValuesPerFacet": 1000},
                    })
                    .to_string()
                } else {
                    let search = request.uri().path().ends_with("search");
                    searches.fetch_add(search.into(), Ordering::Relaxed);
                    ANSWER.to_owned()
                };
                async move {
                    tokio::time::sleep(NODE_TAKES).await;
                    Ok(Response::new(Bytes::from(body)))
                }
            });
            let (nobody, _) = miroir_test::mock::mock::<node::Request>();
            Stack::new()
                .push(LoadLayer::new(&scores, &node.id))
                .push_named("answers", answers)
                .build(nobody)
        }
    };
    let mut builder = Miroir::builder();
    for (at, group) in [0, 0, 1, 1].into_iter().enumerate() {
        builder = builder.node(&format!("secret-{at}"), &format!("http://{at}"), group);
    }
    let figures = Arc::clone(&scores);
    let planner = from_fn(move |mut request: index::Request, next: Next<_>| async move {
        if let Some(shard) = narrow {
            let only = ShardSet::single(ShardId(shard), request.index.shards);
            request.hints.shards(only, "query_planner", Priority::Must);
            request.hints.group(GroupId(1), "tenant_affinity", Priority::Prefer);
            request.hints.group(GroupId(0), "session_pinning", Priority::Must);
        }
        next.run(request).await
    });
    let miroir = builder
        .replication_factor(2)
        .options(ClusterOptions { explain, ..ClusterOptions::default() })
        .stores(stores)
        .scores(scores)
        .node_stack(Arc::new(factory))
        .leaves(
            Stack::new()
                .push(HedgeLayer::new(figures, HedgeOptions::default()))
                .push(FailoverLayer::default()),
        )
        .indexes(Stack::new().push_named("query_planner", planner))
        .build()
        .await
        .unwrap();
    Service { http: miroir.http(Duration::from_secs(5)), searches }
}

impl Service {
    async fn post(&self, path: &str, who: Principal, body: &Value) -> (u16, Value) {
        self.ask(path, who, None, body).await
    }

    /// As an operator who sends a client's key with the admin key.
    async fn both(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask(path, Principal::MasterKey, Some(Operator), body).await
    }

    async fn ask(
        &self,
        path: &str,
        who: Principal,
        operator: Option<Operator>,
        body: &Value,
    ) -> (u16, Value) {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("content-type", "application/json")
            .extension(who)
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        if let Some(operator) = operator {
            request.extensions_mut().insert(operator);
        }
        let answer = self.http.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn explain(&self, who: Principal, body: &Value) -> Value {
        let (status, answer) = self.post("/indexes/products/explain", who, body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn searches(&self) -> usize {
        self.searches.swap(0, Ordering::Relaxed)
    }
}

fn texts(answer: &Value) -> String {
    answer["warnings"].to_string()
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_made_and_no_node_is_searched() {
    let service = service(ExplainOptions::default(), None).await;
    let answer = service.explain(Principal::Admin, &json!({"q": "shoes"})).await;
    assert_eq!(service.searches(), 0);
    let plan = &answer["plan"];
    assert_eq!(answer["resolved_uid"], "products-physical");
    assert_eq!(plan["target_shards"], json!([0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!(plan["skipped_shards"], json!([]));
    assert_eq!((&plan["narrowed"], &plan["settings_version"]), (&json!(false), &json!(3)));
    // Each node of a group has everything: one is asked.
    let nodes: std::collections::BTreeSet<&str> =
        plan["target_nodes"].as_object().unwrap().values().filter_map(Value::as_str).collect();
    assert_eq!(plan["target_nodes"].as_object().unwrap().len(), 8);
    assert_eq!(nodes.len(), 1);
    let node = nodes.first().copied().unwrap();
    // What layers noted: another node could stand in, but nothing is known yet of how long to wait.
    assert_eq!(plan["nodes"][node]["replaceable"], true);
    assert_eq!((&plan["hedging_armed"], &plan["hedge_trigger_ms"]), (&json!(false), &Value::Null));
    assert_eq!(answer.get("result"), None);
    assert_eq!(texts(&answer), "[]");
}

#[tokio::test(start_paused = true)]
async fn the_plan_is_what_the_search_does() {
    let service = service(ExplainOptions::default(), None).await;
    let body = json!({"q": "shoes", "filter": "brand = a"});
    for _ in 0..30 {
        let (status, _) =
            service.post("/indexes/products/search", Principal::MasterKey, &body).await;
        assert_eq!(status, 200);
    }
    assert_eq!(service.searches(), 30);
    let path = "/indexes/products/explain?execute=true";
    let (status, answer) = service.both(path, &body).await;
    assert_eq!((status, service.searches()), (200, 1), "{answer}");
    assert_eq!(answer["result"]["estimatedTotalHits"], 0);
    let calls = answer["calls"].as_array().unwrap();
    assert_eq!((calls.len(), &calls[0]["outcome"]), (1, &json!("answered")));
    assert_eq!(calls[0]["node"], answer["plan"]["target_nodes"]["0"]);
    assert!(calls[0]["took_ms"].as_f64().unwrap() <= answer["took_ms"].as_f64().unwrap());
    // Now it is known how long nodes take.
    assert_eq!(answer["plan"]["hedging_armed"], true);
    let (p95, trigger) = (&answer["plan"]["estimated_p95_ms"], &answer["plan"]["hedge_trigger_ms"]);
    // Estimates are within a fifth.
    assert!((20.0..=24.0).contains(&p95.as_f64().unwrap()), "{p95}");
    assert!((p95.as_f64()..=Some(40.0)).contains(&trigger.as_f64()), "{trigger}");
    // The same query takes the same way.
    let again = service.explain(Principal::Admin, &body).await;
    assert_eq!(again["plan"]["target_nodes"], answer["plan"]["target_nodes"]);
}

#[tokio::test(start_paused = true)]
async fn hints_of_layers_show_by_themselves() {
    let service = service(ExplainOptions::default(), Some(5)).await;
    let answer = service.explain(Principal::Admin, &json!({})).await;
    let plan = &answer["plan"];
    assert_eq!((&plan["narrowed"], &plan["target_shards"]), (&json!(true), &json!([5])));
    assert_eq!(plan["skipped_shards"].as_array().unwrap().len(), 7);
    assert!(plan["narrowing_reason"].as_str().unwrap().contains("`query_planner`"));
    assert_eq!(plan["chosen_group"], json!({"id": 0, "reason": "asked for by `session_pinning`"}));
    let hint = |by: &str| {
        let hints = plan["hints"].as_array().unwrap();
        hints.iter().find(|hint| hint["by"] == by).unwrap()["effective"].clone()
    };
    let effective = ["query_planner", "session_pinning", "tenant_affinity"].map(hint);
    assert_eq!(effective, [json!(true), json!(true), json!(false)]);
    assert!(texts(&answer).contains("`tenant_affinity` wished for does not count"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn clients_see_the_shape_and_no_names() {
    let service = service(ExplainOptions::default(), Some(5)).await;
    let path = "/indexes/products/explain?execute=true";
    let (_, full) = service.both(path, &json!({"facets": ["*"]})).await;
    let (_, less) = service.post(path, Principal::MasterKey, &json!({"facets": ["*"]})).await;
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&full), keys(&less));
    assert_eq!(keys(&full["plan"]), keys(&less["plan"]));
    let text = less.to_string();
    for hidden in ["secret", "physical", "_miroir", "`tenant_affinity`"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
    assert_eq!(less["resolved_uid"], "products");
    assert!(texts(&less).contains("every filterable attribute"), "{less}");
}

#[tokio::test(start_paused = true)]
async fn filters_facets_and_pages_that_cannot_work_are_warned_of() {
    let service = service(ExplainOptions::default(), None).await;
    let body = json!({
        "filter": ["brand = a", "category = b"], "facets": ["size"],
        "offset": 10_000, "limit": 1,
    });
    let answer = service.explain(Principal::MasterKey, &body).await;
    let warnings = texts(&answer);
    for said in ["`category`", "`facets` names `size`", "hit 10001", "1000"] {
        assert!(warnings.contains(said), "{said}: {warnings}");
    }
    assert!(!warnings.contains("`brand`"));
    let few = ExplainOptions { max_warnings: 1, ..ExplainOptions::default() };
    let answer = self::service(few, None).await.explain(Principal::MasterKey, &body).await;
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn facets_that_only_reserved_attributes_fit_are_refused_as_the_search_is() {
    let service = service(ExplainOptions::default(), None).await;
    let said = "Invalid facet distribution: Pattern `_miroir*` is not filterable. Available filterable \
                attributes patterns are: `brand`.";
    let facets = json!(["bra*", "_miroir*", "size"]);
    let one = json!({"facets": facets});
    let several = json!({"queries": [
        {"indexUid": "makers"}, {"indexUid": "products", "facets": facets},
    ]});
    let federated = |queries: Value| json!({"federation": {"facetsByIndex": {"products": facets}}, "queries": queries});
    let alone = federated(json!([{"indexUid": "makers"}, {"indexUid": "products"}]));
    let twice = federated(json!([{"indexUid": "products", "q": "a"}, {"indexUid": "products"}]));
    let inside = "Inside `.federation.facetsByIndex.products`: ";
    for (path, body, place) in [
        ("/indexes/products/search", &one, String::new()),
        ("/indexes/products/explain", &one, String::new()),
        ("/indexes/products/explain?execute=true", &one, String::new()),
        ("/multi-search", &several, "Inside `.queries[1]`: ".to_owned()),
        ("/multi-search", &alone, format!("Inside `.queries[1]`: {inside}")),
        ("/multi-search", &twice, format!("Inside `.queries[0]`: {inside}")),
    ] {
        service.searches();
        let (status, answer) = service.post(path, Principal::MasterKey, body).await;
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_search_facets")), "{answer}");
        assert_eq!(answer["message"], format!("{place}{said}"), "{path} {body}");
        assert!(!path.ends_with("explain") || service.searches() == 0, "a node was searched");
    }
    let answer = service.explain(Principal::MasterKey, &json!({"facets": ["bra*", "*"]})).await;
    assert!(!texts(&answer).contains("`bra*`"), "an attribute fits it: {answer}");
}

#[tokio::test(start_paused = true)]
async fn every_query_of_several_is_explained() {
    let service = service(ExplainOptions::default(), None).await;
    let queries =
        json!([{"indexUid": "products", "q": "a"}, {"indexUid": "makers", "facets": ["x"]}]);
    for federation in [Value::Null, json!({})] {
        let mut body = json!({"queries": queries});
        if !federation.is_null() {
            body["federation"] = federation;
            body["queries"][1]["facets"].take();
            body["queries"][1] = json!({"indexUid": "makers"});
        }
        let path = "/multi-search/explain";
        let (status, answer) = service.post(path, Principal::Admin, &body).await;
        assert_eq!((status, service.searches()), (200, 0), "{answer}");
        let results = answer["results"].as_array().unwrap();
        let uids: Vec<_> = results.iter().map(|one| one["indexUid"].as_str().unwrap()).collect();
        assert_eq!(uids, ["products", "makers"]);
        assert!(
            results.iter().all(|one| one["plan"]["target_shards"].as_array().unwrap().len() == 8)
        );
        if body.get("federation").is_none() {
            continue;
        }
        let path = "/multi-search/explain?execute=true";
        let (status, answer) = service.both(path, &body).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer["result"]["hits"].is_array(), "{answer}");
        assert!(answer["results"][1]["calls"].as_array().is_some_and(|calls| !calls.is_empty()));
        assert!(service.searches() >= 2);
    }
}

/// What a planner makes of a filter does not show, be it the tenant's own or that of the rules.
#[tokio::test(start_paused = true)]
async fn tenants_do_not_see_which_shards_a_filter_leaves() {
    let key = Arc::new(
        miroir_core::keys::ApiKey::defaults(
            time::OffsetDateTime::UNIX_EPOCH,
            [1, 2, 3, 4].map(uuid::Uuid::from_u128),
        )[3]
        .clone(),
    );
    let rules = serde_json::from_value(json!(["*"])).unwrap();
    let tenant = Principal::Tenant(Arc::new(miroir_core::keys::Tenant { key, rules }));
    let plan = async |narrow| {
        let service = service(ExplainOptions::default(), narrow).await;
        service.explain(tenant.clone(), &json!({"q": "shoes"})).await
    };
    let (bound, free) = (plan(Some(5)).await, plan(None).await);
    assert_eq!(bound, free);
    assert_eq!((&free["plan"]["narrowed"], &free["plan"]["hints"]), (&Value::Null, &Value::Null));
    assert_eq!(free["plan"]["settings_version"], 3);
}

/// The admin key alone shows how a search went, and nothing of what it found.
#[tokio::test(start_paused = true)]
async fn an_operator_without_a_clients_key_sees_calls_and_no_documents() {
    let service = service(ExplainOptions::default(), None).await;
    for (path, body) in [
        ("/indexes/products/explain?execute=true", json!({"facets": ["brand"]})),
        (
            "/multi-search/explain?execute=true",
            json!({"queries": [{"indexUid": "products"}, {"indexUid": "makers"}]}),
        ),
        (
            "/multi-search/explain?execute=true",
            json!({"federation": {}, "queries": [{"indexUid": "products"}]}),
        ),
    ] {
        let (status, alone) = service.post(path, Principal::Admin, &body).await;
        assert_eq!((status, &alone["result"]), (200, &Value::Null), "{alone}");
        assert!(service.searches() > 0, "it was not carried out: {alone}");
        let first = if path.starts_with("/multi") { &alone["results"][0] } else { &alone };
        assert_eq!(first["calls"][0]["outcome"], "answered", "{alone}");
        assert!(first["plan"]["target_nodes"].to_string().contains("secret-"), "{alone}");
        assert!(alone["withheld"].as_str().unwrap().contains("client's key"), "{alone}");
        assert!(!alone.to_string().contains("hits"), "{alone}");

        let (status, shown) = service.both(path, &body).await;
        assert_eq!((status, shown.get("withheld")), (200, None), "{shown}");
        assert!(shown["result"].is_object(), "{shown}");
        let first = if path.starts_with("/multi") { &shown["results"][0] } else { &shown };
        assert!(first["plan"]["target_nodes"].to_string().contains("secret-"), "{shown}");
        service.searches();
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_requests_are_refused_as_searches_are() {
    let on = service(ExplainOptions::default(), None).await;
    let path = "/indexes/products/explain?execute=perhaps";
    let (status, answer) = on.post(path, Principal::Admin, &json!({})).await;
    assert_eq!((status, &answer["code"]), (400, &json!("bad_request")), "{answer}");
    let never = ExplainOptions { allow_execute_parameter: false, ..ExplainOptions::default() };
    let off = ExplainOptions { enabled: false, ..ExplainOptions::default() };
    for (options, path, key) in [
        (never, "/indexes/products/explain?execute=true", "explain.allow_execute_parameter"),
        (off, "/indexes/products/explain", "explain.enabled"),
    ] {
        let service = service(options, None).await;
        let (status, answer) = service.post(path, Principal::Admin, &json!({})).await;
        assert_eq!((status, &answer["code"]), (501, &json!("miroir_not_supported")), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(key), "{answer}");
    }
}
