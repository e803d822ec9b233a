//! What the parts of a task on its nodes say of the replicas. Pure.
//!
//! One rule holds over all of it: replicas on which a write ended unlike, or nobody knows how, are
//! not both read. Of each shard the *authorities* decide, the replicas that missed nothing: what they
//! did is what happened, and the others follow by copying. A success on a replica that is to be
//! replaced by a copy counts for nothing: the copy takes it away.

use std::collections::{BTreeMap, BTreeSet};

use miroir_api::meili::{ApiError, TaskKind, TaskStatus};
use miroir_api::{NodeId, ShardId};
use miroir_core::routing::{Placement, ShardSet};
use miroir_core::view::{CatchUp, StaleMap, StaleReplica};
use miroir_store::{NodeTask, TaskRecord};

/// Why nobody learns from a node how its part of a task went, at least not now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The node is down. What is in its queue it does when it comes back.
    Down,
    /// The node ended the task, and has forgotten how.
    Forgotten,
    /// The node works on, or seems to, long after others have done it. It may have no room left to
    /// note what it does.
    Stuck,
    /// The node has the task in its queue behind others for which its replicas are waited for already.
    Behind,
}

impl Loss {
    /// Whether the task is in the node's queue, to be done some time.
    pub(crate) fn is_queued(self) -> bool {
        self != Self::Forgotten
    }
}

/// Whether a node's word on a shard, or on the index as a whole, counts.
fn counts(record: &TaskRecord, stale: &StaleMap, node: &NodeId, shard: Option<ShardId>) -> bool {
    let index = record.physical.as_deref().unwrap_or_default();
    match (shard, record.kind) {
        (Some(shard), _) => stale.is_authority(index, node, shard),
        (None, TaskKind::SettingsUpdate) => !stale.misses_index(index, node),
        // Nothing is copied from whoever deleted it.
        (None, TaskKind::IndexDeletion) => true,
        (None, _) => !stale.lacks_index(index, node),
    }
}

fn is_about(task: &NodeTask, shard: Option<ShardId>) -> bool {
    shard.is_none_or(|shard| task.shards.contains(&shard))
}

fn parts_of(task: &NodeTask) -> Vec<Option<ShardId>> {
    if task.shards.is_empty() {
        vec![None]
    } else {
        task.shards.iter().map(|shard| Some(*shard)).collect()
    }
}

/// Whether another node whose word counts, and which can still be asked, has what is wanted of this.
fn has_witness(
    record: &TaskRecord,
    stale: &StaleMap,
    node: &NodeId,
    shard: Option<ShardId>,
    wanted: impl Fn(&NodeTask) -> bool,
) -> bool {
    record.nodes.iter().any(|other| {
        !other.dropped
            && wanted(other)
            && other.node != *node
            && is_about(other, shard)
            && counts(record, stale, &other.node, shard)
    })
}

/// Whether tasks in the node's queue are waited for before some replica of it is read again. A node
/// does the tasks of an index in their order, so what came later is not done before them.
fn is_pending(record: &TaskRecord, stale: &StaleMap, node: &NodeId) -> bool {
    let index = record.physical.as_deref().unwrap_or_default();
    stale.of_index(index).any(|row| row.node == *node && row.kind == CatchUp::Pending)
}

/// Whether a part of the making of an index can be done without, as long as it waits in its node's queue:
/// every shard of the node has another owner that took the making, and counts.
pub(crate) fn others_make(
    record: &TaskRecord,
    stale: &StaleMap,
    at: usize,
    placement: &Placement,
) -> bool {
    let (node, index) = (&record.nodes[at].node, record.physical.as_deref().unwrap_or_default());
    let took = |other: &NodeId| {
        let own = |task: &NodeTask| task.node == *other && !task.dropped && task.uid.is_some();
        other != node && record.nodes.iter().any(own) && !stale.lacks_index(index, other)
    };
    let shards = placement.owned_by(node);
    shards.iter().all(|shard| placement.write_targets(shard).any(|(_, other)| took(other)))
}

