//! `POST /dumps` and `POST /snapshots`: every node makes its own, as one task.
//!
//! What a node writes holds its part of the documents, with the fields Miroir adds. Together, and with
//! a copy of Miroir's store, they restore a cluster of the same nodes; each node is restored from its
//! own, and one that wrote none is rebuilt from the others. The task succeeds when those who wrote
//! hold every shard of every index; otherwise it fails and names who wrote nothing.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use http::Method;
use miroir_api::NodeId;
use miroir_api::meili::{ApiError, TaskKind, TaskStatus};
use serde_json::{Map, Value, json};

use crate::api::{Control, tasks};
use miroir_core::routing::ShardSet;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_pipeline::node::{Call, TaskRef};
use miroir_pipeline::operation::{Request, Response};
use miroir_store::{NewTask, NodeTask, TaskRecord, TaskState, clock};

/// One way of keeping a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backup {
    path: &'static str,
    operation: &'static str,
    kind: TaskKind,
}

/// A dump: portable between versions.
pub(crate) const DUMP: Backup =
    Backup { path: "/dumps", operation: "dumps_post", kind: TaskKind::DumpCreation };
/// A snapshot: a copy of the node's database.
pub(crate) const SNAPSHOT: Backup =
    Backup { path: "/snapshots", operation: "snapshots_post", kind: TaskKind::SnapshotCreation };

impl Control {
    pub(crate) async fn back_up(
        &self,
        request: &Request,
        backup: &'static Backup,
    ) -> Result<Response, Error> {
        // Goes on without its client: nodes must not write what no task speaks of.
        let (this, request) = (self.clone(), request.clone());
        let work = async move { this.ask_all(&request, backup).await };
        self.shared.tracker.spawn(work).await.map_err(Error::internal)?
    }

    async fn ask_all(&self, request: &Request, backup: &Backup) -> Result<Response, Error> {
        let topology = self.shared.membership.topology();
        let call = Call::change(Method::POST, backup.operation, backup.path);
        let sent = topology.nodes().map(|node| {
            let call = &call;
            async move {
                let body = self.shared.nodes.call(&node.id, call, &request.cx).await?;
                Ok((node.id.clone(), Call::parse::<TaskRef>(&node.id, &body)?.task_uid))
            }
        });
        let sent: Vec<Result<(NodeId, u32), Error>> = join_all(sent).await;
        if sent.iter().all(Result::is_err) {
            let none = || Error::shards_unavailable(ShardSet::full(self.shared.options.shards));
            return Err(sent.into_iter().find_map(Result::err).unwrap_or_else(none));
        }
        let nodes = topology.nodes().zip(sent).map(|(node, sent)| NodeTask {
            dropped: sent.is_err(),
            ..NodeTask::new(node.id.clone(), sent.as_ref().ok().map(|(_, uid)| *uid))
        });
        let details = match backup.kind {
            TaskKind::DumpCreation => json!({"dumpUid": null}).as_object().cloned(),
            _ => None,
        };
        let task =
            NewTask { details, nodes: nodes.collect(), ..NewTask::new(backup.kind, clock::now()) };
        let record = self.shared.stores.tasks.insert(task).await?;
        self.shared.signals.tasks.notify_one();
        Ok(tasks::accepted(&record))
    }
}

/// Remembers what a node called its dump.
pub(crate) fn note(
    state: &mut Option<TaskState>,
    node: &NodeId,
    details: Option<&Map<String, Value>>,
) {
    let Some(Value::String(dump)) = details.and_then(|d| d.get("dumpUid")) else { return };
    let state = state.get_or_insert_with(|| TaskState::Dump { dumps: BTreeMap::new() });
    if let TaskState::Dump { dumps } = state {
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
pub(crate) fn suffice(shared: &ClusterState, nodes: &[&NodeId]) -> bool {
    let (topology, stale) = (shared.membership.topology(), shared.staleness.load());
    shared.catalog.all().iter().all(|entry| {
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
    use super::*;
    use miroir_api::TaskUid;

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
