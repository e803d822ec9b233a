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

/// Whether a node owns a shard by now, where that is known: one that did when the write was sent is read
/// no more, nor copied from.
fn owns(now: Option<&Placement>, node: &NodeId, shard: ShardId) -> bool {
    now.is_none_or(|now| now.owns(node, shard))
}

/// Whether a node speaks for another one about an index as a whole: it is read by now, where that is
/// known, or the other is not either. One without shards may go, with what it has.
fn speaks_for(record: &TaskRecord, now: Option<&Placement>, other: &NodeId, node: &NodeId) -> bool {
    // Nothing is copied from whoever deleted it.
    record.kind == TaskKind::IndexDeletion
        || now.is_none_or(|now| now.is_read(other) || !now.is_read(node))
}

/// Whether another node whose word counts, and which can still be asked, has what is wanted of this.
fn has_witness(
    record: &TaskRecord,
    (stale, now): (&StaleMap, Option<&Placement>),
    node: &NodeId,
    shard: Option<ShardId>,
    wanted: impl Fn(&NodeTask) -> bool,
) -> bool {
    record.nodes.iter().any(|other| {
        !other.dropped
            && wanted(other)
            && other.node != *node
            && is_about(other, shard)
            && match shard {
                Some(shard) => owns(now, &other.node, shard),
                None => speaks_for(record, now, &other.node, node),
            }
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
/// every shard of the node has another owner that took the making, and counts: in the shard as well, where
/// the node does.
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
    let counts = |other: &NodeId, shard| stale.is_authority(index, other, shard);
    let spares =
        |other: &NodeId, shard| took(other) && (counts(other, shard) || !counts(node, shard));
    let shards = placement.owned_by(node);
    shards.iter().all(|shard| placement.write_targets(shard).any(|(_, n)| spares(n, shard)))
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
    now: Option<&Placement>,
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
        .filter(|part| !in_time && has_witness(record, (stale, now), &task.node, *part, wanted))
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
        *all = match (*all, own) {
            (same, other) if same == other => same,
            // What it has not done yet is waited for by a row of its own.
            (Part::Done, Part::Left) | (Part::Left, Part::Done) => Part::Left,
            _ => Part::NotDone,
        };
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

/// Whether a node found no index to do its part with.
fn had_none(task: &NodeTask) -> bool {
    let none = |error: &ApiError| error.code == "index_not_found";
    part(task) == Part::NotDone && task.error.as_ref().is_some_and(none)
}

/// Whether an index was deleted by nodes that nobody waits for. It was in the catalogue, so those that
/// had none missed its making, and their word is no word on the others.
pub(crate) fn is_deleted_by_others(record: &TaskRecord) -> bool {
    let (others, asked): (Vec<_>, Vec<_>) = record.nodes.iter().partition(|task| task.dropped);
    record.kind == TaskKind::IndexDeletion
        && !others.is_empty()
        && !asked.is_empty()
        && asked.into_iter().all(had_none)
}

/// Decides on a change of settings that some nodes canceled and others did, once all have ended it. As a
/// write it is done where every shard has an owner that did it: what came behind it in the queues of
/// those went by it, and may be done. Otherwise it is taken back. Answers the nodes that have to copy the
/// settings.
///
/// Nodes that copy settings have no say in what follows: they may have copied these already.
pub(crate) fn settings(
    record: &mut TaskRecord,
    stale: &StaleMap,
    placement: &Placement,
) -> Vec<StaleReplica> {
    let index = record.physical.clone().unwrap_or_default();
    let copies = |node: &NodeId| stale.misses_index(&index, node);
    let who = |wanted: TaskStatus| -> BTreeSet<NodeId> {
        let ended = record.nodes.iter().filter(|task| !task.dropped && task.status == wanted);
        ended.map(|task| task.node.clone()).filter(|node| !copies(node)).collect()
    };
    let (did, canceled) = (who(TaskStatus::Succeeded), who(TaskStatus::Canceled));
    let is_open = |task: &NodeTask| !task.dropped && task.status == TaskStatus::Canceled;
    if did.is_empty() || !record.nodes.iter().any(is_open) {
        return Vec::new();
    }
    let has_owner = |shard| placement.write_targets(shard).any(|(_, node)| did.contains(node));
    // Settings that some node cannot have, none has.
    let done = who(TaskStatus::Failed).is_empty()
        && ShardSet::full(placement.shards()).iter().all(has_owner);
    for task in record.nodes.iter_mut().filter(|task| is_open(task)) {
        // To take it back, somebody is needed who never had it.
        task.dropped = done || (copies(&task.node) && !canceled.is_empty());
    }
    // Who never took it may have copied the settings of one that canceled it.
    let without = record.nodes.iter().filter(|task| done && !did.contains(&task.node));
    without.map(|task| StaleReplica::new(&task.node, &index, None, CatchUp::Shard)).collect()
}

/// How the deletion of an index ended whose node tasks have all ended: who failed it has to do it again.
pub(crate) fn deletion(record: &TaskRecord) -> Ending {
    let index = record.physical.as_deref().unwrap_or_default();
    let has = |task: &&NodeTask| part(task) == Part::NotDone && !had_none(task);
    let behind = record.nodes.iter().filter(has);
    let row = |task: &NodeTask| StaleReplica::new(&task.node, index, None, CatchUp::Deleted);
    Ending { done: true, behind: behind.map(row).collect() }
}

/// Whether a node refused its part because the index has another primary key there.
pub(crate) fn has_other_key(task: &NodeTask) -> bool {
    !task.dropped
        && task.error.as_ref().is_some_and(|error| error.code == "index_primary_key_already_exists")
}

/// How a task ended whose node tasks have all ended, by shard. `now` says who owns what by now: who came
/// after the write has what a copy brought, as one has that missed it.
pub(crate) fn ending(record: &TaskRecord, stale: &StaleMap, now: Option<&Placement>) -> Ending {
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
        let owners = now.into_iter().flat_map(|now| now.write_targets(shard));
        for (_, owner) in owners {
            nodes.entry(owner).or_insert(Part::Absent);
        }
        let is_authority =
            |node: &NodeId| stale.is_authority(index, node, shard) && owns(now, node, shard);
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
mod tests;
