//! Compaction of an index: every node compacts its own part; the sizes are sums.
//!
//! A node that is away misses nothing by it, so there is neither a quorum nor a repair.

use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use miroir_api::meili::{TaskKind, TaskStatus};
use serde_json::Map;

use crate::api::{Control, tasks};
use crate::naming;
use crate::naming::deferred;
use miroir_core::routing::ShardSet;
use miroir_core::topology::Node;
use miroir_pipeline::error::Error;
use miroir_pipeline::node::{Call, TaskRef};
use miroir_pipeline::operation::{Request, Response};
use miroir_store::{IndexEntry, NewTask, NodeTask, TaskRecord, clock};

impl Control {
    pub(crate) async fn compact(&self, request: &Request, name: &str) -> Result<Response, Error> {
        let uid = miroir_api::IndexUid::new(name)
            .map_err(|error| Error::api("invalid_index_uid", error.to_string()))?;
        deferred::catch_up(&self.state, name).await?;
        let Some(entry) = self.state.catalog.get(&uid) else {
            let error = Err(naming::not_found(name));
            return self
                .decided(Some(name), TaskKind::IndexCompaction, Some(Map::new()), None, error)
                .await;
        };
        let state = Arc::clone(&self.state);
        let cx = request.cx.clone();
        // A task that is stored is also sent, whether or not somebody still waits.
        let job = self.state.tracker.spawn(async move { send(&state, &entry, &cx).await });
        let record = job.await.map_err(Error::internal)??;
        Ok(tasks::accepted(&record))
    }
}

async fn send(
    state: &miroir_pipeline::cluster::ClusterState,
    entry: &IndexEntry,
    cx: &miroir_pipeline::Context,
) -> Result<TaskRecord, Error> {
    let (topology, stale) = (state.membership.topology(), state.staleness.load());
    // Who is to make the index anew has none to compact, and says so.
    let has = |node: &&Node| !stale.lacks_index(&entry.physical, &node.id);
    let nodes: Vec<NodeTask> = topology
        .nodes()
        .filter(|node| state.nodes.is_available(node))
        .filter(has)
        .map(|node| NodeTask {
            life: state.lives.of(&node.id),
            ..NodeTask::new(node.id.clone(), None)
        })
        .collect();
    if nodes.is_empty() {
        return Err(Error::shards_unavailable(ShardSet::full(entry.shards)));
    }
    let task = NewTask {
        details: Some(Map::new()),
        nodes,
        ..NewTask::about(entry, TaskKind::IndexCompaction, clock::now())
    };
    let mut record = state.stores.tasks.insert(task).await?;
    let path = format!("/indexes/{}/compact", entry.physical);
    let call = Call::change(Method::POST, "indexes_compact", path);
    let answers = join_all(record.nodes.iter().map(|task| {
        let call = &call;
        async move {
            let body = state.nodes.call(&task.node, call, cx).await?;
            Ok(Call::parse::<TaskRef>(&task.node, &body)?.task_uid)
        }
    }))
    .await;
    let mut last = None;
    for (task, answer) in record.nodes.iter_mut().zip(answers) {
        match answer {
            Ok(uid) => task.uid = Some(uid),
            Err(error) => {
                task.dropped = true;
                last = Some(error);
            }
        }
    }
    let reached = record.nodes.iter().any(|task| !task.dropped);
    if !reached {
        let error = last.unwrap_or_else(|| Error::shards_unavailable(ShardSet::full(entry.shards)));
        let (_, body) = error.render();
        record.end(TaskStatus::Failed, clock::now());
        record.error = serde_json::from_slice(&body.unwrap_or_default()).ok();
        state.stores.tasks.update(record).await?;
        return Err(error);
    }
    state.stores.tasks.update(record.clone()).await?;
    state.signals.tasks.notify_one();
    Ok(record)
}