/// Takes a node out of those that count for a task, as far as others can speak for it, and answers
/// the replicas that have to catch up because of it.
///
/// A node that is down goes on counting where no other whose word counts took what it took: the
/// write was acknowledged, and will be done when it comes back. One that is stuck or behind goes on
/// counting where no other has done it.
pub(crate) fn lose(
    record: &mut TaskRecord,
    stale: &StaleMap,
    at: usize,
    loss: Loss,
) -> Vec<StaleReplica> {
    let task = &record.nodes[at];
    let parts = parts_of(task);
    let wanted = |other: &NodeTask| match loss {
        Loss::Down | Loss::Forgotten => other.uid.is_some(),
        Loss::Stuck | Loss::Behind => other.status == TaskStatus::Succeeded,
    };
    let in_time = loss == Loss::Behind && !is_pending(record, stale, &task.node);
    let witnessed: Vec<Option<ShardId>> = parts
        .iter()
        .copied()
        .filter(|part| !in_time && has_witness(record, stale, &task.node, *part, wanted))
        .collect();
    if loss.is_queued() && witnessed.len() < parts.len() {
        return Vec::new();
    }
    let task = &mut record.nodes[at];
    task.dropped = true;
    task.forgotten = loss == Loss::Forgotten;
    let (node, uid) = (task.node.clone(), task.uid);
    let Some(index) = record.physical.as_deref() else { return Vec::new() };
    let kind = match (record.kind, loss) {
        (TaskKind::IndexCompaction, _) => return Vec::new(),
        (TaskKind::IndexDeletion, _) => CatchUp::Deleted,
        // A settings proposal may be taken back before the node works on it.
        (TaskKind::SettingsUpdate, _) => CatchUp::Shard,
        (TaskKind::IndexCreation, Loss::Forgotten) => CatchUp::Index,
        (_, Loss::Forgotten) => CatchUp::Shard,
        (_, Loss::Down | Loss::Stuck | Loss::Behind) => CatchUp::Pending,
    };
    let awaits = if kind == CatchUp::Pending { uid.into_iter().collect() } else { Vec::new() };
    witnessed
        .into_iter()
        .map(|shard| StaleReplica {
            awaits: awaits.clone(),
            ..StaleReplica::new(&node, index, shard, kind)
        })
        .collect()
}

/// How a task about documents ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Whether every shard has an authority that did it.
    pub(crate) done: bool,
    /// Replicas that have to catch up: their part ended unlike that of the authorities.
    pub(crate) behind: Vec<StaleReplica>,
}

/// What one node did in one shard, all its calls together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Done,
    NotDone,
    /// It took the write and was not waited for. If it is read now it has done it since, or copied it.
    Left,
    /// It took the write, and forgot how it ended.
    Unknown,
    /// It never took the write: if it is read now, it has what a copy brought.
    Absent,
}

fn part(task: &NodeTask) -> Part {
    match (task.dropped, task.uid, task.status) {
        (true, Some(_), _) if task.forgotten => Part::Unknown,
        (true, Some(_), _) => Part::Left,
        (true, None, _) => Part::Absent,
        (false, _, TaskStatus::Succeeded) => Part::Done,
        (false, ..) => Part::NotDone,
    }
}

/// How the making of an index ended whose node tasks have all ended. It is done if every shard has an
/// owner that made it; the others make it anew then.
pub(crate) fn creation(record: &TaskRecord, stale: &StaleMap, placement: &Placement) -> Ending {
    let index = record.physical.as_deref().unwrap_or_default();
    let mut nodes: BTreeMap<&NodeId, Part> = BTreeMap::new();
    for task in &record.nodes {
        let own = part(task);
        let all = nodes.entry(&task.node).or_insert(own);
        *all = if *all == own { own } else { Part::NotDone };
    }
    let has =
        |node: &NodeId| nodes.get(node) == Some(&Part::Done) && !stale.lacks_index(index, node);
    let shards = ShardSet::full(placement.shards());
    let done = shards.iter().all(|shard| placement.write_targets(shard).any(|(_, node)| has(node)));
    let behind = nodes.iter().filter(|(_, part)| done && **part == Part::NotDone);
    let behind =
        behind.map(|(node, _)| StaleReplica::new(node, index, None, CatchUp::Index)).collect();
    Ending { done, behind }
}

