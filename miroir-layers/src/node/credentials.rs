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

use http::HeaderValue;
use http::header::{AUTHORIZATION, InvalidHeaderValue};
use miroir_pipeline::node::Request;
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{Placed, StageService};

use super::LimitLayer;

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
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<LimitLayer>()];
}

miroir_pipeline::layer!(CredentialsLayer);

impl Middleware<Request> for CredentialsLayer {
    fn call<S: StageService<Request>>(
        &self,
        mut request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        request.headers_mut().insert(AUTHORIZATION, self.value.clone());
        next.pass(request)
    }
}
