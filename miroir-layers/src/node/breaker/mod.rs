//! Stops asking a node that fails, and finds out carefully when it works again.
//!
//! Every call to a dead node costs its caller a timeout and, with failover, the other nodes a
//! further call. After `failure_threshold` failures in a row the breaker *opens*: calls are refused
//! at once, and [`Scores`](miroir_pipeline::node::Scores) say so, so that leaves choose other nodes where
//! there are any. When `open_ms` is over it is *half-open*: `half_open_probes` calls at a time are
//! let through. When so many of them have succeeded it *closes*; if one fails it opens again for
//! twice as long, up to `max_open_ms`.
//!
//! Health probes pass in every state. One that succeeds closes the breaker, so that a node comes back
//! without a client's call being the guinea pig. The time it stays open keeps growing until a *call*
//! succeeds: a node that is healthy in every probe and fails every search is asked less and less.
//!
//! A failure is an error that is the node's fault, or a 5xx answer. A call that ran out of time while
//! the node answers others is none: it was too much to ask, and whoever asks such things must not take
//! the node from everybody. What a call that began before the
//! last change of state has to say is not counted.
//!
//! # Stage
//! Node, all calls. Nothing is changed.
//!
//! # Order
//! Inside of `metrics`, which counts refusals. Outside of everything that costs something.
//!
//! # Context
//! Reads `NodeCall::probe`.
//!
//! # Errors
//! `NodeFailed(NodeFailure::BreakerOpen)`, the node's fault: another replica may answer.
//!
//! # Metrics
//! `miroir_breaker_state{node_id}`: 0 closed, 1 half-open, 2 open.
//!
//! # Example
//! ```
//! use miroir_pipeline::{Error, NodeFailure, node::Scores};
//! use miroir_layers::node::{BreakerLayer, BreakerOptions};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let node = miroir_api::NodeId::new("a").unwrap();
//! let scores = Scores::default();
//! let options = BreakerOptions { failure_threshold: 1, ..BreakerOptions::default() };
//! let (mut service, mut inner) = miroir_test::layered(BreakerLayer::new(&scores, &node, options));
//!
//! let get = || http::Request::get("/stats").body(Default::default()).unwrap();
//! let call = service.spawn_call(get());
//! inner.next_request().await.fail(Error::node(&node, NodeFailure::Connect));
//! assert!(call.await.is_err());
//!
//! assert_eq!(service.call(get()).await.unwrap_err().label(), "breaker_open");
//! assert!(scores.is_open(&node));
//! inner.assert_idle().await;
//! # }
//! ```

mod layer;
mod machine;

use std::time::Duration;

use miroir_core::options::{Capability, Faults, Validate, milliseconds};
use serde::{Deserialize, Serialize};

pub use layer::BreakerLayer;

/// `breaker`: when to open, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerOptions {
    /// Whether nodes have a breaker. True by default.
    pub enabled: bool,
    /// Failures in a row that open it. 0 counts as 1.
    pub failure_threshold: u32,
    /// How long it stays open the first time; doubles with every trial that fails. 1 s by default.
    #[serde(rename = "open_ms", with = "milliseconds")]
    pub open: Duration,
    /// Upper bound of that time. 30 s by default.
    #[serde(rename = "max_open_ms", with = "milliseconds")]
    pub max_open: Duration,
    /// Calls let through at a time while half-open, and how many have to succeed. 0 counts as 1.
    pub half_open_probes: u32,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            failure_threshold: 5,
            open: Duration::from_secs(1),
            max_open: Duration::from_secs(30),
            half_open_probes: 1,
        }
    }
}

impl Validate for BreakerOptions {
    fn validate(&self, faults: &mut Faults) {
        if !self.enabled {
            return;
        }
        let (open, bound) = (milliseconds::show(self.open), milliseconds::show(self.max_open));
        faults.when(
            self.max_open < self.open,
            &["max_open_ms", "open_ms"],
            format!("the bound {bound} is below the first time {open}"),
            "make max_open_ms the larger one",
        );
        faults.positive(&[
            ("open_ms", self.open.is_zero()),
            ("failure_threshold", self.failure_threshold == 0),
            ("half_open_probes", self.half_open_probes == 0),
        ]);
    }
}

impl Capability for BreakerOptions {
    fn enabled(&self) -> bool {
        self.enabled
    }
}
