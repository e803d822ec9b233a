//! The routes about tasks of a fake node.

use http::StatusCode;
use serde_json::{Value, json};

use super::disk::Disk;
use super::errors::error;
use super::request::Incoming;
use super::task::Task;

/// The parameters by which tasks are chosen.
const CHOICE: [&str; 5] = ["uids", "indexUids", "statuses", "types", "canceledBy"];

/// The tasks that a request's parameters choose, oldest first.
fn chosen<'a>(disk: &'a Disk, request: &Incoming) -> Vec<&'a Task> {
    let list = |name: &str| {
        let text = request.parameter(name)?;
        (text != "*").then(|| text.split(',').map(str::to_owned).collect::<Vec<_>>())
    };
    let numbers = |name: &str| {
        list(name).map(|all| all.iter().filter_map(|one| one.parse().ok()).collect::<Vec<u32>>())
    };
    let [indexes, statuses, types] = ["indexUids", "statuses", "types"].map(list);
    let canceled_by = numbers("canceledBy");
    let fits = |wanted: &Option<Vec<String>>, value: &str| {
        wanted.as_ref().is_none_or(|all| all.iter().any(|one| one == value))
    };
    let chosen = |task: &&Task| {
        !task.is_deleted
            && fits(&indexes, &task.index)
            && fits(&statuses, task.status)
            && fits(&types, task.work.kind())
            && canceled_by
                .as_ref()
                .is_none_or(|all| task.canceled_by.is_some_and(|uid| all.contains(&uid)))
    };
    match numbers("uids") {
        Some(mut uids) => {
            uids.sort_unstable();
            uids.dedup();
            uids.iter().filter_map(|uid| disk.tasks.get(*uid as usize)).filter(chosen).collect()
        }
        None => disk.tasks.iter().filter(chosen).collect(),
    }
}

/// `GET /tasks`.
pub(super) fn list(disk: &Disk, request: &Incoming) -> Value {
    let number = |name: &str| request.parameter(name).and_then(|text| text.parse::<u32>().ok());
    let limit = number("limit").unwrap_or(20) as usize;
    let mut matching = chosen(disk, request);
    let total = matching.len();
    let reverse = request.parameter("reverse").is_some_and(|text| text == "true");
    if !reverse {
        matching.reverse();
    }
    if let Some(from) = number("from") {
        matching.retain(|task| if reverse { task.uid >= from } else { task.uid <= from });
    }
    let results: Vec<Value> = matching.iter().take(limit).map(|task| task.view()).collect();
    json!({
        "results": results, "total": total, "limit": limit,
        "from": matching.first().map(|task| task.uid),
        "next": matching.get(limit).map(|task| task.uid),
    })
}

/// `GET /tasks/{uid}`.
pub(super) fn one(disk: &Disk, uid: &str) -> Result<(StatusCode, Value), (StatusCode, Value)> {
    let task = uid.parse::<usize>().ok().and_then(|uid| disk.tasks.get(uid));
    let unknown = || error("task_not_found", &format!("Task `{uid}` not found."));
    task.filter(|task| !task.is_deleted)
        .map(|task| (StatusCode::OK, task.view()))
        .ok_or((StatusCode::NOT_FOUND, unknown()))
}

/// `POST /tasks/cancel` and `DELETE /tasks`. Both take effect at once, ahead of all other tasks.
pub(super) fn change(
    disk: &mut Disk,
    request: &Incoming,
    cancels: bool,
) -> Result<(StatusCode, Value), (StatusCode, Value)> {
    if CHOICE.iter().all(|name| request.parameter(name).is_none()) {
        let what = if cancels { "cancel" } else { "delete" };
        let text = format!("Query parameters to filter the tasks to {what} are missing.");
        return Err((StatusCode::BAD_REQUEST, error("missing_task_filters", &text)));
    }
    let uids: Vec<u32> = chosen(disk, request).iter().map(|task| task.uid).collect();
    let filter = format!("?{}", request.query);
    let answer =
        if cancels { disk.cancel(&uids, &filter) } else { disk.delete_tasks(&uids, &filter) };
    Ok((StatusCode::OK, answer))
}
