//! Tests, with mocks and paused time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use miroir_api::{GroupId, NodeId, ShardId};
use miroir_core::routing::ShardSet;
use miroir_core::view::Route;
use miroir_pipeline::context::Context;
use miroir_pipeline::leaf::{Failed, Page, Question, Request, Response, Target};
use miroir_pipeline::node::Call;
use miroir_pipeline::{Error, NodeFailure};
use miroir_test::contract::{contract, readiness};
use miroir_test::layered;
use miroir_test::mock::Exchange;

use super::*;
use crate::fixtures::{entry, topology};

const SHARDS: u32 = 8;

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn set(shards: &[u32]) -> ShardSet {
    ShardSet::from_iter(shards.iter().map(|s| ShardId(*s)), SHARDS)
}

fn request(target: Target) -> Request {
    Request::new(
        target,
        Question::Plain(Arc::new(Call::get("search", "/indexes/a/search"))),
        Arc::new(entry("a", SHARDS)),
        Arc::new(topology(3, 2)),
        Arc::default(),
        Route::in_turn(vec![GroupId(0)], 0),
        Context::client("1", Duration::from_secs(10)),
    )
}

fn cover(shards: &[u32]) -> Request {
    request(Target::Cover { shards: set(shards), avoid: vec![id("z")], chosen: None })
}

fn write() -> Request {
    request(Target::Exactly(id("a")))
}

fn page(node: &str, shards: &[u32]) -> Page {
    Page { node: id(node), shards: set(shards), body: Bytes::from(node.to_owned()) }
}

fn failed(node: &str, shards: &[u32]) -> Failed {
    Failed {
        node: id(node),
        shards: set(shards),
        error: Error::node(&id(node), NodeFailure::Connect),
    }
}

fn answer(pages: Vec<Page>, failed: Vec<Failed>, missing: &[u32]) -> Response {
    Response { pages, failed, missing: set(missing) }
}

/// What a request wants covered, and without whom.
fn wanted(exchange: &Exchange<Request>) -> (ShardSet, Vec<String>) {
    match &exchange.request().target {
        Target::Cover { shards, avoid, .. } => {
            (shards.clone(), avoid.iter().map(|node| node.to_string()).collect())
        }
        Target::Exactly(node) => panic!("asked {node} and nobody else"),
    }
}

/// Who answered or failed for which shards.
fn summary(response: &Response) -> (Vec<(String, ShardSet)>, Vec<(String, ShardSet)>, ShardSet) {
    let pages = response.pages.iter().map(|p| (p.node.to_string(), p.shards.clone())).collect();
    let failed = response.failed.iter().map(|f| (f.node.to_string(), f.shards.clone())).collect();
    (pages, failed, response.missing.clone())
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    contract(FailoverLayer::default(), write).await;
    readiness(&FailoverLayer::default(), || cover(&[0])).await;
}

