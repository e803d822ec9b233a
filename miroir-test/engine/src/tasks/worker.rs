//! The thread that runs tasks, in order.

use std::panic::{AssertUnwindSafe, catch_unwind};

use milli_core::Index;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{Status, Task, Work};
use crate::State;
use crate::errors::ApiError;
use crate::indexing::{Addition, Indexing, is_abort};
use crate::settings;

/// How a task ended: changed details, or an error. `None` when the node is stopping.
type Outcome = Option<Result<Vec<(&'static str, Value)>, ApiError>>;

/// Runs tasks until the node stops.
pub(crate) fn run(state: &State, indexing: &Indexing) {
    let may_batch = |uid: &str| {
        state.indexes.get(uid).is_some_and(|open| {
            open.index
                .read_txn()
                .is_ok_and(|rtxn| open.index.primary_key(&rtxn).is_ok_and(|key| key.is_some()))
        })
    };
    while let Some(batch) = state.queue.next_batch(may_batch) {
        let outcomes = catch_unwind(AssertUnwindSafe(|| run_batch(state, indexing, &batch)))
            .unwrap_or_else(|_| {
                let failure = || {
                    Some(Err(ApiError::internal(
                        "An unexpected crash occurred when processing the task.",
                    )))
                };
                batch.iter().map(|_| failure()).collect()
            });
        let mut finished = Vec::with_capacity(batch.len());
        let mut unfinished = Vec::new();
        for (task, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Some(outcome) => finished.push(conclude(task, outcome)),
                None => unfinished.push(task),
            }
        }
        state.queue.give_back(&unfinished);
        let deleted = deleted_by(state, &finished);
        finished.extend(canceled_by(state, &finished));
        // When the journal cannot be written the tasks run again after a restart.
        if state.queue.finish(finished, &deleted).is_err() {
            return;
        }
    }
}

