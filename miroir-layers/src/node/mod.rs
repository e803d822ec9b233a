//! Layers of the node stage: one stack of them per node.
//!
//! Outermost first: `metrics`, `breaker`, `load`, `deadline`, `limit`, `credentials`, and for tests
//! and game days `fault`.

pub mod breaker;
pub mod credentials;
pub mod deadline;
pub mod fault;
pub mod limit;
pub mod load;
pub mod metrics;

pub use breaker::{BreakerLayer, BreakerOptions};
pub use credentials::CredentialsLayer;
pub use deadline::{DeadlineLayer, DeadlineOptions};
pub use fault::{FaultLayer, FaultOptions};
pub use limit::{LimitLayer, LimitOptions};
pub use load::LoadLayer;
pub use metrics::MetricsLayer;

use miroir_pipeline::node::{NodeCall, Request, Response};
use miroir_pipeline::{Error, Fault, NodeFailure};

/// What a call is, if its maker said so.
fn call_of(request: &Request) -> Option<NodeCall> {
    request.extensions().get::<NodeCall>().copied()
}

/// The label of the failure that an answer is, seen from outside of the node. `None`: the node did
/// its work, even if it refused the request.
fn failure(answer: &Result<Response, Error>) -> Option<&'static str> {
    match answer {
        Err(error) => Some(error.label()),
        Ok(response) => NodeFailure::of_answer(response).map(NodeFailure::label),
    }
}

/// Whether the node is well: `Some(false)` where it could not be asked, or said so itself. `None`:
/// nothing was learnt, as from a call that was never sent.
fn verdict(answer: &Result<Response, Error>) -> Option<bool> {
    match answer {
        Ok(response) => Some(!response.status().is_server_error()),
        Err(error) if error.node_failure().is_some_and(|failure| !failure.blames_node()) => None,
        Err(error) if matches!(error.fault(), Fault::Node(_)) => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests;
