//! Rows about processes: what one of them does alone, the work they share out, and who there is.

use std::collections::BTreeMap;

use miroir_api::NodeId;
use serde::{Deserialize, Serialize};

/// The right of one process to do something alone for a while.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// What is done alone.
    pub scope: String,
    /// Who does it: a name that no other process has, nor the same one after a restart.
    pub holder: String,
    /// Fencing token: grows by one with every lease of the scope that begins.
    pub fence: u64,
}

/// Work to be put into a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewJob {
    /// Names the job: a second one of the same id is not taken.
    pub id: String,
    /// Name of the queue.
    pub kind: String,
    /// What is to be done; opaque to the store.
    pub payload: serde_json::Value,
}

/// A job of a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Id, unique over all queues.
    pub id: String,
    /// Name of the queue.
    pub kind: String,
    /// What is to be done; opaque to the store.
    pub payload: serde_json::Value,
    /// How far somebody has come with it; `null` at first.
    pub cursor: serde_json::Value,
    /// How often it was claimed; names a claim.
    pub attempt: u64,
    /// Why it is not tried any more, if so.
    pub error: Option<String>,
}

/// The right to work on a job for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Id of the claimed job.
    pub id: String,
    /// [`Job::attempt`] when it was claimed: a later claim has a higher one.
    pub attempt: u64,
}

impl Job {
    /// The claim under which it was handed out.
    pub fn claim(&self) -> Claim {
        Claim { id: self.id.clone(), attempt: self.attempt }
    }
}

/// What a pod says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodReport {
    /// Its name: no other process has it, nor the same pod after a restart.
    pub name: String,
    /// What the deployment calls the pod: the same after a restart.
    pub pod: String,
    /// Where other pods reach it, `http://host:port`.
    pub address: String,
    /// The epoch of what it keeps in memory; `None`: it has read nothing yet.
    pub seen: Option<u64>,
    /// The fence of its lease, if it leads.
    pub leads: Option<u64>,
    /// Nodes that may be read, as the leader has it. Empty for others.
    pub readable: Vec<NodeId>,
    /// The version of the topology by which all its requests place documents, or a later one.
    #[serde(default)]
    pub settled: u64,
}

/// What pods keep in memory of the stores, part by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The nodes by which documents are placed, and what is known of their disks.
    Nodes,
    /// The catalogue of indexes.
    Indexes,
    /// Replicas that must not be read.
    Replicas,
    /// Names that stand for indexes.
    Aliases,
    /// API keys.
    Keys,
    /// What capabilities keep.
    Capabilities,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 6] =
        [Self::Nodes, Self::Indexes, Self::Replicas, Self::Aliases, Self::Keys, Self::Capabilities];

    /// Its name in stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Indexes => "indexes",
            Self::Replicas => "replicas",
            Self::Aliases => "aliases",
            Self::Keys => "keys",
            Self::Capabilities => "capabilities",
        }
    }
}

/// Who is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Newest epoch; a pod that has seen an older one is behind.
    pub epoch: u64,
    /// The epoch in which each part changed last; none for parts that never changed, and where a
    /// version that does not know parts raised the epoch.
    pub parts: BTreeMap<Part, u64>,
    /// In answer to a report: whether its word counts from now.
    pub accepted: bool,
    /// Pods whose word still counts, by name.
    pub pods: Vec<PodReport>,
}

impl Roster {
    /// The parts that changed since an epoch was read; all of them where nobody can tell.
    pub fn changed_since(&self, seen: Option<u64>) -> Vec<Part> {
        let known = self.parts.values().max() == Some(&self.epoch);
        Part::ALL
            .into_iter()
            .filter(|part| {
                let changed = self.parts.get(part).copied().unwrap_or(0);
                !known || seen.is_none_or(|seen| changed > seen)
            })
            .collect()
    }
}