fn conclude(mut task: Task, outcome: Result<Vec<(&'static str, Value)>, ApiError>) -> Task {
    task.finished_at = Some(OffsetDateTime::now_utc());
    match outcome {
        Ok(details) => {
            task.status = Status::Succeeded;
            for (key, value) in details {
                task.details.insert(key.to_owned(), value);
            }
        }
        Err(error) => {
            task.status = Status::Failed;
            task.error = Some(error.to_value());
        }
    }
    task.zero_pending_counts();
    task
}

fn run_batch(state: &State, indexing: &Indexing, batch: &[Task]) -> Vec<Outcome> {
    if let [task] = batch
        && !matches!(task.work, Work::Documents { .. })
    {
        return vec![run_one(state, indexing, task)];
    }
    run_additions(state, indexing, batch)
}

/// Runs document additions together; when their common transaction fails, one by one.
fn run_additions(state: &State, indexing: &Indexing, batch: &[Task]) -> Vec<Outcome> {
    let uid = batch.first().and_then(|task| task.index_uid.clone()).unwrap_or_default();
    let failure = |error: ApiError| batch.iter().map(|_| Some(Err(error.clone()))).collect();
    let additions: Result<Vec<Addition>, ApiError> =
        batch.iter().map(|task| read_addition(state, task)).collect();
    let additions = match additions {
        Ok(additions) => additions,
        Err(error) => return failure(error),
    };
    let open = match state.indexes.create(&uid) {
        Ok(open) => open,
        Err(error) => return failure(error),
    };
    let must_stop = || state.queue.aborting();
    match indexing.add(&open.index, &additions, &must_stop) {
        Ok(results) => results
            .into_iter()
            .map(|result| {
                Some(match result {
                    Ok(count) => Ok(vec![("indexedDocuments", count.into())]),
                    Err(error) => Err(ApiError::from_engine(&error)),
                })
            })
            .collect(),
        Err(error) if is_abort(&error) => batch.iter().map(|_| None).collect(),
        Err(_) if batch.len() > 1 => batch
            .iter()
            .flat_map(|task| run_additions(state, indexing, std::slice::from_ref(task)))
            .collect(),
        Err(error) => failure(ApiError::from_index(&error, &uid)),
    }
}

fn read_addition(state: &State, task: &Task) -> Result<Addition, ApiError> {
    let Work::Documents { replace, primary_key, skip_creation } = &task.work else {
        return Err(ApiError::internal("not a document addition"));
    };
    let documents = match &task.payload {
        Some(name) => state.queue.payload(name)?,
        None => Vec::new(),
    };
    Ok(Addition {
        documents,
        replace: *replace,
        primary_key: primary_key.clone(),
        skip_creation: *skip_creation,
    })
}

fn run_one(state: &State, indexing: &Indexing, task: &Task) -> Outcome {
    let uid = task.index_uid.clone().unwrap_or_default();
    let must_stop = || state.queue.aborting();
    let indexes = &state.indexes;
    let on_index = |work: &dyn Fn(&Index) -> Result<u64, milli_core::Error>| -> Outcome {
        let open = match indexes.require(&uid) {
            Ok(open) => open,
            Err(error) => return Some(Err(error)),
        };
        match work(&open.index) {
            Ok(count) => Some(Ok(vec![("deletedDocuments", count.into())])),
            Err(error) if is_abort(&error) => None,
            Err(error) => {
                let error = ApiError::from_index(&error, &uid);
                Some(Err(error.with_filter_code("invalid_document_filter")))
            }
        }
    };
    match &task.work {
        Work::Documents { .. } => {
            run_additions(state, indexing, std::slice::from_ref(task)).pop().flatten()
        }
        Work::DeleteIds { ids } => on_index(&|index| indexing.delete_ids(index, ids, &must_stop)),
        Work::DeleteFilter { filter } => {
            on_index(&|index| indexing.delete_filter(index, filter, &must_stop))
        }
        Work::Clear => on_index(&|index| Indexing::clear(index)),
        Work::Settings { settings } => {
            let open = match indexes.create(&uid) {
                Ok(open) => open,
                Err(error) => return Some(Err(error)),
            };
            match settings::apply(&open.index, indexing.config(), settings, &must_stop) {
                Ok(()) => Some(Ok(Vec::new())),
                Err(error) if is_abort(&error) => None,
                Err(error) => Some(Err(ApiError::from_index(&error, &uid))),
            }
        }
        Work::CreateIndex { primary_key } => {
            Some(create_index(state, indexing, &uid, primary_key.as_deref()))
        }
        Work::UpdateIndex { primary_key, new_uid } => {
            Some(update_index(state, indexing, &uid, primary_key.as_deref(), new_uid.as_deref()))
        }
        Work::DeleteIndex => Some(delete_index(state, &uid)),
        Work::Swap { swaps } => Some(swap(state, swaps)),
        Work::Cancel { tasks } => {
            let count = pending(state, tasks).len();
            Some(Ok(vec![("canceledTasks", count.into())]))
        }
        Work::DeleteTasks { tasks } => {
            let count = state.queue.with_tasks(|all| {
                tasks
                    .iter()
                    .filter(|uid| all.get(uid).is_some_and(|task| task.status.finished()))
                    .count()
            });
            Some(Ok(vec![("deletedTasks", count.into())]))
        }
    }
}

type Details = Result<Vec<(&'static str, Value)>, ApiError>;

fn set_primary_key(
    indexing: &Indexing,
    index: &Index,
    uid: &str,
    key: &str,
) -> Result<(), ApiError> {
    settings::set_primary_key(index, indexing.config(), key)
        .map_err(|error| ApiError::from_index(&error, uid))
}

fn create_index(
    state: &State,
    indexing: &Indexing,
    uid: &str,
    primary_key: Option<&str>,
) -> Details {
    if state.indexes.get(uid).is_some() {
        return Err(ApiError::new(
            "index_already_exists",
            format!("Index `{uid}` already exists."),
        ));
    }
    let open = state.indexes.create(uid)?;
    if let Some(key) = primary_key {
        set_primary_key(indexing, &open.index, uid, key)?;
    }
    Ok(Vec::new())
}

fn update_index(
    state: &State,
    indexing: &Indexing,
    uid: &str,
    primary_key: Option<&str>,
    new_uid: Option<&str>,
) -> Details {
    let open = state.indexes.require(uid)?;
    if let Some(new_uid) = new_uid
        && state.indexes.get(new_uid).is_some()
    {
        return Err(ApiError::new(
            "index_already_exists",
            format!("Index `{new_uid}` already exists."),
        ));
    }
    if let Some(key) = primary_key {
        set_primary_key(indexing, &open.index, uid, key)?;
    }
    if let Some(new_uid) = new_uid {
        state.indexes.rename(uid, new_uid)?;
    }
    Ok(Vec::new())
}

fn delete_index(state: &State, uid: &str) -> Details {
    let open = state.indexes.require(uid)?;
    let rtxn = open.index.read_txn()?;
    let count = open.index.number_of_documents(&rtxn)?;
    drop(rtxn);
    state.indexes.remove(uid)?;
    Ok(vec![("deletedDocuments", count.into())])
}

fn swap(state: &State, swaps: &[(String, String)]) -> Details {
    for uid in swaps.iter().flat_map(|(left, right)| [left, right]) {
        state.indexes.require(uid)?;
    }
    for (left, right) in swaps {
        state.indexes.swap(left, right)?;
    }
    Ok(Vec::new())
}

/// The tasks of a list that are still waiting.
fn pending(state: &State, uids: &[u32]) -> Vec<Task> {
    state.queue.with_tasks(|all| {
        uids.iter()
            .filter_map(|uid| all.get(uid))
            .filter(|task| task.status == Status::Enqueued)
            .cloned()
            .collect()
    })
}

/// The tasks that finished cancelations end.
fn canceled_by(state: &State, finished: &[Task]) -> Vec<Task> {
    let mut canceled = Vec::new();
    for task in finished.iter().filter(|task| task.status == Status::Succeeded) {
        if let Work::Cancel { tasks } = &task.work {
            for mut other in pending(state, tasks) {
                other.status = Status::Canceled;
                other.canceled_by = Some(task.uid);
                other.finished_at = Some(OffsetDateTime::now_utc());
                other.zero_pending_counts();
                canceled.push(other);
            }
        }
    }
    canceled
}

/// The tasks that finished deletions remove.
fn deleted_by(state: &State, finished: &[Task]) -> Vec<u32> {
    let mut deleted: Vec<u32> = finished
        .iter()
        .filter(|task| task.status == Status::Succeeded)
        .filter_map(|task| match &task.work {
            Work::DeleteTasks { tasks } => Some(tasks.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    state.queue.with_tasks(|all| {
        deleted.retain(|uid| all.get(uid).is_some_and(|task| task.status.finished()));
    });
    deleted
}

/// Details with one entry, for tasks being registered.
pub(crate) fn details(entries: &[(&str, Value)]) -> Map<String, Value> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}
