//! The frame of a layer of the edge: what tower asks for, written once.

use std::convert::Infallible;
use std::fmt;
use std::task::{self, Poll};

use http::{Request, Response};
use tower::Service;

use super::{EdgeFuture, EdgeService};
use crate::stage::take_ready;

/// What a layer of the edge does with requests, whose bodies it does not look at: the edge's
/// [`Middleware`](crate::stage::Middleware), with the same promise. [`EdgeReady`] is the service that
/// was polled ready, it can be used once, and there is no other one.
///
/// [`edge_layer!`](crate::edge_layer) makes it a [`tower::Layer`]. A layer that changes requests only
/// is better off as a plain [`Service`]: it has no future of its own to box.
///
/// ```
/// use http::{Request, Response};
/// use miroir_pipeline::http::{EdgeFuture, EdgeMiddleware, EdgeReady, EdgeService};
///
/// /// Names the server.
/// #[derive(Clone, Copy, Debug)]
/// struct Named;
///
/// impl EdgeMiddleware for Named {
///     type Body<C: Send + 'static> = C;
///
///     fn call<B: Send + 'static, S: EdgeService<B>>(
///         &self,
///         request: Request<B>,
///         next: EdgeReady<'_, S>,
///     ) -> EdgeFuture<S::Body> {
///         let answer = next.call(request);
///         Box::pin(async move {
///             let mut response = answer.await?;
///             response.headers_mut().insert("server", http::HeaderValue::from_static("miroir"));
///             Ok(response)
///         })
///     }
/// }
///
/// miroir_pipeline::edge_layer!(Named);
/// ```
pub trait EdgeMiddleware: Clone + Send + Sync + 'static {
    /// The body of its answers where those of the rest have the body `C`: that, or
    /// `Either<Full<Bytes>, C>` of a layer that answers some requests itself.
    type Body<C: Send + 'static>: Send + 'static;

    /// Answers a request. Called when the rest of the edge is ready; work that waits belongs into
    /// the future.
    fn call<B: Send + 'static, S: EdgeService<B>>(
        &self,
        request: Request<B>,
        next: EdgeReady<'_, S>,
    ) -> EdgeFuture<Self::Body<S::Body>>;
}

/// Makes [`EdgeMiddleware`] types [`tower::Layer`]s.
///
/// [`EdgeMiddleware`]: crate::http::EdgeMiddleware
#[macro_export]
macro_rules! edge_layer {
    ($($middleware:ty),+ $(,)?) => {$(
        impl<S> $crate::stage::Layer<S> for $middleware {
            type Service = $crate::http::EdgeLayered<Self, S>;

            fn layer(&self, inner: S) -> Self::Service {
                $crate::http::EdgeLayered::new(::std::clone::Clone::clone(self), inner)
            }
        }
    )+};
}

/// A service with an [`EdgeMiddleware`] around it.
#[derive(Clone, Debug)]
pub struct EdgeLayered<M, S> {
    middleware: M,
    inner: S,
}

impl<M, S> EdgeLayered<M, S> {
    /// Puts a middleware around a service.
    pub fn new(middleware: M, inner: S) -> Self {
        Self { middleware, inner }
    }
}

impl<B, M, S> Service<Request<B>> for EdgeLayered<M, S>
where
    B: Send + 'static,
    M: EdgeMiddleware,
    S: EdgeService<B>,
{
    type Response = Response<M::Body<S::Body>>;
    type Error = Infallible;
    type Future = EdgeFuture<M::Body<S::Body>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.middleware.call(request, EdgeReady { service: &mut self.inner })
    }
}

/// The rest of the edge, ready to be called once, while the middleware looks at a request.
#[must_use = "a request that is neither passed on nor answered is lost"]
pub struct EdgeReady<'a, S> {
    service: &'a mut S,
}

impl<S> fmt::Debug for EdgeReady<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EdgeReady")
    }
}

impl<S> EdgeReady<'_, S> {
    /// Calls the rest now; the future that looks at the answer is the layer's.
    pub fn call<B>(self, request: Request<B>) -> S::Future
    where
        S: EdgeService<B>,
    {
        self.service.call(request)
    }

    /// Takes the ready service along, into a future that calls it later or not at all. One clone of
    /// the rest.
    pub fn take(self) -> EdgeNext<S>
    where
        S: Clone,
    {
        EdgeNext { inner: take_ready(self.service) }
    }
}

/// The rest of the edge, ready to be called once.
pub struct EdgeNext<S> {
    inner: S,
}

impl<S> fmt::Debug for EdgeNext<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EdgeNext")
    }
}

impl<S> EdgeNext<S> {
    /// Asks the rest.
    pub fn run<B>(mut self, request: Request<B>) -> S::Future
    where
        S: EdgeService<B>,
    {
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tower::{Layer, ServiceExt};

    use super::*;

    /// A clone has to be polled ready itself, once for every call.
    #[derive(Debug, Default)]
    struct Strict {
        ready: bool,
        clones: Arc<AtomicU32>,
    }

    impl Clone for Strict {
        fn clone(&self) -> Self {
            self.clones.fetch_add(1, Ordering::Relaxed);
            Self { ready: false, clones: Arc::clone(&self.clones) }
        }
    }

    impl Service<Request<bool>> for Strict {
        type Response = Response<()>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<()>, Infallible>>;

        fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
            self.ready = true;
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<bool>) -> Self::Future {
            assert!(std::mem::take(&mut self.ready), "called without being polled ready");
            std::future::ready(Ok(Response::new(())))
        }
    }

    /// Calls at once below `/now`, later elsewhere.
    #[derive(Clone, Debug)]
    struct Sometimes;

    crate::edge_layer!(Sometimes);

    impl EdgeMiddleware for Sometimes {
        type Body<C: Send + 'static> = C;

        fn call<B: Send + 'static, S: EdgeService<B>>(
            &self,
            request: Request<B>,
            next: EdgeReady<'_, S>,
        ) -> EdgeFuture<S::Body> {
            if request.uri().path() == "/now" {
                return Box::pin(next.call(request));
            }
            let next = next.take();
            Box::pin(async move { next.run(request).await })
        }
    }

    #[tokio::test]
    async fn the_polled_service_is_the_one_that_is_called() {
        let inner = Strict::default();
        let clones = Arc::clone(&inner.clones);
        let mut service = Sometimes.layer(inner);
        for (path, cloned) in [("/now", 0), ("/later", 1), ("/now", 1)] {
            let request = Request::get(path).body(true).unwrap();
            service.ready().await.unwrap().call(request).await.unwrap();
            assert_eq!(clones.load(Ordering::Relaxed), cloned, "{path}");
        }
    }
}
