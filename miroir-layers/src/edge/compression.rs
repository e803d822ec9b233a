//! Encodes answers as the request's `Accept-Encoding` says: gzip, deflate or br, by tower-http's
//! `CompressionLayer`. Every answer with a body is encoded, however short, as Meilisearch does.
//!
//! # Stage
//! Edge. Any `http::Request<B>`; the answer's body is encoded while it is sent.
//!
//! # Order
//! Inside of `negotiate`, which leaves one encoding to choose from: tower-http chooses otherwise than
//! Meilisearch.
//!
//! # Context
//! Reads nothing.
//!
//! # Errors
//! None.
//!
//! # Metrics
//! None.
//!
//! # Example
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use miroir_layers::edge::CompressionLayer;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new().layer(CompressionLayer::new()).service_fn(
//!     |_: http::Request<()>| async move {
//!         Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::from("plain")))
//!     },
//! );
//! let request = http::Request::get("/indexes").header("accept-encoding", "gzip").body(()).unwrap();
//! let response = service.oneshot(request).await.unwrap();
//! assert_eq!(response.headers()["content-encoding"], "gzip");
//! # }
//! ```

use miroir_pipeline::Placed;
use miroir_pipeline::stack::LayerName;
use tower::Layer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::compression::{Compression, CompressionLayer as Tower};

use super::negotiate::NegotiateLayer;

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct CompressionLayer(Tower<SizeAbove>);

impl CompressionLayer {
    /// Encodes every answer that has a body.
    pub fn new() -> Self {
        Self(Tower::new().compress_when(SizeAbove::new(1)))
    }
}

impl Default for CompressionLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl Placed for CompressionLayer {
    const NAME: &'static str = "compression";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<NegotiateLayer>()];
}

impl<S> Layer<S> for CompressionLayer {
    type Service = Compression<S, SizeAbove>;
    fn layer(&self, inner: S) -> Self::Service {
        self.0.layer(inner)
    }
}
