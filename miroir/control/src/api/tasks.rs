//! `GET /tasks` and `GET /tasks/{uid}` in Meilisearch's shapes, and where other requests about tasks
//! go.

use std::sync::Arc;

use miroir_api::meili::{ApiError, TaskKind, TaskView};
use miroir_api::{GroupId, TaskUid};
use serde_json::{Value, json};

use crate::api::Control;
use crate::api::keys::is_visible;
use crate::form;
use crate::outcome::backups;
use miroir_pipeline::context::Principal;
use miroir_pipeline::error::Error;
use miroir_pipeline::index::scatter;
use miroir_pipeline::node_errors;
use miroir_pipeline::operation::{Request, Response, TaskOp};
use miroir_store::clock;
use miroir_store::{NodeTask, StoreError, TaskPage, TaskQuery, TaskRecord, Tasks};

/// Tasks read at a time where all of a list are looked at.
const PAGE: usize = 1000;

/// The `202` for a stored task.
pub(crate) fn accepted(record: &TaskRecord) -> Response {
    accepted_with(record, Vec::new())
}

/// The `202` for a stored task that some groups missed.
pub(crate) fn accepted_with(record: &TaskRecord, degraded: Vec<GroupId>) -> Response {
    let answer = scatter::accepted(record, degraded, None);
    Response { status: answer.status, body: answer.body, meta: answer.meta }
}

/// A task as Meilisearch shows it; with what happened on each node if `nodes` is set.
pub(crate) fn view(record: &TaskRecord, nodes: bool) -> TaskView {
    let duration = match (record.started_at, record.finished_at) {
        (Some(from), Some(to)) => Some(clock::iso_duration(from, to)),
        _ => None,
    };
    let mut details = record.details.clone().map(form::details::ordered);
    if nodes {
        let row = |n: &NodeTask| {
            let mut row = json!({
                "node": n.node, "taskUid": n.uid, "status": n.status, "dropped": n.dropped,
            });
            if let Some(dump) = backups::dump_of(record, &n.node) {
                row["dumpUid"] = dump.into();
            }
            row
        };
        let rows: Vec<Value> = record.nodes.iter().map(row).collect();
        details.get_or_insert_default().insert("nodes".into(), rows.into());
    }
    TaskView {
        uid: record.uid,
        batch_uid: record.batch(),
        index_uid: record.index.clone(),
        status: record.status,
        kind: record.kind,
        canceled_by: record.canceled_by,
        details,
        error: record
            .error
            .clone()
            .map(|error| ApiError { message: node_errors::shown_text(error.message), ..error }),
        duration,
        enqueued_at: clock::rfc3339(record.enqueued_at),
        started_at: record.started_at.map(clock::rfc3339),
        finished_at: record.finished_at.map(clock::rfc3339),
        custom_metadata: record.custom_metadata.clone(),
    }
}

/// A task with what happened on each node, for operators.
pub fn task_with_nodes(record: &TaskRecord) -> TaskView {
    view(record, true)
}

impl Control {
    pub(crate) async fn task_op(&self, request: &Request, op: TaskOp) -> Result<Response, Error> {
        let admin = request.cx.principal == Principal::Admin;
        match op {
            TaskOp::Get(text) => {
                let record = self.known_task(request, &text).await?;
                Ok(Response::ok(&view(&record, admin)))
            }
            TaskOp::List(query) => {
                let Some(query) = query else { return Err(self.refusal(request, "").await) };
                let limit = query.limit;
                let page = self.visible_tasks(&request.cx, *query).await?;
                let results: Vec<TaskView> = page.tasks.iter().map(|r| view(r, admin)).collect();
                let from = results.first().map(|task| task.uid);
                Ok(Response::ok(&json!({
                    "results": results, "total": page.total, "limit": limit, "from": from,
                    "next": page.next,
                })))
            }
            TaskOp::Documents(text) => self.task_documents(request, &text).await,
            TaskOp::Cancel(choice) => self.choose(request, choice, TaskKind::TaskCancelation).await,
            TaskOp::Delete(choice) => self.choose(request, choice, TaskKind::TaskDeletion).await,
            TaskOp::Batches(query) => self.batch_list(request, query).await,
            TaskOp::Batch(text) => self.batch_get(request, &text).await,
        }
    }

