//! The control plane: what is not about one index's documents.

mod backups;
mod batches;
mod cancel;
mod compact;
mod counting;
mod creation;
mod details;
pub mod drift;
mod embedding;
pub mod features;
pub(in crate::operation) mod fields;
mod gated;
mod indexes;
mod keys;
pub(crate) mod lost;
mod partial;
mod payload;
pub mod poller;
pub mod protocol;
pub(crate) mod recover;
pub mod repair;
pub mod search_rules;
mod settings;
mod sizes;
mod state;
mod stats;
mod tasks;
mod verdict;
pub mod webhooks;

use std::sync::Arc;

use miroir_api::IndexUid;
use miroir_api::meili::{ApiError, TaskKind, TaskStatus};
use serde_json::{Map, Value, json};

use super::{Operation, Request, Response, SystemOp};
use crate::clock;
use crate::cluster::Shared;
use crate::error::Error;
use crate::index::scatter::words;
use crate::index::{Deletion, Write};
use crate::leaf;
use crate::node::Call;
use crate::store::{IndexEntry, NewTask, TaskRecord, TaskState};

pub use settings::{client_settings, node_base_settings};
pub use tasks::task_with_nodes;

/// Operations that are not about one index's documents.
#[derive(Clone, Debug)]
pub struct Control {
    leaves: leaf::BoxService,
    shared: Arc<Shared>,
}

impl Control {
    /// The control plane over these leaves.
    pub fn new(leaves: leaf::BoxService, shared: Arc<Shared>) -> Self {
        Self { leaves, shared }
    }

    pub(super) async fn run(&self, request: Request) -> Result<Response, Error> {
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

    /// What a node says of the request as it came, under another prefix. An internal error if the
    /// node has no complaint.
    pub(in crate::operation) async fn refusal(&self, request: &Request, prefix: &str) -> Error {
        let mut call = request.original.replay(prefix);
        let mangled = words::hide(&mut call);
        let shape = placeholder();
        match self.shared.call_any(&call, &request.cx).await {
            Ok(_) => Error::internal("a node takes what Miroir cannot read"),
            Err(error) => words::scrub(error, &shape, mangled),
        }
    }

    async fn version(&self, request: &Request) -> Result<Response, Error> {
        let call = Call::get("version", "/version");
        let (_, body) = self.shared.call_any(&call, &request.cx).await?;
        Ok(Response { status: ::http::StatusCode::OK, body, meta: Default::default() })
    }

    /// Stores a task that is decided already, and answers `202` for it.
    pub(super) async fn decided(
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
        let record = self.shared.stores.tasks.insert(task).await?;
        Ok(tasks::accepted(&record))
    }

    /// Stores the task of indexes that have other names now, and answers `202` for it. As on one
    /// node, it ends when what was enqueued about them before has.
    pub(super) async fn renamed(
        &self,
        index: Option<&str>,
        kind: TaskKind,
        details: Option<Map<String, Value>>,
        physical: Vec<String>,
    ) -> Result<Response, Error> {
        let mut task = NewTask {
            index: index.map(str::to_owned),
            status: TaskStatus::Succeeded,
            details,
            ..NewTask::new(kind, clock::now())
        };
        let unfinished = self.shared.stores.tasks.unfinished().await?;
        let about =
            |record: &TaskRecord| record.physical.as_ref().is_some_and(|p| physical.contains(p));
        if unfinished.iter().any(about) {
            task.status = TaskStatus::Enqueued;
            task.protocol = TaskState::Rename { awaits: physical }.into();
        }
        let record = self.shared.stores.tasks.insert(task).await?;
        self.follow_names(&record).await?;
        self.shared.tasks_changed.notify_one();
        Ok(tasks::accepted(&record))
    }

    /// A change of an index that does not exist and is not to be made: accepted, then failed.
    pub(super) async fn missing_index(
        &self,
        name: &IndexUid,
        kind: TaskKind,
        details: Option<Map<String, Value>>,
        metadata: Option<String>,
    ) -> Result<Response, Error> {
        let error = ApiError::new("index_not_found", format!("Index `{name}` not found."));
        self.decided(Some(name.as_str()), kind, details, metadata, Err(error)).await
    }

    /// Older tasks go with the indexes that a swap or a change of name moved.
    async fn follow_names(&self, record: &TaskRecord) -> Result<(), Error> {
        let Some(details) = &record.details else { return Ok(()) };
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let mut pairs = Vec::new();
        if record.kind == TaskKind::IndexSwap {
            let swaps = details.get("swaps").and_then(Value::as_array);
            pairs.extend(swaps.into_iter().flatten().filter_map(|swap| {
                Some((text(swap.pointer("/indexes/0"))?, text(swap.pointer("/indexes/1"))?))
            }));
        } else if record.kind == TaskKind::IndexUpdate {
            let (old, new) = (details.get("oldIndexUid"), details.get("newIndexUid"));
            pairs.extend(text(old).zip(text(new)).filter(|(old, new)| old != new));
        }
        for (first, second) in pairs {
            self.shared.stores.tasks.swap_indexes(first, second, record.uid).await?;
        }
        Ok(())
    }

    /// A deletion in an index that does not exist: accepted, then failed, as on one node.
    pub(super) async fn deletion_of_nothing(
        &self,
        name: &str,
        write: &Write,
        metadata: Option<String>,
    ) -> Result<Response, Error> {
        let mut kind = TaskKind::DocumentDeletion;
        let details = match write {
            Write::Edit(edit) => {
                kind = TaskKind::DocumentEdition;
                json!({
                    "deletedDocuments": null, "editedDocuments": 0, "context": edit.context,
                    "function": edit.function,
                    "originalFilter": edit.filter.as_ref().map(Value::to_string),
                })
            }
            Write::Delete(Deletion::All) | Write::Add { .. } => json!({"deletedDocuments": 0}),
            Write::Delete(Deletion::One(_)) => {
                json!({"providedIds": 1, "deletedDocuments": 0, "originalFilter": null})
            }
            Write::Delete(Deletion::Ids { ids }) => {
                json!({"providedIds": ids.len(), "deletedDocuments": 0, "originalFilter": null})
            }
            Write::Delete(Deletion::Filter(filter)) => {
                json!({"providedIds": 0, "deletedDocuments": 0, "originalFilter": crate::index::scatter::compact(filter)})
            }
        };
        let error = ApiError::new("index_not_found", format!("Index `{name}` not found."));
        let details = details.as_object().cloned();
        self.decided(Some(name), kind, details, metadata, Err(error)).await
    }

    /// The entry of an index, created on all nodes if need be.
    ///
    /// # Errors
    /// As a write: no quorum, or the store failed.
    pub async fn ensure_index(
        &self,
        name: &IndexUid,
        cx: &crate::Context,
    ) -> Result<Arc<IndexEntry>, Error> {
        let gate = self.shared.sequencer.exclusive(name.as_str()).await;
        if let Some(entry) = self.shared.index(name) {
            return Ok(entry);
        }
        Ok(self.create_on_nodes(name, gate, cx).await?.0)
    }
}

/// Stands for an index where there is none: changes no names.
pub(crate) fn placeholder() -> IndexEntry {
    let name = IndexUid::new("miroir-nowhere").expect("a valid constant");
    IndexEntry::new(name.clone(), name.to_string(), 1, time::OffsetDateTime::UNIX_EPOCH)
}
