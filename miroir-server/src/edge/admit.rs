//! At most so many requests at one time: above, 503 at once instead of a queue nobody sees.
//!
//! Probes pass always. An orchestrator that takes "busy" for "dead" would restart the server at
//! the worst moment.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{self, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{Either, Full};
use miroir::Error;
use miroir::stage::take_ready;
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use crate::admin;

/// Seconds a client is asked to wait.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

#[derive(Clone, Debug)]
pub(super) struct AdmitLayer {
    places: Arc<Semaphore>,
}

impl AdmitLayer {
    pub(super) fn new(limit: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))) }
    }
}

impl<S> Layer<S> for AdmitLayer {
    type Service = Admit<S>;
    fn layer(&self, inner: S) -> Admit<S> {
        Admit { inner, places: Arc::clone(&self.places) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Admit<S> {
    inner: S,
    places: Arc<Semaphore>,
}

fn refuse() -> Response<Full<Bytes>> {
    let (status, body) = Error::overloaded().render();
    let mut response = Response::new(Full::new(body.unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    response
}

impl<S, B, C> Service<Request<B>> for Admit<S>
where
    S: Service<Request<B>, Response = Response<C>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Send + 'static,
    C: Send + 'static,
{
    type Response = Response<Either<Full<Bytes>, C>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let place = match request.uri().path() {
            "/health" | admin::READY => None,
            _ => match Arc::clone(&self.places).try_acquire_owned() {
                Ok(place) => Some(place),
                Err(_) => return Box::pin(std::future::ready(Ok(refuse().map(Either::Left)))),
            },
        };
        let mut inner = take_ready(&mut self.inner);
        Box::pin(async move {
            let response = inner.call(request).await?;
            drop(place);
            Ok(response.map(Either::Right))
        })
    }
}
