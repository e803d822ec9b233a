//! Mocks on both sides, and paused time.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use metrics_exporter_prometheus::PrometheusBuilder;
use miroir_api::NodeId;
use miroir_api::admin::{ShadowDiffs, ShadowKind, ShadowTarget};
use miroir_core::keys::{ApiKey, Scope, Tenant};
use miroir_pipeline::context::{Class, Context, Origin};
use miroir_pipeline::operation::{MultiSearch, Operation, Request, Response, Write};
use miroir_pipeline::query::{ClientRequest, RawObject, Search, SearchKind};
use miroir_pipeline::{Error, NodeFailure, Stack};
use miroir_test::contract::{cancellation, contract, readiness};
use miroir_test::layered;
use miroir_test::mock::{MockHandle, Spawned, mock};
use serde_json::{Value, json};
use tokio::time::{Instant, advance};

use super::*;
use crate::operation::AuthorizeLayer;

fn original(method: Method, path: &str, body: &Value) -> Arc<ClientRequest> {
    Arc::new(ClientRequest {
        method,
        path: path.to_owned(),
        query: None,
        body: body.to_string().into(),
        content_type: Some("application/json".to_owned()),
        metadata: false,
    })
}

fn request(op: Operation, path: &str, body: &Value) -> Request {
    let cx = Context::client("1", Duration::from_secs(30));
    Request::new(op, &["search"], original(Method::POST, path, body), cx)
}

fn search() -> Request {
    let body = json!({ "q": "shoe" });
    let search =
        Search { body: RawObject::parse(body.to_string().as_bytes()), ..Search::default() };
    let op = Operation::Search { index: "m".to_owned(), search: Arc::new(search) };
    request(op, "/search", &body)
}

fn write() -> Request {
    let op = Operation::Write { index: "m".to_owned(), write: Write::DeleteBatch };
    request(op, "/documents/delete-batch", &json!([1]))
}

fn ok(body: &Value) -> Response {
    Response::ok(body)
}

fn hits(ids: &[u32]) -> Response {
    ok(&json!({ "hits": ids.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>() }))
}

fn keys() -> PrimaryKeys {
    Arc::new(|_| Some("id".to_owned()))
}

/// The layer between two mocks.
struct Rig {
    service: Spawned<Request>,
    primary: MockHandle<Request>,
    shadow: MockHandle<Request>,
    log: Arc<ShadowLog>,
}

impl Rig {
    fn new(options: ShadowOptions) -> Self {
        Self::with(options, |shadow| shadow)
    }

    fn with(options: ShadowOptions, change: impl FnOnce(Shadow) -> Shadow) -> Self {
        let (other, shadow) = mock();
        let (layer, log) = ShadowLayer::new(vec![change(Shadow::new("s", other))], keys(), options);
        let (service, primary) = layered(layer);
        Self { service, primary, shadow, log }
    }

    /// Asks, with this answer of the primary.
    async fn ask(&mut self, request: Request, answer: Response) -> Response {
        let call = self.service.spawn_call(request);
        self.primary.next_request().await.respond(answer);
        call.await.unwrap()
    }

    fn read(&self) -> ShadowDiffs {
        self.log.read(&Wanted { limit: 100, ..Wanted::default() })
    }

    /// Waits until so many were compared.
    async fn compared(&self, count: u64) -> ShadowDiffs {
        for _ in 0..10_000_000 {
            let found = self.read();
            if found.targets[0].compared >= count {
                return found;
            }
            tokio::task::yield_now().await;
        }
        panic!("not so many were compared: {:?}", self.counts());
    }

