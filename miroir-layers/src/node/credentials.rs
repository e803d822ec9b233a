//! Signs calls with the key that Miroir has for the nodes.
//!
//! Clients never see it, and nothing a client sends as `Authorization` reaches a node.
//!
//! # Stage
//! Node, all calls. Sets the `Authorization` header.
//!
//! # Order
//! Inside of everything else: the last to touch the headers.
//!
//! # Context
//! Reads and sets nothing.
//!
//! # Errors
//! Adds none.
//!
//! # Metrics
//! None.
//!
//! # Example
//! ```
//! use miroir_layers::node::CredentialsLayer;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let (mut service, mut inner) = miroir_test::layered(CredentialsLayer::new("node key").unwrap());
//! let call = service.spawn_call(http::Request::get("/stats").body(Default::default()).unwrap());
//! let request = inner.next_request().await;
//! assert_eq!(request.request().headers()["authorization"], "Bearer node key");
//! # drop(call);
//! # }
//! ```

use std::fmt;
use std::task::{self, Poll};

use http::HeaderValue;
use http::header::{AUTHORIZATION, InvalidHeaderValue};
use miroir_pipeline::node::{Request, Response};
use miroir_pipeline::{Error, Placed, StageService};
use tower::{Layer, Service};

/// See the [module's documentation](self).
#[derive(Clone)]
#[must_use]
pub struct CredentialsLayer {
    value: HeaderValue,
}

impl fmt::Debug for CredentialsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsLayer").finish_non_exhaustive()
    }
}

impl CredentialsLayer {
    /// Signs with this key.
    ///
    /// # Errors
    /// When the key has characters that no header may have.
    pub fn new(key: &str) -> Result<Self, InvalidHeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {key}"))?;
        // Keeps it out of debug output of requests.
        value.set_sensitive(true);
        Ok(Self { value })
    }
}

impl Placed for CredentialsLayer {
    const NAME: &'static str = "credentials";
    const INSIDE_OF: &'static [&'static str] = &["metrics", "breaker", "load", "deadline", "limit"];
}

impl<S> Layer<S> for CredentialsLayer {
    type Service = Credentials<S>;
    fn layer(&self, inner: S) -> Credentials<S> {
        Credentials { inner, layer: self.clone() }
    }
}

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
pub struct Credentials<S> {
    inner: S,
    layer: CredentialsLayer,
}

impl<S: StageService<Request>> Service<Request> for Credentials<S> {
    type Response = Response;
    type Error = Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> S::Future {
        request.headers_mut().insert(AUTHORIZATION, self.layer.value.clone());
        self.inner.call(request)
    }
}
