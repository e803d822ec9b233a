//! Checks that every layer of a typed stage must pass.
//!
//! | check | what breaks without it |
//! | --- | --- |
//! | readiness, and its errors, are forwarded | back-pressure is lost |
//! | the service that was polled is the one that is called | what it reserved is lost |
//! | a ready service may be dropped uncalled | permits leak; hedging does this all the time |
//! | a call may be dropped at any moment | permits leak; clients do this all the time |
//! | foreign requests and errors pass unchanged | layers do what they were not asked for |
//!
//! Time should be paused: `#[tokio::test(start_paused = true)]`.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll, Wake, Waker};

use miroir_pipeline::error::ErrorKind;
use miroir_pipeline::stage::{Stage, StageService};
use miroir_pipeline::{Error, Fault};
use tower::{Layer, Service};

use crate::mock::{Exchange, MockHandle, MockService, mock};

/// How often something is dropped before the layer must still work. More than the capacity of any
/// layer that a test is likely to build.
const DROPS: usize = 16;

/// Every check: [`readiness`], [`cancellation`] and [`passes_unchanged`].
///
/// `make_request` makes requests that are none of the layer's business: they have to come out as
/// they went in. For a layer that changes every request use the other functions.
///
/// # Panics
/// When the layer breaks the contract.
pub async fn contract<R, L>(layer: L, make_request: impl Fn() -> R)
where
    R: Stage + Clone + fmt::Debug,
    L: Layer<MockService<R>>,
    L::Service: StageService<R>,
{
    readiness::<R, L>(&layer, &make_request).await;
    cancellation::<R, L>(&layer, &make_request).await;
    passes_unchanged::<R, L>(&layer, &make_request).await;
}

/// Readiness is the inner service's, and what was polled is called.
///
/// # Panics
/// When it is not so.
pub async fn readiness<R, L>(layer: &L, make_request: impl Fn() -> R)
where
    R: Stage,
    L: Layer<MockService<R>>,
    L::Service: StageService<R>,
{
    let (inner, mut handle) = mock::<R>();
    let mut service = layer.layer(inner);

    handle.set_ready(false);
    let woken = Arc::new(Woken::default());
    assert!(
        service
            .poll_ready(&mut task::Context::from_waker(&Waker::from(Arc::clone(&woken))))
            .is_pending(),
        "the layer says ready while the inner service is not"
    );
    handle.set_ready(true);
    assert!(
        woken.0.load(Ordering::Relaxed),
        "the layer does not pass its waker to the inner service's `poll_ready`"
    );

    handle.fail_ready(Error::overloaded());
    match poll_ready(&mut service) {
        Poll::Ready(Err(error)) => assert_same(&error),
        other => panic!("an error of the inner `poll_ready` became {other:?}"),
    }
    handle.set_ready(true);

    // A clone taken now is never polled by anybody but itself: nothing of its state is shared.
    let clone = service.clone();
    for mut service in [service, clone] {
        assert!(
            matches!(poll_ready(&mut service), Poll::Ready(Ok(()))),
            "the layer is not ready while the inner service is"
        );
        let polled = handle.last_polled();
        let mut call = pin!(service.call(make_request()));
        let exchange = until_asked(&mut call, &mut handle).await;
        assert_eq!(
            Some(exchange.service()),
            polled,
            "the layer called another clone than the one that was polled ready"
        );
        exchange.fail(Error::overloaded());
        assert_same(&call.await.err().expect("the inner service failed"));
    }
}

/// A ready service and an unfinished call may be dropped as often as anybody likes.
///
/// # Panics
/// When the layer does not serve any more afterwards.
pub async fn cancellation<R, L>(layer: &L, make_request: impl Fn() -> R)
where
    R: Stage,
    L: Layer<MockService<R>>,
    L::Service: StageService<R>,
{
    let (inner, mut handle) = mock::<R>();
    let service = layer.layer(inner);
    for _ in 0..DROPS {
        // Ready, never called.
        let mut ready = service.clone();
        let _ = poll_ready(&mut ready);
        drop(ready);

        // Called, never polled.
        let mut unpolled = service.clone();
        let _ = poll_ready(&mut unpolled);
        drop(unpolled.call(make_request()));
        while handle.try_next_request().is_some() {}

        // Polled until the inner service was asked, then dropped.
        let mut pending = service.clone();
        let _ = poll_ready(&mut pending);
        let mut call = Box::pin(pending.call(make_request()));
        let exchange = until_asked(&mut call, &mut handle).await;
        drop(call);
        drop(exchange);
    }
    let mut last = service.clone();
    assert!(
        matches!(poll_ready(&mut last), Poll::Ready(Ok(()))),
        "the layer is not ready any more after services and calls were dropped"
    );
    let mut call = pin!(last.call(make_request()));
    let exchange = until_asked(&mut call, &mut handle).await;
    exchange.fail(Error::overloaded());
    assert_same(&call.await.err().expect("the inner service failed"));
}

/// A request comes out as it went in, and so does the error that answers it.
///
/// # Panics
/// When either changes. Requests are compared by their `Debug` output, which does not show what is
/// in an `http::Extensions`.
pub async fn passes_unchanged<R, L>(layer: &L, make_request: impl Fn() -> R)
where
    R: Stage + Clone + fmt::Debug,
    L: Layer<MockService<R>>,
    L::Service: StageService<R>,
{
    let (inner, mut handle) = mock::<R>();
    let mut service = layer.layer(inner);
    assert!(matches!(poll_ready(&mut service), Poll::Ready(Ok(()))), "the layer is not ready");
    let request = make_request();
    let before = format!("{request:?}");
    let mut call = pin!(service.call(request));
    let exchange = until_asked(&mut call, &mut handle).await;
    assert_eq!(before, format!("{:?}", exchange.request()), "the layer changed a foreign request");
    exchange.fail(Error::overloaded());
    assert_same(&call.await.err().expect("the inner service failed"));
    handle.assert_idle().await;
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn poll_ready<R: Stage>(service: &mut impl StageService<R>) -> Poll<Result<(), Error>> {
    service.poll_ready(&mut task::Context::from_waker(Waker::noop()))
}

/// Drives a call until the inner service was asked. What earlier calls asked and gave up is passed
/// over: a layer may ask for several things at once.
async fn until_asked<R: Stage>(
    call: &mut (impl Future<Output = Result<R::Response, Error>> + Unpin),
    handle: &mut MockHandle<R>,
) -> Exchange<R> {
    loop {
        let exchange = tokio::select! {
            biased;
            exchange = handle.next_request() => exchange,
            answer = &mut *call => panic!(
                "the layer answered without asking the inner service: {:?}",
                answer.err()
            ),
        };
        if !exchange.is_cancelled() {
            return exchange;
        }
    }
}

fn assert_same(error: &Error) {
    assert!(
        matches!(error.kind(), ErrorKind::Overloaded) && *error.fault() == Fault::Miroir,
        "the layer changed an error of the inner service to {error:?}"
    );
}