#[tokio::test(start_paused = true)]
async fn failed_shards_are_covered_again_without_the_failed_nodes() {
    let (mut service, mut inner) = layered(FailoverLayer::default());
    let call = service.spawn_call(cover(&[0, 1, 2, 3, 4]));
    let first = inner.next_request().await;
    assert_eq!(wanted(&first), (set(&[0, 1, 2, 3, 4]), vec!["z".into()]));
    first.respond(answer(
        vec![page("a", &[0])],
        vec![failed("b", &[1, 2]), failed("c", &[3])],
        &[4],
    ));

    let second = inner.next_request().await;
    assert_eq!(wanted(&second), (set(&[1, 2, 3]), vec!["z".into(), "b".into(), "c".into()]));
    second.respond(answer(vec![page("a", &[1]), page("d", &[3])], vec![failed("d", &[2])], &[]));

    let third = inner.next_request().await;
    let avoid = vec!["z".into(), "b".into(), "c".into(), "d".into()];
    assert_eq!(wanted(&third), (set(&[2]), avoid));
    third.respond(answer(vec![page("e", &[2])], vec![], &[]));

    let pages = [("a", set(&[0])), ("a", set(&[1])), ("d", set(&[3])), ("e", set(&[2]))];
    let pages = pages.map(|(node, shards)| (node.to_owned(), shards)).to_vec();
    assert_eq!(summary(&call.await.unwrap()), (pages, vec![], set(&[4])));
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded() {
    let layer = FailoverLayer::new(FailoverOptions { max_attempts: 2, ..Default::default() });
    let (mut service, mut inner) = layered(layer);
    let call = service.spawn_call(cover(&[0, 1]));
    inner.next_request().await.respond(answer(vec![], vec![failed("a", &[0, 1])], &[]));
    inner.next_request().await.respond(answer(vec![page("b", &[1])], vec![failed("c", &[0])], &[]));
    let expected = (vec![("b".into(), set(&[1]))], vec![("c".into(), set(&[0]))], set(&[]));
    assert_eq!(summary(&call.await.unwrap()), expected);
    inner.assert_idle().await;

    let layer = FailoverLayer::new(FailoverOptions { max_attempts: 1, ..Default::default() });
    let (mut service, mut inner) = layered(layer);
    let call = service.spawn_call(cover(&[0]));
    inner.next_request().await.respond(answer(vec![], vec![failed("a", &[0])], &[]));
    assert_eq!(call.await.unwrap().failed.len(), 1);
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn timeouts_are_asked_elsewhere_unless_that_is_switched_off() {
    for retry_timeouts in [true, false] {
        let layer = FailoverLayer::new(FailoverOptions { retry_timeouts, ..Default::default() });
        let (mut service, mut inner) = layered(layer);
        let call = service.spawn_call(cover(&[0, 1]));
        let late =
            Failed { error: Error::node(&id("a"), NodeFailure::Timeout), ..failed("a", &[0]) };
        inner.next_request().await.respond(answer(vec![], vec![late, failed("b", &[1])], &[]));
        let again = inner.next_request().await;
        let open = if retry_timeouts { set(&[0, 1]) } else { set(&[1]) };
        assert_eq!(wanted(&again).0, open);
        again.respond(Response {
            pages: vec![Page { shards: open, ..page("c", &[]) }],
            ..answer(vec![], vec![], &[])
        });
        let failed = call.await.unwrap().failed;
        assert_eq!(failed.is_empty(), retry_timeouts, "{failed:?}");
        inner.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_another_replica_the_first_failure_stays() {
    let (mut service, mut inner) = layered(FailoverLayer::default());
    let call = service.spawn_call(cover(&[0, 1]));
    inner.next_request().await.respond(answer(vec![], vec![failed("a", &[0, 1])], &[]));
    inner.next_request().await.respond(answer(vec![page("b", &[1])], vec![], &[0]));
    let expected = (vec![("b".into(), set(&[1]))], vec![("a".into(), set(&[0]))], set(&[]));
    assert_eq!(summary(&call.await.unwrap()), expected);
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_returns_what_there_is() {
    let options = FailoverOptions {
        max_attempts: 3,
        budget_percent: 50,
        per_second: 0,
        burst: 1,
        ..FailoverOptions::default()
    };
    let (mut service, mut inner) = layered(FailoverLayer::new(options));
    let mut retried = Vec::new();
    for _ in 0..6 {
        let call = service.spawn_call(cover(&[0, 1]));
        let first = answer(vec![page("b", &[1])], vec![failed("a", &[0])], &[]);
        inner.next_request().await.respond(first);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let second = inner.try_next_request();
        retried.push(second.is_some());
        if let Some(second) = second {
            second.respond(answer(vec![page("c", &[0])], vec![], &[]));
        }
        let response = call.await.unwrap();
        assert_eq!(response.failed.is_empty(), *retried.last().unwrap());
    }
    // One from the burst, then every second leaf has paid for one.
    assert_eq!(retried, [true, false, true, false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_write_has_no_alternative_node() {
    let (mut service, mut inner) = layered(FailoverLayer::default());
    let call = service.spawn_call(write());
    inner.next_request().await.fail(Error::node(&id("a"), NodeFailure::Connect));
    assert_eq!(call.await.unwrap_err().label(), "connect");
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn errors_of_foreign_layers_are_failures_of_every_shard() {
    let (mut service, mut inner) = layered(FailoverLayer::default());
    let call = service.spawn_call(cover(&[0, 1]));
    inner.next_request().await.fail(Error::node(&id("a"), NodeFailure::Reset));
    let second = inner.next_request().await;
    assert_eq!(wanted(&second), (set(&[0, 1]), vec!["z".into(), "a".into()]));
    second.respond(answer(vec![page("b", &[0, 1])], vec![], &[]));
    assert_eq!(call.await.unwrap().pages.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_the_clients_own_errors_replace_an_answer() {
    let (mut service, mut inner) = layered(FailoverLayer::default());
    for (error, replaces) in [(Error::index_not_found("a"), true), (Error::deadline(), false)] {
        let call = service.spawn_call(cover(&[0, 1]));
        let first = answer(vec![page("b", &[1])], vec![failed("a", &[0])], &[]);
        inner.next_request().await.respond(first);
        inner.next_request().await.fail(error);
        assert_eq!(call.await.is_err(), replaces);
        inner.assert_idle().await;
    }
    // And nothing is asked again for an error that another replica would repeat.
    let call = service.spawn_call(cover(&[0]));
    inner.next_request().await.fail(Error::deadline());
    assert!(call.await.is_err());
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_after_the_deadline() {
    let (mut service, mut inner) = layered(FailoverLayer::default());
    let call = service.spawn_call(cover(&[0]));
    let first = inner.next_request().await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    first.respond(answer(vec![], vec![failed("a", &[0])], &[]));
    assert_eq!(call.await.unwrap().failed.len(), 1);
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_takes_the_second_attempt_along() {
    let (mut service, mut inner) = layered(FailoverLayer::default());
    let call = service.spawn_call(cover(&[0]));
    inner.next_request().await.respond(answer(vec![], vec![failed("a", &[0])], &[]));
    let mut second = inner.next_request().await;
    assert!(!second.is_cancelled());
    drop(call);
    second.cancelled().await;
}
