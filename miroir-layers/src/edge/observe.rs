//! Writes one log line and the metrics of each request.
//!
//! A request whose client went away before the answer counts nowhere but in flight. Labels and log
//! fields never hold what a client wrote, except the name of an index that can be one.
//!
//! # Stage
//! Edge. Any `http::Request<B>`; the body is not looked at.
//!
//! # Order
//! Inside of `request_id`, whose span carries the id into the line. Outside of all that answers.
//!
//! # Context
//! Reads [`Refused`] in the response's extensions, which is why Miroir refused the request, and
//! [`Answered`]: the route, the index, and how complete the answer
//! is. Where a layer answered before there was a route, the path's template is looked up.
//!
//! # Errors
//! None.
//!
//! # Metrics
//! `miroir_requests_total{method, path_template, status}`, `miroir_request_duration_seconds` with the
//! same labels, `miroir_requests_in_flight`; `miroir_requests_refused_total{reason}`: requests that
//! Miroir itself refused, each by the pod that refused it.
//!
//! # Example
//! ```
//! use miroir_layers::edge::{ObserveLayer, ObserveOptions};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new()
//!     .layer(ObserveLayer::new(ObserveOptions::default()))
//!     .service_fn(|_: http::Request<()>| async move {
//!         Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
//!     });
//! let request = http::Request::get("/indexes").body(()).unwrap();
//! assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
//! # }
//! ```

use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request, StatusCode};
use miroir_api::IndexUid;
use miroir_pipeline::Placed;
use miroir_pipeline::http::{Answered, EdgeFuture, EdgeMiddleware, EdgeReady, EdgeService, Router};
use miroir_pipeline::refused::Refused;
use miroir_pipeline::stack::LayerName;

use super::normalize::normal;
use super::paths::is_probe;
use super::request_id::RequestIdLayer;

/// The template of a path nobody knows.
const UNKNOWN: &str = "unknown";

/// The template of a path that is not the client API's; `None` for other paths.
pub type Template = fn(&str) -> Option<&'static str>;

/// What else is served beside the client API.
#[derive(Clone, Copy, Debug)]
pub struct ObserveOptions {
    /// The templates of its paths. None by default.
    pub template: Template,
}

impl Default for ObserveOptions {
    fn default() -> Self {
        Self { template: |_| None }
    }
}

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct ObserveLayer {
    router: Arc<Router>,
    template: Template,
}

impl ObserveLayer {
    /// Knows the paths of the client API, and these.
    pub fn new(options: ObserveOptions) -> Self {
        Self { router: Arc::default(), template: options.template }
    }

    /// The template of a path that was answered before it reached its route.
    fn template(&self, path: &str) -> &'static str {
        if let Some(other) = (self.template)(path) {
            return other;
        }
        let path = normal(path);
        self.router.find(&path).map_or(UNKNOWN, |matched| matched.routes[0].path)
    }
}

impl Placed for ObserveLayer {
    const NAME: &'static str = "observe";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<RequestIdLayer>()];
}

miroir_pipeline::edge_layer!(ObserveLayer);

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
            // The target is what filters of logs name, wherever this stands.
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
    let probe = is_probe(answered.route);
    match status {
        500 => line!(error),
        200 if probe => line!(debug),
        _ if answered.degraded => line!(warn),
        _ => line!(info),
    }
}

impl EdgeMiddleware for ObserveLayer {
    type Body<C: Send + 'static> = C;

    fn call<B: Send + 'static, S: EdgeService<B>>(
        &self,
        request: Request<B>,
        next: EdgeReady<'_, S>,
    ) -> EdgeFuture<S::Body> {
        let started = Instant::now();
        let in_flight = InFlight::begin();
        let method = label(request.method());
        let uri = request.uri().clone();
        let layer = self.clone();
        let answer = next.call(request);
        Box::pin(async move {
            let response = answer.await?;
            drop(in_flight);
            let early;
            let answered = match response.extensions().get::<Answered>() {
                Some(answered) => answered,
                None => {
                    early = Answered {
                        route: layer.template(uri.path()),
                        index: None,
                        degraded: false,
                        nodes: 0,
                        label: None,
                    };
                    &early
                }
            };
            if let Some(reason) = response.extensions().get::<Refused>() {
                metrics::counter!("miroir_requests_refused_total", "reason" => reason.as_str())
                    .increment(1);
            }
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
        let admin: Template = |path| match path.trim_end_matches('/') {
            "/_miroir/topology" => Some("/_miroir/topology"),
            path => path.starts_with("/_miroir/").then_some("/_miroir/unknown"),
        };
        let layer = ObserveLayer::new(ObserveOptions { template: admin });
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
            assert_eq!(layer.template(path), expected, "{path}");
        }
    }
}
