//! `GET /_miroir/pods`.

use serde::{Deserialize, Serialize};

/// All pods whose word counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodsView {
    /// What the answering pod is called; empty for one that is alone.
    pub me: String,
    /// The newest change that all pods must know.
    pub epoch: u64,
    /// The pods.
    pub pods: Vec<PodView>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodView {
    /// What it is called.
    pub pod: String,
    /// The process: another one after a restart.
    pub name: String,
    /// Where other pods reach it.
    pub address: String,
    /// The newest change it has read.
    pub epoch: Option<u64>,
    /// Whether it leads.
    pub leads: bool,
    /// The fencing token of its lease, if so.
    pub fence: Option<u64>,
}
