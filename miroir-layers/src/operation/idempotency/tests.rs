//! Tests, with mocks and paused time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use miroir_api::TaskUid;
use miroir_api::meili::TaskKind;
use miroir_core::keys::{ApiKey, MasterKey};
use miroir_pipeline::Error;
use miroir_pipeline::context::{Context, Principal};
use miroir_pipeline::keyring::Keyring;
use miroir_pipeline::operation::{KeyOp, Operation, Request, Response, Write};
use miroir_pipeline::query::ClientRequest;
use miroir_store::clock;
use miroir_store::records::{Began, Kept};
use miroir_store::{NewTask, Stores, memory};
use miroir_test::contract::contract;
use miroir_test::mock::{MockHandle, Spawned};
use miroir_test::{layered, mock};

use miroir_pipeline::index::scatter::OverFetch;

use super::*;

fn write(key: Option<&str>, body: &'static str) -> Request {
    let original = ClientRequest {
        method: http::Method::POST,
        path: "/documents".into(),
        query: None,
        body: Bytes::from_static(body.as_bytes()),
        content_type: Some("application/json".into()),
        metadata: false,
    };
    let mut cx = Context::client("1", Duration::from_secs(30));
    cx.principal = Principal::MasterKey;
    if let Some(key) = key {
        cx.insert(IdempotencyKey(Arc::from(key)));
    }
    Request::new(Operation::Write { index: "a".into(), write: Write::Clear }, &[], original, cx)
}

fn read() -> Request {
    let search = Operation::Search { index: "a".into(), search: Arc::default() };
    let mut request = write(Some("k"), "");
    request.op = search;
    request
}

fn accepted(body: &'static str) -> Response {
    let body = Bytes::from_static(body.as_bytes());
    Response { status: StatusCode::ACCEPTED, body, meta: miroir_pipeline::meta::Meta::default() }
}

fn ring() -> Arc<Keyring> {
    Arc::new(Keyring::new(MasterKey::new("a master key of this test")))
}

fn layer(stores: &Stores) -> IdempotencyLayer {
    IdempotencyLayer::new(stores, ring(), IdempotencyOptions::default())
}

fn begin(stores: &Stores) -> (Spawned<Request>, MockHandle<Request>) {
    layered(layer(stores))
}

