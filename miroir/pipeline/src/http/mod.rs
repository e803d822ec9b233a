//! EDGE: the client API over HTTP.
//!
//! [`Decode`] is the only code that knows the client API's URLs: the route table is data
//! ([`table`]), and everything a route needs becomes an [`crate::operation::Request`].

mod body;
mod decode;
mod edge;
mod filters;
mod operations;
mod query;
mod reserved;
mod respond;
mod router;
pub mod routes;
mod table;
mod task_query;

use std::net::IpAddr;
use std::sync::Arc;

pub use body::Payload;
pub use decode::{Answered, Decode, DecodeOptions};
pub use edge::{
    EdgeBody, EdgeFuture, EdgeLayered, EdgeMiddleware, EdgeNext, EdgeReady, EdgeService, EdgeStack,
};
pub use respond::refuse;
pub use router::{Matched, Router};
pub use table::table;

/// Address at the other end of the connection, put into the request's extensions by the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// The request's id, put into the request's extensions by the edge.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);
