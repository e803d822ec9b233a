//! Options that several commands share.

use std::path::PathBuf;

use crate::Outcome;

/// The shape of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// S.
    pub(crate) shards: u32,
    /// RG.
    pub(crate) groups: u32,
    /// RF.
    pub(crate) factor: u32,
    /// Nodes; `None` is three, or as many as the groups need.
    pub(crate) nodes: Option<u32>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { shards: 16, groups: 1, factor: 1, nodes: None }
    }
}

impl Shape {
    /// The number of nodes.
    pub(crate) fn node_count(&self) -> u32 {
        self.nodes.unwrap_or(3.max(self.groups * self.factor))
    }

    /// Whether the nodes can hold every copy.
    ///
    /// # Errors
    /// What is wrong with the numbers.
    pub(crate) fn check(&self) -> Outcome<()> {
        if self.shards == 0 || self.groups == 0 || self.factor == 0 {
            return Err("shards, groups and copies are at least 1".into());
        }
        // The smallest group gets the whole part; every group needs RF nodes.
        if self.node_count() / self.groups < self.factor {
            return Err(format!(
                "{} node(s) in {} group(s) cannot hold {} copies of a shard in each group: use \
                 --nodes {} or more",
                self.node_count(),
                self.groups,
                self.factor,
                self.groups * self.factor,
            )
            .into());
        }
        Ok(())
    }
}

/// Options of `demo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DemoOptions {
    /// Compare instead of serving.
    pub(crate) check: bool,
    /// The cluster.
    pub(crate) shape: Shape,
    /// Where to serve; `None`: 7700, or any free port with `check`.
    pub(crate) port: Option<u16>,
    /// Documents of the user's own.
    pub(crate) data: Option<PathBuf>,
    /// A real Meilisearch; `None`: what `PATH` has.
    pub(crate) meilisearch: Option<PathBuf>,
    /// Engine nodes, whatever there is.
    pub(crate) engine: bool,
    /// Build with optimisation.
    pub(crate) release: bool,
    /// Leave the temporary directory behind.
    pub(crate) keep: bool,
}

/// What goes wrong in `chaos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChaosPart {
    /// Processes are killed.
    Kill,
    /// Nodes answer late.
    Slow,
    /// A tenant asks too much.
    Flood,
    /// Callers without a key never end their requests.
    Strangers,
    /// A query takes more memory than a node has.
    Poison,
    /// A node dies with a long queue.
    Repair,
    /// A disk fills.
    FullDisk,
    /// A node hangs.
    Hang,
    /// A node is away while little changes.
    Away,
    /// Nodes come back with other disks.
    Disks,
    /// A node that holds large documents loses its disk.
    Big,
    /// Single-document writes by the ten thousands.
    Tasks,
    /// Nodes come and go.
    Elastic,
    /// A disk lost and changed documents.
    Entropy,
    /// The same to several servers over one Redis and stub nodes.
    Pods,
}

/// Options of `chaos`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChaosOptions {
    /// Seconds under load; a node is down during the middle third.
    pub(crate) seconds: u64,
    /// A real Meilisearch.
    pub(crate) meilisearch: Option<PathBuf>,
    /// What goes wrong.
    pub(crate) part: ChaosPart,
    /// Searches a second while nodes are slow.
    pub(crate) rate: u64,
    /// Documents, where a part has many; `None`: as many as the part is meant for.
    pub(crate) documents: Option<usize>,
    /// A server built elsewhere; `None`: the checkout's.
    pub(crate) server: Option<PathBuf>,
}

impl Default for ChaosOptions {
    fn default() -> Self {
        let (part, rate) = (ChaosPart::Kill, 40);
        Self { seconds: 12, meilisearch: None, part, rate, documents: None, server: None }
    }
}

/// The binary that tests and benches use as nodes, when the environment names one.
pub(crate) fn real_nodes() -> Option<PathBuf> {
    std::env::var_os("MIROIR_TEST_MEILISEARCH").filter(|path| !path.is_empty()).map(PathBuf::from)
}
