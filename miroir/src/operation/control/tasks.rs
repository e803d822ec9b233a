//! `GET /tasks` and `GET /tasks/{uid}` in Meilisearch's shapes.

use miroir_api::meili::TaskView;
use miroir_api::{GroupId, TaskUid};
use serde_json::{Value, json};

use super::Control;
use super::keys::is_visible;
use crate::clock;
use crate::context::Principal;
use crate::error::Error;
use crate::index::scatter;
use crate::operation::{Request, Response, TaskOp};
use crate::store::TaskRecord;

/// The `202` for a stored task.
pub(super) fn accepted(record: &TaskRecord) -> Response {
    accepted_with(record, Vec::new())
}

/// The `202` for a stored task that some groups missed.
pub(super) fn accepted_with(record: &TaskRecord, degraded: Vec<GroupId>) -> Response {
    let answer = scatter::accepted(record, degraded);
    Response { status: answer.status, body: answer.body, meta: answer.meta }
}

/// A task as Meilisearch shows it; with what happened on each node if `nodes` is set.
pub(super) fn view(record: &TaskRecord, nodes: bool) -> TaskView {
    let duration = match (record.started_at, record.finished_at) {
        (Some(from), Some(to)) => Some(clock::iso_duration(from, to)),
        _ => None,
    };
    let mut details = record.details.clone();
    if nodes {
        let rows: Vec<Value> = record
            .nodes
            .iter()
            .map(|n| json!({"node": n.node, "taskUid": n.uid, "status": n.status, "dropped": n.dropped}))
            .collect();
        details.get_or_insert_default().insert("nodes".into(), rows.into());
    }
    TaskView {
        uid: record.uid,
        batch_uid: record.started_at.is_some().then_some(record.uid.0),
        index_uid: record.index.clone(),
        status: record.status,
        kind: record.kind,
        canceled_by: record.canceled_by,
        details,
        error: record.error.clone(),
        duration,
        enqueued_at: clock::rfc3339(record.enqueued_at),
        started_at: record.started_at.map(clock::rfc3339),
        finished_at: record.finished_at.map(clock::rfc3339),
        custom_metadata: record.custom_metadata.clone(),
    }
}

impl Control {
    pub(super) async fn task_op(&self, request: &Request, op: TaskOp) -> Result<Response, Error> {
        let admin = request.cx.principal == Principal::Admin;
        match op {
            TaskOp::Get(text) => {
                let number = text.strip_prefix("mtask-").unwrap_or(&text).parse::<u32>();
                let Ok(uid) = number else { return Err(self.refusal(request, "").await) };
                match self.shared.stores.tasks.get(TaskUid(uid)).await? {
                    Some(record) if is_visible(&request.cx, &record) => {
                        Ok(Response::ok(&view(&record, admin)))
                    }
                    _ => Err(Error::api("task_not_found", format!("Task `{uid}` not found."))),
                }
            }
            TaskOp::List(query) => {
                let Ok(query) = *query else { return Err(self.refusal(request, "").await) };
                let limit = query.limit;
                let page = self.visible_tasks(&request.cx, query).await?;
                let results: Vec<TaskView> = page.tasks.iter().map(|r| view(r, admin)).collect();
                let from = results.first().map(|task| task.uid);
                Ok(Response::ok(&json!({
                    "results": results, "total": page.total, "limit": limit, "from": from,
                    "next": page.next,
                })))
            }
        }
    }
}
