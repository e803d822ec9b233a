//! One log line and the metrics of each request.
//!
//! A request whose client went away before the answer counts nowhere but in flight. Labels and log
//! fields never hold what a client wrote, except the name of an index that can be one.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Instant;

use http::{Method, Request, Response, StatusCode};
use miroir::http::{Answered, EdgeFuture, EdgeService, Router};
use miroir::stage::take_ready;
use miroir_api::IndexUid;
use tower::{Layer, Service};

use crate::paths;

/// The template of a path nobody knows.
const UNKNOWN: &str = "unknown";

#[derive(Clone, Debug)]
pub(super) struct ObserveLayer {
    router: Arc<Router>,
}

impl ObserveLayer {
    pub(super) fn new() -> Self {
        Self { router: Arc::default() }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;
    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, router: Arc::clone(&self.router) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Observe<S> {
    inner: S,
    router: Arc<Router>,
}

/// Counts a request in flight while it lives, through panics too.
struct InFlight;

impl InFlight {
    fn begin() -> Self {
        metrics::gauge!("miroir_requests_in_flight").increment(1.0);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!("miroir_requests_in_flight").decrement(1.0);
    }
}

/// The method as a bounded label.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// The template of a path that was answered before it reached its route.
fn template(router: &Router, path: &str) -> &'static str {
    if let Some(admin) = paths::template(path) {
        return admin;
    }
    let path = super::normalize::normal(path);
    router.find(&path).map_or(UNKNOWN, |matched| matched.routes[0].path)
}

fn message(answered: &Answered) -> &'static str {
    let search = answered.route.ends_with("/search") && answered.label.is_none();
    if search { "search completed" } else { "request completed" }
}

fn record(method: &'static str, status: StatusCode, answered: &Answered, started: Instant) {
    let elapsed = started.elapsed();
    let labels = [
        ("method", metrics::SharedString::const_str(method)),
        ("path_template", metrics::SharedString::const_str(answered.route)),
        ("status", metrics::SharedString::from_owned(status.as_str().to_owned())),
    ];
    metrics::counter!("miroir_requests_total", &labels).increment(1);
    metrics::histogram!("miroir_request_duration_seconds", &labels).record(elapsed);

    let index = answered.index.as_deref().filter(|name| IndexUid::new(name).is_ok());
    let duration_ms = elapsed.as_micros() as f64 / 1_000.0;
    let status = status.as_u16();
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "miroir_server::request",
                index,
                duration_ms,
                status,
                method,
                path_template = answered.route,
                node_count = answered.nodes,
                degraded = answered.degraded,
                error = answered.label,
                "{}",
                message(answered)
            )
        };
    }
    let probe = matches!(answered.route, "/health" | paths::READY);
    match status {
        500 => line!(error),
        200 if probe => line!(debug),
        _ if answered.degraded => line!(warn),
        _ => line!(info),
    }
}

impl<S: EdgeService<B>, B: Send + 'static> Service<Request<B>> for Observe<S> {
    type Response = Response<S::Body>;
    type Error = Infallible;
    type Future = EdgeFuture<S::Body>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let started = Instant::now();
        let in_flight = InFlight::begin();
        let method = label(request.method());
        let uri = request.uri().clone();
        let table = Arc::clone(&self.router);
        let mut inner = take_ready(&mut self.inner);
        Box::pin(async move {
            let response = inner.call(request).await?;
            drop(in_flight);
            let early;
            let answered = match response.extensions().get::<Answered>() {
                Some(answered) => answered,
                None => {
                    early = Answered {
                        route: template(&table, uri.path()),
                        index: None,
                        degraded: false,
                        nodes: 0,
                        label: None,
                    };
                    &early
                }
            };
            record(method, response.status(), answered, started);
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_never_hold_what_a_client_wrote() {
        let router = Router::default();
        let cases = [
            ("/indexes/movies/search", "/indexes/{uid}/search"),
            ("//indexes//movies/search/", "/indexes/{uid}/search"),
            ("/indexes/movies/documents/0190-ab", "/indexes/{uid}/documents/{id}"),
            ("/health", "/health"),
            ("/_miroir/topology/", "/_miroir/topology"),
            ("/_miroir/018f3c", "/_miroir/unknown"),
            ("/018f3c", UNKNOWN),
        ];
        for (path, expected) in cases {
            assert_eq!(template(&router, path), expected, "{path}");
        }
    }
}
