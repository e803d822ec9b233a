//! What a service of the edge is.

use std::convert::Infallible;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tower::Service;

/// Bounds every service of the edge satisfies: requests with a body `B` in, answers out, errors
/// none. Implemented for all that qualify, never by hand.
pub trait EdgeService<B>:
    Service<
        Request<B>,
        Response = Response<<Self as EdgeService<B>>::Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
    /// Body of its answers.
    type Body: Send + 'static;
}

impl<S, B, C> EdgeService<B> for S
where
    S: Service<Request<B>, Response = Response<C>, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
    C: Send + 'static,
{
    type Body = C;
}

/// The boxed future of a service of the edge whose answers have a body `C`.
pub type EdgeFuture<C> = BoxFuture<'static, Result<Response<C>, Infallible>>;
