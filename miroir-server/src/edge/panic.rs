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

use crate::admin;

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
                    admin::refuse(&error).map(Either::Left)
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_the_service_lives_on() {
        let service = CatchPanicLayer.layer(service_fn(|request: Request<()>| async move {
            assert!(request.uri().path() != "/panic", "as a test wants it");
            Ok::<_, Infallible>(Response::new(Full::from("fine")))
        }));
        for (path, status) in [("/panic", 500), ("/", 200), ("/panic", 500)] {
            let request = Request::get(path).body(()).unwrap();
            let response = service.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
            let body = response.into_body().collect().await.unwrap().to_bytes();
            if status == 500 {
                let error: ApiError = serde_json::from_slice(&body).unwrap();
                assert_eq!(error, ApiError::new("internal", "An internal error has occurred."));
            }
        }
    }

    #[tokio::test]
    async fn so_is_a_panic_before_there_is_a_future() {
        let panics =
            |_: Request<()>| -> std::future::Ready<Result<Response<Full<Bytes>>, Infallible>> {
                panic!("as a test wants it")
            };
        let service = CatchPanicLayer.layer(service_fn(panics));
        let response = service.oneshot(Request::get("/").body(()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
