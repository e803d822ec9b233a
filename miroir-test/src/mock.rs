//! A typed mock of any stage, and the handle that plays its part.
//!
//! The service under test gets a [`MockService`]; the test holds the [`MockHandle`], waits for the
//! requests that come out and answers them one by one. Nothing is answered by itself, so a test
//! sees every request and its order. With paused time (`start_paused = true`) waiting costs nothing.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use miroir_pipeline::{Error, stage::{Next, from_fn}};
//!
//! // A layer that knows one error of its own and asks the rest for everything else.
//! let layer = from_fn(|request: miroir_pipeline::node::Request, next: Next<miroir_pipeline::node::Request>| async move {
//!     if request.uri().path() == "/secret" { return Err(Error::not_found()); }
//!     next.run(request).await
//! });
//! let (mut service, mut inner) = miroir_test::layered(layer);
//!
//! let call = service.spawn_call(http::Request::get("/health").body(Default::default()).unwrap());
//! let exchange = inner.next_request().await;
//! assert_eq!(exchange.request().uri(), "/health");
//! exchange.respond(http::Response::new("{}".into()));
//! assert_eq!(call.await.unwrap().body(), "{}");
//!
//! let call = service.spawn_call(http::Request::get("/secret").body(Default::default()).unwrap());
//! assert!(call.await.is_err());
//! inner.assert_idle().await;
//! # }
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use miroir_core::lock::Lock;
use miroir_pipeline::Error;
use miroir_pipeline::stage::{BoxService, Stage, StageService};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tower::{Layer, Service, ServiceExt};

/// How long [`MockHandle::next_request`] waits before it fails the test.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often [`MockHandle::assert_idle`] lets other tasks run. More than any chain of tasks is long.
const TURNS: usize = 64;

/// What a mock and a caller have to say to each other.
pub type Answer<R> = Result<<R as Stage>::Response, Error>;

/// A mock of any stage and the handle that answers for it.
pub fn mock<R: Stage>() -> (MockService<R>, MockHandle<R>) {
    let (sender, requests) = mpsc::unbounded_channel();
    let state = Arc::new(State::default());
    let service = MockService::new(sender, Arc::clone(&state));
    (service, MockHandle { requests, state })
}

/// A layer around a mock, ready to be called, and the handle of the mock.
pub fn layered<R, L>(layer: L) -> (Spawned<R>, MockHandle<R>)
where
    R: Stage,
    L: Layer<MockService<R>>,
    L::Service: StageService<R>,
{
    let (inner, handle) = mock();
    (Spawned::new(layer.layer(inner)), handle)
}

#[derive(Debug, Default)]
enum Readiness {
    #[default]
    Ready,
    Pending,
    Failed(Error),
}

#[derive(Debug, Default)]
struct State {
    /// What `poll_ready` answers, and who waits for it to change.
    readiness: Lock<(Readiness, Vec<Waker>)>,
    /// Ids of clones.
    clones: AtomicU64,
    /// Which clone last answered that it is ready.
    polled: Lock<Option<u64>>,
}

