//! What all writes to documents have in common: their task, and the answer that names it.

use std::sync::Arc;

use miroir_api::meili::{ApiError, TaskKind, TaskStatus};
use miroir_core::copying::Touch;
use miroir_core::documents::IdCase;
use miroir_core::routing::ShardSet;
use miroir_core::view::CatchUp;
use miroir_store::{IndexEntry, NewTask, clock};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Scatter;
use super::order::OrderChange;
use super::plan::{Batch, WritePlan};
use super::settle::accepted;
use super::write::dispatch_write;
use crate::cluster::ClusterState;
use crate::context::Context;
use crate::error::Error;
use crate::index::{Request, Response};

/// A filter as tasks show it: JSON without insignificant white space.
pub fn compact(filter: &RawValue) -> String {
    serde_json::from_str::<Value>(filter.get())
        .map_or_else(|_| filter.get().to_owned(), |value| value.to_string())
}

/// Details as an ordered map.
pub(super) fn details(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

/// The task of a write to the documents of a request's index. `fields` are its details, an object.
pub(super) fn new_task(
    request: &Request,
    kind: TaskKind,
    metadata: Option<String>,
    fields: Value,
) -> NewTask {
    NewTask {
        details: details(fields),
        custom_metadata: metadata,
        ..NewTask::about(&request.index, kind, clock::now())
    }
}

/// Stores a task that is decided already, and answers for it; `cx` bounds the wait for the index.
pub(super) async fn decided(
    scatter: &Scatter,
    mut task: NewTask,
    result: Result<(), ApiError>,
    cx: &Context,
) -> Result<Response, Error> {
    match result {
        Ok(()) => task.status = TaskStatus::Succeeded,
        Err(error) => {
            task.status = TaskStatus::Failed;
            task.error = Some(error);
        }
    }
    task.idempotency = cx.task_key();
    // The task is over at once: so must be the creation of the index it may have caused.
    if let Some(physical) = &task.physical {
        scatter.state.nodes.await_index(physical, cx).await;
    }
    let record = scatter.state.stores.tasks.insert(task).await?;
    Ok(accepted(&record, Vec::new(), None))
}

/// Which documents a write touches, if a copy of the index wants to know it. `blind` if what it
/// leaves does not depend on what was there.
pub(super) fn touch<'a>(
    state: &ClusterState,
    index: &IndexEntry,
    ids: impl Iterator<Item = &'a str>,
    blind: bool,
) -> Touch {
    if state.sequencer.is_filling(&index.physical) {
        Touch::Ids { ids: ids.map(Arc::from).collect(), blind }
    } else {
        Touch::Any
    }
}

/// What a write to documents is about.
pub(super) struct About {
    /// Shards whose quorum decides.
    pub(super) shards: ShardSet,
    /// Which documents it touches.
    pub(super) touch: Touch,
    /// The primary key and the case of ids that the index has with it, where these are new.
    pub(super) teaches: Option<(String, IdCase)>,
    /// What it does to the order of documents; `None` where nothing is known of it.
    pub(super) order: Option<OrderChange>,
}

/// The plan of a write to the documents of a request's index.
pub(super) fn plan(request: &Request, about: About, batches: Vec<Batch>) -> WritePlan {
    WritePlan {
        index: Arc::clone(&request.index),
        topology: Arc::clone(&request.topology),
        touched: about.shards,
        touch: about.touch,
        missed: CatchUp::Shard,
        batches,
        exclusive: None,
        teaches: about.teaches,
        order: about.order,
        handover: request.gate.clone(),
        preflight: false,
    }
}

/// Sends the batches of a write, stores its task and answers for it.
pub(super) async fn finish(
    scatter: Scatter,
    request: Request,
    about: About,
    batches: Vec<Batch>,
    task: NewTask,
) -> Result<Response, Error> {
    let plan = plan(&request, about, batches);
    let outcome =
        dispatch_write(scatter.leaves, scatter.state, plan, task, request.cx.clone()).await?;
    Ok(outcome.into_response())
}
