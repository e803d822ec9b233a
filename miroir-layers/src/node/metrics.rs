//! Counts and times every call to a node.
//!
//! Timed here, outside of the breaker and of the queue, a call takes as long as it makes its caller
//! wait. Calls that are not sent, as those that the breaker refuses, would make a dead node look fast:
//! they are counted as errors and not timed.
//!
//! # Stage
//! Node, all calls. Nothing is changed.
//!
//! # Order
//! Outermost.
//!
//! # Context
//! Reads `NodeCall::operation`.
//!
//! # Errors
//! Adds none.
//!
//! # Metrics
//! | name | kind | what |
//! | --- | --- | --- |
//! | `miroir_node_request_duration_seconds{node_id,operation}` | histogram | calls that ended |
//! | `miroir_node_errors_total{node_id,error_type}` | counter | errors, 5xx, 429, 401 and 403 |
//! | `miroir_node_cancelled_total{node_id,operation}` | counter | calls nobody waited for any more |
//! | `miroir_node_connection_reuse_ratio{node_id}` | gauge | share of calls that found an open connection |
//!
//! # Example
//! ```
//! use miroir_pipeline::Stack;
//! use miroir_pipeline::node::{Client, ClientOptions};
//! use miroir_layers::node::MetricsLayer;
//!
//! let node = miroir_api::NodeId::new("a").unwrap();
//! let client = Client::new(node.clone(), "http://localhost:7701", ClientOptions::default());
//! let layer = MetricsLayer::new(&node).connections(client.connections());
//! let service = Stack::<miroir_pipeline::node::Request>::new().push(layer).build(client).unwrap();
//! # let _ = service;
//! ```

use std::sync::Arc;

use miroir_api::NodeId;
use miroir_pipeline::node::{Connections, Request, Response};
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{Error, NodeFailure, Placed, StageService};
use tokio::time::Instant;

use super::{call_of, failure};

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct MetricsLayer {
    node: Arc<str>,
    connections: Option<Arc<Connections>>,
}

impl MetricsLayer {
    /// Measures calls to this node.
    pub fn new(node: &NodeId) -> Self {
        Self { node: node.as_str().into(), connections: None }
    }

    /// Publishes how often connections are reused.
    pub fn connections(mut self, connections: Arc<Connections>) -> Self {
        self.connections = Some(connections);
        self
    }
}

impl Placed for MetricsLayer {
    const NAME: &'static str = "metrics";
}

miroir_pipeline::layer!(MetricsLayer);

impl MetricsLayer {
    fn record(&self, operation: &'static str, started: Instant, answer: &Result<Response, Error>) {
        let node = &self.node;
        if let Some(error_type) = failure(answer) {
            ::metrics::counter!(
                "miroir_node_errors_total", "node_id" => Arc::clone(node), "error_type" => error_type
            )
            .increment(1);
        }
        let unsent = |error: &Error| {
            error.node_failure().is_some_and(|failure: NodeFailure| !failure.blames_node())
        };
        if !answer.as_ref().is_err_and(unsent) {
            ::metrics::histogram!(
                "miroir_node_request_duration_seconds",
                "node_id" => Arc::clone(node), "operation" => operation
            )
            .record(started.elapsed().as_secs_f64());
        }
        if let Some(connections) = &self.connections {
            let (opened, requests) = (connections.opened(), connections.requests());
            if requests > 0 {
                // A connection may be opened ahead of the request that it is for.
                let ratio = requests.saturating_sub(opened) as f64 / requests as f64;
                ::metrics::gauge!(
                    "miroir_node_connection_reuse_ratio", "node_id" => Arc::clone(node)
                )
                .set(ratio);
            }
        }
    }
}

/// Counts a call that is dropped before its end.
struct Cancelled<'a> {
    node: &'a Arc<str>,
    operation: &'static str,
    ended: bool,
}

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        if !self.ended {
            ::metrics::counter!(
                "miroir_node_cancelled_total",
                "node_id" => Arc::clone(self.node), "operation" => self.operation
            )
            .increment(1);
        }
    }
}

impl Middleware<Request> for MetricsLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        let layer = self.clone();
        let operation = call_of(&request).map_or("other", |call| call.operation);
        let asking = next.call(request);
        Reply::boxed(async move {
            let mut guard = Cancelled { node: &layer.node, operation, ended: false };
            let started = Instant::now();
            let answer = asking.await;
            guard.ended = true;
            layer.record(operation, started, &answer);
            answer
        })
    }
}
