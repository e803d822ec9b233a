//! Instance-wide state that this process knows nodes to have.

use std::collections::{BTreeMap, BTreeSet};

use miroir_api::NodeId;
use tokio::sync::Mutex;

/// What was applied to which nodes. A node that is not listed is told again.
#[derive(Debug, Default)]
pub struct AppliedState {
    /// Nodes that have the experimental features clients set. Held while features change.
    pub features: Mutex<BTreeSet<NodeId>>,
    /// Nodes that have search rules, with a hash of all of them. Held while rules change.
    pub rules: Mutex<BTreeMap<NodeId, u64>>,
}

impl AppliedState {
    /// A node may have lost what was applied to it.
    pub async fn forget(&self, node: &NodeId) {
        self.features.lock().await.remove(node);
        self.rules.lock().await.remove(node);
    }

    /// All nodes may have changed while another process looked after them.
    pub async fn clear(&self) {
        self.features.lock().await.clear();
        self.rules.lock().await.clear();
    }
}
