//! The layer and its service.

use std::sync::Arc;

use miroir_api::NodeId;
use miroir_pipeline::context::Class;
use miroir_pipeline::deadline::Deadline;
use miroir_pipeline::node::Request;
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{Error, NodeFailure, Placed, StageService};

use super::LimitOptions;
use super::lane::{Lane, Place};
use crate::node::{DeadlineLayer, call_of};

#[derive(Debug)]
struct Lanes {
    id: NodeId,
    node: Arc<str>,
    interactive: Arc<Lane>,
    background: Arc<Lane>,
}

impl Lanes {
    /// Waits for a place, but not past the deadline.
    async fn place(
        &self,
        class: Class,
        caller: u64,
        deadline: Option<Deadline>,
    ) -> Result<Place, Error> {
        let (lane, class) = match class {
            Class::Interactive => (&self.interactive, "interactive"),
            Class::Background => (&self.background, "background"),
        };
        if let Some(place) = lane.take() {
            return Ok(place);
        }
        metrics::counter!(
            "miroir_node_limit_waits_total",
            "node_id" => Arc::clone(&self.node), "class" => class
        )
        .increment(1);
        let _waiting = Waiting::begin();
        let place = lane.wait(caller);
        let place = match deadline {
            // Ends no later than the `deadline` around it, so that what was not sent is told from
            // what was not answered.
            Some(deadline) => deadline
                .run(place)
                .await
                .map_err(|_| Error::node(&self.id, NodeFailure::Expired))?,
            None => place.await,
        };
        // Fails only where the sender is dropped; it stays in line until it is served.
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

/// See the [module's documentation](super). Clones share their lanes: make one for each node.
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
            interactive: Lane::new(options.interactive),
            background: Lane::new(options.background),
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
        let (caller, deadline) =
            (call.map_or(0, |call| call.caller), call.map(|call| call.deadline));
        let (lanes, next) = (Arc::clone(&self.lanes), next.take());
        Reply::boxed(async move {
            let _place = lanes.place(class, caller, deadline).await?;
            next.run(request).await
        })
    }
}
