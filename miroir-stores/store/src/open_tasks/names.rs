//! Changes of names that have not been made yet.

use std::collections::{BTreeMap, BTreeSet};

use miroir_api::TaskUid;

use crate::TaskRecord;

#[derive(Debug)]
struct Change {
    /// The names in question, those on the nodes among them.
    names: BTreeSet<String>,
    deferred: bool,
}

/// All of them, by task.
#[derive(Debug, Default)]
pub(super) struct Changes(BTreeMap<TaskUid, Change>);

impl Changes {
    /// Takes a task in, if it is one. Answers whether nobody knows how far it is.
    pub(super) fn insert(&mut self, record: &TaskRecord) -> bool {
        let Some(intent) = record.intent() else { return false };
        let deferred = record.is_deferred();
        self.0.insert(record.uid, Change { names: intent.gates(), deferred });
        !deferred
    }

    pub(super) fn remove(&mut self, uid: TaskUid) {
        self.0.remove(&uid);
    }

    /// The names in question.
    pub(super) fn names(&self, uid: TaskUid) -> Option<&BTreeSet<String>> {
        self.0.get(&uid).map(|change| &change.names)
    }

    pub(super) fn deferred_on(&self, name: &str) -> Option<TaskUid> {
        let is_it = |change: &Change| change.deferred && change.names.contains(name);
        self.0.iter().find(|(_, change)| is_it(change)).map(|(uid, _)| *uid)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use miroir_api::IndexUid;
    use miroir_api::meili::TaskKind;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::super::{LostTask, OpenTasks};
    use super::*;
    use crate::task_state::{Move, Renaming};
    use crate::{NewTask, TaskState};

    fn swap(awaits: &[&str], open: bool) -> TaskRecord {
        let name = |name: &str| IndexUid::new(name).unwrap();
        let (from, to, physical) = (name("x"), name("y"), "x--2".to_owned());
        let moves = vec![Move { incarnation: Uuid::nil(), physical, from, to }];
        let intent = open.then_some(Renaming { moves, primary_key: None });
        let awaits = awaits.iter().map(|name| (*name).to_owned()).collect();
        let new = NewTask {
            protocol: TaskState::Rename { awaits, intent }.into(),
            ..NewTask::new(TaskKind::IndexSwap, OffsetDateTime::UNIX_EPOCH)
        };
        TaskRecord::new(TaskUid(3), new)
    }

    #[test]
    fn a_change_of_names_is_lost_until_it_is_made() {
        let open = OpenTasks::default();
        open.note(&swap(&[], true));
        let gates = ["x", "x--2", "y"].map(str::to_owned).into();
        assert_eq!(open.lost(), [LostTask { uid: TaskUid(3), gates }]);
        assert_eq!(open.idle(None, 9), []);
        assert_eq!(open.deferred_on("y"), None);
        open.note(&swap(&["x--2"], false));
        assert_eq!((open.lost(), open.idle(None, 9)), (Vec::new(), vec![TaskUid(3)]));
    }

    #[test]
    fn a_deferred_change_of_names_is_found_by_each_of_them() {
        let open = OpenTasks::default();
        open.note(&swap(&["x--2"], true));
        assert_eq!((open.lost(), open.idle(None, 9)), (Vec::new(), vec![TaskUid(3)]));
        for name in ["x", "x--2", "y"] {
            assert_eq!(open.deferred_on(name), Some(TaskUid(3)), "{name}");
        }
        assert_eq!(open.deferred_on("z"), None);
        open.forget(TaskUid(3));
        assert_eq!(open.deferred_on("x"), None);
    }
}
