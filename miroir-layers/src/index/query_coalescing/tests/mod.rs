//! Tests, with mocks and paused time.

mod loom;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use miroir_api::{GroupId, NodeId};
use miroir_core::hints::Priority;
use miroir_core::topology::Topology;
use miroir_pipeline::context::{Class, Context};
use miroir_pipeline::deadline::Deadline;
use miroir_pipeline::error::ErrorKind;
use miroir_pipeline::extension::{AnswerKey, Extension};
use miroir_pipeline::index::scatter::{MinSettingsVersion, OverFetch};
use miroir_pipeline::index::{Deletion, Operation, Request, Response, Write};
use miroir_pipeline::meta::Meta;
use miroir_pipeline::query::{ClientRequest, FetchOne, List, RawObject, Search, SearchKind};
use miroir_pipeline::{Error, NodeFailure};
use miroir_test::contract::contract;
use miroir_test::layered;
use miroir_test::mock::{Exchange, MockHandle, Spawned};
use tokio::time::sleep;

use super::*;
use crate::fixtures::{entry, topology};

/// What everything is judged by, shared as it is between requests of one moment.
struct World {
    index: Arc<miroir_store::IndexEntry>,
    topology: Arc<Topology>,
    stale: Arc<miroir_core::view::StaleMap>,
}

impl World {
    fn new() -> Self {
        let (index, topology) = (Arc::new(entry("a", 4)), Arc::new(topology(2, 1)));
        Self { index, topology, stale: Arc::default() }
    }

    fn request(&self, op: Operation, body: &str) -> Request {
        let original = ClientRequest {
            method: http::Method::POST,
            path: "/search".into(),
            query: None,
            body: Bytes::from(body.to_owned()),
            content_type: None,
            metadata: false,
        };
        Request::new(
            op,
            Arc::new(original),
            Arc::clone(&self.index),
            Arc::clone(&self.topology),
            Arc::clone(&self.stale),
            Context::client("1", Duration::from_secs(10)),
        )
    }

    fn search(&self, body: &str) -> Request {
        let object = RawObject::parse(body.as_bytes());
        let search = Search { kind: SearchKind::Hits, body: object, rules: None };
        self.request(Operation::Search(Arc::new(search)), body)
    }

    fn shoes(&self) -> Request {
        self.search("{\"q\":\"shoes\"}")
    }

    fn write(&self) -> Request {
        let write = Write::Delete(Deletion::All);
        self.request(Operation::Write { write, custom_metadata: None }, "")
    }
}

fn answer(text: &str) -> Response {
    let body = Bytes::from(text.to_owned());
    Response { status: http::StatusCode::OK, body, meta: Meta::default() }
}

fn node_error() -> Error {
    Error::node(&NodeId::new("a").unwrap(), NodeFailure::Timeout)
}

type Service = Spawned<Request>;
type Inner = MockHandle<Request>;

