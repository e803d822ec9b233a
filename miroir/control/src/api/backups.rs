//! `POST /dumps` and `POST /snapshots`: every node makes its own, as one task.
//!
//! What a node writes holds its part of the documents, with the fields Miroir adds. Together, and with
//! a copy of Miroir's store, they restore a cluster of the same nodes; each node is restored from its
//! own, and one that wrote none is rebuilt from the others. The task succeeds when those who wrote
//! hold every shard of every index; otherwise it fails and names who wrote nothing.

use futures_util::future::join_all;
use http::Method;
use miroir_api::NodeId;
use miroir_api::meili::TaskKind;
use serde_json::json;

use crate::api::{Control, tasks};
use miroir_core::routing::ShardSet;
use miroir_pipeline::error::Error;
use miroir_pipeline::node::{Call, TaskRef};
use miroir_pipeline::operation::{Request, Response};
use miroir_store::{NewTask, NodeTask, clock};

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
        self.state.tracker.spawn(work).await.map_err(Error::internal)?
    }

    async fn ask_all(&self, request: &Request, backup: &Backup) -> Result<Response, Error> {
        let topology = self.state.membership.topology();
        let call = Call::change(Method::POST, backup.operation, backup.path);
        let sent = topology.nodes().map(|node| {
            let call = &call;
            async move {
                let body = self.state.nodes.call(&node.id, call, &request.cx).await?;
                Ok((node.id.clone(), Call::parse::<TaskRef>(&node.id, &body)?.task_uid))
            }
        });
        let sent: Vec<Result<(NodeId, u32), Error>> = join_all(sent).await;
        if sent.iter().all(Result::is_err) {
            let none = || Error::shards_unavailable(ShardSet::full(self.state.options.shards));
            return Err(sent.into_iter().find_map(Result::err).unwrap_or_else(none));
        }
        let nodes = topology.nodes().zip(sent).map(|(node, sent)| NodeTask {
            dropped: sent.is_err(),
            life: self.state.lives.of(&node.id),
            ..NodeTask::new(node.id.clone(), sent.as_ref().ok().map(|(_, uid)| *uid))
        });
        let details = match backup.kind {
            TaskKind::DumpCreation => json!({"dumpUid": null}).as_object().cloned(),
            _ => None,
        };
        let task =
            NewTask { details, nodes: nodes.collect(), ..NewTask::new(backup.kind, clock::now()) };
        let record = self.state.stores.tasks.insert(task).await?;
        self.state.signals.tasks.notify_one();
        Ok(tasks::accepted(&record))
    }
}
