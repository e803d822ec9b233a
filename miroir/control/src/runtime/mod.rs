//! Background work: what is to be done is an [`ElectedTask`], a [`PartitionedTask`] or a
//! [`JobHandler`]; who does it, and when, is a runner's business.
//!
//! Every pod runs the same workers. A runner decides whose turn it is:
//!
//! | runner | an item is worked on by | if a pod dies |
//! | --- | --- | --- |
//! | [`partitioned`] | the pod that rendezvous hashing over the [`Peers`] names | the others take its share once it is off the list |
//! | [`elected`] | the pod that holds a lease; what it does is an [`ElectedTask`] | another is elected when the lease ends |
//! | [`queued`] | any pod that claims it ([`JobHandler`]) | another claims it when the claim runs out, and goes on from the last heartbeat |
//!
//! A runner owns ticks, cancellation, panics and metrics, so that a worker knows nothing of time,
//! of other pods or of its own end. While pods do not agree yet on who is there, two may work on one
//! item: what a partitioned worker does must be safe to do twice.
//!
//! # Metrics
//! `miroir_worker_items_total{worker, outcome}` (`ok`, `error`, `panic`;
//! for queues also `lost` and `stopped`),
//! `miroir_worker_pass_seconds{worker}`, `miroir_worker_owned_items{worker}`, `miroir_peer_pod_count`,
//! `miroir_leader{scope}`, `miroir_leader_terms_total{scope}`,
//! `miroir_background_queue_depth{job_type}`.

mod elected;
mod partitioned;
mod peers;
mod queued;
mod supervise;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use miroir_pipeline::error::Error;

pub use elected::{Candidate, ElectedTask, LeaderElectionOptions, Term, elected};
pub use partitioned::{Schedule, partitioned, pass};
pub use peers::{Discover, Discovered, PeerDiscoveryOptions, Peers, StaticPeers, follow, owner};
pub use queued::{Claims, JobHandler, JobProgress, queued};
pub use supervise::supervise;

/// Counts an item, or a job, by how the work on it ended.
fn count(worker: &'static str, outcome: &'static str) {
    metrics::counter!("miroir_worker_items_total", "worker" => worker, "outcome" => outcome)
        .increment(1);
}

/// Work on items, one at a time. It holds handles to the running stages, never an address or a client.
pub trait PartitionedTask: Send + Sync + 'static {
    /// What it is called in logs and metrics.
    const NAME: &'static str;
    /// What is worked on in one step.
    type Item: Item;
    /// Everything there is to do now, whoever does it. Every pod that sees the same state lists the
    /// same keys.
    fn items(&self) -> impl Future<Output = Result<Vec<Self::Item>, Error>> + Send;
    /// Works on one item. What fails is tried again at the next tick.
    fn run(&self, item: Self::Item) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What can be given to one of several pods.
pub trait Item: Send + Sync {
    /// The same text on every pod, different for every item of a worker.
    fn key(&self) -> Cow<'_, str>;
}
