//! Bounds how many calls one node gets at a time, with a lane for each class of traffic.
//!
//! A node works on so many searches at once as it has cores; what comes on top waits there, where
//! nobody can see it or give it up. Here it waits in order and leaves when its caller goes. Workers
//! have a lane of their own, so that no repair can keep a client waiting and no rush of clients can
//! starve a repair.
//!
//! # Stage
//! Node, all calls but health probes: a full queue must not look like a dead node. Nothing is
//! changed.
//!
//! # Order
//! Inside of `deadline`, which bounds the wait, and of `breaker`: nobody queues for a dead node.
//!
//! # Context
//! Reads `NodeCall::class`, `deadline` and `probe`. Calls without a `NodeCall` are interactive.
//!
//! # Errors
//! `NodeFailed(NodeFailure::Expired)` for a call whose deadline passes while it waits for a place: it
//! was not sent. Places are taken inside of the future, never in `poll_ready`: a service that is
//! dropped uncalled holds none.
//!
//! # Metrics
//! `miroir_node_limit_waits_total{node_id,class}` counts calls that had to wait,
//! `miroir_request_queue_depth` those that wait now, for any node.
//!
//! # Example
//! ```
//! use miroir_pipeline::Stack;
//! use miroir_layers::node::{LimitLayer, LimitOptions};
//!
//! let node = miroir_api::NodeId::new("a").unwrap();
//! let options = LimitOptions { interactive: 8, ..LimitOptions::default() };
//! let stack = Stack::<miroir_pipeline::node::Request>::new().push(LimitLayer::new(&node, options));
//! assert_eq!(stack.describe().layers, ["limit"]);
//! ```

use std::sync::Arc;

use miroir_api::NodeId;
use miroir_core::options::{Capability, Faults, Validate};
use miroir_pipeline::context::Class;
use miroir_pipeline::deadline::Deadline;
use miroir_pipeline::node::Request;
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{Error, NodeFailure, Placed, StageService};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{DeadlineLayer, call_of};

/// `node_limit`: calls in flight to one node. 0 counts as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitOptions {
    /// Whether calls are limited. True by default.
    pub enabled: bool,
    /// Calls in flight that were made for clients. 96 by default.
    pub interactive: usize,
    /// Calls in flight of workers: repairs, moves, checks. 32 by default.
    pub background: usize,
}

impl Default for LimitOptions {
    fn default() -> Self {
        Self { enabled: true, interactive: 96, background: 32 }
    }
}

impl Validate for LimitOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.positive(&[
            ("interactive", self.enabled && self.interactive == 0),
            ("background", self.enabled && self.background == 0),
        ]);
    }
}

impl Capability for LimitOptions {
    fn enabled(&self) -> bool {
        self.enabled
    }
}

#[derive(Debug)]
struct Lane {
    class: &'static str,
    places: Arc<Semaphore>,
}

impl Lane {
    fn new(class: &'static str, places: usize) -> Self {
        let places = places.clamp(1, Semaphore::MAX_PERMITS);
        Self { class, places: Arc::new(Semaphore::new(places)) }
    }
}

#[derive(Debug)]
struct Lanes {
    id: NodeId,
    node: Arc<str>,
    interactive: Lane,
    background: Lane,
}

impl Lanes {
    /// Waits for a place, but not past the deadline. First come, first served within a lane.
    async fn place(
        &self,
        class: Class,
        deadline: Option<Deadline>,
    ) -> Result<OwnedSemaphorePermit, Error> {
        let lane = match class {
            Class::Interactive => &self.interactive,
            Class::Background => &self.background,
        };
        if let Ok(place) = Arc::clone(&lane.places).try_acquire_owned() {
            return Ok(place);
        }
        metrics::counter!(
            "miroir_node_limit_waits_total",
            "node_id" => Arc::clone(&self.node), "class" => lane.class
        )
        .increment(1);
        let _waiting = Waiting::begin();
        let place = Arc::clone(&lane.places).acquire_owned();
        let place = match deadline {
            // Ends no later than the `deadline` around it, so that what was not sent is told from
            // what was not answered.
            Some(deadline) => deadline
                .run(place)
                .await
                .map_err(|_| Error::node(&self.id, NodeFailure::Expired))?,
            None => place.await,
        };
        // Fails only for a closed semaphore; nobody closes it.
        place.map_err(Error::internal)
    }
}

/// Counts a wait while it lasts, also where it is given up.
struct Waiting;

impl Waiting {
    fn begin() -> Self {
        metrics::gauge!("miroir_request_queue_depth").increment(1.0);
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        metrics::gauge!("miroir_request_queue_depth").decrement(1.0);
    }
}

/// See the [module's documentation](self). Clones share their lanes: make one for each node.
#[derive(Clone, Debug)]
#[must_use]
pub struct LimitLayer {
    lanes: Arc<Lanes>,
}

impl LimitLayer {
    /// Limits calls to this node.
    pub fn new(node: &NodeId, options: LimitOptions) -> Self {
        let lanes = Lanes {
            id: node.clone(),
            node: node.as_str().into(),
            interactive: Lane::new("interactive", options.interactive),
            background: Lane::new("background", options.background),
        };
        Self { lanes: Arc::new(lanes) }
    }
}

impl Placed for LimitLayer {
    const NAME: &'static str = "limit";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<DeadlineLayer>()];
}

miroir_pipeline::layer!(LimitLayer);

impl Middleware<Request> for LimitLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        let call = call_of(&request);
        if call.is_some_and(|call| call.probe) {
            return next.pass(request);
        }
        let class = call.map_or(Class::Interactive, |call| call.class);
        let deadline = call.map(|call| call.deadline);
        let (lanes, next) = (Arc::clone(&self.lanes), next.take());
        Reply::boxed(async move {
            let _place = lanes.place(class, deadline).await?;
            next.run(request).await
        })
    }
}
