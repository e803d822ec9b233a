//! The stage trait, the boxed service, and helpers to write layers.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{self, Poll};

use futures_util::future::BoxFuture;
use tower::{Layer, Service, ServiceExt};

use crate::error::Error;

/// A request type of the pipeline, and what answers it.
pub trait Stage: Send + 'static {
    /// The answer.
    type Response: Send + 'static;
    /// Name of the stage, for order errors and `--describe-stack`.
    const NAME: &'static str;
}

/// Bounds every service of a stage satisfies. Implemented for all that qualify, never by hand.
pub trait StageService<R: Stage>:
    Service<R, Response = R::Response, Error = Error, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<R: Stage, S> StageService<R> for S where
    S: Service<R, Response = R::Response, Error = Error, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A service of a stage with its type erased. Boxed at boundaries only.
pub type BoxService<R> = tower::util::BoxCloneSyncService<R, <R as Stage>::Response, Error>;

/// The future of a layer in a typed stage.
pub type StageFuture<R> = BoxFuture<'static, Result<<R as Stage>::Response, Error>>;

/// Takes the service that was polled ready and leaves a clone in its place.
///
/// `call` must use the very service whose `poll_ready` answered; a fresh clone has not been asked.
pub fn take_ready<S: Clone>(service: &mut S) -> S {
    let clone = service.clone();
    std::mem::replace(service, clone)
}

/// The rest of the pipeline, as a [`from_fn`] layer sees it.
pub struct Next<R: Stage> {
    inner: BoxService<R>,
}

impl<R: Stage> fmt::Debug for Next<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("stage", &R::NAME).finish()
    }
}

impl<R: Stage> Next<R> {
    /// Asks the rest of the pipeline.
    ///
    /// # Errors
    /// Whatever the inner services answer.
    pub async fn run(self, request: R) -> Result<R::Response, Error> {
        self.inner.oneshot(request).await
    }
}

/// A layer from an async function, for any stage.
///
/// ```
/// use miroir::{index, stage::{from_fn, Next}};
/// let layer = from_fn(|request: index::Request, next: Next<index::Request>| async move {
///     next.run(request).await
/// });
/// # let _ = layer;
/// ```
pub fn from_fn<R, F, Fut>(function: F) -> FromFnLayer<R, F>
where
    R: Stage,
    F: Fn(R, Next<R>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R::Response, Error>> + Send + 'static,
{
    FromFnLayer { function: Arc::new(function), stage: PhantomData }
}

/// See [`from_fn`].
pub struct FromFnLayer<R, F> {
    function: Arc<F>,
    stage: PhantomData<fn(R)>,
}

impl<R, F> Clone for FromFnLayer<R, F> {
    fn clone(&self) -> Self {
        Self { function: Arc::clone(&self.function), stage: PhantomData }
    }
}

impl<R, F> fmt::Debug for FromFnLayer<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromFnLayer")
    }
}

impl<R: Stage, F, S: StageService<R>> Layer<S> for FromFnLayer<R, F> {
    type Service = FromFn<R, F>;
    fn layer(&self, inner: S) -> Self::Service {
        FromFn { layer: self.clone(), inner: BoxService::new(inner) }
    }
}

/// See [`from_fn`].
pub struct FromFn<R: Stage, F> {
    layer: FromFnLayer<R, F>,
    inner: BoxService<R>,
}

impl<R: Stage, F> Clone for FromFn<R, F> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone(), inner: self.inner.clone() }
    }
}

impl<R: Stage, F> fmt::Debug for FromFn<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromFn")
    }
}

impl<R, F, Fut> Service<R> for FromFn<R, F>
where
    R: Stage,
    F: Fn(R, Next<R>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R::Response, Error>> + Send + 'static,
{
    type Response = R::Response;
    type Error = Error;
    type Future = StageFuture<R>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let next = Next { inner: take_ready(&mut self.inner) };
        Box::pin((self.layer.function)(request, next))
    }
}
