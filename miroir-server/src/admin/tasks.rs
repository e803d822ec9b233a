//! `GET /_miroir/tasks/{uid}`: a task, and what of it happens on which node.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use miroir::api::task_with_nodes;
use miroir::cluster::ClusterState;
use miroir_api::TaskUid;
use miroir_api::meili::{ApiError, TaskView};

use super::Refusal;

fn not_found(text: &str) -> Refusal {
    Refusal(ApiError::new("task_not_found", format!("Task `{text}` not found.")))
}

pub(super) async fn show(
    State(state): State<Arc<ClusterState>>,
    Path(text): Path<String>,
) -> Result<Json<TaskView>, Refusal> {
    let number = text.strip_prefix("mtask-").unwrap_or(&text).parse::<u32>();
    let uid = number.map(TaskUid).map_err(|_| not_found(&text))?;
    let found = state.stores.tasks.get(uid).await.map_err(|error| {
        tracing::error!(%error, "a task could not be read");
        Refusal(ApiError::new("miroir_store_failed", "Miroir's store did not answer. Retry later."))
    })?;
    found.map(|record| Json(task_with_nodes(&record))).ok_or_else(|| not_found(&text))
}
