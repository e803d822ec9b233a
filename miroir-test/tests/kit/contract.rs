//! The contract is kept by good layers and broken by bad ones.

use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body_util::Full;
use miroir_pipeline::Error;
use miroir_pipeline::node::{Request, Response};
use miroir_pipeline::stage::{Next, StageFuture, StageService, from_fn, take_ready};
use miroir_test::contract::contract;
use miroir_test::{layered, mock};
use tokio::sync::Semaphore;
use tower::layer::layer_fn;
use tower::{Layer, Service, ServiceExt};

fn request() -> Request {
    http::Request::get("/health").body(Full::default()).unwrap()
}

/// What a bad layer does in `poll_ready` and in `call`.
trait Habit: Send + Sync + 'static {
    fn poll_ready<S: StageService<Request>>(
        inner: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        inner.poll_ready(cx)
    }
    fn call<S: StageService<Request>>(inner: &mut S, request: Request) -> StageFuture<Request> {
        Box::pin(inner.call(request))
    }
}

struct Habitual<S, H>(S, PhantomData<H>);

impl<S: Clone, H> Clone for Habitual<S, H> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<S: StageService<Request>, H: Habit> Service<Request> for Habitual<S, H> {
    type Response = Response;
    type Error = Error;
    type Future = StageFuture<Request>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        H::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        H::call(&mut self.0, request)
    }
}

async fn check<H: Habit>() {
    contract(layer_fn(|inner| Habitual::<_, H>(inner, PhantomData)), request).await;
}

struct Good;
impl Habit for Good {
    fn call<S: StageService<Request>>(inner: &mut S, request: Request) -> StageFuture<Request> {
        let mut inner = take_ready(inner);
        Box::pin(async move { inner.call(request).await })
    }
}

#[tokio::test(start_paused = true)]
async fn good_layers_pass() {
    contract(tower::layer::util::Identity::new(), request).await;
    contract(from_fn(|request, next: Next<Request>| next.run(request)), request).await;
    check::<Good>().await;
}

struct AlwaysReady;
impl Habit for AlwaysReady {
    fn poll_ready<S: StageService<Request>>(
        _: &mut S,
        _: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "says ready while the inner service is not")]
async fn swallowed_readiness_is_noticed() {
    check::<AlwaysReady>().await;
}

struct Forgetful;
impl Habit for Forgetful {
    fn poll_ready<S: StageService<Request>>(
        inner: &mut S,
        _: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        inner.poll_ready(&mut Context::from_waker(std::task::Waker::noop()))
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "does not pass its waker")]
async fn a_lost_waker_is_noticed() {
    check::<Forgetful>().await;
}

struct CallsAnother;
impl Habit for CallsAnother {
    fn call<S: StageService<Request>>(inner: &mut S, request: Request) -> StageFuture<Request> {
        Box::pin(inner.clone().oneshot(request))
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "called another clone")]
async fn calling_another_clone_is_noticed() {
    check::<CallsAnother>().await;
}

struct CallsUnpolled;
impl Habit for CallsUnpolled {
    fn call<S: StageService<Request>>(inner: &mut S, request: Request) -> StageFuture<Request> {
        Box::pin(inner.clone().call(request))
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "had not been polled ready")]
async fn calling_an_unpolled_clone_is_noticed() {
    check::<CallsUnpolled>().await;
}

struct Changes;
impl Habit for Changes {
    fn call<S: StageService<Request>>(inner: &mut S, mut request: Request) -> StageFuture<Request> {
        request.headers_mut().insert("x-changed", http::HeaderValue::from_static("1"));
        Box::pin(inner.call(request))
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "changed a foreign request")]
async fn a_changed_request_is_noticed() {
    check::<Changes>().await;
}

struct Renames;
impl Habit for Renames {
    fn call<S: StageService<Request>>(inner: &mut S, request: Request) -> StageFuture<Request> {
        let answer = inner.call(request);
        Box::pin(async move { answer.await.map_err(|_| Error::not_found()) })
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "changed an error")]
async fn a_changed_error_is_noticed() {
    check::<Renames>().await;
}

struct Refuses;
impl Habit for Refuses {
    fn call<S: StageService<Request>>(_: &mut S, _: Request) -> StageFuture<Request> {
        Box::pin(async { Err(Error::not_found()) })
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "answered without asking")]
async fn a_foreign_request_that_is_refused_is_noticed() {
    check::<Refuses>().await;
}

/// Takes a permit and gives it back only when the call ends well and is waited for.
#[derive(Clone)]
struct Leaks<S>(S, Arc<Semaphore>);

impl<S: StageService<Request>> Service<Request> for Leaks<S> {
    type Response = Response;
    type Error = Error;
    type Future = StageFuture<Request>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (mut inner, permits) = (take_ready(&mut self.0), Arc::clone(&self.1));
        Box::pin(async move {
            permits.acquire().await.map_err(Error::internal)?.forget();
            let answer = inner.call(request).await;
            permits.add_permits(1);
            answer
        })
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "no request reached the node mock")]
async fn a_leaked_permit_is_noticed() {
    contract(layer_fn(|inner| Leaks(inner, Arc::new(Semaphore::new(8)))), request).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "should have been idle")]
async fn a_request_too_many_is_noticed() {
    let (mut service, mut inner) =
        layered(from_fn(|request, next: Next<Request>| next.run(request)));
    let _call = service.spawn_call(request());
    inner.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn an_exchange_knows_whether_anybody_waits() {
    let (mut service, mut inner) = layered(tower::layer::util::Identity::new());
    let call = service.spawn_call(request());
    let mut exchange = inner.next_request().await;
    assert!(!exchange.is_cancelled() && !call.is_finished());
    drop(call);
    exchange.cancelled().await;
    assert!(exchange.is_cancelled());
    exchange.respond(http::Response::default());
}

#[tokio::test(start_paused = true)]
async fn what_a_test_forgets_is_an_error() {
    let (mut service, mut inner) = layered(tower::layer::util::Identity::new());
    let call = service.spawn_call(request());
    drop(inner.next_request().await);
    assert!(call.await.is_err());
    drop(inner);
    assert!(service.call(request()).await.is_err());

    let (service, _inner) = mock::mock::<Request>();
    let mut service = tower::layer::util::Identity::new().layer(service);
    assert!(service.ready().await.is_ok());
}
