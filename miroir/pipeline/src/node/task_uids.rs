//! Task numbers as proof that a node still has its disk.
//!
//! A Meilisearch numbers its tasks in the order in which it takes them, and keeps counting over
//! restarts. A node that gives out a number it has given out before, or whose newest task is older
//! than one that was seen, has lost its disk or came back with an older copy of it.

use std::collections::{BTreeMap, BTreeSet};

use miroir_api::NodeId;
use miroir_core::lock::Lock;

/// The highest task number seen of each node. All decisions are exact: a number is compared with
/// what was known *before* the request that brought it was sent.
#[derive(Debug, Default)]
pub struct TaskUidTracker {
    highest: Lock<BTreeMap<NodeId, u32>>,
    verified: Lock<BTreeSet<NodeId>>,
}

impl TaskUidTracker {
    /// The highest number known of a node; `None` before the first.
    pub fn highest(&self, node: &NodeId) -> Option<u32> {
        self.highest.lock().get(node).copied()
    }

    /// The highest number known of each node, by node.
    pub fn all(&self) -> Vec<(NodeId, u32)> {
        self.highest.lock().iter().map(|(node, number)| (node.clone(), *number)).collect()
    }

    /// Notes a number that a node has given to a task.
    pub fn saw(&self, node: &NodeId, number: u32) {
        let mut highest = self.highest.lock();
        let known = highest.entry(node.clone()).or_insert(number);
        *known = number.max(*known);
    }

    /// Notes the number of a new task, asked for when `before` was the highest known. Answers
    /// whether a node that kept its disk can have given it; notes nothing otherwise.
    pub fn takes(&self, node: &NodeId, before: Option<u32>, number: u32) -> bool {
        let fits = before.is_none_or(|before| number > before);
        if fits {
            self.saw(node, number);
        }
        fits
    }

    /// Forgets the numbers of a node, which starts again at 0. Returns whether it had any.
    pub fn forget(&self, node: &NodeId) -> bool {
        self.mark_unverified(node);
        self.highest.lock().remove(node).is_some()
    }

    /// Forgets everything: nodes may have changed while somebody else looked after them.
    pub fn clear(&self) {
        self.highest.lock().clear();
        self.verified.lock().clear();
    }

    /// Whether this process has looked through what the node holds since it last went away.
    pub fn is_verified(&self, node: &NodeId) -> bool {
        self.verified.lock().contains(node)
    }

    /// Says that it has.
    pub fn mark_verified(&self, node: &NodeId) {
        self.verified.lock().insert(node.clone());
    }

    /// Says that the node may come back with another disk.
    pub fn mark_unverified(&self, node: &NodeId) {
        self.verified.lock().remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_never_given_twice() {
        let numbering = TaskUidTracker::default();
        let node = NodeId::new("a").unwrap();
        assert!(numbering.takes(&node, None, 7));
        // Two requests at a time may be answered in either order.
        let before = numbering.highest(&node);
        assert!(numbering.takes(&node, before, 9));
        assert!(numbering.takes(&node, before, 8));
        assert_eq!(numbering.highest(&node), Some(9));
        assert!(!numbering.takes(&node, numbering.highest(&node), 9));
        assert!(!numbering.takes(&node, numbering.highest(&node), 0));
        assert!(numbering.forget(&node));
        assert!(!numbering.forget(&node));
        assert!(numbering.takes(&node, numbering.highest(&node), 0));
        numbering.mark_verified(&node);
        numbering.clear();
        assert!(numbering.highest(&node).is_none() && !numbering.is_verified(&node));
    }
}
