//! What a dump or snapshot came to: whether the nodes that wrote one hold everything.

use std::collections::BTreeMap;

use miroir_api::NodeId;
use miroir_api::meili::{ApiError, TaskStatus};
use miroir_core::routing::ShardSet;
use miroir_pipeline::cluster::ClusterState;
use miroir_store::{NodeTask, TaskRecord, TaskState, clock};
use serde_json::{Map, Value};

/// Remembers what a node called its dump.
pub(crate) fn note(
    task_state: &mut Option<TaskState>,
    node: &NodeId,
    details: Option<&Map<String, Value>>,
) {
    let Some(Value::String(dump)) = details.and_then(|d| d.get("dumpUid")) else { return };
    let task_state = task_state.get_or_insert_with(|| TaskState::Dump { dumps: BTreeMap::new() });
    if let TaskState::Dump { dumps } = task_state {
        dumps.insert(node.clone(), dump.clone());
    }
}

/// What a node called its dump.
pub(crate) fn dump_of<'a>(record: &'a TaskRecord, node: &NodeId) -> Option<&'a str> {
    match &record.protocol.state {
        Some(TaskState::Dump { dumps }) => dumps.get(node).map(String::as_str),
        _ => None,
    }
}

/// Whether some nodes hold every shard of every index.
pub(crate) fn suffice(state: &ClusterState, nodes: &[&NodeId]) -> bool {
    let (topology, stale) = (state.membership.topology(), state.staleness.load());
    state.catalog.all().iter().all(|entry| {
        let placement = topology.placement(entry.shards);
        ShardSet::full(entry.shards).iter().all(|shard| {
            placement.write_targets(shard).any(|(_, node)| {
                nodes.contains(&node) && !stale.is_stale(&entry.physical, node, shard)
            })
        })
    })
}

/// Ends the task once the nodes ended theirs. `suffice` says whether some nodes hold everything.
pub(crate) fn conclude(record: &mut TaskRecord, suffice: impl FnOnce(&[&NodeId]) -> bool) {
    let mut without = Vec::new();
    for task in &record.nodes {
        if task.dropped || task.status != TaskStatus::Succeeded {
            let why = task.error.as_ref().map_or("it did not answer", |e| e.message.as_str());
            without.push(format!("`{}` ({})", task.node, why.trim_end_matches('.')));
        }
    }
    let named = record.nodes.iter().find_map(|task| dump_of(record, &task.node)).map(str::to_owned);
    if let (Some(details), Some(name)) = (&mut record.details, named) {
        details.insert("dumpUid".into(), name.into());
    }
    let wrote = |task: &&NodeTask| !task.dropped && task.status == TaskStatus::Succeeded;
    let wrote: Vec<_> = record.nodes.iter().filter(wrote).map(|task| &task.node).collect();
    let whole = without.is_empty() || !wrote.is_empty() && suffice(&wrote);
    record.status = if whole { TaskStatus::Succeeded } else { TaskStatus::Failed };
    if !whole {
        record.error = Some(ApiError::new(
            "miroir_backup_incomplete",
            format!(
                "These nodes wrote nothing: {}. What the others wrote is not the whole cluster; ask \
                 again once every node is up.",
                without.join(", ")
            ),
        ));
    }
    let now = clock::now();
    record.started_at.get_or_insert(now);
    record.finished_at.get_or_insert(now);
}

#[cfg(test)]
mod tests {
    use miroir_api::TaskUid;
    use miroir_api::meili::TaskKind;
    use miroir_store::NewTask;
    use serde_json::json;

    use super::*;

    fn record(nodes: &[(&str, TaskStatus, bool)]) -> TaskRecord {
        let nodes = nodes.iter().map(|(node, status, dropped)| NodeTask {
            status: *status,
            dropped: *dropped,
            ..NodeTask::new(NodeId::new(node).unwrap(), Some(0))
        });
        let new = NewTask {
            status: TaskStatus::Processing,
            details: json!({"dumpUid": null}).as_object().cloned(),
            nodes: nodes.collect(),
            ..NewTask::new(TaskKind::DumpCreation, time::OffsetDateTime::UNIX_EPOCH)
        };
        TaskRecord::new(TaskUid(0), new)
    }

    #[test]
    fn a_dump_is_named_after_the_first_nodes() {
        let mut task =
            record(&[("a", TaskStatus::Succeeded, false), ("b", TaskStatus::Succeeded, false)]);
        for (node, dump) in [("b", "20240101-000000002"), ("a", "20240101-000000001")] {
            let details = json!({ "dumpUid": dump });
            note(&mut task.protocol.state, &NodeId::new(node).unwrap(), details.as_object());
        }
        note(
            &mut task.protocol.state,
            &NodeId::new("a").unwrap(),
            json!({"dumpUid": null}).as_object(),
        );
        conclude(&mut task, |_| panic!("all nodes are everything"));
        assert_eq!(task.status, TaskStatus::Succeeded);
        assert_eq!(task.details.as_ref().unwrap()["dumpUid"], "20240101-000000001");
        assert_eq!(dump_of(&task, &NodeId::new("b").unwrap()), Some("20240101-000000002"));
    }

    #[test]
    fn a_missing_node_fails_it_unless_others_hold_what_it_has() {
        let mut task =
            record(&[("a", TaskStatus::Succeeded, false), ("b", TaskStatus::Enqueued, true)]);
        let mut covered = task.clone();
        conclude(&mut covered, |nodes| nodes.len() == 1 && nodes[0].as_str() == "a");
        assert_eq!((covered.status, covered.error), (TaskStatus::Succeeded, None));
        conclude(&mut task, |_| false);
        assert_eq!(task.status, TaskStatus::Failed);
        let error = task.error.unwrap();
        assert!(error.message.starts_with("These nodes wrote nothing: `b` "), "{error}");
    }
}