/// How the deletion of an index ended whose node tasks have all ended: who failed it has to do it again.
pub(crate) fn deletion(record: &TaskRecord) -> Ending {
    let index = record.physical.as_deref().unwrap_or_default();
    let has = |task: &&NodeTask| {
        let gone = |error: &ApiError| error.code == "index_not_found";
        part(task) == Part::NotDone && !task.error.as_ref().is_some_and(gone)
    };
    let behind = record.nodes.iter().filter(has);
    let row = |task: &NodeTask| StaleReplica::new(&task.node, index, None, CatchUp::Deleted);
    Ending { done: true, behind: behind.map(row).collect() }
}

/// Whether a node refused its part because the index has another primary key there.
pub(crate) fn has_other_key(task: &NodeTask) -> bool {
    !task.dropped
        && task.error.as_ref().is_some_and(|error| error.code == "index_primary_key_already_exists")
}

/// How a task ended whose node tasks have all ended, by shard.
pub(crate) fn ending(record: &TaskRecord, stale: &StaleMap) -> Ending {
    let index = record.physical.as_deref().unwrap_or_default();
    let touched: BTreeSet<ShardId> =
        record.nodes.iter().flat_map(|task| task.shards.iter().copied()).collect();
    let mut ending = Ending { done: true, behind: Vec::new() };
    let mut shards = Vec::new();
    for shard in touched {
        let mut nodes: BTreeMap<&NodeId, Part> = BTreeMap::new();
        for task in record.nodes.iter().filter(|task| task.shards.contains(&shard)) {
            let own = part(task);
            let all = nodes.entry(&task.node).or_insert(own);
            *all = match (*all, own) {
                (same, other) if same == other => same,
                (Part::Done, Part::Left) | (Part::Left, Part::Done) => Part::Left,
                (Part::Unknown | Part::Absent, _) | (_, Part::Unknown | Part::Absent) => {
                    Part::Unknown
                }
                _ => Part::NotDone,
            };
        }
        let is_authority = |node: &NodeId| stale.is_authority(index, node, shard);
        let says = |what| nodes.iter().any(|(node, part)| *part == what && is_authority(node));
        let was = |what| nodes.values().any(|part| *part == what);
        // It was copied from those that took it, once they had ended it, or ended it itself and was
        // heard of by its row only. It counts in the place of those that missed something since.
        let copied = (says(Part::Absent) || says(Part::Left))
            && !says(Part::NotDone)
            && !says(Part::Unknown);
        if copied && was(Part::Done) && !was(Part::NotDone) {
            continue;
        }
        let (done, not_done) = (says(Part::Done), says(Part::NotDone));
        ending.done &= done;
        shards.push((shard, nodes, done, not_done));
    }
    // Nodes that disagree on the primary key disagree on all they have: a write that failed for it did
    // not happen anywhere, so that those who have the documents stay the authorities.
    let undone = !ending.done && record.nodes.iter().any(has_other_key);
    for (shard, nodes, done, not_done) in shards {
        let behind: &[Part] = match (done, not_done) {
            (true, true) if undone => &[Part::Done, Part::Left, Part::Unknown],
            (true, _) => &[Part::NotDone],
            // It did not happen: whoever did it, or may do it yet, has to lose it.
            (false, true) => &[Part::Done, Part::Left, Part::Unknown],
            (false, false) => &[],
        };
        let behind = nodes.iter().filter(|(_, part)| behind.contains(part));
        ending.behind.extend(
            behind.map(|(node, _)| StaleReplica::new(node, index, Some(shard), CatchUp::Shard)),
        );
    }
    ending
}