impl State {
    fn set(&self, readiness: Readiness) {
        let wakers = {
            let mut guard = self.readiness.lock();
            guard.0 = readiness;
            std::mem::take(&mut guard.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The service side of a mock. Every clone has an identity of its own and must itself be polled
/// ready before each call: a call without is a panic, as tower's contract allows.
pub struct MockService<R: Stage> {
    sender: mpsc::UnboundedSender<Exchange<R>>,
    state: Arc<State>,
    id: u64,
    polled: bool,
}

impl<R: Stage> MockService<R> {
    fn new(sender: mpsc::UnboundedSender<Exchange<R>>, state: Arc<State>) -> Self {
        let id = state.clones.fetch_add(1, Ordering::Relaxed);
        Self { sender, state, id, polled: false }
    }
}

impl<R: Stage> Clone for MockService<R> {
    fn clone(&self) -> Self {
        Self::new(self.sender.clone(), Arc::clone(&self.state))
    }
}

impl<R: Stage> fmt::Debug for MockService<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockService").field("stage", &R::NAME).field("id", &self.id).finish()
    }
}

impl<R: Stage> Service<R> for MockService<R> {
    type Response = R::Response;
    type Error = Error;
    type Future = BoxFuture<'static, Answer<R>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        let mut guard = self.state.readiness.lock();
        match &guard.0 {
            Readiness::Ready => {
                self.polled = true;
                *self.state.polled.lock() = Some(self.id);
                Poll::Ready(Ok(()))
            }
            Readiness::Failed(error) => Poll::Ready(Err(error.clone())),
            Readiness::Pending => {
                guard.1.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn call(&mut self, request: R) -> Self::Future {
        assert!(
            std::mem::take(&mut self.polled),
            "a service of the {} stage was called that had not been polled ready",
            R::NAME
        );
        let (reply, answer) = oneshot::channel();
        let exchange = Exchange { request, reply, service: self.id };
        let sent = self.sender.send(exchange).is_ok();
        Box::pin(async move {
            match answer.await {
                Ok(answer) => answer,
                Err(_) if sent => Err(Error::internal("the test dropped the exchange")),
                Err(_) => Err(Error::internal("the test dropped the mock's handle")),
            }
        })
    }
}

/// One request that reached a mock, to be answered.
#[must_use = "an exchange that is dropped answers with an error"]
pub struct Exchange<R: Stage> {
    request: R,
    reply: oneshot::Sender<Answer<R>>,
    service: u64,
}

impl<R: Stage + fmt::Debug> fmt::Debug for Exchange<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("request", &self.request).finish_non_exhaustive()
    }
}

impl<R: Stage> Exchange<R> {
    /// What was asked.
    pub fn request(&self) -> &R {
        &self.request
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_cancelled(&self) -> bool {
        self.reply.is_closed()
    }

    /// Waits until nobody waits for the answer any more.
    pub async fn cancelled(&mut self) {
        self.reply.closed().await;
    }

    /// Answers. An answer nobody waits for is dropped.
    pub fn respond(self, response: R::Response) {
        let _ = self.reply.send(Ok(response));
    }

    /// Answers with an error.
    pub fn fail(self, error: Error) {
        let _ = self.reply.send(Err(error));
    }

    /// Which clone of the mock was called.
    pub(crate) fn service(&self) -> u64 {
        self.service
    }
}

/// The test's side of a mock.
pub struct MockHandle<R: Stage> {
    requests: mpsc::UnboundedReceiver<Exchange<R>>,
    state: Arc<State>,
}

impl<R: Stage> fmt::Debug for MockHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockHandle").field("stage", &R::NAME).finish_non_exhaustive()
    }
}

impl<R: Stage> MockHandle<R> {
    /// The next request that reaches the mock.
    ///
    /// # Panics
    /// When none came within a minute (of tokio's time) or every service is gone.
    pub async fn next_request(&mut self) -> Exchange<R> {
        match tokio::time::timeout(PATIENCE, self.requests.recv()).await {
            Ok(Some(exchange)) => exchange,
            Ok(None) => panic!("every clone of the {} mock is gone", R::NAME),
            Err(tokio::time::error::Elapsed { .. }) => {
                panic!("no request reached the {} mock", R::NAME)
            }
        }
    }

    /// The next request, if one has come already. Other tasks are not given a turn.
    pub fn try_next_request(&mut self) -> Option<Exchange<R>> {
        self.requests.try_recv().ok()
    }

    /// Lets other tasks run, without time passing, and makes sure that no request came.
    ///
    /// # Panics
    /// When one came.
    pub async fn assert_idle(&mut self) {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        assert!(
            self.try_next_request().is_none(),
            "a request reached the {} mock that should have been idle",
            R::NAME
        );
    }

    /// Makes the mock ready, or not.
    pub fn set_ready(&self, ready: bool) {
        self.state.set(if ready { Readiness::Ready } else { Readiness::Pending });
    }

    /// Which clone last answered that it is ready.
    pub(crate) fn last_polled(&self) -> Option<u64> {
        *self.state.polled.lock()
    }

    /// Makes `poll_ready` answer with an error until [`MockHandle::set_ready`].
    pub fn fail_ready(&self, error: Error) {
        self.state.set(Readiness::Failed(error));
    }
}

/// A service under test.
pub struct Spawned<R: Stage> {
    service: BoxService<R>,
}

impl<R: Stage> fmt::Debug for Spawned<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawned").field("stage", &R::NAME).finish_non_exhaustive()
    }
}

impl<R: Stage> Spawned<R> {
    /// Wraps a service.
    pub fn new(service: impl StageService<R>) -> Self {
        Self { service: BoxService::new(service) }
    }

    /// Waits for readiness and calls, in a task of its own.
    pub fn spawn_call(&mut self, request: R) -> Call<R> {
        let service = self.service.clone();
        Call(tokio::spawn(service.oneshot(request)))
    }

    /// Waits for readiness and calls.
    ///
    /// # Errors
    /// What the service answers.
    pub async fn call(&mut self, request: R) -> Answer<R> {
        self.service.clone().oneshot(request).await
    }

    /// Asks for readiness once.
    pub fn poll_ready(&mut self) -> Poll<Result<(), Error>> {
        self.service.poll_ready(&mut task::Context::from_waker(Waker::noop()))
    }

    /// A clone of the service.
    pub fn service(&self) -> BoxService<R> {
        self.service.clone()
    }
}

/// A call in a task of its own. Dropping it drops the future of the call, as a client does that
/// goes away.
#[must_use = "a call that is dropped is cancelled"]
pub struct Call<R: Stage>(JoinHandle<Answer<R>>);

impl<R: Stage> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&R::NAME).finish()
    }
}

impl<R: Stage> Call<R> {
    /// Whether there is an answer.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<R: Stage> Future for Call<R> {
    type Output = Answer<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match task::ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(answer) => Poll::Ready(answer),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => Poll::Ready(Err(Error::internal(error))),
        }
    }
}

impl<R: Stage> Drop for Call<R> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
