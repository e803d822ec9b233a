//! The frame of a layer: what tower asks for, written once.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{self, Poll};

use pin_project_lite::pin_project;
use tower::{Service, ServiceExt};

use super::{BoxService, Stage, StageFuture, StageService, take_ready};
use crate::error::Error;

/// What a layer does with the requests of a stage.
///
/// tower's contract says that the service that was polled ready is the one to be called. Here it
/// cannot be broken: [`Ready`] is that service, it can be used once, and there is no other one but
/// by polling it ([`Unready`]).
///
/// A middleware answers in one of three ways, and pays for no more than it uses:
///
/// | | what it costs |
/// | --- | --- |
/// | [`Ready::pass`]: the request is not its business, or it changed the request only | nothing |
/// | [`Reply::refused`]: an error at once | nothing |
/// | [`Reply::boxed`]: a future of its own | one box, and with [`Ready::take`] one clone of the rest |
///
/// [`layer!`](crate::layer) makes it a [`tower::Layer`]. `docs/write-a-layer.md` goes through all of
/// it.
///
/// ```
/// use miroir_pipeline::{Placed, Stack, index::{Operation, Request}};
/// use miroir_pipeline::stage::{Middleware, Ready, Reply, StageService};
///
/// /// Takes no more searches than the clock has seconds.
/// #[derive(Clone, Copy, Debug)]
/// struct Slow;
///
/// impl Placed for Slow {
///     const NAME: &'static str = "slow";
/// }
///
/// impl Middleware<Request> for Slow {
///     fn call<S: StageService<Request>>(
///         &self,
///         request: Request,
///         next: Ready<'_, S>,
///     ) -> Reply<Request, S> {
///         if !matches!(request.op, Operation::Search(_)) {
///             return next.pass(request);
///         }
///         let next = next.take();
///         Reply::boxed(async move {
///             tokio::time::sleep(std::time::Duration::from_secs(1)).await;
///             next.run(request).await
///         })
///     }
/// }
///
/// miroir_pipeline::layer!(Slow);
/// assert_eq!(Stack::<Request>::new().push(Slow).describe().layers, ["slow"]);
/// ```
pub trait Middleware<R: Stage>: Clone + Send + Sync + 'static {
    /// Answers a request. Called when the rest of the pipeline is ready; work that waits belongs
    /// into [`Reply::boxed`].
    fn call<S: StageService<R>>(&self, request: R, next: Ready<'_, S>) -> Reply<R, S>;
}

/// Makes [`Middleware`] types [`tower::Layer`]s. (A blanket implementation is not possible: both
/// would be foreign to the crate that has the type.)
#[macro_export]
macro_rules! layer {
    ($($middleware:ty),+ $(,)?) => {$(
        impl<S> $crate::stage::Layer<S> for $middleware {
            type Service = $crate::stage::Layered<Self, S>;

            fn layer(&self, inner: S) -> Self::Service {
                $crate::stage::Layered::new(::std::clone::Clone::clone(self), inner)
            }
        }
    )+};
}

/// A service with a [`Middleware`] around it.
#[derive(Clone, Debug)]
pub struct Layered<M, S> {
    middleware: M,
    inner: S,
}

impl<M, S> Layered<M, S> {
    /// Puts a middleware around a service.
    pub fn new(middleware: M, inner: S) -> Self {
        Self { middleware, inner }
    }
}

impl<R: Stage, M: Middleware<R>, S: StageService<R>> Service<R> for Layered<M, S> {
    type Response = R::Response;
    type Error = Error;
    type Future = Reply<R, S>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Reply<R, S> {
        self.middleware.call(request, Ready { service: &mut self.inner })
    }
}

/// The rest of the pipeline, ready to be called once, while the middleware looks at a request.
#[must_use = "a request that is neither passed on nor answered is lost"]
pub struct Ready<'a, S> {
    service: &'a mut S,
}

impl<S> fmt::Debug for Ready<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ready")
    }
}

impl<S> Ready<'_, S> {
    /// Passes the request on; what answers it is the reply.
    pub fn pass<R: Stage>(self, request: R) -> Reply<R, S>
    where
        S: StageService<R>,
    {
        Reply { kind: Kind::Passed { future: self.service.call(request) } }
    }

    /// Calls the rest of the pipeline now. For a future that only looks at the answer.
    pub fn call<R: Stage>(self, request: R) -> S::Future
    where
        S: StageService<R>,
    {
        self.service.call(request)
    }

    /// Takes the ready service along, into a future that calls it later or not at all.
    pub fn take<R: Stage>(self) -> Next<R, S>
    where
        S: StageService<R>,
    {
        Next { inner: take_ready(self.service), stage: PhantomData }
    }
}

