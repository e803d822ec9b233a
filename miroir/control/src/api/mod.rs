//! The client's resources that are not documents: one file each.

pub(crate) mod backups;
pub(crate) mod batches;
pub(crate) mod compact;
pub(crate) mod creation;

pub(crate) mod degraded_stats;
pub(crate) mod features;
pub(crate) mod fields;
pub(crate) mod indexes;
pub(crate) mod keys;
pub(crate) mod node_batches;
pub(crate) mod rename;
pub(crate) mod search_rules;
pub(crate) mod settings;
pub(crate) mod stats;
mod task_choice;
pub(crate) mod task_payload;
pub(crate) mod tasks;
pub(crate) mod unsupported;
pub mod webhooks;

use std::sync::Arc;
use std::task::{self, Poll};

use futures_util::future::BoxFuture;
use miroir_api::IndexUid;
use miroir_api::meili::{ApiError, TaskKind, TaskStatus};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::cluster::sequencer::Handover;
use miroir_pipeline::context::Context;
use miroir_pipeline::error::Error;
use miroir_pipeline::leaf;
use miroir_pipeline::node::Call;
use miroir_pipeline::operation::{
    ControlPlane, MissingIndex, Operation, Request, Response, SystemOp, refusal,
};
use miroir_store::{IndexEntry, NewTask, clock};
use serde_json::{Map, Value, json};
use tower::Service;

use crate::naming::deferred;

pub use crate::node_setup::node_base_settings;
pub use settings::client_settings;
pub use tasks::task_with_nodes;

/// Operations that are not about one index's documents.
#[derive(Clone, Debug)]
pub struct Control {
    pub(crate) leaves: leaf::BoxService,
    pub(crate) state: Arc<ClusterState>,
}

impl Control {
    /// The control plane over these leaves.
    pub fn new(leaves: leaf::BoxService, state: Arc<ClusterState>) -> Self {
        Self { leaves, state }
    }

    async fn run(&self, request: Request) -> Result<Response, Error> {
        match request.op.clone() {
            Operation::Index(op) => self.index_op(&request, op).await,
            Operation::Settings(op) => self.settings_op(&request, op).await,
            Operation::Task(op) => self.task_op(&request, op).await,
            Operation::Key(op) => self.key_op(&request, op).await,
            Operation::System(SystemOp::Health) => {
                Ok(Response::ok(&json!({"status": "available"})))
            }
            Operation::System(SystemOp::Root) => {
                Ok(Response::ok(&json!({"status": "Meilisearch is running"})))
            }
            Operation::System(SystemOp::Version) => self.version(&request).await,
            Operation::System(SystemOp::Stats) => self.instance_stats(&request).await,
            Operation::System(SystemOp::Rule(op)) => self.rule_op(&request, op.clone()).await,
            Operation::System(SystemOp::Features(effect)) => self.features(&request, effect).await,
            Operation::System(SystemOp::Webhook(op)) => self.webhook_op(&request, op).await,
            Operation::System(SystemOp::Dump) => self.back_up(&request, &backups::DUMP).await,
            Operation::System(SystemOp::Snapshot) => {
                self.back_up(&request, &backups::SNAPSHOT).await
            }
            Operation::System(SystemOp::Export) => self.export(&request).await,
            Operation::System(SystemOp::Render(gate)) => self.render(&request, gate).await,
            Operation::System(SystemOp::Gated(gate)) => Err(self.gated(&request, gate).await),
            Operation::System(SystemOp::Unsupported(what)) => {
                Err(self.refused(&request, what).await)
            }
            _ => Err(Error::internal("a data-plane operation reached the control plane")),
        }
    }

    /// What a node says of the request as it came, under another prefix.
    pub(crate) async fn refusal(&self, request: &Request, prefix: &str) -> Error {
        refusal(&self.state.nodes, request, prefix).await
    }

    async fn version(&self, request: &Request) -> Result<Response, Error> {
        let call = Call::get("version", "/version");
        let (_, body) = self.state.nodes.call_any(&call, &request.cx).await?;
        Ok(Response { status: ::http::StatusCode::OK, body, meta: Default::default() })
    }

    /// Stores a task that is decided already, and answers `202` for it.
    pub(crate) async fn decided(
        &self,
        index: Option<&str>,
        kind: TaskKind,
        details: Option<Map<String, Value>>,
        metadata: Option<String>,
        result: Result<(), ApiError>,
    ) -> Result<Response, Error> {
        let task = NewTask {
            index: index.map(str::to_owned),
            status: if result.is_ok() { TaskStatus::Succeeded } else { TaskStatus::Failed },
            details,
            error: result.err(),
            custom_metadata: metadata,
            ..NewTask::new(kind, clock::now())
        };
        let record = self.state.stores.tasks.insert(task).await?;
        Ok(tasks::accepted(&record))
    }

    /// A change of an index that does not exist and is not to be made: accepted, then failed.
    pub(crate) async fn missing_index(
        &self,
        name: &IndexUid,
        kind: TaskKind,
        details: Option<Map<String, Value>>,
        metadata: Option<String>,
    ) -> Result<Response, Error> {
        let name = name.to_string();
        self.accept_missing(MissingIndex { name, kind, details, metadata }).await
    }

    async fn accept_missing(&self, change: MissingIndex) -> Result<Response, Error> {
        let MissingIndex { name, kind, details, metadata } = change;
        let error = ApiError::new("index_not_found", format!("Index `{name}` not found."));
        self.decided(Some(&name), kind, details, metadata, Err(error)).await
    }
}

impl ControlPlane for Control {
    fn ensure_index<'a>(
        &'a self,
        name: &'a IndexUid,
        cx: &'a Context,
    ) -> BoxFuture<'a, Result<(Arc<IndexEntry>, Option<Handover>), Error>> {
        Box::pin(async move {
            let gate = loop {
                deferred::catch_up(&self.state, name.as_str()).await?;
                let gate = self.state.sequencer.exclusive(name.as_str()).await;
                if self.state.open_tasks.deferred_on(name.as_str()).is_none() {
                    break gate;
                }
            };
            if let Some(entry) = self.state.catalog.get(name) {
                return Ok((entry, None));
            }
            let (entry, gate) = self.create_on_nodes(name, gate, cx).await?;
            Ok((entry, Some(Handover::new(gate))))
        })
    }

    fn take_back<'a>(&'a self, entry: &'a Arc<IndexEntry>) -> BoxFuture<'a, ()> {
        Box::pin(Control::take_back(self, entry))
    }

    fn settle_names<'a>(&'a self, name: &'a IndexUid) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(deferred::catch_up(&self.state, name.as_str()))
    }

    fn missing_index(&self, change: MissingIndex) -> BoxFuture<'_, Result<Response, Error>> {
        Box::pin(self.accept_missing(change))
    }
}

impl Service<Request> for Control {
    type Response = Response;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response, Error>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let control = self.clone();
        Box::pin(async move { control.run(request).await })
    }
}
