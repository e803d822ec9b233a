//! Tests, with mocks and paused time.

use std::time::Duration;

use ::http::{Response as HttpResponse, StatusCode};
use bytes::Bytes;
use miroir_api::NodeId;
use miroir_pipeline::context::{Class, Context};
use miroir_pipeline::node::{Call, NodeCall, Request, Response, Scores};
use miroir_pipeline::{Error, Fault, NodeFailure, Stack};
use miroir_test::contract::{cancellation, contract, readiness};
use miroir_test::layered;
use miroir_test::mock::{MockHandle, Spawned, mock};
use tokio::time::Instant;

use super::*;

mod breaker;
mod limit;
mod measures;

use breaker::Guarded;

const TIMEOUT: Duration = Duration::from_secs(5);

fn node() -> NodeId {
    NodeId::new("a").unwrap()
}

fn request(class: Class, probe: bool, timeout: Duration) -> Request {
    let mut cx = Context::client("1", Duration::from_hours(1));
    cx.class = class;
    let mut request = Call::get("search", "/indexes/a/search").request(&cx, timeout).unwrap();
    request.extensions_mut().get_mut::<NodeCall>().unwrap().probe = probe;
    request
}

fn interactive() -> Request {
    request(Class::Interactive, false, TIMEOUT)
}

fn background() -> Request {
    request(Class::Background, false, TIMEOUT)
}

fn probe() -> Request {
    request(Class::Background, true, TIMEOUT)
}

fn bare() -> Request {
    ::http::Request::get("/").body(http_body_util::Full::default()).unwrap()
}

fn answer(status: u16) -> Response {
    HttpResponse::builder().status(status).body(Bytes::from_static(b"{\"code\":\"any\"}")).unwrap()
}

async fn wait(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

fn label(answer: Result<Response, Error>) -> &'static str {
    let error = answer.unwrap_err();
    assert_eq!(*error.fault(), Fault::Node(node()));
    error.label()
}

#[tokio::test(start_paused = true)]
async fn every_layer_keeps_the_contract() {
    let (scores, id) = (Scores::default(), node());
    let breaker = || BreakerLayer::new(&scores, &id, BreakerOptions::default());
    let load = LoadLayer::new(&scores, &id);
    let deadline = || DeadlineLayer::new(&id, DeadlineOptions::default());
    let limit = || {
        LimitLayer::new(
            &id,
            LimitOptions { interactive: 1, background: 1, ..LimitOptions::default() },
        )
    };
    let fault = || FaultLayer::new(&id, FaultOptions::default());
    let slow = FaultOptions { delays: 1.0, delay: TIMEOUT..TIMEOUT * 2, ..FaultOptions::default() };
    for make in [interactive, background, probe, bare] {
        contract(MetricsLayer::new(&id), make).await;
        contract(breaker(), make).await;
        contract(load.clone(), make).await;
        contract(deadline(), make).await;
        contract(limit(), make).await;
        contract(fault(), make).await;
        contract(FaultLayer::new(&id, slow.clone()), make).await;
        // Changes every request on purpose.
        let credentials = CredentialsLayer::new("key").unwrap();
        readiness(&credentials, make).await;
        cancellation(&credentials, make).await;
    }
}

