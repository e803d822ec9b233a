//! The layer and its service.

use std::sync::Arc;
use std::time::Duration;

use miroir_api::NodeId;
use miroir_core::lock::Lock;
use miroir_pipeline::node::{NodeScore, Request, Response, Scores};
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Layer, Layered, Middleware, Ready, Reply};
use miroir_pipeline::{Error, NodeFailure, Placed, StageService};
use tokio::time::Instant;

use super::BreakerOptions;
use super::machine::{Machine, Phase, Ticket};
use crate::node::{MetricsLayer, call_of, verdict};

/// A node that answered anything this lately is there.
const RECENT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Shared {
    node: NodeId,
    score: Arc<NodeScore>,
    machine: Lock<Machine>,
}

/// See the [module's documentation](super). Clones share one state: make one for each node.
#[derive(Clone, Debug)]
#[must_use]
pub struct BreakerLayer {
    shared: Arc<Shared>,
}

impl BreakerLayer {
    /// Guards this node and says in its score whether it is open.
    pub fn new(scores: &Scores, node: &NodeId, options: BreakerOptions) -> Self {
        let machine = Lock::new(Machine::new(&options));
        let shared = Shared { node: node.clone(), score: scores.node(node), machine };
        Self { shared: Arc::new(shared) }
    }
}

impl Placed for BreakerLayer {
    const NAME: &'static str = "breaker";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<MetricsLayer>()];
}

impl<S> Layer<S> for BreakerLayer {
    type Service = Layered<Self, S>;
    fn layer(&self, inner: S) -> Self::Service {
        // Written by hand for this: a score outlives its node's stack, and a gauge has to be there
        // before it changes. Not in `new`, as layers are also made to be described.
        self.shared.change(|machine, _| {
            self.shared.score.set_open(machine.refuses());
            self.shared.publish(machine.phase());
        });
        Layered::new(self.clone(), inner)
    }
}

impl Shared {
    /// Changes the state and tells the outside, under one lock so that the last word is the latest.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Machine, Instant) -> T) -> T {
        let mut machine = self.machine.lock();
        let (before, refused) = (machine.phase(), machine.refuses());
        let out = change(&mut machine, Instant::now());
        let after = machine.phase();
        if refused != machine.refuses() {
            self.score.set_open(machine.refuses());
        }
        if before != after {
            self.publish(after);
            tracing::info!(node = %self.node, ?after, "breaker");
            if let Phase::Open { until } = after {
                self.half_open_at(until);
            }
        }
        out
    }

    /// Whether the node is well. One that answers others is: what ran out of time was too much for it,
    /// and whoever sends such questions closes it to nobody.
    fn verdict(&self, answer: &Result<Response, Error>) -> Option<bool> {
        let late = answer.as_ref().err().and_then(Error::node_failure);
        let recent = Instant::now().checked_sub(RECENT);
        let heard = || recent.is_some_and(|recent| self.score.heard_since(recent));
        if late == Some(NodeFailure::Timeout) && heard() { None } else { verdict(answer) }
    }

    fn publish(&self, phase: Phase) {
        let value = match phase {
            Phase::Closed => 0.0,
            Phase::HalfOpen => 1.0,
            Phase::Open { .. } => 2.0,
        };
        metrics::gauge!("miroir_breaker_state", "node_id" => self.node.to_string()).set(value);
    }

    /// Half-opens in time, even if nobody calls: leaves avoid a node whose score says that it is
    /// open, so that without this nobody might ever call again.
    fn half_open_at(self: &Arc<Self>, until: Instant) {
        // A future may be dropped where there is no runtime any more.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let shared = Arc::downgrade(self);
        runtime.spawn(async move {
            tokio::time::sleep_until(until).await;
            if let Some(shared) = shared.upgrade() {
                shared.change(Machine::tick);
            }
        });
    }
}

/// Says how the call ended, also if it was dropped.
struct Guard {
    shared: Arc<Shared>,
    ticket: Ticket,
    healthy: Option<bool>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (ticket, healthy) = (self.ticket, self.healthy);
        self.shared.change(|machine, now| machine.record(now, ticket, healthy));
    }
}

impl Middleware<Request> for BreakerLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        let (shared, next) = (Arc::clone(&self.shared), next.take());
        Reply::boxed(async move {
            let probe = call_of(&request).is_some_and(|call| call.probe);
            // Asked when the call is made and not when its future is.
            let Some(ticket) = shared.change(|machine, now| machine.admit(now, probe)) else {
                return Err(Error::node(&shared.node, NodeFailure::BreakerOpen));
            };
            let mut guard = Guard { shared, ticket, healthy: None };
            let answer = next.run(request).await;
            guard.healthy = guard.shared.verdict(&answer);
            answer
        })
    }
}