#[cfg(test)]
mod tests {
    use TaskStatus::{Enqueued, Failed, Succeeded};
    use miroir_api::TaskUid;
    use miroir_store::NewTask;

    use super::*;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    /// A write to shards 1 and 2 by nodes in some status; `dropped` ones after a `!`.
    fn write(nodes: &[(&str, TaskStatus)]) -> TaskRecord {
        let nodes = nodes.iter().enumerate().map(|(at, (name, status))| {
            let mut task = NodeTask::new(id(name.trim_start_matches('!')), Some(70 + at as u32));
            task.status = *status;
            task.dropped = name.starts_with('!');
            task.shards = vec![ShardId(1), ShardId(2)];
            task
        });
        let new = NewTask {
            index: Some("a".to_owned()),
            physical: Some("a".to_owned()),
            nodes: nodes.collect(),
            ..NewTask::new(TaskKind::DocumentAdditionOrUpdate, time::OffsetDateTime::UNIX_EPOCH)
        };
        TaskRecord::new(TaskUid(0), new)
    }

    fn stale(rows: &[(&str, u32, CatchUp)]) -> StaleMap {
        let rows = rows.iter().map(|(node, shard, kind)| {
            StaleReplica::new(&id(node), "a", Some(ShardId(*shard)), *kind)
        });
        StaleMap::new(rows.collect())
    }

    fn names(rows: &[StaleReplica]) -> Vec<(String, u32, CatchUp)> {
        let name = |row: &StaleReplica| (row.node.to_string(), row.shard.unwrap().0, row.kind);
        rows.iter().map(name).collect()
    }

    fn miss(node: &str, shard: u32) -> (String, u32, CatchUp) {
        (node.to_owned(), shard, CatchUp::Shard)
    }

    #[test]
    fn a_replica_that_failed_alone_follows_the_one_that_succeeded() {
        let record = write(&[("a", Succeeded), ("b", Failed)]);
        let end = ending(&record, &StaleMap::default());
        assert!(end.done);
        assert_eq!(names(&end.behind), [miss("b", 1), miss("b", 2)]);
        let both = ending(&write(&[("a", Failed), ("b", Failed)]), &StaleMap::default());
        assert_eq!((both.done, both.behind), (false, Vec::new()), "they ended alike");
    }

    #[test]
    fn an_index_is_made_where_every_shard_has_an_owner_with_it() {
        let nodes: Vec<NodeId> = ["a", "b", "c"].map(id).into();
        let placement = Placement::new(&[nodes], 2, 6);
        let made = |nodes: &[(&str, TaskStatus)], stale: &StaleMap| {
            let mut record = write(nodes);
            record.kind = TaskKind::IndexCreation;
            record.nodes.iter_mut().for_each(|task| task.shards.clear());
            let end = creation(&record, stale, &placement);
            let behind = end.behind.iter().map(|row| (row.node.to_string(), row.kind));
            (end.done, behind.collect::<Vec<_>>())
        };
        let mut away = write(&[("a", Succeeded), ("b", Enqueued), ("c", Succeeded)]);
        away.kind = TaskKind::IndexCreation;
        let none = StaleMap::default();
        assert!(others_make(&away, &none, 1, &placement));
        away.nodes[2].uid = None;
        assert!(!others_make(&away, &none, 1, &placement), "some shards are on b and c alone");
        let one = [("a", Succeeded), ("b", Failed), ("c", Succeeded)];
        let behind = |node: &str| vec![(node.to_owned(), CatchUp::Index)];
        assert_eq!(made(&one, &StaleMap::default()), (true, behind("b")));
        let two = [("a", Succeeded), ("b", Failed), ("c", Failed)];
        assert_eq!(made(&two, &StaleMap::default()), (false, Vec::new()));
        let lacks = StaleMap::new(vec![StaleReplica::new(&id("c"), "a", None, CatchUp::Index)]);
        assert_eq!(made(&one, &lacks), (false, Vec::new()));
        // A node may do a part of it alone.
        let half = [("a", Succeeded), ("b", Succeeded), ("b", Failed), ("c", Succeeded)];
        assert_eq!(made(&half, &StaleMap::default()), (true, behind("b")));
    }

