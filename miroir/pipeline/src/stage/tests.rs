//! What a middleware can do with the service it is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{self, Poll};

use futures_util::FutureExt;
use tower::{Layer, Service, ServiceExt};

use super::*;
use crate::error::Error;

/// A stage of numbers.
struct Number(u32);

impl Stage for Number {
    type Response = u32;
    const NAME: &'static str = "number";
}

/// Adds one. A clone has to be polled ready itself, once for every call.
#[derive(Debug, Default)]
struct Strict {
    ready: bool,
    clones: Arc<AtomicU32>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self { ready: false, clones: Arc::clone(&self.clones) }
    }
}

impl Service<Number> for Strict {
    type Response = u32;
    type Error = Error;
    type Future = std::future::Ready<Result<u32, Error>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Number) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being polled ready");
        std::future::ready(Ok(request.0 + 1))
    }
}

/// Passes even numbers, doubles what three and five get, asks twice for seven, refuses the rest.
#[derive(Clone, Debug)]
struct Picky;

impl Middleware<Number> for Picky {
    fn call<S: StageService<Number>>(
        &self,
        request: Number,
        next: Ready<'_, S>,
    ) -> Reply<Number, S> {
        match request.0 {
            number if number % 2 == 0 => next.pass(request),
            3 => {
                let answer = next.call(request);
                Reply::boxed(async move { Ok(answer.await? * 2) })
            }
            5 => {
                let next = next.take();
                Reply::boxed(async move { Ok(next.run(request).await? * 2) })
            }
            7 => {
                let next = next.take();
                Reply::boxed(async move {
                    let beside = next.another();
                    let (first, again) = next.start(Number(10));
                    let second = again.clone().ready().await?.into_unready().run(Number(20));
                    Ok(first.await?
                        + second.await?
                        + again.run(Number(30)).await?
                        + beside.run(Number(40)).await?)
                })
            }
            _ => Reply::refused(Error::not_found()),
        }
    }
}

crate::layer!(Picky);

#[tokio::test]
async fn a_middleware_passes_refuses_and_answers_itself() {
    let service = Picky.layer(Strict::default());
    for (request, expected) in [(2, 3), (3, 8), (5, 12), (7, 11 + 21 + 31 + 41)] {
        assert_eq!(service.clone().oneshot(Number(request)).await.unwrap(), expected);
    }
    assert!(service.oneshot(Number(1)).await.is_err());
}

#[tokio::test]
async fn what_is_passed_on_or_refused_costs_no_clone() {
    let inner = Strict::default();
    let clones = Arc::clone(&inner.clones);
    let mut service = Picky.layer(inner);
    for request in [2, 3, 1] {
        let _ = service.ready().await.unwrap().call(Number(request)).await;
    }
    assert_eq!(clones.load(Ordering::Relaxed), 0);
    service.ready().await.unwrap().call(Number(5)).await.unwrap();
    assert_eq!(clones.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_async_function_is_a_layer() {
    let layer = from_fn(|request: Number, next: Next<Number>| async move {
        let asked = request.0;
        Ok(next.run(request).await? * asked)
    });
    let service = layer.layer(Strict::default());
    assert_eq!(service.clone().oneshot(Number(4)).await.unwrap(), 20);
    assert_eq!(service.oneshot(Number(1)).now_or_never().unwrap().unwrap(), 2);
}

#[derive(Clone, Debug)]
struct Echo(u32);

impl Echo {
    async fn run(self, request: Number) -> Result<u32, Error> {
        Ok(request.0 + self.0)
    }
}

crate::service!(Echo: Number);

#[tokio::test]
async fn the_innermost_service_is_an_async_method() {
    let service = BoxService::<Number>::new(Picky.layer(Echo(5)));
    assert_eq!(service.oneshot(Number(2)).await.unwrap(), 7);
}
