//! Connections of a process with a fake node, as far as they tell whose disk it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use miroir_api::NodeId;
use miroir_pipeline::node::KnownDisks;

use super::disk::Disk;

/// As of the [`Client`](miroir_pipeline::node::Client): a crash ends all connections, and the next one
/// carries nothing before the node has shown that its disk is its own. Requests bring it as an
/// extension; one without is on a connection that was proven.
#[derive(Clone, Debug)]
pub struct Link {
    disks: KnownDisks,
    /// The process of the node that has shown its disk; 0: none has.
    proven: Arc<AtomicU64>,
}

impl Link {
    /// No connection is open yet.
    pub fn new(disks: KnownDisks) -> Self {
        Self { disks, proven: Arc::default() }
    }

    /// Whether a node's process may be sent calls: it has shown its disk, or does so now.
    pub(super) fn admits(&self, node: &NodeId, process: u64, disk: &Disk, keyless: bool) -> bool {
        if self.proven.load(Ordering::Relaxed) == process {
            return true;
        }
        let known = self.disks.of(node);
        let has_key = known.key.is_none_or(|key| keyless || disk.keys.contains_key(&key));
        let newest = disk.tasks.iter().rfind(|task| !task.is_deleted).map(|task| task.uid);
        let goes_on = known.highest.is_none_or(|highest| newest >= Some(highest));
        if has_key && goes_on {
            self.proven.store(process, Ordering::Relaxed);
        }
        has_key && goes_on
    }
}
