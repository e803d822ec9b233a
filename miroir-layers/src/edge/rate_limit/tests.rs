//! Tests, with buckets in memory.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::Request;
use http_body_util::{BodyExt, Empty};
use miroir_pipeline::http::Peer;
use miroir_store::memory;
use tower::{Layer, ServiceExt};

use super::*;
use crate::edge::pod_auth::{Claim, Statement, Vouched};

/// What came out: the status, what is left, and the body.
struct Seen {
    status: u16,
    left: Option<String>,
    body: String,
}

async fn ask(layer: &RateLimitLayer, peer: Option<&str>, request: Request<()>) -> Seen {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let inner = tower::service_fn(move |_: Request<()>| {
        counter.fetch_add(1, Ordering::Relaxed);
        async {
            Ok::<_, std::convert::Infallible>(http::Response::new(Empty::<bytes::Bytes>::new()))
        }
    });
    let mut request = request;
    if let Some(peer) = peer {
        request.extensions_mut().insert(Peer(peer.parse::<IpAddr>().unwrap()));
    }
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    let text = |name: &str| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let (status, left) = (response.status().as_u16(), text("ratelimit-remaining"));
    assert_eq!(
        calls.load(Ordering::Relaxed),
        u32::from(status == 200),
        "asked once, or not at all"
    );
    if status == 429 {
        let wait: u64 = text("retry-after").unwrap().parse().unwrap();
        assert!((1..=1_800).contains(&wait), "{wait}");
        assert_eq!(text("ratelimit-limit").as_deref(), Some("2"));
        assert_eq!(text("content-type").as_deref(), Some("application/json"));
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Seen { status, left, body: String::from_utf8(body.to_vec()).unwrap() }
}

fn get(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn layer(change: impl FnOnce(&mut RateLimitOptions)) -> RateLimitLayer {
    let mut options = RateLimitOptions::new("2/hour".parse().unwrap());
    change(&mut options);
    RateLimitLayer::new(Limiter::new(memory::buckets()), options)
}

#[tokio::test]
async fn an_address_is_let_in_so_often_and_told_what_is_left() {
    let layer = layer(|_| ());
    for left in ["1", "0"] {
        let seen = ask(&layer, Some("1.2.3.4"), get("/indexes", &[])).await;
        assert_eq!((seen.status, seen.left.as_deref()), (200, Some(left)));
    }
    let seen = ask(&layer, Some("1.2.3.4"), get("/indexes", &[])).await;
    assert_eq!(seen.status, 429);
    for part in ["\"code\":\"miroir_rate_limited\"", "`rate_limit.per_ip` is 2/hour", "seconds"] {
        assert!(seen.body.contains(part), "{}", seen.body);
    }
    assert_eq!(ask(&layer, Some("1.2.3.5"), get("/indexes", &[])).await.status, 200);
}

#[tokio::test]
async fn probes_operators_and_exempt_addresses_are_not_counted() {
    let layer = layer(|o| o.exempt = vec!["10.0.0.0/8".parse().unwrap()]);
    for _ in 0..5 {
        for path in ["/health", "/_miroir/ready", "/_miroir"] {
            let seen = ask(&layer, Some("1.2.3.4"), get(path, &[])).await;
            assert_eq!((seen.status, seen.left), (200, None), "{path}");
        }
        assert_eq!(ask(&layer, Some("10.1.1.1"), get("/indexes", &[])).await.left, None);
        // Who is not known cannot be counted.
        assert_eq!(ask(&layer, None, get("/indexes", &[])).await.left, None);
    }
    assert_eq!(ask(&layer, Some("1.2.3.4"), get("/_miroirs", &[])).await.left.unwrap(), "1");
}

#[tokio::test]
async fn clients_behind_a_proxy_are_told_apart_and_cannot_hide() {
    let layer = layer(|o| o.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()]);
    let from = |chain: &'static str| get("/indexes", &[("x-forwarded-for", chain)]);
    for status in [200, 200, 429] {
        assert_eq!(ask(&layer, Some("10.0.0.1"), from("1.2.3.4")).await.status, status);
    }
    assert_eq!(ask(&layer, Some("10.0.0.1"), from("9.9.9.9, 1.2.3.4")).await.status, 429);
    assert_eq!(ask(&layer, Some("10.0.0.1"), from("1.2.3.5")).await.status, 200);
    // Not through the proxy: the chain is not believed.
    assert_eq!(ask(&layer, Some("1.2.3.4"), from("5.5.5.5")).await.status, 429);
}

#[tokio::test]
async fn what_a_pod_counted_is_not_counted_again() {
    let layer = layer(|_| ());
    let passed_on = || {
        let mut request = get("/indexes", &[]);
        request.extensions_mut().insert(Vouched(Statement { claim: Claim::Master, body: [0; 32] }));
        request
    };
    for _ in 0..5 {
        let seen = ask(&layer, Some("1.2.3.4"), passed_on()).await;
        assert_eq!((seen.status, seen.left), (200, None));
    }
    // What a client says of itself is worth nothing.
    for status in [200, 200, 429] {
        let claimed = get("/indexes", &[("x-miroir-forwarded", "1")]);
        assert_eq!(ask(&layer, Some("1.2.3.4"), claimed).await.status, status);
    }
}
