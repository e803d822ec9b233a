//! The bound of calls in flight.

use std::sync::Arc;

use miroir_core::keys::{ApiKey, SearchRules, Tenant};
use miroir_pipeline::context::Principal;

use super::*;
use crate::fixtures::api_key;

fn of(principal: Principal) -> Request {
    let mut cx = Context::client("1", Duration::from_hours(1));
    cx.principal = principal;
    Call::get("search", "/indexes/a/search").request(&cx, TIMEOUT).unwrap()
}

fn key(number: u128) -> Arc<ApiKey> {
    let key = Arc::unwrap_or_clone(api_key(&["*"]));
    Arc::new(ApiKey { uid: uuid::Uuid::from_u128(number), ..key })
}

fn tenant(number: u64) -> Principal {
    let rules = serde_json::json!({"a": {"filter": format!("tenant = {number}")}});
    let rules: SearchRules = serde_json::from_value(rules).unwrap();
    Principal::Tenant(Arc::new(Tenant { key: key(3), rules }))
}

/// Whoever asks much waits for itself: callers take turns at a place that becomes free.
#[tokio::test(start_paused = true)]
async fn callers_take_turns() {
    let options = LimitOptions { interactive: 1, background: 1, ..LimitOptions::default() };
    let (mut service, mut inner) = layered(LimitLayer::new(&node(), options));
    let held = service.spawn_call(of(Principal::MasterKey));
    let mut exchange = inner.next_request().await;
    let mut waiting = Vec::new();
    let callers = [
        ("greedy", Principal::ApiKey(key(1)), 4),
        ("other", Principal::ApiKey(key(2)), 1),
        ("one tenant", tenant(1), 2),
        ("another tenant", tenant(2), 1),
    ];
    for (name, principal, times) in callers {
        for _ in 0..times {
            let mut request = of(principal.clone());
            request.headers_mut().insert("x-name", name.parse().unwrap());
            waiting.push(service.spawn_call(request));
            // In this order.
            tokio::task::yield_now().await;
        }
    }
    inner.assert_idle().await;
    let mut order = Vec::new();
    for _ in 0..waiting.len() {
        exchange.respond(answer(200));
        exchange = inner.next_request().await;
        order.push(exchange.request().headers()["x-name"].to_str().unwrap().to_owned());
    }
    exchange.respond(answer(200));
    let expected = [
        "greedy",
        "other",
        "one tenant",
        "another tenant",
        "greedy",
        "one tenant",
        "greedy",
        "greedy",
    ];
    assert_eq!(order, expected);
    assert!(held.await.is_ok());
    for call in waiting {
        assert!(call.await.is_ok());
    }
}

/// A place that was given to somebody who went at that moment is not lost.
#[tokio::test(start_paused = true)]
async fn no_place_is_lost() {
    let options = LimitOptions { interactive: 2, background: 1, ..LimitOptions::default() };
    let (mut service, mut inner) = layered(LimitLayer::new(&node(), options));
    for round in 0..20 {
        let calls: Vec<_> = (0..4).map(|_| service.spawn_call(of(tenant(round)))).collect();
        let (first, second) = (inner.next_request().await, inner.next_request().await);
        first.respond(answer(200));
        // All go: one of those that wait was just given the place.
        drop(calls);
        drop(second);
        inner.assert_idle().await;
    }
    let calls: Vec<_> = (0..2).map(|_| service.spawn_call(interactive())).collect();
    for _ in 0..2 {
        inner.next_request().await.respond(answer(200));
    }
    for call in calls {
        assert!(call.await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn each_class_has_its_lane_and_probes_need_none() {
    let options = LimitOptions { interactive: 2, background: 1, ..LimitOptions::default() };
    let (mut service, mut inner) = layered(LimitLayer::new(&node(), options));
    let _a = service.spawn_call(interactive());
    let b = service.spawn_call(interactive());
    let _held = inner.next_request().await;
    let second = inner.next_request().await;
    let c = service.spawn_call(interactive());
    inner.assert_idle().await;

    let _d = service.spawn_call(background());
    let _held_too = inner.next_request().await;
    let _e = service.spawn_call(background());
    inner.assert_idle().await;

    let f = service.spawn_call(probe());
    inner.next_request().await.respond(answer(200));
    assert!(f.await.is_ok());

    second.respond(answer(200));
    assert!(b.await.is_ok());
    inner.next_request().await.respond(answer(200));
    assert!(c.await.is_ok());
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_frees_its_place() {
    let options = LimitOptions { interactive: 1, background: 1, ..LimitOptions::default() };
    let (mut service, mut inner) = layered(LimitLayer::new(&node(), options));
    let first = service.spawn_call(interactive());
    let _held = inner.next_request().await;
    let queued = service.spawn_call(interactive());
    let last = service.spawn_call(interactive());
    inner.assert_idle().await;
    // Out of the queue and out of the place: the last one is next.
    drop(queued);
    drop(first);
    inner.next_request().await.respond(answer(200));
    assert!(last.await.is_ok());
}