    fn counts(&self) -> ShadowTarget {
        self.read().targets.remove(0)
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    let layer = || {
        let (other, handle) = mock();
        (
            ShadowLayer::new(vec![Shadow::new("s", other)], keys(), ShadowOptions::default()).0,
            handle,
        )
    };
    let (layer, mut shadow) = layer();
    contract(layer.clone(), write).await;
    shadow.assert_idle().await;
    readiness(&layer, search).await;
    cancellation(&layer, search).await;
}

#[tokio::test(start_paused = true)]
async fn the_answer_is_sent_before_the_shadow_is_asked() {
    let mut rig = Rig::new(ShadowOptions::default());
    let call = rig.service.spawn_call(search());
    let exchange = rig.primary.next_request().await;
    rig.shadow.assert_idle().await;
    exchange.respond(hits(&[1, 2, 3]));
    let answer = call.await.unwrap();
    assert_eq!(answer.body, hits(&[1, 2, 3]).body);

    let asked = rig.shadow.next_request().await;
    let sent = asked.request();
    assert_eq!((sent.cx.origin, sent.cx.class), (Origin::Shadow, Class::Background));
    let call = sent.repeat().unwrap();
    assert_eq!(
        (call.path.as_str(), &call.body[..]),
        ("/indexes/m/search", br#"{"q":"shoe"}"#.as_slice())
    );
    asked.respond(hits(&[3, 1, 4]));
    let found = rig.compared(1).await;
    let diff = &found.diffs[0];
    assert_eq!(diff.kinds, [ShadowKind::Hits, ShadowKind::Ranking]);
    let hits = diff.hits.as_ref().unwrap();
    assert_eq!(
        (&hits.missing[..], &hits.extra[..]),
        (&["2".to_owned()][..], &["4".to_owned()][..])
    );
    assert_eq!(diff.kendall_tau, Some(-1.0));
    assert_eq!((diff.operation.as_str(), diff.index.as_deref()), ("search", Some("m")));
    assert_eq!(diff.request.path, "/indexes/m/search");
    assert_eq!(diff.request.body, r#"{"q":"shoe"}"#);
}

#[tokio::test(start_paused = true)]
async fn equal_answers_are_no_difference() {
    let mut rig = Rig::new(ShadowOptions::default());
    rig.ask(search(), hits(&[1, 2])).await;
    rig.shadow.next_request().await.respond(hits(&[1, 2]));
    let refusal =
        || Response::json(StatusCode::BAD_REQUEST, &json!({ "code": "invalid_search_q" }));
    rig.ask(search(), refusal()).await;
    rig.shadow.next_request().await.respond(refusal());
    let found = rig.compared(2).await;
    assert_eq!((found.diffs.len(), found.targets[0].different), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn errors_are_a_difference_unless_they_are_the_same() {
    let mut rig = Rig::new(ShadowOptions::default());
    let refusal = |code: &str| Response::json(StatusCode::BAD_REQUEST, &json!({ "code": code }));
    rig.ask(search(), hits(&[1])).await;
    rig.shadow
        .next_request()
        .await
        .fail(Error::node(&NodeId::new("s").unwrap(), NodeFailure::Connect));
    rig.ask(search(), hits(&[1])).await;
    rig.shadow.next_request().await.fail(Error::index_not_found("m"));
    rig.ask(search(), refusal("a")).await;
    rig.shadow.next_request().await.respond(refusal("b"));
    rig.ask(search(), hits(&[1])).await;
    rig.shadow.next_request().await.respond(ok(&json!({ "other": 1 })));
    let call = rig.service.spawn_call(search());
    rig.primary.next_request().await.fail(Error::overloaded());
    assert!(call.await.is_err());
    rig.shadow.next_request().await.respond(hits(&[1]));
    let found = rig.compared(5).await;
    let seen: Vec<_> = found
        .diffs
        .iter()
        .map(|diff| {
            assert_eq!(diff.kinds, [ShadowKind::Error]);
            (diff.primary.status.unwrap(), diff.shadow.status, diff.shadow.error.as_deref())
        })
        .collect();
    assert_eq!(
        seen,
        [
            (200, None, Some("connect")),
            (200, Some(404), Some("index_not_found")),
            (400, Some(400), Some("b")),
            (200, Some(200), Some("unreadable")),
            (503, Some(200), None),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_shadow_is_a_difference_and_one_that_hangs_is_given_up() {
    let mut rig = Rig::new(ShadowOptions::default());
    for wait in [99, 150] {
        rig.ask(search(), hits(&[1])).await;
        let asked = rig.shadow.next_request().await;
        advance(Duration::from_millis(wait)).await;
        asked.respond(hits(&[1]));
    }
    let found = rig.compared(2).await;
    assert_eq!(found.diffs.len(), 1);
    assert_eq!(found.diffs[0].kinds, [ShadowKind::Latency]);
    assert_eq!((found.diffs[0].primary.took_ms, found.diffs[0].shadow.took_ms), (0.0, 150.0));

    rig.ask(search(), hits(&[1])).await;
    let mut asked = rig.shadow.next_request().await;
    let start = Instant::now();
    asked.cancelled().await;
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    let found = rig.compared(3).await;
    assert_eq!(found.diffs[1].shadow.error.as_deref(), Some("timeout"));
    assert_eq!(found.diffs[1].kinds, [ShadowKind::Error]);
}

/// The shadow never answers and never gets ready: the primary is as quick as ever, and what is held
/// is bounded.
#[tokio::test(start_paused = true)]
async fn a_shadow_that_hangs_holds_its_seats_and_nothing_else() {
    for ready in [true, false] {
        let options = ShadowOptions { max_in_flight: 3, ..ShadowOptions::default() };
        let mut rig = Rig::new(options);
        rig.shadow.set_ready(ready);
        let start = Instant::now();
        let mut held = Vec::new();
        for _ in 0..100 {
            assert_eq!(rig.ask(search(), hits(&[1])).await.body, hits(&[1]).body);
            held.extend(rig.shadow.try_next_request());
        }
        for _ in 0..64 {
            tokio::task::yield_now().await;
            held.extend(rig.shadow.try_next_request());
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(held.len(), if ready { 3 } else { 0 });
        let counts = rig.counts();
        assert_eq!((counts.sampled, counts.in_flight, counts.dropped), (100, 3, 97));
        // When they are given up, their seats are free again.
        advance(Duration::from_secs(5)).await;
        rig.compared(3).await;
        let counts = rig.counts();
        assert_eq!((counts.in_flight, counts.kinds.error), (0, 3));
        rig.shadow.set_ready(true);
        rig.ask(search(), hits(&[1])).await;
        rig.shadow.next_request().await.respond(hits(&[1]));
        rig.compared(4).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shadow_that_refuses_changes_nothing_for_the_client() {
    let mut rig = Rig::new(ShadowOptions::default());
    rig.shadow.fail_ready(Error::node(&NodeId::new("s").unwrap(), NodeFailure::Connect));
    let start = Instant::now();
    for at in 0..10 {
        assert_eq!(rig.ask(search(), hits(&[at])).await.body, hits(&[at]).body);
        rig.compared(u64::from(at) + 1).await;
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!((rig.counts().kinds.error, rig.counts().dropped), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_not_held() {
    let options = ShadowOptions { max_body: 40, ..ShadowOptions::default() };
    let mut rig = Rig::new(options);
    rig.ask(search(), hits(&[1, 2, 3, 4, 5])).await;
    rig.shadow.assert_idle().await;
    assert_eq!((rig.counts().sampled, rig.counts().dropped), (1, 1));
    let mut long = search();
    long.original = original(Method::POST, "/search", &json!({ "q": "x".repeat(50) }));
    rig.ask(long, hits(&[1])).await;
    rig.shadow.assert_idle().await;
    assert_eq!(rig.counts().dropped, 2);
    rig.ask(search(), hits(&[1])).await;
    rig.shadow.next_request().await.respond(hits(&[1, 2, 3, 4, 5]));
    assert_eq!(rig.compared(1).await.diffs[0].shadow.error.as_deref(), Some("too_large"));
}

#[tokio::test]
async fn large_answers_are_compared_too() {
    // Time passes here as it does.
    let latency_tolerance = Duration::from_mins(10);
    let mut rig = Rig::new(ShadowOptions { latency_tolerance, ..ShadowOptions::default() });
    let first: Vec<u32> = (0..10_000).collect();
    let mut second = first.clone();
    second.swap(0, 1);
    rig.ask(search(), hits(&first)).await;
    rig.shadow.next_request().await.respond(hits(&second));
    let found = rig.compared(1).await;
    assert_eq!(found.diffs[0].kinds, [ShadowKind::Ranking]);
}

#[tokio::test(start_paused = true)]
async fn only_what_was_asked_for_is_repeated_and_never_a_write() {
    let every = ["search", "documents_write", "facet_search", "index", "settings"];
    let mut rig = Rig::with(ShadowOptions::default(), |shadow| shadow.operations(every));
    rig.ask(write(), ok(&json!({}))).await;
    let mut internal = search();
    internal.cx = Context::internal(Origin::Settings, Duration::from_secs(1));
    rig.ask(internal, hits(&[1])).await;
    let mut echo = search();
    echo.cx.origin = Origin::Shadow;
    rig.ask(echo, hits(&[1])).await;
    let other = Operation::MultiSearch(Arc::new(MultiSearch::parse(b"{\"queries\":[]}")));
    rig.ask(request(other, "/multi-search", &json!({ "queries": [] })), ok(&json!({}))).await;
    rig.shadow.assert_idle().await;
    assert_eq!(rig.counts().sampled, 0);

    let body = RawObject::parse(b"{}");
    let facets = Search { kind: SearchKind::FacetValues, body, ..Search::default() };
    let op = Operation::Search { index: "m".to_owned(), search: Arc::new(facets) };
    let answer = || ok(&json!({ "facetHits": [{ "value": "red", "count": 1 }] }));
    rig.ask(request(op, "/facet-search", &json!({})), answer()).await;
    rig.shadow.next_request().await.respond(answer());
    assert_eq!(rig.compared(1).await.diffs, []);
}

#[tokio::test(start_paused = true)]
async fn a_share_is_repeated_of_what_was_answered() {
    let mut rig = Rig::with(ShadowOptions::default(), |shadow| shadow.sample_rate(0.05));
    for _ in 0..1000 {
        rig.ask(search(), hits(&[1])).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        if let Some(asked) = rig.shadow.try_next_request() {
            asked.respond(hits(&[1]));
        }
    }
    let sampled = rig.counts().sampled;
    assert!((30..=70).contains(&sampled), "{sampled}");
    // Nobody got an answer: nothing to compare.
    let mut rig = Rig::new(ShadowOptions::default());
    let call = rig.service.spawn_call(search());
    let mut exchange = rig.primary.next_request().await;
    drop(call);
    exchange.cancelled().await;
    rig.shadow.assert_idle().await;
    assert_eq!(rig.counts().sampled, 0);
}

#[tokio::test(start_paused = true)]
async fn every_shadow_is_asked_on_its_own() {
    let (first, mut one) = mock();
    let (second, mut two) = mock();
    let shadows = vec![Shadow::new("one", first), Shadow::new("two", second)];
    let (layer, log) = ShadowLayer::new(shadows, keys(), ShadowOptions::default());
    let (mut service, mut primary) = layered(layer);
    let call = service.spawn_call(search());
    primary.next_request().await.respond(hits(&[1]));
    call.await.unwrap();
    let _hangs = one.next_request().await;
    two.next_request().await.respond(hits(&[2]));
    let all = Wanted { limit: 9, ..Wanted::default() };
    while log.read(&all).targets[1].compared == 0 {
        tokio::task::yield_now().await;
    }
    let found = log.read(&all);
    assert_eq!(found.diffs.len(), 1);
    assert_eq!(found.diffs[0].target, "two");
    assert_eq!(log.names().collect::<Vec<_>>(), ["one", "two"]);
}

/// What a tenant may not see of one query is not asked of the shadow either.
#[tokio::test(start_paused = true)]
async fn search_rules_hold_at_the_shadow() {
    let key = ApiKey {
        uid: "6062abda-a5aa-4414-ac91-ecd7944c0f81".parse().unwrap(),
        name: None,
        description: None,
        actions: vec![miroir_api::meili::KeyAction::parse("search").unwrap()],
        indexes: vec![miroir_api::meili::IndexPattern::new("*").unwrap()],
        expires_at: None,
        created_at: miroir_store::clock::now(),
        updated_at: miroir_store::clock::now(),
    };
    let rules = serde_json::from_value(json!({ "*": { "filter": "user = 1" } })).unwrap();
    let tenant = Tenant { key: Arc::new(key), rules };
    let scope = Scope::of_tenant(&tenant);
    let body = json!({ "queries": [{ "indexUid": "m", "q": "a" }] });
    let multi = MultiSearch::parse(body.to_string().as_bytes());
    let mut request = request(Operation::MultiSearch(Arc::new(multi)), "/multi-search", &body);
    request.cx.scope = scope;
    request.apply_search_rules().unwrap();
    let mut rig = Rig::new(ShadowOptions::default());
    rig.ask(request, ok(&json!({ "results": [] }))).await;
    let asked = rig.shadow.next_request().await;
    let call = asked.request().repeat().unwrap();
    assert_eq!(call.path, "/multi-search");
    assert_eq!(call.body, r#"{"queries":[{"q":"a","filter":"user = 1","indexUid":"m"}]}"#);
}

#[tokio::test(start_paused = true)]
async fn it_stands_inside_of_authorize() {
    let layer = || ShadowLayer::new(Vec::new(), keys(), ShadowOptions::default()).0;
    let (base, _handle) = mock::<Request>();
    let wrong = Stack::new().push(layer()).push(AuthorizeLayer::default());
    assert!(wrong.build(base.clone()).is_err());
    let right = Stack::new().push(AuthorizeLayer::default()).push(layer());
    assert!(right.build(base).is_ok());
}

#[test]
fn metrics_are_those_that_are_documented() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let options = ShadowOptions { max_body: 60, ..ShadowOptions::default() };
            let mut rig = Rig::new(options);
            rig.ask(search(), hits(&[1, 2])).await;
            rig.shadow.next_request().await.respond(hits(&[2, 1]));
            rig.ask(search(), hits(&[1])).await;
            rig.shadow
                .next_request()
                .await
                .fail(Error::node(&NodeId::new("s").unwrap(), NodeFailure::Connect));
            rig.ask(search(), hits(&[1, 2, 3, 4, 5, 6, 7])).await;
            rig.compared(2).await;
        });
    });
    let scrape = handle.render();
    for line in [
        "miroir_shadow_diff_total{kind=\"ranking\"} 1",
        "miroir_shadow_diff_total{kind=\"error\"} 1",
        "miroir_shadow_kendall_tau_count 1",
        "miroir_shadow_latency_delta_seconds_count 1",
        "miroir_shadow_errors_total{target=\"s\",side=\"shadow\"} 1",
        "miroir_shadow_dropped_total{target=\"s\",reason=\"too_large\"} 1",
    ] {
        assert!(scrape.contains(line), "{line}\n{scrape}");
    }
}

/// However much is asked and found, what one difference takes is bounded.
#[tokio::test(start_paused = true)]
async fn a_kept_difference_is_cut_to_a_bounded_size() {
    let mut rig = Rig::new(ShadowOptions::default());
    let mut long = search();
    long.original = original(Method::POST, "/search", &json!({ "q": "ä".repeat(5_000) }));
    let doc = |id: usize| json!({ "id": format!("{id}{}", "é".repeat(500)) });
    let many = |from: usize| ok(&json!({ "hits": (from..from + 40).map(doc).collect::<Vec<_>>() }));
    rig.ask(long, many(0)).await;
    rig.shadow.next_request().await.respond(many(100));
    let found = rig.compared(1).await;
    let diff = &found.diffs[0];
    assert!(diff.request.truncated);
    let hits = diff.hits.as_ref().unwrap();
    assert_eq!((hits.missing_count, hits.missing.len(), hits.extra_count), (40, 10, 40));
    let size = serde_json::to_vec(diff).unwrap().len();
    assert!(size < 3_500, "{size}");
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_read_is_not_repeated() {
    let mut rig = Rig::new(ShadowOptions::default());
    let body = json!({ "queries": 1 });
    let unread = Arc::new(MultiSearch::parse(body.to_string().as_bytes()));
    let search = Operation::Search { index: "m".to_owned(), search: Arc::new(Search::default()) };
    let explained = Operation::Explain(Box::new(search.clone()));
    for op in [search, explained, Operation::MultiSearch(unread)] {
        rig.ask(request(op, "/search", &body), ok(&json!({}))).await;
    }
    rig.shadow.assert_idle().await;
    assert_eq!(rig.counts().sampled, 0);
}