    #[test]
    fn a_write_that_failed_for_another_primary_key_happened_nowhere() {
        let mut record = write(&[("a", Succeeded), ("b", Failed), ("c", Failed)]);
        record.nodes[0].shards = vec![ShardId(1)];
        record.nodes[2].shards = vec![ShardId(2)];
        let end = ending(&record, &StaleMap::default());
        assert_eq!((end.done, names(&end.behind)), (false, vec![miss("b", 1)]), "as it is else");
        let code = "index_primary_key_already_exists";
        record.nodes[1].error = Some(ApiError::new(code, ""));
        let end = ending(&record, &StaleMap::default());
        assert_eq!((end.done, names(&end.behind)), (false, vec![miss("a", 1)]));
        // Where it succeeded as a whole, whoever has another key is behind.
        record.nodes.remove(2);
        record.nodes[0].shards.push(ShardId(2));
        let end = ending(&record, &StaleMap::default());
        assert_eq!((end.done, names(&end.behind)), (true, vec![miss("b", 1), miss("b", 2)]));
    }

    #[test]
    fn a_success_on_a_replica_that_is_to_be_replaced_is_none() {
        let record = write(&[("a", Failed), ("b", Succeeded)]);
        for kind in [CatchUp::Pending, CatchUp::Shard] {
            let end = ending(&record, &stale(&[("b", 1, kind)]));
            assert!(!end.done, "{kind:?}");
            // In the other shard `b` counts.
            assert_eq!(names(&end.behind), [miss("b", 1), miss("a", 2)], "{kind:?}");
        }
        let mut record = write(&[("!a", Enqueued), ("b", Succeeded)]);
        record.nodes[0].forgotten = true;
        assert!(!ending(&record, &stale(&[("b", 1, CatchUp::Shard)])).done);
    }

    #[test]
    fn a_replica_may_not_do_later_what_failed_elsewhere() {
        let record = write(&[("a", Failed), ("!b", Enqueued)]);
        let end =
            ending(&record, &stale(&[("b", 1, CatchUp::Pending), ("b", 2, CatchUp::Pending)]));
        assert_eq!((end.done, names(&end.behind)), (false, vec![miss("b", 1), miss("b", 2)]));
        // One that never took it has nothing to lose.
        let mut record = write(&[("a", Failed), ("!b", Enqueued)]);
        record.nodes[1].uid = None;
        assert_eq!(ending(&record, &StaleMap::default()).behind, Vec::new());
    }

    #[test]
    fn a_copy_counts_for_those_it_was_made_from() {
        let after = |first, kinds: &[(&str, u32, CatchUp)]| {
            let mut record = write(&[("a", first), ("!b", Enqueued)]);
            record.nodes[1].uid = None;
            ending(&record, &stale(kinds))
        };
        // `b` missed the write, caught up from `a`, and `a` missed the next one.
        let lost = [("a", 1, CatchUp::Shard), ("a", 2, CatchUp::Shard)];
        assert_eq!(after(Succeeded, &lost), Ending { done: true, behind: Vec::new() });
        assert!(!after(Failed, &lost).done);
        // Or it was down, and has done what was in its queue.
        let mut record = write(&[("a", Succeeded), ("!b", Enqueued)]);
        assert!(ending(&record, &stale(&lost)).done);
        record.nodes[1].forgotten = true;
        assert!(!ending(&record, &stale(&lost)).done, "nobody knows");
        // While `b` has to catch up it has nothing of it.
        let both = [lost[0], lost[1], ("b", 1, CatchUp::Shard), ("b", 2, CatchUp::Shard)];
        assert!(!after(Succeeded, &both).done);
    }

