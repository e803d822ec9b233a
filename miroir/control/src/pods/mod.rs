//! PODS: several processes as one.
//!
//! All pods answer reads. One of them, elected by a lease, *leads*: it alone changes anything, in
//! the stores and on nodes, and follows tasks, repairs replicas and tells webhooks. The others
//! pass on to it what changes something, so that clients may talk to any of them.
//!
//! # Why reads are right on every pod
//! See [`miroir_pipeline::cluster::leadership`]: a pod answers reads only while its report counts
//! ([`PodOptions::report_ttl`]), and looks again before it sends an answer.
//!
//! # Why changes are right
//! Two leaders at a time are impossible by the clock of the store, and harmless where a process is
//! held up: it finds its term over when it goes on, its store refuses what it still wants to change
//! ([`miroir_store::Fence`]), and what it may have sent to a node late it leaves a message about, so
//! that the replica catches up.
//!
//! A term begins as a process does: with what tasks and catalogue say was left unfinished
//! ([`take_over`]).
//!
//! # Metrics
//! `miroir_leader{scope}`, `miroir_leader_terms_total{scope}`, `miroir_pod_epoch`,
//! `miroir_pod_in_touch`, `miroir_epoch_wait_seconds`, `miroir_late_writes_total`,
//! `miroir_owned_shards_count`, `miroir_background_queue_depth{job_type}`.

mod follow;
mod lead;
mod messages;
mod shares;
mod take_over;
#[cfg(test)]
mod tests;

pub use follow::{PodOptions, follow};
pub use lead::{Leader, Start};
pub use shares::show_shares;
pub use take_over::take_over;
