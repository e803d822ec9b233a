//! `task`: show, list, wait, cancel.

use std::time::Duration;

use http::Method;
use miroir_api::meili::{SummarizedTask, TaskStatus, TaskView};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cli::{Task, TaskFilter, Uid};
use crate::client::{Client, with_query};
use crate::error::{Code, CtlError};
use crate::output::{Cell, Output, Table, Tone};

/// Pauses between two looks at a task.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(crate) async fn run(
    task: Task,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    match task {
        Task::Get { uid } => get(uid, client, output).await,
        Task::List(filter) => list(&filter, client, output).await,
        Task::Wait { uids, patience } => wait(&uids, patience, client, output).await,
        Task::Cancel { uids } => cancel(&uids, client, output).await,
    }
}

fn tone(status: TaskStatus) -> Tone {
    match status {
        TaskStatus::Succeeded => Tone::Good,
        TaskStatus::Failed | TaskStatus::Canceled => Tone::Bad,
        _ => Tone::Doubtful,
    }
}

fn ended(status: TaskStatus) -> bool {
    matches!(status, TaskStatus::Succeeded | TaskStatus::Failed | TaskStatus::Canceled)
}

async fn get(uid: Uid, client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let answer = client.get(&format!("/_miroir/tasks/{}", uid.0)).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let task: TaskView = answer.read()?;
    let mut table = Table::plain();
    table.row(["uid".into(), task.uid.to_string().into()]);
    table.row(["type".into(), task.kind.as_str().into()]);
    table.row(["index".into(), task.index_uid.as_deref().unwrap_or("-").into()]);
    table.row(["status".into(), Cell::new(task.status.as_str(), tone(task.status))]);
    table.row(["enqueued".into(), task.enqueued_at.as_str().into()]);
    for (name, value) in [
        ("started", &task.started_at),
        ("finished", &task.finished_at),
        ("duration", &task.duration),
    ] {
        if let Some(value) = value {
            table.row([name.into(), value.as_str().into()]);
        }
    }
    if let Some(by) = task.canceled_by {
        table.row(["canceled by".into(), by.to_string().into()]);
    }
    if let Some(error) = &task.error {
        let text = format!("{} ({})", error.message, error.code);
        table.row(["error".into(), Cell::new(text, Tone::Bad)]);
    }
    let details = task.details.unwrap_or_default();
    for (name, value) in details.iter().filter(|(name, _)| *name != "nodes") {
        table.row([name.as_str().into(), words(value).into()]);
    }
    output.table(&table);
    nodes(details.get("nodes"), output);
    Ok(Code::Done)
}

/// What happens on which node.
fn nodes(nodes: Option<&Value>, output: &mut Output) {
    let Some(nodes) = nodes.and_then(Value::as_array).filter(|nodes| !nodes.is_empty()) else {
        return;
    };
    let mut names: Vec<&str> = Vec::new();
    for field in nodes.iter().filter_map(Value::as_object).flat_map(|node| node.keys()) {
        if !names.contains(&field.as_str()) {
            names.push(field);
        }
    }
    let heading = |name: &&str| match *name {
        "taskUid" => "TASK".to_owned(),
        "dumpUid" => "DUMP".to_owned(),
        name => name.to_uppercase(),
    };
    let headings: Vec<String> = names.iter().map(heading).collect();
    let mut table = Table::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for node in nodes {
        table.row(names.iter().map(|name| Cell::from(words(&node[*name]))));
    }
    output.line("");
    output.table(&table);
}

/// A value without quotes.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        other => other.to_string(),
    }
}

/// A page of tasks.
#[derive(Deserialize)]
struct Page {
    results: Vec<TaskView>,
    total: u64,
    next: Option<u32>,
}

async fn list(filter: &TaskFilter, client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let joined = |list: Vec<&str>| (!list.is_empty()).then(|| list.join(","));
    let path = with_query(
        "/tasks",
        &[
            ("statuses", joined(filter.status.iter().map(|status| status.name()).collect())),
            ("indexUids", joined(filter.index.iter().map(String::as_str).collect())),
            ("types", joined(filter.kind.iter().map(String::as_str).collect())),
            ("limit", Some(filter.limit.to_string())),
            ("from", filter.from.map(|uid| uid.0.to_string())),
        ],
    );
    let answer = client.get(&path).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let page: Page = answer.read()?;
    if page.results.is_empty() {
        output.line("no tasks");
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["UID", "STATUS", "TYPE", "INDEX", "ENQUEUED", "ERROR"]);
    for task in &page.results {
        let error = task.error.as_ref().map_or("", |error| &*error.code);
        table.row([
            Cell::number(task.uid),
            Cell::new(task.status.as_str(), tone(task.status)),
            task.kind.as_str().into(),
            task.index_uid.as_deref().unwrap_or("-").into(),
            task.enqueued_at.get(..19).unwrap_or(&task.enqueued_at).into(),
            Cell::new(error, Tone::Bad),
        ]);
    }
    output.table(&table);
    if let Some(next) = page.next {
        let shown = page.results.len();
        output.line(&format!("{shown} of {}; more with --from {next}", page.total));
    }
    Ok(Code::Done)
}

async fn wait(
    uids: &[Uid],
    patience: Duration,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    let end = Instant::now() + patience;
    let mut code = Code::Done;
    for uid in uids {
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = client.get(&format!("/_miroir/tasks/{}", uid.0)).await?;
            let task: TaskView = answer.read()?;
            if ended(task.status) {
                if output.json() {
                    output.raw(&answer);
                } else {
                    let why = task.error.map_or_else(String::new, |e| format!(": {}", e.message));
                    let text = format!("{} {}{why}", uid.0, task.status.as_str());
                    output.marked(&text, tone(task.status), "");
                }
                if task.status != TaskStatus::Succeeded {
                    code = Code::Findings;
                }
                break;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CtlError::new(
                    Code::Unfinished,
                    format!("task {} is still {} after {patience:?}", uid.0, task.status.as_str()),
                    format!("wait longer with --for, or see `miroir-ctl task get {}`", uid.0),
                ));
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    Ok(code)
}

async fn cancel(uids: &[Uid], client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let list: Vec<String> = uids.iter().map(|uid| uid.0.to_string()).collect();
    let path = with_query("/tasks/cancel", &[("uids", Some(list.join(",")))]);
    let answer = client.ask(Method::POST, &path, Some(&json!({}))).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let task: SummarizedTask = answer.read()?;
    output.line(&format!(
        "task {uid} cancels them; `miroir-ctl task get {uid}` says which",
        uid = task.task_uid
    ));
    Ok(Code::Done)
}
