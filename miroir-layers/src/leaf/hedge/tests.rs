//! Tests, with mocks and paused time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use miroir_api::{GroupId, NodeId};
use miroir_core::routing::ShardSet;
use miroir_core::view::Route;
use miroir_pipeline::context::{Class, Context, Origin};
use miroir_pipeline::leaf::{Failed, Page, Question, Request, Response, Target};
use miroir_pipeline::node::{Call, Scores};
use miroir_pipeline::{Error, Fault, NodeFailure};
use miroir_test::contract::{cancellation, contract, readiness};
use miroir_test::layered;
use miroir_test::mock::{Exchange, MockHandle};
use tokio::time::{Instant, sleep};

use super::*;
use crate::fixtures::{entry, topology};

const SHARDS: u32 = 16;
/// What calls take as a rule, and so about what is waited: 10 ms, 1.2 times, 19 % at most on top.
const USUAL: Duration = Duration::from_millis(10);
const SOON: Duration = Duration::from_millis(11);
const PATIENCE: Duration = Duration::from_millis(16);

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn request(target: Target, copies: u32) -> Request {
    Request::new(
        target,
        Question::Plain(Arc::new(Call::get("search", "/indexes/a/search"))),
        Arc::new(entry("a", SHARDS)),
        Arc::new(topology(3, copies)),
        Arc::default(),
        Route::in_turn(vec![GroupId(0)], 0),
        Context::client("1", Duration::from_secs(10)),
    )
}

fn read(copies: u32) -> Request {
    let shards = ShardSet::full(SHARDS);
    request(Target::Cover { shards, avoid: Vec::new(), chosen: None }, copies)
}

fn write() -> Request {
    request(Target::Exactly(id("a")), 2)
}

/// Figures of nodes that always took as long.
fn scores(figures: &[(&str, Duration)]) -> Arc<Scores> {
    let scores = Scores::default();
    for (node, latency) in figures {
        for _ in 0..50 {
            scores.node(&id(node)).answered(*latency, Instant::now());
        }
    }
    Arc::new(scores)
}

fn usual() -> Arc<Scores> {
    scores(&[("a", USUAL), ("b", USUAL), ("c", USUAL)])
}

fn options() -> HedgeOptions {
    HedgeOptions { min_trigger: Duration::ZERO, ..HedgeOptions::default() }
}

fn layer() -> HedgeLayer {
    HedgeLayer::new(usual(), options())
}

/// What a part wants: its shards, without whom, and the node chosen for it.
fn wanted(exchange: &Exchange<Request>) -> (ShardSet, Vec<NodeId>, Option<NodeId>) {
    match exchange.request().target.clone() {
        Target::Cover { shards, avoid, chosen } => {
            if let Some(leaf) = &chosen {
                assert_eq!(leaf.shards, shards);
            }
            (shards, avoid, chosen.map(|leaf| leaf.node))
        }
        Target::Exactly(node) => panic!("asked {node} and nobody else"),
    }
}

fn page(node: &str, shards: &ShardSet) -> Response {
    let page = Page { node: id(node), shards: shards.clone(), body: Bytes::new() };
    Response { pages: vec![page], failed: Vec::new(), missing: ShardSet::empty(SHARDS) }
}

fn failure(shards: &ShardSet) -> Response {
    let error = Error::node(&id("z"), NodeFailure::Connect);
    Response {
        pages: Vec::new(),
        failed: vec![Failed { node: id("z"), shards: shards.clone(), error }],
        missing: ShardSet::empty(SHARDS),
    }
}

/// Answers all parts but one, which is returned.
async fn all_but_one(inner: &mut MockHandle<Request>) -> Exchange<Request> {
    let slow = inner.next_request().await;
    tokio::task::yield_now().await;
    while let Some(other) = inner.try_next_request() {
        let (shards, _, _) = wanted(&other);
        other.respond(page("quick", &shards));
    }
    slow
}

