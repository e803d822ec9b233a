//! Miroir's control plane: what is not about one index's documents.
//!
//! | module | subsystem |
//! | --- | --- |
//! | [`api`] | client resources: indexes, settings, tasks, batches, keys, webhooks, features, search rules, backups, statistics |
//! | [`tasks`] | the task engine: polling nodes, adding up, cancelling, recovering |
//! | [`broadcast`] | settings: propose, verify, conclude, and the check for drift |
//! | [`replicas`] | what nodes still have, and bringing replicas up to date |
//! | [`topology`] | health checks |
//! | [`pods`] | several processes as one: election, following, messages, taking over |
//! | [`janitor`] | removing records that are over |
//! | [`webhooks`] | telling webhooks of finished tasks |
//! | [`runtime`] | what runs workers: elected, partitioned, queued, supervised |
//!
//! Private, and shared by several of them:
//!
//! | module | what it is |
//! | --- | --- |
//! | `applied` | what every node has to have beside its indexes, brought to nodes that lack it |
//! | `form` | the form in which a node shows what clients sent |
//! | `making` | indexes that no task made after all, taken back |
//! | `naming` | other names and primary keys for indexes, so that they can be carried out again |
//! | `node_setup` | how an index is made on a node |
//! | `node_tasks` | what nodes say of their own tasks |
//! | `outcome` | how that adds up to the outcome of a task |
//!
//! The data plane reaches it as a boxed service of operations and one small trait,
//! [`ControlPlane`](miroir_pipeline::operation::ControlPlane); it imports nothing of this crate.

pub mod api;
mod applied;
pub mod broadcast;
mod builder;
mod detached;
mod form;
pub mod janitor;
mod making;
mod naming;
mod node_setup;
mod node_tasks;
mod outcome;
pub mod pods;
pub mod replicas;
pub mod runtime;
mod secrets;
pub mod tasks;
pub mod topology;
pub mod webhooks;

pub use builder::{BuildError, Builder, Miroir};

use std::fmt;
use std::sync::Arc;

use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::stage::BoxService;
use miroir_pipeline::{index, leaf, operation};

/// Handles to the running pipeline. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    /// The operation stage: as a client would ask.
    pub operations: BoxService<operation::Request>,
    /// The index stage: one index, full data plane.
    pub indexes: BoxService<index::Request>,
    /// The leaf stage: named shards, or one named replica.
    pub leaves: BoxService<leaf::Request>,
    /// What the stages stand on.
    pub state: Arc<ClusterState>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("state", &self.state).finish_non_exhaustive()
    }
}