fn code(error: &Error) -> String {
    let (status, body) = error.render();
    let body: serde_json::Value = serde_json::from_slice(&body.unwrap()).unwrap();
    format!("{status} {}", body["code"].as_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    let stores = memory::open();
    contract(layer(&stores), || write(None, "")).await;
    contract(layer(&stores), read).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_sent_again_gets_the_first_answer() {
    let stores = memory::open();
    let (mut service, mut inner) = begin(&stores);
    let call = service.spawn_call(write(Some("k"), "[1]"));
    let exchange = inner.next_request().await;
    let carried = exchange.request().cx.task_key().unwrap();
    assert!(carried.ends_with(":k") && carried.len() > 20, "the caller is part of it: {carried}");
    exchange.respond(accepted("{\"taskUid\":7}"));
    let first = call.await.unwrap();
    assert!(!first.meta.has::<Replayed>());

    let again = service.call(write(Some("k"), "[1]")).await.unwrap();
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert!(again.meta.has::<Replayed>());
    // Another process, or this one after a restart.
    let (mut other, mut other_inner) = begin(&stores);
    let again = other.call(write(Some("k"), "[1]")).await.unwrap();
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert!(again.meta.has::<Replayed>());
    inner.assert_idle().await;
    other_inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_used_key_is_refused_for_something_else() {
    let stores = memory::open();
    let (mut service, mut inner) = begin(&stores);
    let call = service.spawn_call(write(Some("k"), "[1]"));
    let exchange = inner.next_request().await;
    let reused = "409 Conflict miroir_idempotency_key_reused";
    // While it is under way, after it, and in another process.
    assert_eq!(code(&service.call(write(Some("k"), "[2]")).await.unwrap_err()), reused);
    exchange.respond(accepted("{}"));
    call.await.unwrap();
    assert_eq!(code(&service.call(write(Some("k"), "[2]")).await.unwrap_err()), reused);
    let (mut other, mut other_inner) = begin(&stores);
    for _ in 0..2 {
        assert_eq!(code(&other.call(write(Some("k"), "[2]")).await.unwrap_err()), reused);
    }
    other_inner.assert_idle().await;
    // What came first is still known.
    assert!(other.call(write(Some("k"), "[1]")).await.unwrap().meta.has::<Replayed>());
    // So is the same body, where an extension says that it asks for something else.
    let mut request = write(Some("k"), "[1]");
    request.cx.insert(OverFetch(2));
    assert_eq!(code(&service.call(request).await.unwrap_err()), reused);
    // Another caller's key of that name is another key.
    let mut request = write(Some("k"), "[2]");
    request.cx.principal = Principal::Admin;
    let call = service.spawn_call(request);
    inner.next_request().await.respond(accepted("{}"));
    assert!(!call.await.unwrap().meta.has::<Replayed>());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_at_once_are_one() {
    let stores = memory::open();
    let (mut service, mut inner) = begin(&stores);
    let calls: Vec<_> = (0..1_000).map(|_| service.spawn_call(write(Some("k"), "[1]"))).collect();
    let exchange = inner.next_request().await;
    inner.assert_idle().await;
    exchange.respond(accepted("{\"taskUid\":7}"));
    let mut replayed = 0;
    for call in calls {
        let answer = call.await.unwrap();
        assert_eq!(answer.body, "{\"taskUid\":7}");
        replayed += u32::from(answer.meta.has::<Replayed>());
    }
    assert_eq!(replayed, 999);
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_goes_on_when_its_client_is_gone() {
    let stores = memory::open();
    let (mut service, mut inner) = begin(&stores);
    let call = service.spawn_call(write(Some("k"), "[1]"));
    let exchange = inner.next_request().await;
    drop(call);
    let again = service.spawn_call(write(Some("k"), "[1]"));
    inner.assert_idle().await;
    exchange.respond(accepted("{\"taskUid\":7}"));
    assert_eq!(again.await.unwrap().body, "{\"taskUid\":7}");
}

#[tokio::test(start_paused = true)]
async fn what_failed_can_be_tried_again() {
    let stores = memory::open();
    let (mut service, mut inner) = begin(&stores);
    for _ in 0..2 {
        let call = service.spawn_call(write(Some("k"), "[1]"));
        inner.next_request().await.fail(Error::overloaded());
        assert!(call.await.is_err());
    }
    let call = service.spawn_call(write(Some("k"), "[1]"));
    inner.next_request().await.respond(accepted("{}"));
    assert!(!call.await.unwrap().meta.has::<Replayed>());
}

/// A process ended between making a change and answering it.
#[tokio::test(start_paused = true)]
async fn the_task_tells_what_a_dead_process_has_done() {
    let stores = memory::open();
    let request = write(Some("k"), "[1]");
    let key = key::scoped(&request, "k");
    let dead = Kept {
        request: key::fingerprint(&request),
        holder: "dead".to_owned(),
        began_at: clock::now(),
        answer: None,
    };
    let hour = Duration::from_hours(1);
    let began = stores.idempotency.begin(&key, dead.clone(), hour, 10, clock::now());
    assert_eq!(began.await.unwrap(), Began::First);

    // It had done nothing: it is done now.
    let (mut service, mut inner) = begin(&stores);
    let call = service.spawn_call(write(Some("k"), "[1]"));
    let exchange = inner.next_request().await;
    exchange.fail(Error::deadline());
    assert!(call.await.is_err());

    // That one is not known to have had no effect. It had one.
    let kind = TaskKind::DocumentDeletion;
    let task = NewTask { idempotency: Some(key.clone()), ..NewTask::new(kind, clock::now()) };
    let task = stores.tasks.insert(task).await.unwrap();
    stores.tasks.insert(NewTask::new(kind, clock::now())).await.unwrap();
    let (mut next, mut next_inner) = begin(&stores);
    for _ in 0..2 {
        let answer = next.call(write(Some("k"), "[1]")).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["taskUid"], task.uid.0);
        assert!(answer.meta.has::<Replayed>());
    }
    assert_eq!(task.uid, TaskUid(0));
    next_inner.assert_idle().await;
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn answers_in_memory_are_bounded_and_end() {
    let stores = memory::open();
    let options = IdempotencyOptions { cached: 2, ..IdempotencyOptions::default() };
    let (mut service, mut inner) = layered(IdempotencyLayer::new(&stores, ring(), options));
    for key in ["a", "b", "c"] {
        let call = service.spawn_call(write(Some(key), "[1]"));
        inner.next_request().await.respond(accepted("{}"));
        call.await.unwrap();
    }
    // The store still knows what memory has forgotten.
    for key in ["a", "b", "c"] {
        assert!(service.call(write(Some(key), "[1]")).await.unwrap().meta.has::<Replayed>());
    }
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_that_cannot_be_remembered() {
    let (inner, mut handle) = mock::mock::<Request>();
    let stores = Stores { idempotency: Arc::new(Away), ..memory::open() };
    let mut service = Spawned::new(tower::Layer::layer(&layer(&stores), inner));
    let error = service.call(write(Some("k"), "[1]")).await.unwrap_err();
    assert_eq!(code(&error), "503 Service Unavailable miroir_store_failed");
    handle.assert_idle().await;
}

/// A store that does not answer.
#[derive(Debug)]
struct Away;

fn away<'a, T>() -> miroir_store::StoreFuture<'a, T> {
    Box::pin(async { Err(miroir_store::StoreError::Backend("away".into())) })
}

impl miroir_store::records::Idempotency for Away {
    fn begin(
        &self,
        _: &str,
        _: Kept,
        _: Duration,
        _: usize,
        _: time::OffsetDateTime,
    ) -> miroir_store::StoreFuture<'_, Began> {
        away()
    }
    fn replace(
        &self,
        _: &str,
        _: &Kept,
        _: Kept,
        _: Duration,
        _: time::OffsetDateTime,
    ) -> miroir_store::StoreFuture<'_, bool> {
        away()
    }
    fn drop_key(
        &self,
        _: &str,
        _: &Kept,
        _: time::OffsetDateTime,
    ) -> miroir_store::StoreFuture<'_, ()> {
        away()
    }
    fn count(&self, _: time::OffsetDateTime) -> miroir_store::StoreFuture<'_, u64> {
        away()
    }
    fn prune(&self, _: time::OffsetDateTime) -> miroir_store::StoreFuture<'_, u64> {
        away()
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_made_is_shown_again_and_stands_in_no_store() {
    let stores = memory::open();
    let master = ring().master().cloned().unwrap();
    let uids = std::array::from_fn(|at| uuid::Uuid::from_u128(at as u128));
    let made = ApiKey::defaults(clock::now(), uids).swap_remove(2);
    let post = || {
        let mut request = write(Some("k"), r#"{"actions":["*"]}"#);
        request.op = Operation::Key(KeyOp::Create);
        request
    };
    let (mut service, mut inner) = begin(&stores);
    let call = service.spawn_call(post());
    let exchange = inner.next_request().await;
    let key = exchange.request().cx.task_key().unwrap();
    exchange.respond(Response::json(StatusCode::CREATED, &made.view(&master)));
    let first = call.await.unwrap();
    let shown = String::from_utf8(first.body.to_vec()).unwrap();
    assert!(shown.contains(&master.derive(made.uid)), "{shown}");

    let probe = Kept {
        request: String::new(),
        holder: String::new(),
        began_at: clock::now(),
        answer: None,
    };
    let ttl = Duration::from_mins(1);
    let known = stores.idempotency.begin(&key, probe, ttl, 10, clock::now()).await.unwrap();
    let Began::Known(Kept { answer: Some(stored), .. }) = known else { panic!("{known:?}") };
    assert_eq!(stored.status, 201);
    assert!(stored.body.contains(&made.uid.to_string()), "{stored:?}");
    assert!(!stored.body.contains(&master.derive(made.uid)), "{stored:?}");

    // Another process, or this one after a restart, shows it all the same.
    let (mut other, mut other_inner) = begin(&stores);
    let again = other.call(post()).await.unwrap();
    assert_eq!((again.status, again.body), (first.status, first.body));
    assert!(again.meta.has::<Replayed>());
    other_inner.assert_idle().await;
}
