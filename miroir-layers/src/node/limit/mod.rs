//! Bounds how many calls one node gets at a time, with a lane for each class of traffic.
//!
//! A node works on so many searches at once as it has cores; what comes on top waits there, where
//! nobody can see it or give it up. Here it waits and leaves when its caller goes. Callers (an API key,
//! a tenant token, Miroir itself) take turns at the places that become free, so that whoever asks a
//! hundred things at once waits for them and keeps nobody else waiting for more than one. Workers have
//! a lane of their own, so that no repair can keep a client waiting and no rush of clients can
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
//! Reads `NodeCall::class`, `caller`, `deadline` and `probe`. Calls without a `NodeCall` are interactive.
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

mod lane;
mod layer;

use miroir_core::options::{Capability, Faults, Validate};
use serde::{Deserialize, Serialize};

pub use layer::LimitLayer;

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