/// Who answered, and that every shard was answered once.
fn answered(response: &Response) -> Vec<&str> {
    let mut all = ShardSet::empty(SHARDS);
    for page in &response.pages {
        assert!(all.intersection(&page.shards).is_empty(), "a shard is answered twice");
        all.union_with(&page.shards);
    }
    assert_eq!(all, ShardSet::full(SHARDS));
    let mut nodes: Vec<&str> = response.pages.iter().map(|page| page.node.as_str()).collect();
    nodes.dedup();
    nodes
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    contract(layer(), write).await;
    readiness(&layer(), || read(2)).await;
    cancellation(&layer(), || read(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_nodes_shards_are_asked_of_others_and_the_first_answer_is_taken() {
    let (mut service, mut inner) = layered(layer());
    let start = Instant::now();
    let call = service.spawn_call(read(2));
    let mut slow = all_but_one(&mut inner).await;
    let (shards, avoid, node) = wanted(&slow);
    assert!(avoid.is_empty());
    let hedge = inner.next_request().await;
    assert!((SOON..PATIENCE).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(wanted(&hedge), (shards.clone(), vec![node.unwrap()], None));
    hedge.respond(page("hedge", &shards));
    assert!(answered(&call.await.unwrap()).contains(&"hedge"));
    slow.cancelled().await;
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_call_may_still_win() {
    let (mut service, mut inner) = layered(layer());
    let call = service.spawn_call(read(2));
    let slow = all_but_one(&mut inner).await;
    let (shards, ..) = wanted(&slow);
    let mut hedge = inner.next_request().await;
    slow.respond(page("slow", &shards));
    assert!(answered(&call.await.unwrap()).contains(&"slow"));
    hedge.cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_is_not_hedged() {
    let (mut service, mut inner) = layered(layer());
    let call = service.spawn_call(read(2));
    let slow = all_but_one(&mut inner).await;
    sleep(SOON).await;
    let (shards, ..) = wanted(&slow);
    slow.respond(page("slow", &shards));
    answered(&call.await.unwrap());
    sleep(Duration::from_secs(1)).await;
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_answer_does_not_beat_one_that_is_still_to_come() {
    for hedge_fails in [true, false] {
        let (mut service, mut inner) = layered(layer());
        let call = service.spawn_call(read(2));
        let slow = all_but_one(&mut inner).await;
        let (shards, ..) = wanted(&slow);
        let hedge = inner.next_request().await;
        let (fails, answers) = if hedge_fails { (hedge, slow) } else { (slow, hedge) };
        fails.respond(failure(&shards));
        sleep(Duration::from_secs(1)).await;
        answers.respond(page("late", &shards));
        assert!(answered(&call.await.unwrap()).contains(&"late"));
    }
    // Both fail: what the first one said counts.
    let (mut service, mut inner) = layered(layer());
    let call = service.spawn_call(read(2));
    let slow = all_but_one(&mut inner).await;
    let (shards, _, node) = wanted(&slow);
    let hedge = inner.next_request().await;
    hedge.respond(failure(&shards));
    slow.fail(Error::node(&node.clone().unwrap(), NodeFailure::Reset));
    let failed = call.await.unwrap().failed;
    assert_eq!(failed.len(), 1);
    assert_eq!((&failed[0].node, &failed[0].shards), (&node.unwrap(), &shards));
}

#[tokio::test(start_paused = true)]
async fn what_the_client_did_wrong_is_said_at_once() {
    let (mut service, mut inner) = layered(layer());
    let call = service.spawn_call(read(2));
    let slow = all_but_one(&mut inner).await;
    let mut hedge = inner.next_request().await;
    slow.fail(Error::api("invalid_search_filter", "no"));
    assert_eq!(*call.await.unwrap_err().fault(), Fault::Client);
    hedge.cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn without_figures_or_without_another_replica_there_is_no_hedge() {
    for (scores, copies) in [(Arc::new(Scores::default()), 2), (usual(), 1)] {
        let (mut service, mut inner) = layered(HedgeLayer::new(scores, options()));
        let call = service.spawn_call(read(copies));
        let slow = all_but_one(&mut inner).await;
        sleep(Duration::from_secs(5)).await;
        inner.assert_idle().await;
        let (shards, ..) = wanted(&slow);
        slow.respond(page("slow", &shards));
        answered(&call.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_has_only_so_many() {
    let layer = HedgeLayer::new(usual(), HedgeOptions { max_hedges_per_query: 1, ..options() });
    let (mut service, mut inner) = layered(layer);
    let call = service.spawn_call(read(2));
    let first = inner.next_request().await;
    let second = inner.next_request().await;
    sleep(Duration::from_secs(1)).await;
    let hedge = inner.next_request().await;
    inner.assert_idle().await;
    for (name, part) in [("first", first), ("second", second), ("hedge", hedge)] {
        let (shards, ..) = wanted(&part);
        part.respond(page(name, &shards));
    }
    answered(&call.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_probed_is_waited_for_half_as_long() {
    let options = HedgeOptions { min_trigger: Duration::from_secs(1), ..options() };
    let (mut service, mut inner) = layered(HedgeLayer::new(usual(), options));
    let mut probe = read(2);
    probe.route.probed = vec![id("a"), id("b"), id("c")];
    let start = Instant::now();
    let call = service.spawn_call(probe);
    let slow = all_but_one(&mut inner).await;
    let (shards, ..) = wanted(&slow);
    let hedge = inner.next_request().await;
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    hedge.respond(page("hedge", &shards));
    answered(&call.await.unwrap());
}

/// Every search needs two of three nodes; a hedge of one asks both others.
#[tokio::test(start_paused = true)]
async fn a_hedge_costs_as_many_calls_as_it_makes() {
    let options = HedgeOptions { burst: 3, budget_percent: 0, ..options() };
    let (mut service, mut inner) = layered(HedgeLayer::new(usual(), options));
    let mut hedges = 0;
    for _ in 0..3 {
        let call = service.spawn_call(read(2));
        let slow = all_but_one(&mut inner).await;
        sleep(Duration::from_millis(50)).await;
        while let Some(hedge) = inner.try_next_request() {
            let (shards, avoid, chosen) = wanted(&hedge);
            assert_eq!((avoid.len(), chosen), (1, None));
            hedges += 1;
            hedge.respond(page("hedge", &shards));
        }
        let (shards, ..) = wanted(&slow);
        slow.respond(page("slow", &shards));
        answered(&call.await.unwrap());
    }
    assert_eq!(hedges, 1, "two calls each, out of three");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_late_itself_is_not_asked_instead() {
    let scores = usual();
    let (mut service, mut inner) = layered(HedgeLayer::new(Arc::clone(&scores), options()));
    let late = [scores.node(&id("a")).overdue(), scores.node(&id("b")).overdue()];
    let call = service.spawn_call(read(2));
    let slow = all_but_one(&mut inner).await;
    sleep(Duration::from_secs(1)).await;
    inner.assert_idle().await;
    drop(late);
    let (shards, ..) = wanted(&slow);
    slow.respond(page("slow", &shards));
    answered(&call.await.unwrap());
    // Half of its callers: fewer do not count.
    let node = scores.node(&id("a"));
    let _late = node.overdue();
    let _calls = [node.begin(), node.begin()];
    assert!(node.is_late());
    let _one_more = node.begin();
    assert!(!node.is_late());
}

#[tokio::test(start_paused = true)]
async fn hedges_come_out_of_a_budget() {
    let options = HedgeOptions { burst: 2, budget_percent: 5, ..options() };
    let (mut service, mut inner) = layered(HedgeLayer::new(usual(), options));
    let mut hedges = 0;
    let mut parts = 0;
    for _ in 0..100 {
        let call = service.spawn_call(read(2));
        sleep(Duration::from_millis(50)).await;
        while let Some(part) = inner.try_next_request() {
            let (shards, _, chosen) = wanted(&part);
            hedges += u32::from(chosen.is_none());
            parts += u32::from(chosen.is_some());
            part.respond(page("n", &shards));
        }
        call.await.unwrap();
    }
    // One or two calls each.
    let most = 2 + parts * 5 / 100;
    assert!((most / 2 - 1..=most).contains(&hedges), "{hedges} of {parts}");
}

#[tokio::test(start_paused = true)]
async fn work_that_nobody_waits_for_passes() {
    let (mut service, mut inner) = layered(layer());
    let mut background = read(2);
    background.cx = Context::internal(Origin::Repair, Duration::from_secs(10));
    assert_eq!(background.cx.class, Class::Background);
    let call = service.spawn_call(background);
    let exchange = inner.next_request().await;
    assert_eq!(wanted(&exchange), (ShardSet::full(SHARDS), Vec::new(), None));
    sleep(Duration::from_secs(5)).await;
    inner.assert_idle().await;
    exchange.fail(Error::node(&id("a"), NodeFailure::Timeout));
    let error = call.await.unwrap_err();
    assert_eq!(error.node_failure(), Some(NodeFailure::Timeout));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_became_slow_is_judged_by_the_others() {
    let slow = Duration::from_millis(500);
    let scores = scores(&[("a", slow), ("b", USUAL), ("c", USUAL)]);
    let of = |node: &str| scores.patience(&id(node), 95).unwrap();
    assert_eq!(of("a"), of("b"));
    assert!((USUAL..PATIENCE).contains(&of("a")));
    assert_eq!(scores.patience(&id("unknown"), 95), None);
}