/// The rest of the pipeline, ready to be called once. In a [`from_fn`](super::from_fn) layer its
/// type is erased.
pub struct Next<R: Stage, S = BoxService<R>> {
    inner: S,
    stage: PhantomData<fn(R)>,
}

impl<R: Stage, S> fmt::Debug for Next<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("stage", &R::NAME).finish()
    }
}

impl<R: Stage, S: StageService<R>> Next<R, S> {
    /// Asks the rest of the pipeline. The future fails with whatever the inner services answer.
    pub fn run(mut self, request: R) -> S::Future {
        self.inner.call(request)
    }

    /// The same, and what is needed to ask again.
    pub fn start(mut self, request: R) -> (S::Future, Unready<R, S>) {
        let answer = self.inner.call(request);
        (answer, Unready { inner: self.inner, stage: PhantomData })
    }

    /// The same service, to be asked again whether it is ready.
    pub fn into_unready(self) -> Unready<R, S> {
        Unready { inner: self.inner, stage: PhantomData }
    }

    /// Another way into the rest of the pipeline, for a second request beside this one.
    pub fn another(&self) -> Unready<R, S> {
        Unready { inner: self.inner.clone(), stage: PhantomData }
    }

    /// With its type erased: one box.
    pub fn erased(self) -> Next<R> {
        Next { inner: BoxService::new(self.inner), stage: PhantomData }
    }
}

/// The rest of the pipeline, before anybody asked whether it is ready: for further requests, such
/// as attempts elsewhere and hedges.
pub struct Unready<R: Stage, S = BoxService<R>> {
    inner: S,
    stage: PhantomData<fn(R)>,
}

impl<R: Stage, S: Clone> Clone for Unready<R, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), stage: PhantomData }
    }
}

impl<R: Stage, S> fmt::Debug for Unready<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unready").field("stage", &R::NAME).finish()
    }
}

impl<R: Stage, S: StageService<R>> Unready<R, S> {
    /// Waits until it is ready.
    ///
    /// # Errors
    /// What the inner services' `poll_ready` fails with.
    pub async fn ready(mut self) -> Result<Next<R, S>, Error> {
        self.inner.ready().await?;
        Ok(Next { inner: self.inner, stage: PhantomData })
    }

    /// Waits until it is ready and asks.
    ///
    /// # Errors
    /// Whatever the inner services answer.
    pub async fn run(self, request: R) -> Result<R::Response, Error> {
        self.inner.oneshot(request).await
    }
}

pin_project! {
    /// How a [`Middleware`] answers: a future.
    #[must_use = "a reply does nothing unless it is polled"]
    pub struct Reply<R: Stage, S: StageService<R>> {
        #[pin]
        kind: Kind<S::Future, Result<R::Response, Error>>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F, T> {
        Passed { #[pin] future: F },
        Boxed { future: Pin<Box<dyn Future<Output = T> + Send>> },
        Refused { error: Option<Error> },
    }
}

impl<R: Stage, S: StageService<R>> fmt::Debug for Reply<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Passed { .. } => "passed",
            Kind::Boxed { .. } => "boxed",
            Kind::Refused { .. } => "refused",
        };
        f.debug_struct("Reply").field("stage", &R::NAME).field("kind", &kind).finish()
    }
}

impl<R: Stage, S: StageService<R>> Reply<R, S> {
    /// An error, at once.
    pub fn refused(error: Error) -> Self {
        Self { kind: Kind::Refused { error: Some(error) } }
    }

    /// What this future answers. It runs when the reply is polled, and may be dropped at any moment.
    pub fn boxed(
        future: impl Future<Output = Result<R::Response, Error>> + Send + 'static,
    ) -> Self {
        let future: StageFuture<R> = Box::pin(future);
        Self { kind: Kind::Boxed { future } }
    }
}

impl<R: Stage, S: StageService<R>> Future for Reply<R, S> {
    type Output = Result<R::Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjection::Passed { future } => future.poll(cx),
            KindProjection::Boxed { future } => future.as_mut().poll(cx),
            KindProjection::Refused { error } => {
                Poll::Ready(Err(error.take().expect("a reply is not polled after its end")))
            }
        }
    }
}