// deadline

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline() {
    let (mut service, mut inner) = layered(DeadlineLayer::new(&node(), DeadlineOptions::default()));
    let started = Instant::now();
    let call = service.spawn_call(interactive());
    let mut exchange = inner.next_request().await;
    assert_eq!(label(call.await), "timeout");
    assert_eq!(started.elapsed(), TIMEOUT);
    exchange.cancelled().await;

    let call = service.spawn_call(interactive());
    let exchange = inner.next_request().await;
    wait(4_999).await;
    exchange.respond(answer(200));
    assert!(call.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_time_is_over_is_not_made() {
    let (mut service, mut inner) = layered(DeadlineLayer::new(&node(), DeadlineOptions::default()));
    let late = request(Class::Interactive, false, Duration::ZERO);
    assert_eq!(label(service.call(late).await), "expired");
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn calls_without_a_deadline_get_the_fallback() {
    let options = DeadlineOptions { fallback: Some(Duration::from_secs(2)) };
    let (mut service, mut inner) = layered(DeadlineLayer::new(&node(), options));
    let started = Instant::now();
    let call = service.spawn_call(bare());
    let _exchange = inner.next_request().await;
    assert_eq!(label(call.await), "timeout");
    assert_eq!(started.elapsed(), Duration::from_secs(2));

    let (mut service, mut inner) = layered(DeadlineLayer::new(&node(), DeadlineOptions::default()));
    let call = service.spawn_call(bare());
    let exchange = inner.next_request().await;
    wait(3_600_000).await;
    exchange.respond(answer(200));
    assert!(call.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_wait_in_the_queue_is_bounded_too() {
    let id = node();
    let (client, mut inner) = mock::<Request>();
    let service = Stack::new()
        .push(DeadlineLayer::new(&id, DeadlineOptions::default()))
        .push(LimitLayer::new(
            &id,
            LimitOptions { interactive: 1, background: 1, ..LimitOptions::default() },
        ))
        .build(client)
        .unwrap();
    let mut service = Spawned::new(service);
    let first = service.spawn_call(request(Class::Interactive, false, TIMEOUT * 3));
    let exchange = inner.next_request().await;
    // It was never sent, and is told from one that was.
    assert_eq!(label(service.call(interactive()).await), "expired");
    inner.assert_idle().await;
    exchange.respond(answer(200));
    assert!(first.await.is_ok());
    // The one that gave up has left the queue.
    let next = service.spawn_call(interactive());
    inner.next_request().await.respond(answer(200));
    assert!(next.await.is_ok());
}

// load

fn load() -> (Scores, Spawned<Request>, MockHandle<Request>) {
    let scores = Scores::default();
    let (service, inner) = layered(LoadLayer::new(&scores, &node()));
    (scores, service, inner)
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_are_counted_until_they_end() {
    let (scores, mut service, mut inner) = load();
    let in_flight = || scores.node(&node()).in_flight();
    let (a, b) = (service.spawn_call(interactive()), service.spawn_call(interactive()));
    let exchange = inner.next_request().await;
    let mut dropped = inner.next_request().await;
    assert_eq!(in_flight(), 2);
    exchange.respond(answer(200));
    assert!(a.await.is_ok());
    assert_eq!(in_flight(), 1);
    drop(b);
    dropped.cancelled().await;
    assert_eq!(in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn errors_are_failures_and_not_quick_answers() {
    for (reply, fails) in [
        (Ok(200), false),
        (Ok(404), false),
        (Ok(500), true),
        (Ok(429), true),
        (Err(NodeFailure::Connect), true),
    ] {
        let (scores, mut service, mut inner) = load();
        let call = service.spawn_call(interactive());
        let exchange = inner.next_request().await;
        wait(30).await;
        match reply {
            Ok(status) => exchange.respond(answer(status)),
            Err(failure) => exchange.fail(Error::node(&node(), failure)),
        }
        let _ = call.await;
        let score = scores.node(&node());
        let expected = if fails { Duration::ZERO } else { Duration::from_millis(30) };
        assert!(score.latency().abs_diff(expected) < Duration::from_micros(1), "{reply:?}");
        assert_eq!(score.figures(Instant::now()).error_rate > 0.0, fails, "{reply:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_given_up_says_that_it_takes_longer_than_was_waited() {
    let (scores, mut service, mut inner) = load();
    let latency = || scores.node(&node()).latency();
    for (waited, expected) in [(200, 400), (100, 400)] {
        let call = service.spawn_call(interactive());
        let mut exchange = inner.next_request().await;
        wait(waited).await;
        drop(call);
        exchange.cancelled().await;
        let off = latency().abs_diff(Duration::from_millis(expected));
        assert!(off < Duration::from_micros(1), "less than usual says nothing: {:?}", latency());
    }
}

#[tokio::test(start_paused = true)]
async fn probes_do_not_count() {
    let (scores, mut service, mut inner) = load();
    let call = service.spawn_call(probe());
    let exchange = inner.next_request().await;
    assert_eq!(scores.node(&node()).in_flight(), 0);
    wait(50).await;
    exchange.respond(answer(200));
    assert!(call.await.is_ok());
    assert_eq!(scores.node(&node()).latency(), Duration::ZERO);
}

// credentials

#[tokio::test(start_paused = true)]
async fn calls_are_signed_and_the_key_does_not_show() {
    let layer = CredentialsLayer::new("node key").unwrap();
    assert!(!format!("{layer:?}").contains("node key"));
    let (mut service, mut inner) = layered(layer);
    let mut request = bare();
    request.headers_mut().append("authorization", "Bearer a client's".parse().unwrap());
    let _call = service.spawn_call(request);
    let exchange = inner.next_request().await;
    let values: Vec<_> = exchange.request().headers().get_all("authorization").iter().collect();
    assert_eq!(values, ["Bearer node key"]);
    assert!(!format!("{exchange:?}").contains("node key"));
    assert!(CredentialsLayer::new("new\nline").is_err());
}

// fault

/// What happens to a hundred calls, and how long it takes.
async fn fates(options: FaultOptions) -> Vec<(bool, Duration)> {
    let (mut service, mut inner) = layered(FaultLayer::new(&node(), options));
    let mut out = Vec::new();
    for _ in 0..100 {
        let started = Instant::now();
        let call = service.spawn_call(bare());
        let answered = tokio::select! {
            biased;
            exchange = inner.next_request() => {
                exchange.respond(answer(200));
                true
            }
            () = wait(10_000) => false,
        };
        let took = started.elapsed();
        let failed = call.await.is_err();
        assert_ne!(answered, failed);
        out.push((failed, if failed { Duration::ZERO } else { took }));
    }
    out
}

#[tokio::test(start_paused = true)]
async fn faults_follow_from_the_seed() {
    let delay = Duration::from_millis(10)..Duration::from_millis(20);
    let options = FaultOptions { seed: 1, delays: 0.5, delay: delay.clone(), errors: 0.2 };
    let first = fates(options.clone()).await;
    assert_eq!(first, fates(options.clone()).await);
    assert_ne!(first, fates(FaultOptions { seed: 2, ..options }).await);

    let errors = first.iter().filter(|(failed, _)| *failed).count();
    assert!((10..=30).contains(&errors), "{errors} of 100 at a share of 0.2");
    let delays: Vec<_> = first.iter().map(|(_, took)| *took).filter(|t| !t.is_zero()).collect();
    assert!((25..=60).contains(&delays.len()), "{} of 100", delays.len());
    // Tokio's clock ticks in milliseconds and rounds up.
    let bounds = delay.start..=delay.end + Duration::from_millis(1);
    assert!(delays.iter().all(|took| bounds.contains(took)), "{delays:?}");

    assert!(
        fates(FaultOptions::default())
            .await
            .iter()
            .all(|injected| *injected == (false, Duration::ZERO))
    );
}