fn layer() -> (Service, Inner) {
    layered(QueryCoalescingLayer::default())
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    let world = World::new();
    contract(QueryCoalescingLayer::default(), || world.write()).await;
    contract(QueryCoalescingLayer::default(), || world.shoes()).await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_identical_searches_are_one_scatter() {
    let world = World::new();
    let (mut service, mut inner) = layer();
    let calls: Vec<_> = (0..1000).map(|_| service.spawn_call(world.shoes())).collect();
    let exchange = inner.next_request().await;
    inner.assert_idle().await;
    exchange.respond(answer("hits"));
    for call in calls {
        assert_eq!(call.await.unwrap().body, "hits");
    }
    inner.assert_idle().await;
    // Nothing is cached.
    let call = service.spawn_call(world.shoes());
    inner.next_request().await.respond(answer("other hits"));
    assert_eq!(call.await.unwrap().body, "other hits");
}

#[tokio::test(start_paused = true)]
async fn each_of_several_that_share_an_answer_gets_uids_of_its_own() {
    let world = World::new();
    let (mut service, mut inner) = layer();
    let calls = [(); 2].map(|()| service.spawn_call(world.shoes()));
    let exchange = inner.next_request().await;
    inner.assert_idle().await;
    let uid = "01890a5d-ac96-774b-bcce-b302099a8057";
    let mut response = answer(&format!("{{\"requestUid\":\"{uid}\"}}"));
    response.meta.uids = vec![uid.parse().unwrap()];
    exchange.respond(response);
    let [first, second] = calls;
    let (first, second) = (first.await.unwrap().body, second.await.unwrap().body);
    assert_ne!(first, second);
    assert_eq!(first.len(), second.len());
}

/// What a layer of somebody else leaves in the context.
#[derive(Debug)]
struct Tag(AnswerKey);

impl Extension for Tag {
    fn answer_key(&self) -> AnswerKey {
        self.0.clone()
    }
}

/// What comes out once everybody has had their turn.
async fn settled(inner: &mut Inner) -> Option<Exchange<Request>> {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
    inner.try_next_request()
}

/// Whether a second request joins a first one that is in flight.
async fn joins(first: Request, second: Request) -> bool {
    let (mut service, mut inner) = layer();
    let first = service.spawn_call(first);
    let exchange = inner.next_request().await;
    let second = service.spawn_call(second);
    let other = settled(&mut inner).await;
    let joined = other.is_none();
    exchange.respond(answer("first"));
    if let Some(other) = other {
        other.respond(answer("second"));
    }
    assert_eq!(first.await.unwrap().body, "first");
    assert_eq!(second.await.unwrap().body, if joined { "first" } else { "second" });
    joined
}

#[tokio::test(start_paused = true)]
async fn only_the_same_question_is_shared() {
    let world = World::new();
    assert!(joins(world.shoes(), world.shoes()).await);
    let (a, b) = ("{\"q\":\"a\",\"limit\":1}", "{ \"limit\":1, \"q\":\"a\" }");
    assert!(joins(world.search(a), world.search(b)).await);
    let fetch = |id: &str, query: Option<&str>| {
        let fetch = FetchOne { id: id.to_owned(), query: query.map(str::to_owned) };
        world.request(Operation::FetchOne(Arc::new(fetch)), "")
    };
    assert!(joins(fetch("1", Some("fields=a")), fetch("1", Some("fields=a"))).await);
    assert!(!joins(fetch("1", None), fetch("2", None)).await);
    assert!(!joins(fetch("1", None), fetch("1", Some("fields=a"))).await);
    let list = |json: &str| {
        let list = List { body: RawObject::parse(json.as_bytes()) };
        world.request(Operation::List(Arc::new(list)), json)
    };
    assert!(joins(list("{\"limit\":1}"), list("{\"limit\":1}")).await);
    assert!(!joins(list("{\"limit\":1}"), list("{\"limit\":2}")).await);
    // Bodies that cannot be read are told apart by nobody.
    assert!(!joins(world.search("nothing"), world.search("nothing")).await);
    assert!(!joins(world.write(), world.write()).await);

    let changes: &[(&str, fn(&mut Request))] = &[
        ("kind", |r| {
            let Operation::Search(search) = &mut r.op else { return };
            Arc::make_mut(search).kind = SearchKind::FacetValues;
        }),
        ("body", |r| {
            let Operation::Search(search) = &mut r.op else { return };
            Arc::make_mut(search).body.as_mut().unwrap().set("filter", &"tenant = 2");
        }),
        ("index", |r| Arc::make_mut(&mut r.index).physical = "b".to_owned()),
        ("settings", |r| Arc::make_mut(&mut r.index).settings_version = 2),
        // A task that ended touches the entry.
        ("task", |r| Arc::make_mut(&mut r.index).version = 2),
        ("topology", |r| r.topology = Arc::new(topology(2, 1))),
        ("stale", |r| r.stale = Arc::default()),
        ("avoid", |r| r.hints.avoid.push(NodeId::new("a").unwrap())),
        ("group", |r| r.hints.group(GroupId(0), "tenant_affinity", Priority::Prefer)),
        ("floor", |r| r.cx.insert(MinSettingsVersion(1))),
        ("over-fetch", |r| r.cx.insert(OverFetch(2))),
        ("metadata", |r| Arc::make_mut(&mut r.original).metadata = true),
        ("class", |r| r.cx.class = Class::Background),
    ];
    for (what, change) in changes {
        let mut other = world.shoes();
        change(&mut other);
        assert!(!joins(world.shoes(), other.clone()).await, "{what}");
        assert_eq!(joins(other.clone(), other).await, *what != "class", "{what}");
    }
    let mut pinned = world.shoes();
    pinned.hints.group(GroupId(0), "session_pinning", Priority::Must);
    assert!(!joins(pinned.clone(), pinned).await);
    // Layers of somebody else say themselves whether they change the answer.
    let with = |tag| {
        let mut request = world.shoes();
        request.cx.insert(tag);
        request
    };
    assert!(joins(with(Tag(AnswerKey::Irrelevant)), world.shoes()).await);
    let french = || with(Tag(AnswerKey::Part(b"language:fr".to_vec())));
    assert!(joins(french(), french()).await);
    assert!(!joins(french(), world.shoes()).await);
    assert!(!joins(with(Tag(AnswerKey::Unshared)), with(Tag(AnswerKey::Unshared))).await);
    // Who asks, and when they give up, is nobody's business.
    let mut other = world.shoes();
    other.cx.request_id = "2".into();
    other.cx.principal = miroir_pipeline::context::Principal::MasterKey;
    other.cx.deadline = Deadline::after(Duration::from_secs(3));
    assert!(joins(world.shoes(), other).await);
}

#[tokio::test(start_paused = true)]
async fn nobody_joins_after_the_window() {
    let world = World::new();
    let (mut service, mut inner) = layer();
    let first = service.spawn_call(world.shoes());
    let old = inner.next_request().await;
    sleep(Duration::from_millis(50)).await;
    let second = service.spawn_call(world.shoes());
    inner.assert_idle().await;
    sleep(Duration::from_millis(1)).await;
    let third = service.spawn_call(world.shoes());
    let new = inner.next_request().await;
    // Those who come now join the newer one.
    let fourth = service.spawn_call(world.shoes());
    inner.assert_idle().await;
    old.respond(answer("old"));
    assert_eq!(first.await.unwrap().body, "old");
    assert_eq!(second.await.unwrap().body, "old");
    let fifth = service.spawn_call(world.shoes());
    inner.assert_idle().await;
    new.respond(answer("new"));
    for call in [third, fourth, fifth] {
        assert_eq!(call.await.unwrap().body, "new");
    }
}

#[tokio::test(start_paused = true)]
async fn subscribers_and_flights_are_bounded() {
    let world = World::new();
    let options = QueryCoalescingOptions {
        max_subscribers: 2,
        max_pending_queries: 2,
        ..QueryCoalescingOptions::default()
    };
    let (mut service, mut inner) = layered(QueryCoalescingLayer::new(options));
    let calls: Vec<_> = (0..5).map(|_| service.spawn_call(world.shoes())).collect();
    // A leader with two followers, and another one with one.
    let first = inner.next_request().await;
    let second = inner.next_request().await;
    inner.assert_idle().await;
    let other = service.spawn_call(world.search("{\"q\":\"hats\"}"));
    let hats = inner.next_request().await;
    // No room for a third question: everybody asks.
    let alone = [(); 2].map(|()| service.spawn_call(world.search("{\"q\":\"coats\"}")));
    for _ in 0..2 {
        inner.next_request().await.respond(answer("coats"));
    }
    for call in alone {
        assert_eq!(call.await.unwrap().body, "coats");
    }
    for exchange in [first, second, hats] {
        exchange.respond(answer("hits"));
    }
    for call in calls {
        assert_eq!(call.await.unwrap().body, "hits");
    }
    other.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_goes_hands_over() {
    let world = World::new();
    let (mut service, mut inner) = layer();
    let leader = service.spawn_call(world.shoes());
    let mut exchange = inner.next_request().await;
    let calls: Vec<_> = (0..10).map(|_| service.spawn_call(world.shoes())).collect();
    inner.assert_idle().await;
    drop(leader);
    exchange.cancelled().await;
    let exchange = inner.next_request().await;
    inner.assert_idle().await;
    exchange.respond(answer("hits"));
    for call in calls {
        assert_eq!(call.await.unwrap().body, "hits");
    }
}

/// The window is that of the new leader's scatter, which is younger than everybody who waits.
#[tokio::test(start_paused = true)]
async fn a_new_leader_begins_anew() {
    let world = World::new();
    let (mut service, mut inner) = layer();
    let leader = service.spawn_call(world.shoes());
    let old = inner.next_request().await;
    let follower = service.spawn_call(world.shoes());
    inner.assert_idle().await;
    sleep(Duration::from_millis(200)).await;
    drop(leader);
    let exchange = inner.next_request().await;
    drop(old);
    sleep(Duration::from_millis(50)).await;
    let joins = service.spawn_call(world.shoes());
    inner.assert_idle().await;
    exchange.respond(answer("hits"));
    assert_eq!(follower.await.unwrap().body, "hits");
    assert_eq!(joins.await.unwrap().body, "hits");
}

#[tokio::test(start_paused = true)]
async fn one_failure_is_the_leaders_and_two_are_everybodys() {
    let world = World::new();
    for failures in [1, 2] {
        let (mut service, mut inner) = layer();
        let calls: Vec<_> = (0..10).map(|_| service.spawn_call(world.shoes())).collect();
        for _ in 0..failures {
            inner.next_request().await.fail(node_error());
        }
        if failures == 1 {
            inner.next_request().await.respond(answer("hits"));
        }
        let mut failed = 0;
        for call in calls {
            match call.await {
                Ok(answer) => assert_eq!(answer.body, "hits"),
                Err(error) => {
                    assert_eq!(error.node_failure(), Some(NodeFailure::Timeout));
                    failed += 1;
                }
            }
        }
        inner.assert_idle().await;
        assert_eq!(failed, if failures == 1 { 1 } else { 10 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_complaint_is_told_to_who_asked_the_same_in_the_same_words() {
    let world = World::new();
    let (mut service, mut inner) = layer();
    let body = "{\"q\":\"a\",\"limit\":1}";
    let same = [(); 2].map(|()| service.spawn_call(world.search(body)));
    let exchange = inner.next_request().await;
    let other = service.spawn_call(world.search("{\"limit\":1,\"q\":\"a\"}"));
    inner.assert_idle().await;
    exchange.fail(Error::api("invalid_search_filter", "first"));
    for call in same {
        let body = call.await.unwrap_err().render().1.unwrap();
        assert!(std::str::from_utf8(&body).unwrap().contains("first"));
    }
    inner.next_request().await.fail(Error::api("invalid_search_filter", "second"));
    let body = other.await.unwrap_err().render().1.unwrap();
    assert!(std::str::from_utf8(&body).unwrap().contains("second"));
}

#[tokio::test(start_paused = true)]
async fn who_waits_gives_up_at_its_own_deadline() {
    let world = World::new();
    let (mut service, mut inner) = layer();
    let leader = service.spawn_call(world.shoes());
    let exchange = inner.next_request().await;
    let mut hasty = world.shoes();
    hasty.cx.deadline = Deadline::after(Duration::from_millis(30));
    let hasty = service.spawn_call(hasty);
    let error = hasty.await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::DeadlineExceeded));
    exchange.respond(answer("hits"));
    assert_eq!(leader.await.unwrap().body, "hits");
}

#[test]
fn metrics_tell_what_was_shared() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    metrics::with_local_recorder(&recorder, || {
        runtime.unwrap().block_on(async {
            let world = World::new();
            let (mut service, mut inner) = layer();
            let calls: Vec<_> = (0..5).map(|_| service.spawn_call(world.shoes())).collect();
            inner.next_request().await.fail(node_error());
            inner.next_request().await.respond(answer("hits"));
            for call in calls {
                let _ = call.await;
            }
        });
    });
    let text = handle.render();
    // The second leader joined, and asked in the end.
    assert!(text.contains("miroir_query_coalesce_subscribers_total 4"), "{text}");
    assert!(text.contains("miroir_query_coalesce_hits_total 3"), "{text}");
}
