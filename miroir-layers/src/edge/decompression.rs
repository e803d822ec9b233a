//! Decodes bodies of requests that are encoded with gzip, deflate or br, by tower-http's
//! `RequestDecompressionLayer`.
//!
//! A body in another encoding goes on as it is: Decode refuses it in Meilisearch's words.
//!
//! # Stage
//! Edge. Any `http::Request<B>` with a body of bytes; the body is decoded while it is read, so what
//! bounds its size inside of this layer bounds the decoded size.
//!
//! # Order
//! Outside of what reads bodies: `forward` and Decode.
//!
//! # Context
//! Reads nothing. Removes `Content-Encoding` of what it decodes.
//!
//! # Errors
//! None of its own: a body that is not what it says is one that ends too early.
//!
//! # Metrics
//! None.
//!
//! # Example
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use miroir_layers::edge::decompression::{Decompressed, DecompressionLayer};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new().layer(DecompressionLayer::new()).service_fn(
//!     |request: http::Request<Decompressed<Full<Bytes>>>| async move {
//!         assert!(!request.headers().contains_key("content-encoding"));
//!         Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::default()))
//!     },
//! );
//! let request = http::Request::post("/indexes").header("content-encoding", "gzip");
//! let request = request.body(Full::<Bytes>::default()).unwrap();
//! assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
//! # }
//! ```

use miroir_pipeline::Placed;
use tower::Layer;
/// The body of a request inside of this layer, where outside it is `B`.
pub use tower_http::decompression::DecompressionBody as Decompressed;
use tower_http::decompression::{RequestDecompression, RequestDecompressionLayer};

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct DecompressionLayer(RequestDecompressionLayer);

impl DecompressionLayer {
    /// Decodes every encoding it knows.
    pub fn new() -> Self {
        Self(RequestDecompressionLayer::new().pass_through_unaccepted(true))
    }
}

impl Default for DecompressionLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl Placed for DecompressionLayer {
    const NAME: &'static str = "decompression";
}

impl<S> Layer<S> for DecompressionLayer {
    type Service = RequestDecompression<S>;
    fn layer(&self, inner: S) -> Self::Service {
        self.0.layer(inner)
    }
}
