//! Tests, with mocks and paused time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use miroir_api::{GroupId, NodeId};
use miroir_core::routing::{Leaf, ShardSet};
use miroir_core::view::Route;
use miroir_pipeline::context::{Class, Context};
use miroir_pipeline::error::ErrorKind;
use miroir_pipeline::explain::Explain;
use miroir_pipeline::leaf::{Failed, Page, Question, Request, Response, Scoped, Target};
use miroir_pipeline::node::Call;
use miroir_pipeline::{Error, NodeFailure, Stack};
use miroir_store::memory;
use miroir_test::contract::{contract, readiness};
use miroir_test::layered;
use miroir_test::mock::{MockHandle, Spawned, mock};
use tokio::time::advance;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::fixtures::{entry, topology};
use crate::leaf::{FailoverLayer, HedgeLayer, HedgeOptions};

const SHARDS: u32 = 8;

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn all() -> ShardSet {
    ShardSet::full(SHARDS)
}

fn layer() -> QueryQuarantineLayer {
    let options = QueryQuarantineOptions::default();
    QueryQuarantineLayer::new(Arc::default(), Quarantine::new(options, &memory::open()))
}

fn asking(target: Target, question: Question) -> Request {
    Request::new(
        target,
        question,
        Arc::new(entry("a", SHARDS)),
        Arc::new(topology(3, 2)),
        Arc::default(),
        Route::in_turn(vec![GroupId(0)], 0),
        Context::client("1", Duration::from_mins(5)),
    )
}

fn search(filter: &str) -> Question {
    Question::Scoped(Arc::new(Scoped {
        path: "/search",
        body: Bytes::from_static(b"{}"),
        filter: Some(serde_json::to_vec(filter).unwrap().into()),
        operation: "search",
        sort_values: false,
    }))
}

fn cover(filter: &str) -> Request {
    asking(Target::Cover { shards: all(), avoid: vec![], chosen: None }, search(filter))
}

fn heavy() -> String {
    vec!["a = 1"; 1_001].join(" OR ")
}

fn answered() -> Response {
    let page = Page { node: id("a"), shards: all(), body: Bytes::from_static(b"{}") };
    let missing = ShardSet::empty(SHARDS);
    Response { pages: vec![page], failed: Vec::new(), missing }
}

fn failed(failure: NodeFailure) -> Response {
    failed_at("a", failure)
}

fn failed_at(node: &str, failure: NodeFailure) -> Response {
    let failed = Failed { node: id(node), shards: all(), error: Error::node(&id(node), failure) };
    Response { pages: Vec::new(), failed: vec![failed], missing: ShardSet::empty(SHARDS) }
}

struct World {
    service: Spawned<Request>,
    inner: MockHandle<Request>,
}

impl World {
    fn new() -> Self {
        Self::of(layer())
    }

    fn of(layer: QueryQuarantineLayer) -> Self {
        let (service, inner) = layered(layer);
        Self { service, inner }
    }

    /// Asks, and has the node answer so after a while. The code of the error, if it is one.
    async fn ask(&mut self, filter: &str, after: Duration, answer: Response) -> Option<String> {
        let call = self.service.spawn_call(cover(filter));
        let exchange = self.inner.next_request().await;
        advance(after).await;
        exchange.respond(answer);
        code(&call.await)
    }

    /// Asks what must be refused without a call to a node.
    async fn refused(&mut self, filter: &str) -> String {
        let answer = self.service.call(cover(filter)).await;
        self.inner.assert_idle().await;
        code(&answer).expect("a refusal")
    }
}

fn code(answer: &Result<Response, Error>) -> Option<String> {
    match answer.as_ref().err()?.kind() {
        ErrorKind::Api(error) => Some(error.code.to_string()),
        other => Some(format!("{other:?}")),
    }
}

