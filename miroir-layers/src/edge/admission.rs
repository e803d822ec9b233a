//! Admits no more than so many requests at one time: above, 503 at once instead of a queue nobody
//! sees.
//!
//! Whoever watches the memory of the process may [tighten](Admission::tighten) it to an eighth.
//! Probes pass always: an orchestrator that takes "busy" for "dead" would restart the process at the
//! worst moment.
//!
//! # Stage
//! Edge. Any `http::Request<B>`; the body is not looked at.
//!
//! # Order
//! Inside of `normalize`, by whose paths it knows probes. Outside of all that costs something:
//! limits, keys, bodies.
//!
//! # Context
//! Reads nothing.
//!
//! # Errors
//! 503 `miroir_overloaded`, with `Retry-After: 1`.
//!
//! # Metrics
//! None of its own: `observe` counts its refusals.
//!
//! # Example
//! ```
//! use miroir_layers::edge::{Admission, AdmissionLayer, AdmissionOptions};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let admission = Admission::new(AdmissionOptions { max_concurrent_requests: 500 });
//! let service = ServiceBuilder::new().layer(AdmissionLayer::new(admission)).service_fn(
//!     |_: http::Request<()>| async move {
//!         Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
//!     },
//! );
//! let request = http::Request::get("/indexes").body(()).unwrap();
//! assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
//! # }
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{Either, Full};
use miroir_core::options::{Faults, Validate};
use miroir_pipeline::http::{EdgeFuture, EdgeMiddleware, EdgeReady, EdgeService, refuse};
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::{Error, Placed};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::normalize::NormalizeLayer;
use super::paths::is_probe;

/// Seconds a client is asked to wait.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// How many requests are served at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionOptions {
    /// Requests at one time; more are refused. 2000 by default, twice what
    /// a node lets wait.
    pub max_concurrent_requests: usize,
}

impl Default for AdmissionOptions {
    fn default() -> Self {
        Self { max_concurrent_requests: 2_000 }
    }
}

impl Validate for AdmissionOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[("max_concurrent_requests", self.max_concurrent_requests == 0)]);
    }
}

/// The places of a process: [`AdmissionLayer`] gives them to requests.
#[derive(Debug)]
pub struct Admission {
    limit: usize,
    places: Arc<Semaphore>,
    tight: AtomicBool,
}

impl Admission {
    /// As many as the options say.
    #[must_use]
    pub fn new(options: AdmissionOptions) -> Arc<Self> {
        let limit = options.max_concurrent_requests.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(limit));
        Arc::new(Self { limit, places, tight: AtomicBool::new(false) })
    }

    /// An eighth of the places from now on, or all of them again. Who is in stays in.
    pub fn tighten(&self, tight: bool) {
        self.tight.store(tight, Ordering::Relaxed);
    }

    fn enter(&self) -> Option<OwnedSemaphorePermit> {
        if self.tight.load(Ordering::Relaxed) {
            let inside = self.limit - self.places.available_permits();
            if inside >= self.limit.div_ceil(8) {
                return None;
            }
        }
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct AdmissionLayer {
    admission: Arc<Admission>,
}

impl AdmissionLayer {
    /// Gives these places to requests.
    pub fn new(admission: Arc<Admission>) -> Self {
        Self { admission }
    }
}

impl Placed for AdmissionLayer {
    const NAME: &'static str = "admission";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<NormalizeLayer>()];
}

miroir_pipeline::edge_layer!(AdmissionLayer);

fn full() -> Response<Full<Bytes>> {
    let mut response = refuse(&Error::overloaded());
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    response
}

impl EdgeMiddleware for AdmissionLayer {
    type Body<C: Send + 'static> = Either<Full<Bytes>, C>;

    fn call<B: Send + 'static, S: EdgeService<B>>(
        &self,
        request: Request<B>,
        next: EdgeReady<'_, S>,
    ) -> EdgeFuture<Self::Body<S::Body>> {
        let place = if is_probe(request.uri().path()) {
            None
        } else if let Some(place) = self.admission.enter() {
            Some(place)
        } else {
            return Box::pin(std::future::ready(Ok(full().map(Either::Left))));
        };
        let answer = next.call(request);
        Box::pin(async move {
            let response = answer.await?;
            drop(place);
            Ok(response.map(Either::Right))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(max_concurrent_requests: usize) -> AdmissionOptions {
        AdmissionOptions { max_concurrent_requests }
    }

    #[test]
    fn fewer_are_admitted_while_it_is_tight() {
        let admission = Admission::new(of(16));
        let mut inside: Vec<_> = (0..3).map(|_| admission.enter().unwrap()).collect();
        admission.tighten(true);
        assert!(admission.enter().is_none(), "two of sixteen are the eighth part");
        inside.truncate(1);
        let one = admission.enter().unwrap();
        assert!(admission.enter().is_none());
        admission.tighten(false);
        inside.extend((0..14).map(|_| admission.enter().unwrap()));
        assert!(admission.enter().is_none(), "all places are taken");
        drop(one);
        assert!(admission.enter().is_some());
        // The least limit still admits one.
        let least = Admission::new(of(1));
        least.tighten(true);
        let _one = least.enter().unwrap();
        assert!(least.enter().is_none());
    }
}
