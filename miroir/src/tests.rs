//! What `Miroir::builder()` builds, and what it refuses.

use std::time::Duration;

use ::http::StatusCode;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use miroir_control::runtime::StaticPeers;
use miroir_core::options::Capability;
use miroir_layers::leaf::{FailoverLayer, HedgeLayer, HedgeOptions};
use miroir_pipeline::cluster::PodName;
use miroir_pipeline::{Context, Stack, leaf};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::*;

const MASTER: &str = "a master key of 20 b";

/// One node where nobody listens.
fn builder() -> Builder {
    Miroir::builder().node("a", "http://127.0.0.1:9", 0).node_key("node key")
}

async fn ask(miroir: &Miroir, path: &str, key: Option<&str>) -> (StatusCode, Value) {
    let mut request = ::http::Request::get(path);
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let answer = miroir.client_api().oneshot(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn who_has_no_key_is_refused_in_meilisearch_s_words() {
    let miroir = builder().master_key(MASTER).build().await.unwrap();
    for path in ["/indexes", "/indexes/films/search?q=a", "/keys", "/stats"] {
        let (status, body) = ask(&miroir, path, None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(body["code"], "missing_authorization_header");
        assert_eq!(body["type"], "auth");
        assert!(body["link"].as_str().is_some_and(|link| link.contains("errors#")), "{body}");
        let (status, body) = ask(&miroir, path, Some("another key")).await;
        assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("invalid_api_key")));
    }
    let (status, body) = ask(&miroir, "/indexes", Some(MASTER)).await;
    assert_eq!((status, &body["total"]), (StatusCode::OK, &json!(0)));
}

#[tokio::test]
async fn without_a_principal_nothing_is_allowed() {
    let miroir = builder().master_key(MASTER).build().await.unwrap();
    let operations = || miroir.cluster().operations.clone();
    let mut search = operation::Request::search("films", &json!({"q": "a"}));
    let error = operations().oneshot(search.clone()).await.unwrap_err();
    assert_eq!(error.render().0, StatusCode::UNAUTHORIZED);
    // It is the key that was missing: with one it comes as far as the node, which is down.
    search.cx = Context::client("1", Duration::from_secs(1));
    search.cx.principal = context::Principal::MasterKey;
    let error = operations().oneshot(search).await.unwrap_err();
    let body: Value = serde_json::from_slice(&error.render().1.unwrap()).unwrap();
    assert_eq!(body["code"], "miroir_node_failed");
}

#[tokio::test]
async fn a_pipeline_without_a_master_key_is_built_only_if_it_is_asked_for() {
    let refused = builder().build().await.unwrap_err();
    assert!(matches!(refused, BuildError::NoMasterKey), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("master_key") && text.contains("open_to_everybody"), "{text}");
    let open = builder().open_to_everybody().build().await.unwrap();
    assert_eq!(ask(&open, "/indexes", None).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_key_that_no_header_can_carry_is_refused() {
    let built = builder().master_key(MASTER).node_key("two\nlines").build().await;
    assert!(matches!(built, Err(BuildError::NodeKey(_))));
}

#[tokio::test]
async fn pods_without_stores_are_refused() {
    let name = PodName { process: "a-1".into(), pod: "a".into() };
    let peers = std::sync::Arc::new(StaticPeers::new(vec!["a".into()], "a"));
    let pod = Pod::new(name, "http://127.0.0.1:9", peers);
    let built = builder().master_key(MASTER).pod(pod).build().await;
    assert!(matches!(built, Err(BuildError::PodWithoutStores)));
}

#[test]
fn a_wrong_order_is_named() {
    let scores = std::sync::Arc::default();
    let wrong = Stack::<leaf::Request>::new()
        .push(FailoverLayer::default())
        .push(HedgeLayer::new(scores, HedgeOptions::default()))
        .build(tower::service_fn(|_: leaf::Request| async {
            Err::<leaf::Response, _>(Error::overloaded())
        }));
    let text = BuildError::from(wrong.unwrap_err()).to_string();
    assert_eq!(
        text,
        "in the leaf stage, layer `failover` must be inside of `hedge`: push `hedge` first"
    );
}

#[test]
fn the_stack_equals_the_servers_snapshot() {
    let server = include_str!(
        "../../miroir-server/src/snapshots/miroir_server__stack__tests__default_stack.snap"
    );
    let (_, stages) = server.split_once("\n---\n").expect("a snapshot has a head");
    let own: String = Miroir::builder().describe().iter().map(ToString::to_string).collect();
    assert_eq!(own.trim_end(), stages.trim_end());
}

#[test]
fn what_is_switched_off_is_not_there() {
    let mut options = Options::default();
    assert!(options.hedging.enabled());
    options.hedging.enabled = false;
    let stages = Miroir::builder().options(options).describe();
    assert_eq!(stages[3].layers, ["failover", "query_quarantine"]);
}

#[tokio::test]
async fn layers_of_one_s_own_are_inside_and_their_order_counts() {
    let added = builder().master_key(MASTER).leaf_layers(|stack, _| {
        stack.push_named("own", tower::layer::util::Identity::new()).boxed()
    });
    assert_eq!(added.describe()[3].layers, ["hedge", "failover", "query_quarantine", "own"]);
    added.build().await.unwrap();
    // A second hedge would be inside of `failover`.
    let wrong = builder().master_key(MASTER).leaf_layers(|stack, parts| {
        stack
            .push(HedgeLayer::new(std::sync::Arc::clone(&parts.scores), HedgeOptions::default()))
            .boxed()
    });
    let text = wrong.build().await.unwrap_err().to_string();
    assert!(text.contains("`failover` must be inside of `hedge`"), "{text}");
}

#[tokio::test]
async fn layers_of_the_node_stage_see_the_calls_of_their_node() {
    type Seen = std::sync::Arc<std::sync::Mutex<Vec<(String, String)>>>;
    let seen = Seen::default();
    let all = std::sync::Arc::clone(&seen);
    let added = builder().master_key(MASTER).node("b", "http://127.0.0.1:10", 0);
    let added = added.node_layers(move |stack, node, _| {
        let (all, node) = (std::sync::Arc::clone(&all), node.to_string());
        let note = stage::from_fn(move |request: node::Request, next: stage::Next<_>| {
            all.lock().unwrap().push((node.clone(), request.uri().path().to_owned()));
            next.run(request)
        });
        stack.push_named("note", note).boxed()
    });
    assert_eq!(added.describe()[4].layers.last(), Some(&"note"));
    let miroir = added.build().await.unwrap();
    // Before anything is read, nodes are asked who they are.
    assert!(
        seen.lock().unwrap().iter().all(|(_, path)| ["/keys", "/tasks"].contains(&&**path)),
        "{seen:?}"
    );
    seen.lock().unwrap().clear();
    // The node is down: what counts is that it was called.
    let (status, _) = ask(&miroir, "/version", Some(MASTER)).await;
    assert!(status.is_server_error(), "{status}");
    let seen = seen.lock().unwrap();
    assert!(seen.iter().any(|(_, path)| path == "/version"), "{seen:?}");
    assert!(seen.iter().all(|(node, _)| node == "a" || node == "b"), "{seen:?}");
}

/// Feeds nobody.
#[derive(Clone, Debug)]
struct Feeds;

impl Placed for Feeds {
    const NAME: &'static str = "feeds";
}

/// Does nothing without it.
#[derive(Clone, Debug)]
struct Eats;

impl Placed for Eats {
    const NAME: &'static str = "eats";
    const NEEDS: &'static [stack::Need] = &[stack::Need::of::<node::Request, Feeds>()];
}

macro_rules! nothing {
    ($($layer:ty),*) => {$(
        impl<S> tower::Layer<S> for $layer {
            type Service = S;
            fn layer(&self, inner: S) -> S {
                inner
            }
        }
    )*};
}
nothing!(Feeds, Eats);

#[tokio::test]
async fn a_layer_without_what_it_needs_is_not_built() {
    let hungry = || builder().master_key(MASTER).leaf_layers(|stack, _| stack.push(Eats).boxed());
    let error = hungry().build().await.unwrap_err();
    assert!(matches!(error, BuildError::Wiring(_)), "{error}");
    assert_eq!(
        error.to_string(),
        "layer `eats` of the leaf stage needs `feeds` in the node stage: push `feeds` there, or \
         leave `eats` out"
    );
    hungry().node_layers(|stack, _, _| stack.push(Feeds).boxed()).build().await.unwrap();
}

#[tokio::test]
async fn a_hedge_in_a_stack_of_ones_own_needs_the_figures_of_the_nodes() {
    let bare = || {
        let hedge = HedgeLayer::new(std::sync::Arc::default(), HedgeOptions::default());
        Builder::bare().node("a", "http://127.0.0.1:9", 0).leaves(Stack::new().push(hedge))
    };
    let text = bare().build().await.unwrap_err().to_string();
    assert!(text.contains("`hedge` of the leaf stage needs `load` in the node stage"), "{text}");
    let load = |node: &miroir_api::NodeId| {
        Stack::new().push(miroir_layers::node::LoadLayer::new(&node::Scores::default(), node))
    };
    bare().node_layers(load).build().await.unwrap();
}

#[tokio::test]
async fn the_client_api_has_every_layer_of_the_edge() {
    let mut options = Options::default();
    options.rate_limit.enabled = true;
    options.rate_limit.per_ip = Some("1/hour".parse().unwrap());
    let described = Miroir::builder().options(options.clone()).describe();
    assert!(described[0].layers.contains(&"rate_limit"));
    let miroir = builder().options(options).master_key(MASTER).build().await.unwrap();
    let api = miroir.client_api();
    let ask = |path: &str| {
        let peer = crate::http::Peer(std::net::Ipv4Addr::LOCALHOST.into());
        let request = ::http::Request::get(path)
            .header("origin", "https://shop.example")
            .header("accept-encoding", "gzip")
            .extension(peer)
            .body(Full::<Bytes>::default())
            .unwrap();
        api.clone().oneshot(request)
    };
    let refused = ask("//indexes/").await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("content-encoding", "gzip"),
        ("ratelimit-remaining", "0"),
    ] {
        assert_eq!(refused.headers()[name], value, "{name}");
    }
    assert!(refused.headers().contains_key("x-miroir-request-id"));
    assert_eq!(ask("/indexes").await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    // Probes count nowhere.
    assert_eq!(ask("/health").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn workers_end_with_the_pipeline() {
    let miroir = builder().master_key(MASTER).build().await.unwrap();
    miroir.spawn_workers();
    tokio::time::timeout(Duration::from_secs(20), miroir.shutdown()).await.unwrap();
}
