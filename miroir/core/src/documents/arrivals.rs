//! Documents of one index that are on their way to nodes, and the stamps they were given.
//!
//! Owners are asked for the stamps of the documents they have. What was accepted and is not carried out
//! yet they do not know: a document that comes twice in a row is new to both writes, and one that is
//! deleted and written again is there still. This remembers it until the tasks have ended.

use std::collections::{HashMap, VecDeque};

use miroir_api::TaskUid;
use twox_hash::XxHash64;

use super::stamp::Stamp;

/// Ids remembered of one index; the oldest are forgotten first.
const MOST: usize = 500_000;

/// What is remembered of an id.
#[derive(Clone, Copy, Debug)]
struct Noted {
    by: TaskUid,
    /// `None`: it was deleted.
    stamp: Option<Stamp>,
}

/// See the module's documentation. Ids are told apart by their hash: two that share one may end up with
/// each other's place among ties.
#[derive(Debug, Default)]
pub struct Arrivals {
    noted: HashMap<u64, Noted>,
    order: VecDeque<(TaskUid, u64)>,
    /// The last task that deletes all documents.
    emptied: Option<TaskUid>,
}

impl Arrivals {
    /// By what an id is known here.
    #[must_use]
    pub fn hash(id: &str) -> u64 {
        XxHash64::oneshot(0, id.as_bytes())
    }

    /// Stamps of the documents of a task, in the order of its payload: those they have, as far as they
    /// are on their way or `found` at their owners, and new ones for the others. `creates`: documents
    /// that are not there yet will be.
    pub fn assign(
        &mut self,
        task: TaskUid,
        ids: &[u64],
        found: &HashMap<u64, Stamp>,
        creates: bool,
    ) -> Vec<Stamp> {
        let stamp = |(place, id): (usize, &u64)| {
            let known = match self.noted.get(id) {
                Some(noted) => noted.stamp,
                None => found.get(id).copied().filter(|stamp| !self.is_void(*stamp)),
            };
            known.unwrap_or_else(|| {
                let stamp = Stamp::new(task, place);
                if creates {
                    self.note(*id, Noted { by: task, stamp: Some(stamp) });
                }
                stamp
            })
        };
        ids.iter().enumerate().map(stamp).collect()
    }

    /// A task deletes these documents: if they come again, they come for the first time.
    pub fn deleted(&mut self, task: TaskUid, ids: &[u64]) {
        for id in ids {
            self.note(*id, Noted { by: task, stamp: None });
        }
    }

    /// A task deletes all documents.
    pub fn emptied(&mut self, task: TaskUid) {
        self.noted.clear();
        self.order.clear();
        self.emptied = Some(task);
    }

    /// Whether a document with this stamp will have been deleted.
    fn is_void(&self, stamp: Stamp) -> bool {
        self.emptied.is_some_and(|emptied| stamp.task() < emptied)
    }

    fn note(&mut self, id: u64, noted: Noted) {
        self.noted.insert(id, noted);
        self.order.push_back((noted.by, id));
    }

    /// Forgets what owners know by now: what tasks did that are not open any more.
    pub fn forget(&mut self, is_open: impl Fn(TaskUid) -> bool) {
        let mut last = None;
        while let Some((task, id)) = self.order.front().copied() {
            let ended = last == Some(task) || !is_open(task);
            if !ended && self.order.len() <= MOST {
                break;
            }
            last = ended.then_some(task);
            self.order.pop_front();
            if self.noted.get(&id).is_some_and(|noted| noted.by == task) {
                self.noted.remove(&id);
            }
        }
        self.emptied = self.emptied.filter(|task| is_open(*task));
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty() && self.emptied.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(task: u32, place: usize) -> Stamp {
        Stamp::new(TaskUid(task), place)
    }

    fn assign(arrivals: &mut Arrivals, task: u32, ids: &[u64]) -> Vec<Stamp> {
        arrivals.assign(TaskUid(task), ids, &HashMap::new(), true)
    }

    #[test]
    fn a_document_keeps_the_stamp_it_came_with() {
        let mut arrivals = Arrivals::default();
        assert_eq!(
            assign(&mut arrivals, 1, &[10, 11, 10]),
            [stamp(1, 0), stamp(1, 1), stamp(1, 0)]
        );
        assert_eq!(assign(&mut arrivals, 2, &[12, 10]), [stamp(2, 0), stamp(1, 0)]);
        let found = HashMap::from([(13, stamp(0, 7)), (14, Stamp::NONE), (10, stamp(0, 1))]);
        let stamps = arrivals.assign(TaskUid(3), &[13, 14, 10, 15], &found, true);
        // What is on its way is newer than what an owner says, and unstamped documents stay so.
        assert_eq!(stamps, [stamp(0, 7), Stamp::NONE, stamp(1, 0), stamp(3, 3)]);
    }

    #[test]
    fn what_is_deleted_comes_for_the_first_time_again() {
        let mut arrivals = Arrivals::default();
        let found = HashMap::from([(1, stamp(0, 1)), (2, stamp(0, 2))]);
        arrivals.deleted(TaskUid(5), &[1]);
        let stamps = arrivals.assign(TaskUid(6), &[1, 2], &found, true);
        assert_eq!(stamps, [stamp(6, 0), stamp(0, 2)]);
        arrivals.emptied(TaskUid(7));
        let stamps = arrivals.assign(TaskUid(8), &[2, 1], &found, true);
        assert_eq!(stamps, [stamp(8, 0), stamp(8, 1)]);
        // Once the owners have carried it out they say so themselves.
        arrivals.forget(|_| false);
        assert!(arrivals.is_empty());
        assert_eq!(arrivals.assign(TaskUid(9), &[2], &found, true), [stamp(0, 2)]);
    }

    #[test]
    fn what_is_not_created_is_not_remembered() {
        let mut arrivals = Arrivals::default();
        arrivals.assign(TaskUid(1), &[1], &HashMap::new(), false);
        assert!(arrivals.is_empty());
        assert_eq!(assign(&mut arrivals, 2, &[1]), [stamp(2, 0)]);
    }

    #[test]
    fn only_open_tasks_are_remembered_and_not_without_end() {
        let mut arrivals = Arrivals::default();
        for task in 1..=4 {
            assign(&mut arrivals, task, &[u64::from(task)]);
        }
        arrivals.deleted(TaskUid(5), &[1]);
        // A later note about an id stays when the earlier one goes.
        arrivals.forget(|task| task.0 > 2);
        assert_eq!(assign(&mut arrivals, 6, &[1, 2, 3]), [stamp(6, 0), stamp(6, 1), stamp(3, 0)]);
        let many: Vec<u64> = (100..100 + MOST as u64).collect();
        assign(&mut arrivals, 7, &many);
        arrivals.forget(|_| true);
        assert_eq!((arrivals.order.len(), arrivals.noted.len()), (MOST, MOST));
        assert_eq!(assign(&mut arrivals, 8, &[3, 100]), [stamp(8, 0), stamp(7, 0)]);
    }
}