const QUARANTINED: &str = "miroir_query_quarantined";
const SOON: Duration = Duration::from_millis(20);

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    let write = || asking(Target::Exactly(id("a")), search("a = 1"));
    contract(layer(), write).await;
    readiness(&layer(), || cover("a = 1")).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_in_flight_when_a_node_was_stopped_is_asked_once_more() {
    let mut world = World::new();
    assert_eq!(world.ask("a = 1", SOON, failed(NodeFailure::Reset)).await, None);
    assert_eq!(world.ask("a = 1", SOON, answered()).await, None);
    // The answer cleared it: it may be in flight when the next one is stopped.
    assert_eq!(world.ask("a = 1", SOON, failed(NodeFailure::Body)).await, None);
    // A node that breaks off all the time says nothing of it.
    assert_eq!(world.ask("a = 1", SOON, failed(NodeFailure::Reset)).await, None);
    // Another node is no accident. The failure never gets to failover.
    let code = world.ask("a = 1", SOON, failed_at("b", NodeFailure::Reset)).await;
    assert_eq!(code.as_deref(), Some(QUARANTINED));
    assert_eq!(world.refused("a = 1").await, QUARANTINED);
    // Others are not concerned.
    assert_eq!(world.ask("a = 2", SOON, answered()).await, None);
    advance(Duration::from_secs(61)).await;
    assert_eq!(world.ask("a = 1", SOON, answered()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_heavy_or_long_question_breaks_one_node_and_no_second() {
    for (filter, after, failure) in [
        (heavy(), SOON, NodeFailure::Reset),
        (heavy(), SOON, NodeFailure::Timeout),
        ("a = 1".to_owned(), Duration::from_secs(2), NodeFailure::Reset),
        ("a = 1".to_owned(), Duration::from_secs(2), NodeFailure::Body),
    ] {
        let mut world = World::new();
        let code = world.ask(&filter, after, failed(failure)).await;
        assert_eq!(code.as_deref(), Some(QUARANTINED), "{failure}");
        assert_eq!(world.refused(&filter).await, QUARANTINED);
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_pod_finds_no_other_asks() {
    let (stores, stop) = (memory::open(), CancellationToken::new());
    let mut pods = [(); 2].map(|()| {
        let quarantine = Quarantine::new(QueryQuarantineOptions::default(), &stores);
        tokio::spawn(Arc::clone(&quarantine).follow(stop.clone()));
        World::of(QueryQuarantineLayer::new(Arc::default(), quarantine))
    });
    tokio::task::yield_now().await;
    let [one, other] = &mut pods;
    let code = one.ask(&heavy(), SOON, failed(NodeFailure::Reset)).await;
    assert_eq!(code.as_deref(), Some(QUARANTINED));
    assert_eq!(other.refused(&heavy()).await, QUARANTINED);
    // Points count together: the second node is the last, whoever asked it.
    assert_eq!(one.ask("a = 1", SOON, failed(NodeFailure::Reset)).await, None);
    let code = other.ask("a = 1", SOON, failed_at("b", NodeFailure::Reset)).await;
    assert_eq!(code.as_deref(), Some(QUARANTINED));
    assert_eq!(one.refused("a = 1").await, QUARANTINED);
    // A pod that ends hears no more.
    stop.cancel();
    tokio::task::yield_now().await;
    assert_eq!(
        one.ask("a = 2", Duration::from_secs(2), failed(NodeFailure::Body)).await.as_deref(),
        Some(QUARANTINED)
    );
    assert_eq!(other.ask("a = 2", SOON, answered()).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_about_the_question_counts_nothing() {
    let mut world = World::new();
    for failure in [NodeFailure::Connect, NodeFailure::Overloaded, NodeFailure::Timeout] {
        for _ in 0..3 {
            let code = world.ask("a = 1", Duration::from_secs(5), failed(failure)).await;
            assert_eq!(code, None, "{failure}");
        }
    }
    // A call that fails as a whole counts as one whose part failed.
    for (node, expected) in [("a", "NodeFailed(Reset)"), ("b", QUARANTINED)] {
        let call = world.service.spawn_call(cover("a = 1"));
        world.inner.next_request().await.fail(Error::node(&id(node), NodeFailure::Reset));
        assert_eq!(code(&call.await).as_deref(), Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn workers_writes_and_documents_by_id_always_pass() {
    let mut world = World::new();
    let plain = Question::Plain(Arc::new(Call::get("document", "/indexes/a/documents/1")));
    let shards = Target::Cover { shards: all(), avoid: vec![], chosen: None };
    let mut worker = cover("a = 1");
    worker.cx.class = Class::Background;
    let write = asking(Target::Exactly(id("a")), search("a = 1"));
    for request in [worker, write, asking(shards, plain)] {
        for _ in 0..4 {
            let call = world.service.spawn_call(request.clone());
            world.inner.next_request().await.respond(failed(NodeFailure::Reset));
            assert_eq!(code(&call.await), None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_explanation_warns_and_is_refused_only_if_nodes_are_asked() {
    let mut world = World::new();
    world.ask(&heavy(), SOON, failed(NodeFailure::Reset)).await;
    for executes in [false, true] {
        let explain = Explain::new(executes);
        let mut request = cover(&heavy());
        request.cx.explain = Some(Arc::clone(&explain));
        let call = world.service.spawn_call(request);
        if !executes {
            world.inner.next_request().await.respond(answered());
        }
        assert_eq!(code(&call.await).is_some(), executes);
        world.inner.assert_idle().await;
        let record = explain.record();
        let text = &record.warnings.first().expect("a warning").text;
        assert!(text.contains("not asked again for 60 s"), "{text}");
    }
}

/// A hundred clients ask what ends a node: with failover and hedges around it, one node is asked.
#[tokio::test(start_paused = true)]
async fn failover_does_not_carry_it_on() {
    let layers = Stack::<Request>::new()
        .push(HedgeLayer::new(Arc::default(), HedgeOptions::default()))
        .push(FailoverLayer::default())
        .push(layer());
    let (inner, mut handle) = mock();
    let mut service = Spawned::new(layers.build(inner).unwrap());
    let chosen = Leaf { node: id("a"), shards: all(), exact: false };
    let target = Target::Cover { shards: all(), avoid: vec![], chosen: Some(chosen) };
    let poison = || asking(target.clone(), search(&heavy()));
    let call = service.spawn_call(poison());
    handle.next_request().await.respond(failed(NodeFailure::Reset));
    assert_eq!(code(&call.await).as_deref(), Some(QUARANTINED));
    for _ in 0..100 {
        let answer = service.call(poison()).await;
        assert_eq!(code(&answer).as_deref(), Some(QUARANTINED));
    }
    handle.assert_idle().await;
}
