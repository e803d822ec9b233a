//! Gives up when the time of a call is over, and makes that the node's failure.
//!
//! The client under the stack looks at the deadline too, but only once it is asked; here the wait for
//! a place in the node's queue is bounded as well. A call whose time is over already is not made.
//!
//! # Stage
//! Node, all calls. Nothing is changed.
//!
//! # Order
//! Inside of `load`, which has to see timeouts as slow calls; outside of `limit`.
//!
//! # Context
//! Reads `NodeCall::deadline`.
//!
//! # Errors
//! `NodeFailed(NodeFailure::Timeout)`, the node's fault: another replica may answer in time. A call
//! that is not made because its time is over fails as `NodeFailure::Expired`: it did not happen, and
//! says nothing about the node.
//!
//! # Metrics
//! None of its own; timeouts show in `miroir_node_errors_total{error_type="timeout"}`.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use miroir_pipeline::{Context, node::Call};
//! use miroir_layers::node::{DeadlineLayer, DeadlineOptions};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let node = miroir_api::NodeId::new("a").unwrap();
//! let layer = DeadlineLayer::new(&node, DeadlineOptions::default());
//! let (mut service, _inner) = miroir_test::layered(layer);
//!
//! let cx = Context::client("1", Duration::from_secs(5));
//! let request = Call::get("stats", "/stats").request(&cx, Duration::from_millis(5)).unwrap();
//! // Nobody answers.
//! assert_eq!(service.call(request).await.unwrap_err().label(), "timeout");
//! # }
//! ```

use std::time::Duration;

use miroir_api::NodeId;
use miroir_pipeline::node::Request;
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{Error, NodeFailure, Placed, StageService};

use super::{LoadLayer, call_of};

/// How long calls may take that do not say so themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadlineOptions {
    /// `None`: as long as they like.
    pub fallback: Option<Duration>,
}

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct DeadlineLayer {
    node: NodeId,
    options: DeadlineOptions,
}

impl DeadlineLayer {
    /// Bounds calls to this node.
    pub fn new(node: &NodeId, options: DeadlineOptions) -> Self {
        Self { node: node.clone(), options }
    }
}

impl Placed for DeadlineLayer {
    const NAME: &'static str = "deadline";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<LoadLayer>()];
}

miroir_pipeline::layer!(DeadlineLayer);

impl Middleware<Request> for DeadlineLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        let own = call_of(&request).map(|call| call.deadline.remaining());
        let Some(left) = own.or(self.options.fallback) else {
            return next.pass(request);
        };
        if left.is_zero() {
            return Reply::refused(Error::node(&self.node, NodeFailure::Expired));
        }
        let (node, asking) = (self.node.clone(), next.call(request));
        Reply::boxed(async move {
            let timeout = |_| Err(Error::node(&node, NodeFailure::Timeout));
            tokio::time::timeout(left, asking).await.unwrap_or_else(timeout)
        })
    }
}
