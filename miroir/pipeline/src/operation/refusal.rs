//! Asking a node for its own words about a request.

use super::Request;
use crate::cluster::Nodes;
use crate::error::Error;
use crate::node_errors::{self, placeholder};

/// What a node says of the request as it came, under another prefix. An internal error if the node
/// has no complaint.
pub async fn refusal(nodes: &Nodes, request: &Request, prefix: &str) -> Error {
    let mut call = request.original.to_node_call(prefix);
    let mangled = node_errors::hide(&mut call);
    let shape = placeholder();
    match nodes.call_any(&call, &request.cx).await {
        Ok(_) => Error::internal("a node takes what Miroir cannot read"),
        Err(error) => node_errors::scrub(error, &shape, mangled),
    }
}
