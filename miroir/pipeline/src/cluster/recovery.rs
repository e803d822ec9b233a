//! What this process knows of writes that a process before it left in the middle.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use miroir_api::TaskUid;
use miroir_core::lock::Lock;

use super::sequencer::Exclusive;

/// Where this process began, and the gates that stay closed until what was left is looked into.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The first task uid that can be this process' own.
    first: AtomicU32,
    /// Gates by the index's name on the nodes: no write, copy or change of the index goes through
    /// before somebody has looked into the writes that were left.
    gates: Lock<BTreeMap<String, Exclusive>>,
}

impl Recovery {
    /// Tasks from this uid on are this process' own; what has a lower one is of another process, or
    /// of a term before.
    pub fn begin_at(&self, first: TaskUid) {
        self.first.store(first.0, Ordering::Release);
    }

    /// Whether a task can be this process' own.
    pub fn is_own(&self, task: TaskUid) -> bool {
        task.0 >= self.first.load(Ordering::Acquire)
    }

    /// Keeps these gates closed, and those it held before no longer.
    pub fn hold(&self, gates: BTreeMap<String, Exclusive>) {
        *self.gates.lock() = gates;
    }

    /// Opens all gates but those of some indexes, which still cannot be looked into.
    pub fn open_all_but(&self, closed: impl Fn(&str) -> bool) {
        self.gates.lock().retain(|index, _| closed(index));
    }
}

#[cfg(test)]
mod tests {
    use super::super::sequencer::Sequencer;
    use super::*;

    #[tokio::test]
    async fn a_gate_stays_closed_until_its_index_was_looked_into() {
        let (sequencer, recovery) = (Sequencer::default(), Recovery::default());
        let mut gates = BTreeMap::new();
        for index in ["a", "b"] {
            gates.insert(index.to_owned(), sequencer.exclusive(index).await);
        }
        recovery.hold(gates);
        recovery.open_all_but(|index| index == "a");
        let open = sequencer.exclusive("b");
        assert!(tokio::time::timeout(std::time::Duration::from_secs(1), open).await.is_ok());
        let mut waits = tokio_test::task::spawn(sequencer.exclusive("a"));
        assert!(waits.poll().is_pending());
        recovery.open_all_but(|_| false);
        assert!(waits.is_woken());
    }

    #[test]
    fn tasks_from_the_first_on_are_own() {
        let recovery = Recovery::default();
        recovery.begin_at(TaskUid(7));
        assert!(!recovery.is_own(TaskUid(6)) && recovery.is_own(TaskUid(7)));
    }
}
