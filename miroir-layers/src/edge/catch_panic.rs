//! Answers `500 internal`, in Meilisearch's shape, where a layer or the service panics; the connection
//! lives on. By tower-http's `CatchPanicLayer`.
//!
//! It logs nothing: a panic hook does, with the place.
//!
//! # Stage
//! Edge. Any `http::Request<B>`; the body is not looked at.
//!
//! # Order
//! Outermost. A second one next to the service (as `catch_handler`) keeps a panic there from the
//! layers between, so that its answer is counted, encoded and has an id as every other.
//!
//! # Context
//! Reads nothing.
//!
//! # Errors
//! 500 `internal`.
//!
//! # Metrics
//! None.
//!
//! # Example
//! ```
//! use miroir_layers::edge::CatchPanicLayer;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new().layer(CatchPanicLayer::new()).service_fn(
//!     |request: http::Request<()>| async move {
//!         assert_eq!(request.uri().path(), "/", "nothing else is here");
//!         Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
//!     },
//! );
//! let request = http::Request::get("/panic").body(()).unwrap();
//! assert_eq!(service.oneshot(request).await.unwrap().status(), 500);
//! # }
//! ```

use std::any::Any;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use miroir_pipeline::error::BoxError;
use miroir_pipeline::http::refuse;
use miroir_pipeline::{Error, Placed};
use tower::Layer;
use tower_http::body::UnsyncBoxBody;
use tower_http::catch_panic::{CatchPanic, ResponseForPanic};

/// The body of answers outside of this layer.
pub type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

/// The answer after a panic.
#[derive(Clone, Copy, Debug)]
pub struct InternalError(());

impl ResponseForPanic for InternalError {
    type ResponseBody = Full<Bytes>;

    fn response_for_panic(&mut self, _: Box<dyn Any + Send + 'static>) -> Response<Full<Bytes>> {
        refuse(&Error::internal("a panic"))
    }
}

/// See the [module's documentation](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct CatchPanicLayer(());

impl CatchPanicLayer {
    /// There is nothing to choose.
    pub fn new() -> Self {
        Self(())
    }
}

impl Placed for CatchPanicLayer {
    const NAME: &'static str = "catch_panic";
}

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S, InternalError>;
    fn layer(&self, inner: S) -> Self::Service {
        CatchPanic::custom(inner, InternalError(()))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use miroir_api::meili::ApiError;
    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_the_service_lives_on() {
        let service = CatchPanicLayer::new().layer(service_fn(|request: Request<()>| async move {
            assert!(request.uri().path() != "/panic", "as a test wants it");
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("fine")))
        }));
        for (path, status) in [("/panic", 500), ("/", 200), ("/panic", 500)] {
            let request = Request::get(path).body(()).unwrap();
            let response = service.oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
            let body = response.into_body().collect().await.unwrap().to_bytes();
            if status == 500 {
                let error: ApiError = serde_json::from_slice(&body).unwrap();
                assert_eq!(error, ApiError::new("internal", "An internal error has occurred."));
            }
        }
    }

    #[tokio::test]
    async fn a_panic_before_there_is_a_future_is_answered() {
        let panics =
            |_: Request<()>| -> std::future::Ready<Result<Response<Full<Bytes>>, Infallible>> {
                panic!("as a test wants it")
            };
        let service = CatchPanicLayer::new().layer(service_fn(panics));
        let response = service.oneshot(Request::get("/").body(()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
