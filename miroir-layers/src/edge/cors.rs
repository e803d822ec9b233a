//! Cross-origin requests, answered as Meilisearch answers them: everybody may do everything, with
//! a token.
//!
//! An `OPTIONS` with `Access-Control-Request-Method` is a preflight and goes no further; any other
//! `OPTIONS` is a request like others. `Vary` names the three request headers on every answer but
//! a refused preflight; `Access-Control-Allow-Origin` is there when `Origin` was.

use std::convert::Infallible;
use std::task::{self, Poll};

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use miroir::http::{EdgeFuture, EdgeService};
use miroir::stage::take_ready;
use tower::{Layer, Service};

const ANYBODY: HeaderValue = HeaderValue::from_static("*");
const A_DAY: HeaderValue = HeaderValue::from_static("86400");
const METHODS: &str = "OPTIONS, CONNECT, DELETE, PATCH, HEAD, GET, POST, TRACE, PUT";
const VARIES: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);

#[derive(Clone, Copy, Debug)]
pub(super) struct CorsLayer;

impl<S> Layer<S> for CorsLayer {
    type Service = Cors<S>;
    fn layer(&self, inner: S) -> Cors<S> {
        Cors { inner }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Cors<S> {
    inner: S,
}

/// The answer to a preflight; `None` for other requests.
fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
    if method != Method::OPTIONS {
        return None;
    }
    let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    let mut response = Response::new(Full::default());
    if !METHODS.split(", ").any(|known| wanted == known) {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        *response.body_mut() = Full::from("Requested method is not allowed");
        return Some(response);
    }
    let answer = response.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANYBODY);
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    answer.insert(ACCESS_CONTROL_MAX_AGE, A_DAY);
    answer.insert(VARY, VARIES);
    Some(response)
}

impl<S: EdgeService<B>, B: Send + 'static> Service<Request<B>> for Cors<S> {
    type Response = Response<Either<Full<Bytes>, S::Body>>;
    type Error = Infallible;
    type Future = EdgeFuture<Either<Full<Bytes>, S::Body>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if let Some(answer) = preflight(request.method(), request.headers()) {
            return Box::pin(std::future::ready(Ok(answer.map(Either::Left))));
        }
        let origin = request.headers().get(ORIGIN).is_some_and(|origin| !origin.is_empty());
        let mut inner = take_ready(&mut self.inner);
        Box::pin(async move {
            let mut response = inner.call(request).await?;
            let headers = response.headers_mut();
            if origin {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANYBODY);
            }
            headers.append(VARY, VARIES);
            Ok(response.map(Either::Right))
        })
    }
}
