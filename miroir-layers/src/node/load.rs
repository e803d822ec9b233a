//! Feeds [`Scores`], by which leaves choose their nodes: latency, and how much is in flight.
//!
//! An error is quick and worthless: counted with its own duration, a node that refuses everything
//! would look like the best of all. So an error counts as at least `error_penalty`. A call that is
//! given up tells something too: the node takes at least as long as was waited.
//!
//! # Stage
//! Node, all calls. Nothing is changed.
//!
//! # Order
//! Inside of `breaker`: its refusals say nothing about the node's speed. Outside of `deadline` and
//! `limit`: the wait in the node's queue is part of what it costs to ask it.
//!
//! # Context
//! Reads `NodeCall::probe`: a health check says nothing about the speed of searches and is left out.
//!
//! # Errors
//! Adds none.
//!
//! # Metrics
//! None of its own; `Shared::publish_gauges` publishes the scores.
//!
//! # Example
//! ```
//! use miroir::{Stack, node::Scores};
//! use miroir_layers::node::{LoadLayer, LoadOptions};
//!
//! let node = miroir_api::NodeId::new("a").unwrap();
//! let scores = Scores::default();
//! let layer = LoadLayer::new(&scores, &node, LoadOptions::default());
//! assert_eq!(Stack::<miroir::node::Request>::new().push(layer).describe().layers, ["load"]);
//! ```

use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use miroir::node::{NodeScore, Request, Response, Scores};
use miroir::stage::{StageFuture, take_ready};
use miroir::{Error, Placed, StageService};
use miroir_api::NodeId;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::{call_of, failure};

/// What an error costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// An error counts as a call that took at least this long.
    pub error_penalty: Duration,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { error_penalty: Duration::from_secs(1) }
    }
}

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct LoadLayer {
    score: Arc<NodeScore>,
    options: LoadOptions,
}

impl LoadLayer {
    /// Feeds the score of this node.
    pub fn new(scores: &Scores, node: &NodeId, options: LoadOptions) -> Self {
        Self { score: scores.node(node), options }
    }
}

impl Placed for LoadLayer {
    const NAME: &'static str = "load";
    const INSIDE_OF: &'static [&'static str] = &["metrics", "breaker"];
}

impl<S> Layer<S> for LoadLayer {
    type Service = Load<S>;
    fn layer(&self, inner: S) -> Load<S> {
        Load { inner, layer: self.clone() }
    }
}

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
pub struct Load<S> {
    inner: S,
    layer: LoadLayer,
}

/// Observes the call at its end, whatever that is.
struct Sample<'a> {
    score: &'a NodeScore,
    started: Instant,
    ended: bool,
}

impl Drop for Sample<'_> {
    fn drop(&mut self) {
        let waited = self.started.elapsed();
        if !self.ended && waited > self.score.latency() {
            self.score.observe(waited);
        }
    }
}

impl<S: StageService<Request>> Service<Request> for Load<S> {
    type Response = Response;
    type Error = Error;
    type Future = StageFuture<Request>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if call_of(&request).is_some_and(|call| call.probe) {
            return Box::pin(self.inner.call(request));
        }
        let mut inner = take_ready(&mut self.inner);
        let LoadLayer { score, options } = self.layer.clone();
        Box::pin(async move {
            let _in_flight = score.begin();
            let mut sample = Sample { score: &score, started: Instant::now(), ended: false };
            let answer = inner.call(request).await;
            let took = sample.started.elapsed();
            sample.ended = true;
            let failed = failure(&answer).is_some();
            score.observe(if failed { took.max(options.error_penalty) } else { took });
            answer
        })
    }
}
