//! What a task's details say once all nodes are done: each document counted once.

use std::collections::BTreeMap;

use miroir_api::ShardId;
use miroir_api::meili::{TaskKind, TaskStatus};
use serde_json::Value;

use crate::outcome::changed_counts::{self, Answered};
use miroir_pipeline::cluster::ClusterState;
use miroir_store::{NodeTask, TaskRecord, TaskState};

/// Completes the counts of a finished task.
pub(crate) fn fill(state: &ClusterState, record: &mut TaskRecord) {
    let ok = record.status == TaskStatus::Succeeded;
    if record.kind == TaskKind::IndexCompaction && ok {
        crate::outcome::compaction::sum_sizes(record);
        return;
    }
    if record.kind == TaskKind::DsrClear {
        // Every node has every rule.
        let said = record.nodes.iter().find_map(|task| task.deleted);
        if let Some(details) = &mut record.details {
            details.insert("deletedDocuments".into(), said.into());
        }
        return;
    }
    let deleted = if ok { count(state, record, |task| task.deleted) } else { 0 };
    let noted = |task: &NodeTask| task.details.as_ref()?.get("editedDocuments")?.as_u64();
    let edited = if ok { count(state, record, noted) } else { 0 };
    let unique = match record.protocol.state {
        Some(TaskState::Addition { indexed }) => indexed,
        _ => 0,
    };
    let Some(details) = &mut record.details else { return };
    if details.contains_key("deletedDocuments") {
        // An edition that failed says nothing of deletions.
        let said = ok || record.kind != TaskKind::DocumentEdition;
        let deleted = if said { deleted.into() } else { Value::Null };
        details.insert("deletedDocuments".into(), deleted);
    }
    if details.contains_key("editedDocuments") {
        details.insert("editedDocuments".into(), edited.into());
    }
    if details.contains_key("indexedDocuments") {
        let indexed = if ok { unique } else { 0 };
        details.insert("indexedDocuments".into(), indexed.into());
    }
}

/// Documents that nodes count, each once.
fn count(
    state: &ClusterState,
    record: &TaskRecord,
    read: impl Fn(&NodeTask) -> Option<u64>,
) -> u64 {
    let topology = state.membership.topology();
    let copies = u64::from(topology.replication_factor().max(1));
    for group in topology.groups() {
        let of_group = |task: &&NodeTask| group.nodes.iter().any(|n| n.id == task.node);
        let tasks: Vec<_> = record.nodes.iter().filter(of_group).collect();
        let counts: Vec<u64> = tasks.iter().filter_map(|task| read(task)).collect();
        let complete = tasks.iter().all(|task| read(task).is_some() && !task.dropped);
        // Not so for what was sent while the layout changed.
        let mut times: BTreeMap<ShardId, u64> = BTreeMap::new();
        for shard in tasks.iter().flat_map(|task| &task.shards) {
            *times.entry(*shard).or_default() += 1;
        }
        let even = times.values().all(|times| *times == copies);
        if complete && even && !counts.is_empty() {
            return counts.iter().sum::<u64>() / copies;
        }
    }
    if let Some(TaskState::IndexDeletion { documents }) = record.protocol.state {
        return documents;
    }
    let touched = record.nodes.iter().flat_map(|task| task.shards.iter().copied()).collect();
    let answers: Vec<Answered> = record
        .nodes
        .iter()
        .filter(|task| !task.dropped)
        .filter_map(|task| {
            Some(Answered { shards: task.shards.iter().copied().collect(), count: read(task)? })
        })
        .collect();
    changed_counts::count(&touched, &answers, copies)
}