    #[test]
    fn a_node_that_is_down_is_waited_for_unless_an_authority_took_it_too() {
        let record = write(&[("a", Enqueued), ("b", Enqueued)]);
        let mut both = record.clone();
        let rows = lose(&mut both, &StaleMap::default(), 1, Loss::Down);
        assert!(both.nodes[1].dropped && !both.nodes[1].forgotten);
        assert!(rows.iter().all(|row| row.kind == CatchUp::Pending && row.awaits == [71]));
        assert_eq!(rows.len(), 2);
        // Then the other one is alone.
        assert_eq!(lose(&mut both, &StaleMap::default(), 0, Loss::Down), Vec::new());
        assert!(!both.nodes[0].dropped);
        for kind in [CatchUp::Pending, CatchUp::Shard] {
            let mut one = record.clone();
            assert_eq!(lose(&mut one, &stale(&[("a", 2, kind)]), 1, Loss::Down), Vec::new());
            assert!(!one.nodes[1].dropped, "{kind:?}");
        }
    }

    #[test]
    fn a_node_that_is_stuck_is_waited_for_unless_an_authority_has_done_it() {
        let record = write(&[("a", Succeeded), ("b", Enqueued)]);
        let none = StaleMap::default();
        let mut one = record.clone();
        assert_eq!(lose(&mut one, &none, 1, Loss::Behind), Vec::new(), "it is read");
        let rows = lose(&mut one, &none, 1, Loss::Stuck);
        assert!(one.nodes[1].dropped && rows.len() == 2);
        assert!(rows.iter().all(|row| row.kind == CatchUp::Pending && row.awaits == [71]));
        // What comes after it in the queue waits for nobody.
        let pending = stale(&[("b", 1, CatchUp::Pending), ("b", 2, CatchUp::Pending)]);
        assert_eq!(lose(&mut record.clone(), &pending, 1, Loss::Behind).len(), 2);
        let other = stale(&[("b", 7, CatchUp::Pending)]);
        assert_eq!(lose(&mut record.clone(), &other, 1, Loss::Behind).len(), 2);
        let copied = stale(&[("b", 1, CatchUp::Shard), ("b", 2, CatchUp::Shard)]);
        assert_eq!(lose(&mut record.clone(), &copied, 1, Loss::Behind), Vec::new());
        for other in [stale(&[("a", 2, CatchUp::Shard)]), stale(&[("a", 1, CatchUp::Pending)])] {
            assert_eq!(lose(&mut record.clone(), &other, 1, Loss::Stuck), Vec::new());
        }
        let mut both = write(&[("a", Enqueued), ("b", Enqueued)]);
        assert_eq!(lose(&mut both, &none, 1, Loss::Stuck), Vec::new());
    }

    #[test]
    fn a_node_that_fails_to_delete_an_index_does_it_again() {
        let mut record = write(&[("a", Succeeded), ("b", Failed), ("c", Failed), ("!d", Enqueued)]);
        record.kind = TaskKind::IndexDeletion;
        record.nodes[2].error = Some(ApiError::new("index_not_found", "Index `a` not found."));
        let end = deletion(&record);
        assert_eq!((end.done, end.behind.len()), (true, 1));
        let row = &end.behind[0];
        assert_eq!((row.node.as_str(), row.shard, row.kind), ("b", None, CatchUp::Deleted));
    }

    #[test]
    fn what_a_node_forgot_is_compared_and_nothing_else() {
        let mut record = write(&[("a", Enqueued), ("b", Enqueued)]);
        let rows = lose(&mut record, &stale(&[("a", 2, CatchUp::Shard)]), 1, Loss::Forgotten);
        assert!(record.nodes[1].dropped && record.nodes[1].forgotten);
        // In shard 2 nobody can be copied from.
        assert_eq!(names(&rows), [miss("b", 1)]);
        assert_eq!(rows[0].awaits, Vec::<u32>::new());
        // The last one that forgets is what the others are compared with.
        assert_eq!(lose(&mut record, &StaleMap::default(), 0, Loss::Forgotten), Vec::new());
        let end = ending(&record, &stale(&[("b", 1, CatchUp::Shard)]));
        assert_eq!((end.done, end.behind), (false, Vec::new()));
    }
}
