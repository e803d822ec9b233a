//! The stage trait, the boxed service, and what layers are written with.
//!
//! | to write | use |
//! | --- | --- |
//! | a layer with options, a name and a place | [`Middleware`] and [`layer!`](crate::layer) |
//! | a layer in one expression | [`from_fn`] |
//! | the innermost service of a stage | [`service!`](crate::service) |

use futures_util::future::BoxFuture;
pub use tower::{Layer, Service};

use crate::error::Error;

mod from_fn;
mod middleware;
#[cfg(test)]
mod tests;

pub use from_fn::{FromFnLayer, from_fn};
pub use middleware::{Layered, Middleware, Next, Ready, Reply, Unready};

/// A request type of the pipeline, and what answers it.
pub trait Stage: Send + 'static {
    /// The answer.
    type Response: Send + 'static;
    /// Name of the stage, for order errors and `--describe-stack`.
    const NAME: &'static str;
}

/// Bounds every service of a stage satisfies. Implemented for all that qualify, never by hand.
pub trait StageService<R: Stage>:
    Service<R, Response = R::Response, Error = Error, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<R: Stage, S> StageService<R> for S where
    S: Service<R, Response = R::Response, Error = Error, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A service of a stage with its type erased. Boxed at boundaries only.
pub type BoxService<R> = tower::util::BoxCloneSyncService<R, <R as Stage>::Response, Error>;

/// The boxed future of a service of a stage.
pub type StageFuture<R> = BoxFuture<'static, Result<<R as Stage>::Response, Error>>;

/// Takes the service that was polled ready and leaves a clone in its place.
///
/// `call` must use the very service whose `poll_ready` answered; a fresh clone has not been asked.
/// A [`Middleware`] needs none of this.
pub fn take_ready<S: Clone>(service: &mut S) -> S {
    let clone = service.clone();
    std::mem::replace(service, clone)
}

/// Makes a type the innermost service of a stage: always ready, and answering with what its
/// `async fn run(self, request)` returns, in one box.
///
/// ```
/// use miroir_pipeline::{Error, node::{Request, Response}};
///
/// #[derive(Clone, Debug)]
/// struct Empty;
///
/// impl Empty {
///     async fn run(self, _: Request) -> Result<Response, Error> {
///         Ok(Response::new("{}".into()))
///     }
/// }
///
/// miroir_pipeline::service!(Empty: Request);
/// let service = miroir_pipeline::BoxService::<Request>::new(Empty);
/// # let _ = service;
/// ```
#[macro_export]
macro_rules! service {
    ($service:ty: $request:ty) => {
        impl $crate::stage::Service<$request> for $service {
            type Response = <$request as $crate::stage::Stage>::Response;
            type Error = $crate::Error;
            type Future = $crate::stage::StageFuture<$request>;

            fn poll_ready(
                &mut self,
                _: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::result::Result<(), $crate::Error>> {
                ::std::task::Poll::Ready(::std::result::Result::Ok(()))
            }

            fn call(&mut self, request: $request) -> Self::Future {
                ::std::boxed::Box::pin(<Self as ::std::clone::Clone>::clone(self).run(request))
            }
        }
    };
}
