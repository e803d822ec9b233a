//! At most so many requests at one time: above, 503 at once instead of a queue nobody sees. Near the
//! limit of memory it is an eighth of them.
//!
//! Probes pass always. An orchestrator that takes "busy" for "dead" would restart the server at
//! the worst moment.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{Either, Full};
use miroir::Error;
use miroir::http::{EdgeFuture, EdgeService};
use miroir::stage::take_ready;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{Layer, Service};

use crate::paths;

/// Seconds a client is asked to wait.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// How many requests are served at one time.
#[derive(Debug)]
pub(crate) struct Admission {
    limit: usize,
    places: Arc<Semaphore>,
    tight: AtomicBool,
}

impl Admission {
    /// At most so many.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(limit));
        Arc::new(Self { limit, places, tight: AtomicBool::new(false) })
    }

    /// An eighth of the limit from now on, or all of it again. Who is in stays in.
    pub(crate) fn tighten(&self, tight: bool) {
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

#[derive(Clone, Debug)]
pub(super) struct AdmitLayer {
    admission: Arc<Admission>,
}

impl AdmitLayer {
    pub(super) fn new(admission: Arc<Admission>) -> Self {
        Self { admission }
    }
}

impl<S> Layer<S> for AdmitLayer {
    type Service = Admit<S>;
    fn layer(&self, inner: S) -> Admit<S> {
        Admit { inner, admission: Arc::clone(&self.admission) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Admit<S> {
    inner: S,
    admission: Arc<Admission>,
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

impl<S: EdgeService<B>, B: Send + 'static> Service<Request<B>> for Admit<S> {
    type Response = Response<Either<Full<Bytes>, S::Body>>;
    type Error = Infallible;
    type Future = EdgeFuture<Either<Full<Bytes>, S::Body>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let place = match request.uri().path() {
            "/health" | paths::READY => None,
            _ => match self.admission.enter() {
                Some(place) => Some(place),
                None => return Box::pin(std::future::ready(Ok(refuse().map(Either::Left)))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_are_admitted_while_it_is_tight() {
        let admission = Admission::new(16);
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
        let least = Admission::new(1);
        least.tighten(true);
        let _one = least.enter().unwrap();
        assert!(least.enter().is_none());
    }
}
