//! Makes a node slower and less reliable than it is, for tests and game days.
//!
//! Every decision follows from the seed and the number of the call, so that a run can be repeated:
//! the same seed and the same order of calls meet the same faults.
//!
//! # Stage
//! Node, all calls, health probes included. Requests are delayed, or not sent and failed.
//!
//! # Order
//! Inside of everything else: to the other layers its faults are the node's.
//!
//! # Context
//! Reads and sets nothing.
//!
//! # Errors
//! `NodeFailed(NodeFailure::Injected)`, the node's fault.
//!
//! # Metrics
//! `miroir_faults_injected_total{node_id,fault}`: `delay` or `error`.
//!
//! # Example
//! ```
//! use miroir_layers::node::{FaultLayer, FaultOptions};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let node = miroir_api::NodeId::new("a").unwrap();
//! let layer = FaultLayer::new(&node, FaultOptions { errors: 1.0, ..FaultOptions::default() });
//! let switch = layer.clone();
//! let (mut service, mut inner) = miroir_test::layered(layer);
//!
//! let get = || http::Request::get("/stats").body(Default::default()).unwrap();
//! assert_eq!(service.call(get()).await.unwrap_err().label(), "injected");
//!
//! switch.set(FaultOptions::default());
//! let call = service.spawn_call(get());
//! inner.next_request().await.respond(http::Response::new("{}".into()));
//! assert!(call.await.is_ok());
//! # }
//! ```

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use miroir_api::NodeId;
use miroir_core::lock::Lock;
use miroir_pipeline::node::Request;
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{Error, NodeFailure, Placed, StageService};

use super::CredentialsLayer;

/// Which faults, and how often. By default none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultOptions {
    /// Where the sequence of faults begins.
    pub seed: u64,
    /// Share of calls that are delayed, from 0 to 1.
    pub delays: f64,
    /// Bounds of the delay of a delayed call; the end is excluded.
    pub delay: Range<Duration>,
    /// Share of calls that fail, from 0 to 1. A call may be delayed and then fail.
    pub errors: f64,
}

/// What happens to one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Injected {
    delay: Option<Duration>,
    error: bool,
}

/// `SplitMix64` (Steele, Lea and Flood 2014) as a hash of its input.
fn mix(input: u64) -> u64 {
    let mut z = input.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number from 0 to below 1.
fn unit(input: u64) -> f64 {
    (mix(input) >> 11) as f64 / (1_u64 << 53) as f64
}

impl FaultOptions {
    fn injected(&self, call: u64) -> Injected {
        let base = mix(self.seed ^ mix(call));
        let delay = (unit(base ^ 1) < self.delays).then(|| {
            let span = self.delay.end.saturating_sub(self.delay.start);
            self.delay.start + span.mul_f64(unit(base ^ 2))
        });
        Injected { delay, error: unit(base ^ 3) < self.errors }
    }
}

#[derive(Debug)]
struct Shared {
    node: NodeId,
    calls: AtomicU64,
    options: Lock<FaultOptions>,
}

impl Shared {
    fn injected(&self) -> Injected {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        self.options.lock().injected(call)
    }

    fn count(&self, fault: &'static str) {
        metrics::counter!(
            "miroir_faults_injected_total",
            "node_id" => self.node.to_string(), "fault" => fault
        )
        .increment(1);
    }
}

/// See the [module's documentation](self). Clones share options and sequence: keep one to change
/// the faults while the service runs.
#[derive(Clone, Debug)]
#[must_use]
pub struct FaultLayer {
    shared: Arc<Shared>,
}

impl FaultLayer {
    /// Plagues calls to this node.
    pub fn new(node: &NodeId, options: FaultOptions) -> Self {
        let shared =
            Shared { node: node.clone(), calls: AtomicU64::new(0), options: Lock::new(options) };
        Self { shared: Arc::new(shared) }
    }

    /// Changes the faults of all clones and starts their sequence anew.
    pub fn set(&self, options: FaultOptions) {
        *self.shared.options.lock() = options;
        self.shared.calls.store(0, Ordering::Relaxed);
    }
}

impl Placed for FaultLayer {
    const NAME: &'static str = "fault";
    const INSIDE_OF: &'static [LayerName] = &[LayerName::of::<CredentialsLayer>()];
}

miroir_pipeline::layer!(FaultLayer);

impl Middleware<Request> for FaultLayer {
    fn call<S: StageService<Request>>(
        &self,
        request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        let injected = self.shared.injected();
        if injected == Injected::default() {
            return next.pass(request);
        }
        let (shared, next) = (Arc::clone(&self.shared), next.take());
        Reply::boxed(async move {
            if let Some(delay) = injected.delay {
                shared.count("delay");
                tokio::time::sleep(delay).await;
            }
            if injected.error {
                shared.count("error");
                return Err(Error::node(&shared.node, NodeFailure::Injected));
            }
            next.run(request).await
        })
    }
}
