//! Answers cross-origin requests as Meilisearch answers them: everybody may do everything, with a
//! token.
//!
//! An `OPTIONS` with `Access-Control-Request-Method` that could be a method is a preflight and goes no
//! further; any other `OPTIONS` is a request like others. `Vary` names the three request headers on every answer but
//! a refused preflight; `Access-Control-Allow-Origin` is there when `Origin` was.
//!
//! Under `/_miroir` no page of another origin is answered: the operator's key is none that a page has.
//! Those answers say `X-Content-Type-Options: nosniff`: no browser takes them for anything else than
//! they say they are. The others have the headers of a node and no more.
//!
//! # Stage
//! Edge. Any `http::Request<B>`; the body is not looked at.
//!
//! # Order
//! Outside of what refuses: a browser shows no answer without these headers. Inside of `observe`, so
//! that preflights count.
//!
//! # Context
//! Reads nothing.
//!
//! # Errors
//! 400, as plain text, for a preflight of a method that there is not.
//!
//! # Metrics
//! None.
//!
//! # Example
//! ```
//! use miroir_layers::edge::CorsLayer;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service =
//!     ServiceBuilder::new().layer(CorsLayer::new()).service_fn(|_: http::Request<()>| async move {
//!         Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
//!     });
//! let request = http::Request::get("/indexes").header("origin", "https://shop.example");
//! let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
//! assert_eq!(response.headers()["access-control-allow-origin"], "*");
//! # }
//! ```

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use miroir_pipeline::Placed;
use miroir_pipeline::http::{EdgeFuture, EdgeMiddleware, EdgeReady, EdgeService};
use miroir_pipeline::query::decode;
use miroir_pipeline::stack::LayerName;

use super::observe::ObserveLayer;
use super::paths::{ADMIN, is_admin};

const ANYBODY: HeaderValue = HeaderValue::from_static("*");
const A_DAY: HeaderValue = HeaderValue::from_static("86400");
const METHODS: &str = "OPTIONS, CONNECT, DELETE, PATCH, HEAD, GET, POST, TRACE, PUT";
const VARIES: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);

/// See the [module's documentation](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct CorsLayer(());

impl CorsLayer {
    /// As Meilisearch: there is nothing to choose.
    pub fn new() -> Self {
        Self(())
    }
}

impl Placed for CorsLayer {
    const NAME: &'static str = "cors";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<ObserveLayer>()];
}

miroir_pipeline::edge_layer!(CorsLayer);

/// The answer to a preflight; `None` for other requests.
fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
    if method != Method::OPTIONS {
        return None;
    }
    let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    let wanted = Method::from_bytes(wanted.as_bytes()).ok()?;
    let mut response = Response::new(Full::default());
    if !METHODS.split(", ").any(|known| wanted == *known) {
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

/// Whether a path is the operator's, however it is spelt: nothing has looked at it yet.
fn is_operators(path: &str) -> bool {
    let path = decode(path, false);
    is_admin(&format!("/{}", path.trim_start_matches('/')))
}

impl EdgeMiddleware for CorsLayer {
    type Body<C: Send + 'static> = Either<Full<Bytes>, C>;

    fn call<B: Send + 'static, S: EdgeService<B>>(
        &self,
        request: Request<B>,
        next: EdgeReady<'_, S>,
    ) -> EdgeFuture<Self::Body<S::Body>> {
        let own = is_operators(request.uri().path());
        let bare = request.uri().path() == ADMIN;
        if !own && let Some(answer) = preflight(request.method(), request.headers()) {
            return Box::pin(std::future::ready(Ok(answer.map(Either::Left))));
        }
        let origin = request.headers().contains_key(ORIGIN);
        let answer = next.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            let headers = response.headers_mut();
            // There is nothing at `/_miroir` itself, as on a node.
            if own && !bare {
                headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            }
            if origin && !own {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANYBODY);
            }
            headers.append(VARY, VARIES);
            Ok(response.map(Either::Right))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{Layer, ServiceExt};

    use super::*;

    async fn status(method: Method, wanted: Option<&str>) -> u16 {
        let inner = tower::service_fn(|_: Request<()>| async {
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            Ok::<_, Infallible>(response)
        });
        let mut request = Request::builder().method(method).uri("/indexes").header(ORIGIN, "");
        if let Some(wanted) = wanted {
            let wanted = HeaderValue::from_bytes(wanted.as_bytes()).unwrap();
            request = request.header(ACCESS_CONTROL_REQUEST_METHOD, wanted);
        }
        let request = request.body(()).unwrap();
        let response = CorsLayer::new().layer(inner).oneshot(request).await.unwrap();
        let headers = response.headers();
        let refused = response.status() == StatusCode::BAD_REQUEST;
        assert_eq!(headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), !refused, "{wanted:?}");
        assert_eq!(headers.contains_key(VARY), !refused, "{wanted:?}");
        response.status().as_u16()
    }

    #[tokio::test]
    async fn only_what_could_be_a_method_makes_a_preflight() {
        for wanted in [None, Some(""), Some("G ET"), Some("("), Some("GET,POST"), Some("é")] {
            assert_eq!(status(Method::OPTIONS, wanted).await, 405, "{wanted:?}");
        }
        for wanted in ["BREW", "get", "PROPFIND"] {
            assert_eq!(status(Method::OPTIONS, Some(wanted)).await, 400, "{wanted}");
        }
        for wanted in METHODS.split(", ") {
            assert_eq!(status(Method::OPTIONS, Some(wanted)).await, 200, "{wanted}");
        }
        assert_eq!(status(Method::GET, Some("BREW")).await, 405);
    }
}
