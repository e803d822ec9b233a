//! The order of layers, as they declare it.

use std::time::Duration;

use miroir_api::NodeId;
use miroir_pipeline::Stack;
use miroir_pipeline::node::{Request, Scores};
use miroir_test::mock::mock;

use crate::node::*;

fn node() -> NodeId {
    NodeId::new("a").unwrap()
}

#[tokio::test]
async fn the_node_stack_has_one_order() {
    let scores = Scores::default();
    let id = node();
    let (client, mut handle) = mock::<Request>();
    let stack = Stack::new()
        .push(MetricsLayer::new(&id))
        .push(BreakerLayer::new(&scores, &id, BreakerOptions::default()))
        .push(LoadLayer::new(&scores, &id))
        .push(DeadlineLayer::new(&id, DeadlineOptions::default()))
        .push(LimitLayer::new(&id, LimitOptions::default()))
        .push(CredentialsLayer::new("key").unwrap())
        .push(FaultLayer::new(&id, FaultOptions::default()));
    assert_eq!(
        stack.describe().layers,
        ["metrics", "breaker", "load", "deadline", "limit", "credentials", "fault"]
    );
    let service = stack.build(client).unwrap();
    let mut service = miroir_test::mock::Spawned::new(service);
    let request = http::Request::get("/health").body(http_body_util::Full::default()).unwrap();
    let call = service.spawn_call(request);
    tokio::time::timeout(Duration::from_secs(5), handle.next_request())
        .await
        .unwrap()
        .respond(http::Response::new("{}".into()));
    assert!(call.await.is_ok());
}

/// Every pair in the wrong order is refused.
#[test]
fn every_other_order_is_refused() {
    let scores = Scores::default();
    let id = node();
    macro_rules! refused {
        ($($outer:expr => $inner:expr),* $(,)?) => {$(
            let (client, _handle) = mock::<Request>();
            assert!(Stack::new().push($inner).push($outer).build(client).is_err());
            let (client, _handle) = mock::<Request>();
            assert!(Stack::new().push($outer).push($inner).build(client).is_ok());
        )*};
    }
    let metrics = || MetricsLayer::new(&id);
    let breaker = || BreakerLayer::new(&scores, &id, BreakerOptions::default());
    let load = || LoadLayer::new(&scores, &id);
    let deadline = || DeadlineLayer::new(&id, DeadlineOptions::default());
    let limit = || LimitLayer::new(&id, LimitOptions::default());
    let credentials = || CredentialsLayer::new("key").unwrap();
    let fault = || FaultLayer::new(&id, FaultOptions::default());
    refused! {
        metrics() => breaker(),
        metrics() => load(),
        breaker() => load(),
        breaker() => deadline(),
        load() => deadline(),
        deadline() => limit(),
        breaker() => limit(),
        limit() => credentials(),
        metrics() => credentials(),
        credentials() => fault(),
    }
}