    /// A task by what the client calls it.
    pub(crate) async fn known_task(
        &self,
        request: &Request,
        text: &str,
    ) -> Result<TaskRecord, Error> {
        let number = text.strip_prefix("mtask-").unwrap_or(text).parse::<u32>();
        let Ok(uid) = number else { return Err(self.refusal(request, "").await) };
        let record = self.state.stores.tasks.get(TaskUid(uid)).await?;
        let record = record.filter(|record| is_visible(&request.cx, record));
        record.ok_or_else(|| Error::api("task_not_found", format!("Task `{uid}` not found.")))
    }

    /// The tasks that a query by index matches for an index that they mention beside their own.
    pub(crate) async fn mentioning(
        &self,
        query: &TaskQuery,
    ) -> Result<Vec<TaskRecord>, StoreError> {
        let Some(indexes) = &query.indexes else { return Ok(Vec::new()) };
        let mut kinds = vec![TaskKind::IndexSwap, TaskKind::IndexUpdate];
        kinds.retain(|kind| query.kinds.as_ref().is_none_or(|wanted| wanted.contains(kind)));
        let all = TaskQuery { indexes: None, kinds: Some(kinds), ..query.clone() };
        let keep = |task: TaskRecord| {
            let own = task.index.as_ref().is_some_and(|index| indexes.contains(index));
            (!own && task.mentions(indexes)).then_some(task)
        };
        all_of(&self.state.stores.tasks, all, keep).await
    }

    /// A page of tasks, with a node's ways of counting: tasks that are about several indexes match
    /// a filter by index, fill their place on the page, and are not shown.
    pub(crate) async fn task_page(&self, query: TaskQuery) -> Result<TaskPage, StoreError> {
        let tasks = &self.state.stores.tasks;
        let more = self.mentioning(&query).await?;
        if more.is_empty() {
            return tasks.list(query).await;
        }
        let wanted = query.limit.saturating_add(1);
        let page = tasks.list(TaskQuery { limit: wanted, ..query.clone() }).await?;
        Ok(with_more(page, more, &query))
    }
}

/// Reads a list of tasks, a page at a time, and keeps what is wanted of it.
pub(crate) async fn all_of<T>(
    tasks: &Arc<dyn Tasks>,
    query: TaskQuery,
    mut keep: impl FnMut(TaskRecord) -> Option<T>,
) -> Result<Vec<T>, StoreError> {
    let mut query = TaskQuery { limit: PAGE, from: None, ..query };
    let mut kept = Vec::new();
    loop {
        let page = tasks.list(query.clone()).await?;
        kept.extend(page.tasks.into_iter().filter_map(&mut keep));
        match page.next {
            Some(next) => query.from = Some(next),
            None => return Ok(kept),
        }
    }
}

/// A page of `limit + 1` tasks and all others that match, as the page a node shows.
fn with_more(page: TaskPage, more: Vec<TaskRecord>, query: &TaskQuery) -> TaskPage {
    let total = page.total + more.len() as u64;
    let wanted = query.limit.saturating_add(1);
    let begun = |task: &TaskRecord| {
        query.from.is_none_or(
            |from| {
                if query.reverse { task.uid >= from } else { task.uid <= from }
            },
        )
    };
    let mut tasks = page.tasks;
    tasks.extend(more.into_iter().filter(begun));
    tasks.sort_by_key(|task| task.uid);
    if !query.reverse {
        tasks.reverse();
    }
    tasks.truncate(wanted);
    tasks.retain(|task| task.kind.is_about_one_index());
    let next = if tasks.len() == wanted { tasks.pop().map(|task| task.uid) } else { None };
    TaskPage { tasks, total, next }
}
