//! A panic becomes `500 internal` in Meilisearch's shape, by tower-http's `CatchPanicLayer`. The panic
//! hook has logged it (`telemetry::install_panic_hook`), and `observe` counts the answer.

use std::any::Any;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use miroir_api::meili::ApiError;
use tower_http::catch_panic::{CatchPanicLayer, ResponseForPanic};

use crate::refusal;

/// The answer after a panic.
#[derive(Clone, Copy, Debug)]
pub(super) struct InternalError;

impl ResponseForPanic for InternalError {
    type ResponseBody = Full<Bytes>;

    fn response_for_panic(&mut self, _: Box<dyn Any + Send + 'static>) -> Response<Full<Bytes>> {
        refusal::refuse(&ApiError::new("internal", "An internal error has occurred."))
    }
}

/// Answers for a service that panics; the service lives on.
pub(super) fn catch_panic() -> CatchPanicLayer<InternalError> {
    CatchPanicLayer::custom(InternalError)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_the_service_lives_on() {
        let service = catch_panic().layer(service_fn(|request: Request<()>| async move {
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
    async fn so_is_a_panic_before_there_is_a_future() {
        let panics =
            |_: Request<()>| -> std::future::Ready<Result<Response<Full<Bytes>>, Infallible>> {
                panic!("as a test wants it")
            };
        let service = catch_panic().layer(service_fn(panics));
        let response = service.oneshot(Request::get("/").body(()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
