//! `GET /_miroir/pods`.

use serde::{Deserialize, Serialize};

/// All pods whose word counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodsView {
    /// What the answering pod is called; empty for one that is alone.
    pub me: String,
    /// The newest change that all pods must know.
    pub epoch: u64,
    /// Every pod whose last report still counts.
    pub pods: Vec<PodView>,
}

/// What one pod last reported about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodView {
    /// Stable name of the pod, for example its host name; the same after a restart.
    pub pod: String,
    /// The process: another one after a restart.
    pub name: String,
    /// Where other pods reach it.
    pub address: String,
    /// The newest change it has read.
    pub epoch: Option<u64>,
    /// Whether the pod holds the lease under which changes are made.
    pub leads: bool,
    /// The fencing token of its lease, if so.
    pub fence: Option<u64>,
}
