//! Where the two APIs meet: `/_miroir` goes to the admin router, everything else to the client API.

use crate::paths;
use std::convert::Infallible;
use std::task::{self, Poll};

use axum::Router;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use miroir::error::BoxError;
use miroir::http::{Answered, Decode};
use tower::{Service, ServiceExt};

/// The base service of the edge.
#[derive(Clone)]
pub(crate) struct Mount {
    admin: Router,
    client: Decode,
}

impl Mount {
    pub(crate) fn new(admin: Router, client: Decode) -> Self {
        Self { admin, client }
    }
}

/// Asks the admin router. Its answers are small and in memory: they are collected.
async fn ask<B>(admin: Router, request: Request<B>, route: &'static str) -> Response<Full<Bytes>>
where
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let Ok(response) = admin.oneshot(request).await;
    let (mut parts, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    parts.headers.remove(http::header::CONTENT_LENGTH);
    let label = (!parts.status.is_success()).then_some("admin");
    let answered = Answered { route, index: None, degraded: false, nodes: 0, label };
    parts.extensions.insert(answered);
    Response::from_parts(parts, Full::new(body))
}

impl<B> Service<Request<B>> for Mount
where
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match paths::template(request.uri().path()) {
            Some(route) => {
                let admin = self.admin.clone();
                Box::pin(async move { Ok(ask(admin, request, route).await) })
            }
            None => self.client.call(request),
        }
    }
}
