//! Paths as Meilisearch reads them: several slashes are one, and one at the end is none.

use std::borrow::Cow;
use std::task::{self, Poll};

use http::uri::PathAndQuery;
use http::{Request, Uri};
use tower::{Layer, Service};

#[derive(Clone, Copy, Debug)]
pub(super) struct NormalizeLayer;

impl<S> Layer<S> for NormalizeLayer {
    type Service = Normalize<S>;
    fn layer(&self, inner: S) -> Normalize<S> {
        Normalize { inner }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Normalize<S> {
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
