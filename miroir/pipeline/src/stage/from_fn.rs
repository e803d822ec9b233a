//! Layers from async functions.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use tower::Layer;

use super::{Layered, Middleware, Next, Ready, Reply, Stage, StageService};
use crate::error::Error;

/// A layer from an async function, for any stage.
///
/// ```
/// use miroir_pipeline::{index, stage::{from_fn, Next}};
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

impl<R, F, S> Layer<S> for FromFnLayer<R, F> {
    type Service = Layered<Self, S>;
    fn layer(&self, inner: S) -> Self::Service {
        Layered::new(self.clone(), inner)
    }
}

impl<R, F, Fut> Middleware<R> for FromFnLayer<R, F>
where
    R: Stage,
    F: Fn(R, Next<R>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R::Response, Error>> + Send + 'static,
{
    fn call<S: StageService<R>>(&self, request: R, next: Ready<'_, S>) -> Reply<R, S> {
        Reply::boxed((self.function)(request, next.take().erased()))
    }
}
