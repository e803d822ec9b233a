//! `POST /tasks/cancel` and `DELETE /tasks`: which tasks are meant. The poller does the rest.

use http::StatusCode;
use miroir_api::meili::TaskKind;
use miroir_pipeline::error::Error;
use miroir_pipeline::operation::{Request, Response};
use miroir_pipeline::query::ClientRequest;
use miroir_store::task_state::UidRanges;
use miroir_store::{NewTask, TaskQuery, TaskState, clock};
use serde_json::json;

use crate::api::{Control, tasks};

/// A uid that no task has: a filter by it chooses nothing.
const NOBODY: u32 = u32::MAX;

impl Control {
    /// `POST /tasks/cancel` and `DELETE /tasks`.
    pub(crate) async fn choose(
        &self,
        request: &Request,
        choice: Option<Box<(TaskQuery, bool)>>,
        kind: TaskKind,
    ) -> Result<Response, Error> {
        let query = match choice.map(|choice| *choice) {
            Some((query, true)) => query,
            Some((_, false)) => return Err(no_filter(kind)),
            None => return Err(self.refused_choice(request).await),
        };
        let query = self.only_visible(&request.cx, query).await?;
        let mut uids: Vec<u32> = if query.indexes.is_some() {
            let mut uids = self.state.stores.tasks.uids(query.clone()).await?;
            let mentioning = self.mentioning(&query).await?.into_iter();
            let named = mentioning.filter(|task| task.kind.is_about_one_index());
            uids.extend(named.map(|task| task.uid.0));
            uids
        } else {
            self.state.stores.tasks.uids(query).await?
        };
        uids.sort_unstable();
        let chosen = UidRanges::of(&uids);
        let (done, task_state) = match kind {
            TaskKind::TaskDeletion => {
                ("deletedTasks", TaskState::Deletion { chosen, awaited: None, forgotten: None })
            }
            _ => ("canceledTasks", TaskState::Cancelation { chosen, passed: None }),
        };
        let filter = format!("?{}", request.original.query.as_deref().unwrap_or_default());
        let details = json!({"matchedTasks": uids.len(), done: null, "originalFilter": filter});
        let task = NewTask {
            details: details.as_object().cloned(),
            protocol: task_state.into(),
            ..NewTask::new(kind, clock::now())
        };
        let record = self.state.stores.tasks.insert(task).await?;
        self.state.signals.tasks.notify_one();
        Ok(Response { status: StatusCode::OK, ..tasks::accepted(&record) })
    }

    /// What a node says of the filters, asked so that it chooses nothing whatever it makes of them.
    async fn refused_choice(&self, request: &Request) -> Error {
        let query = request.original.query.clone().unwrap_or_default();
        let free = ["uids", "canceledBy", "batchUids"].into_iter().find(|name| {
            miroir_pipeline::query::query_pairs(&query).iter().all(|(key, _)| key != name)
        });
        let Some(free) = free else {
            return Error::api(
                "bad_request",
                "The filters cannot be read. Give `uids`, `canceledBy` and `batchUids` as lists of \
                 numbers separated by commas, and no other parameters than filters.",
            );
        };
        let original = ClientRequest {
            query: Some(format!("{query}&{free}={NOBODY}")),
            ..ClientRequest::clone(&request.original)
        };
        let judged = request.clone().with_original(original);
        self.refusal(&judged, "").await
    }
}

fn no_filter(kind: TaskKind) -> Error {
    let what = if kind == TaskKind::TaskDeletion { "delete" } else { "cancel" };
    Error::api(
        "missing_task_filters",
        format!(
            "Query parameters to filter the tasks to {what} are missing. Available query parameters \
             are: `uids`, `indexUids`, `statuses`, `types`, `canceledBy`, `beforeEnqueuedAt`, \
             `afterEnqueuedAt`, `beforeStartedAt`, `afterStartedAt`, `beforeFinishedAt`, \
             `afterFinishedAt`."
        ),
    )
}
