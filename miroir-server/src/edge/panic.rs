//! Turns a panic into `500 internal` in Meilisearch's shape. The panic hook has logged it.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::task::{self, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Response;
use http_body_util::{Either, Full};
use miroir::stage::take_ready;
use miroir_api::meili::ApiError;
use tower::{Layer, Service};

#[derive(Clone, Copy, Debug)]
pub(super) struct CatchPanicLayer;

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;
    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic { inner }
    }
}

#[derive(Clone, Debug)]
pub(super) struct CatchPanic<S> {
    inner: S,
}

impl<S, R, B> Service<R> for CatchPanic<S>
where
    S: Service<R, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    R: Send + 'static,
    B: 'static,
{
    type Response = Response<Either<Full<Bytes>, B>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let mut inner = take_ready(&mut self.inner);
        // The call is made inside of the future, so that a panic of `call` itself is caught too.
        let answer = async move { inner.call(request).await };
        Box::pin(async move {
            Ok(match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(Ok(response)) => response.map(Either::Right),
                Err(_) => {
                    let error = ApiError::new("internal", "An internal error has occurred.");
                    super::super::admin::refuse(&error).map(Either::Left)
                }
            })
        })
    }
}
