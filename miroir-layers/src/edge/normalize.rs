//! Reads paths as Meilisearch does: several slashes are one, and one at the end is none.
//!
//! # Stage
//! Edge. Any `http::Request<B>`; the body is not looked at.
//!
//! # Order
//! Outside of all that decides by path: `admission`, `rate_limit`, `authenticate`, `forward`, Decode.
//!
//! # Context
//! Rewrites the request's URI. What stands outside sees the path as the client wrote it.
//!
//! # Errors
//! None.
//!
//! # Metrics
//! None.
//!
//! # Example
//! ```
//! use miroir_layers::edge::NormalizeLayer;
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new().layer(NormalizeLayer::new()).service_fn(
//!     |request: http::Request<()>| async move {
//!         Ok::<_, std::convert::Infallible>(request.uri().to_string())
//!     },
//! );
//! let request = http::Request::get("//indexes///films/?q=a//b").body(()).unwrap();
//! assert_eq!(service.oneshot(request).await.unwrap(), "/indexes/films?q=a//b");
//! # }
//! ```

use std::borrow::Cow;
use std::task::{self, Poll};

use http::uri::PathAndQuery;
use http::{Request, Uri};
use miroir_pipeline::Placed;
use tower::{Layer, Service};

/// See the [module's documentation](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct NormalizeLayer(());

impl NormalizeLayer {
    /// As Meilisearch: there is nothing to choose.
    pub fn new() -> Self {
        Self(())
    }
}

impl Placed for NormalizeLayer {
    const NAME: &'static str = "normalize";
}

impl<S> Layer<S> for NormalizeLayer {
    type Service = Normalize<S>;
    fn layer(&self, inner: S) -> Normalize<S> {
        Normalize { inner }
    }
}

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
pub struct Normalize<S> {
    inner: S,
}

/// The path without slashes that mean nothing.
pub(super) fn normal(path: &str) -> Cow<'_, str> {
    if path == "/" || !(path.contains("//") || path.ends_with('/')) {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() {
        out.push('/');
    }
    Cow::Owned(out)
}

fn rewrite(uri: &Uri) -> Option<Uri> {
    let Cow::Owned(mut path) = normal(uri.path()) else { return None };
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Normalize<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(uri) = rewrite(request.uri()) {
            *request.uri_mut() = uri;
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_that_mean_nothing_go() {
        let rewritten = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            rewrite(&uri).unwrap_or(uri).to_string()
        };
        assert_eq!(rewritten("/indexes/"), "/indexes");
        assert_eq!(rewritten("//indexes//a///search/?q=a//b/"), "/indexes/a/search?q=a//b/");
        assert_eq!(rewritten("/"), "/");
        assert_eq!(rewritten("/a?b=/"), "/a?b=/");
        assert_eq!(rewritten("/a%2F/"), "/a%2F");
    }
}
