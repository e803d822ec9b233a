//! Feeds [`Scores`], by which leaves choose their nodes: latency, failures, and how much is in flight.
//!
//! An error is quick and worthless: counted with its own duration, a node that refuses everything
//! would look like the best of all. So it counts as a failure and not as an answer. A call that is
//! given up tells something too: the node takes longer than was waited. A refused connection, and
//! calls of which none is answered, are an [alarm](miroir_pipeline::node::Alarm): the node is checked
//! at once.
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
//! None of its own; `cluster::gauges::publish` publishes the scores.
//!
//! # Example
//! ```
//! use miroir_pipeline::{Stack, node::Scores};
//! use miroir_layers::node::LoadLayer;
//!
//! let node = miroir_api::NodeId::new("a").unwrap();
//! let scores = Scores::default();
//! let layer = LoadLayer::new(&scores, &node);
//! assert_eq!(Stack::<miroir_pipeline::node::Request>::new().push(layer).describe().layers, ["load"]);
//! ```

use std::sync::Arc;

use miroir_api::NodeId;
use miroir_pipeline::node::{NodeScore, Request, Scores};
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{NodeFailure, Placed, StageService};
use tokio::time::Instant;

use super::{BreakerLayer, call_of, failure, verdict};

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct LoadLayer {
    score: Arc<NodeScore>,
}

impl LoadLayer {
    /// Feeds the score of this node.
    pub fn new(scores: &Scores, node: &NodeId) -> Self {
        Self { score: scores.node(node) }
    }
}

impl Placed for LoadLayer {
    const NAME: &'static str = "load";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<BreakerLayer>()];
}

miroir_pipeline::layer!(LoadLayer);

/// Observes the call at its end, whatever that is.
struct Sample<'a> {
    score: &'a NodeScore,
    started: Instant,
    ended: bool,
}

impl Drop for Sample<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let now = Instant::now();
            self.score.given_up(now - self.started, now);
        }
    }
}

impl Middleware<Request> for LoadLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        if call_of(&request).is_some_and(|call| call.probe) {
            return next.pass(request);
        }
        let score = Arc::clone(&self.score);
        let asking = next.call(request);
        Reply::boxed(async move {
            let in_flight = score.begin();
            let mut sample = Sample { score: &score, started: Instant::now(), ended: false };
            let answer = asking.await;
            let now = Instant::now();
            let took = now - sample.started;
            sample.ended = true;
            // Whether others are waited for is the question.
            drop(in_flight);
            match failure(&answer) {
                // It was never sent: nothing was learnt about the node.
                _ if verdict(&answer).is_none() => {}
                Some(_) => score.failed(took, now),
                None => score.answered(took, now),
            }
            match &answer {
                // It says that it cannot, and is there.
                Ok(_) => score.heard(now),
                Err(error) if error.node_failure().is_some_and(NodeFailure::is_absence) => {
                    score.refused();
                }
                Err(_) => {}
            }
            answer
        })
    }
}
