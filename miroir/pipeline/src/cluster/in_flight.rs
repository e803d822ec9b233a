//! Tasks that this process is at work on.

use std::collections::BTreeSet;
use std::sync::Arc;

use miroir_api::TaskUid;
use miroir_core::lock::Lock;

/// A set of tasks, each in it while its guard lives.
///
/// Of writes: a task in the store with calls that nobody makes any more was stored by a call of
/// which this process was told that it failed.
#[derive(Debug, Default)]
pub struct InFlightTasks(Arc<Lock<BTreeSet<TaskUid>>>);

/// A task is in flight while this lives.
#[derive(Debug)]
pub struct InFlightGuard(Arc<Lock<BTreeSet<TaskUid>>>, TaskUid);

impl InFlightTasks {
    /// Puts a task in; `None` if it is there already.
    pub fn begin(&self, task: TaskUid) -> Option<InFlightGuard> {
        let new = self.0.lock().insert(task);
        new.then(|| InFlightGuard(Arc::clone(&self.0), task))
    }

    /// Forgets all: what a former term left is told by the stores.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    /// Whether a task is in flight.
    pub fn contains(&self, task: TaskUid) -> bool {
        self.0.lock().contains(&task)
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_in_flight_once_and_until_its_guard_goes() {
        let tasks = InFlightTasks::default();
        let guard = tasks.begin(TaskUid(1)).unwrap();
        assert!(tasks.begin(TaskUid(1)).is_none() && tasks.contains(TaskUid(1)));
        drop(guard);
        assert!(!tasks.contains(TaskUid(1)) && tasks.begin(TaskUid(1)).is_some());
    }
}
