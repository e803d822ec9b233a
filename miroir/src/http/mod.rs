//! EDGE: the client API over HTTP.
//!
//! [`Decode`] is the only code that knows the client API's URLs: the route table is data
//! ([`routes::table`]), and everything a route needs becomes an [`crate::operation::Request`].

mod decode;
mod operations;
mod query;
mod quota;
mod respond;
pub mod routes;
mod table;
mod task_query;

use std::sync::Arc;

pub use decode::{Answered, Decode, DecodeOptions};
pub use query::{encode, query_pairs};
pub use quota::{Peer, Quota};
pub use respond::refuse;

/// The path of an index on a node.
pub fn index_path(name: &str) -> String {
    format!("/indexes/{}", encode(name))
}

/// The request's id, put into the request's extensions by the edge.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);
