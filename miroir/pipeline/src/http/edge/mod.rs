//! What a service of the edge is, and what its layers are written and stacked with.

mod middleware;
mod stack;

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use tower::Service;

use crate::error::BoxError;

pub use middleware::{EdgeLayered, EdgeMiddleware, EdgeNext, EdgeReady};
pub use stack::EdgeStack;

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
    + Sync
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
        + Sync
        + 'static,
    C: Send + 'static,
{
    type Body = C;
}

/// A body of requests or answers at the edge: pieces of bytes. Implemented for all that qualify, never
/// by hand.
pub trait EdgeBody: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static {}

impl<B> EdgeBody for B where B: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static {}

/// The boxed future of a service of the edge whose answers have a body `C`.
pub type EdgeFuture<C> = BoxFuture<'static, Result<Response<C>, Infallible>>;
