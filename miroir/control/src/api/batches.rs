//! `GET /batches` and `GET /batches/{uid}`.
//!
//! Nodes batch as they like, each for itself; Miroir's batches are its tasks: each is a batch of its
//! own, of the same number, and a cancelation's batch holds what it canceled as well.

use std::collections::{BTreeMap, BTreeSet};

use miroir_api::meili::TaskStatus;
use miroir_api::{TaskUid, meili::TaskKind};
use serde_json::{Map, Value, json};

use crate::api::Control;
use crate::api::keys::is_visible;
use crate::api::node_batches::NodeBatches;
use crate::api::tasks::all_of;
use crate::form;
use miroir_pipeline::error::Error;
use miroir_pipeline::operation::{Request, Response};
use miroir_store::clock;
use miroir_store::{StoreError, TaskProtocol, TaskQuery, TaskRecord};

/// Details of several tasks as those of one: counts are sums, lists are joined, filters too, and of
/// anything else the first stays.
fn accumulate<'a>(all: impl Iterator<Item = &'a Map<String, Value>>) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in all.flatten() {
        let sum = match (out.get(key), value) {
            (None | Some(Value::Null), value) => value.clone(),
            (Some(Value::Number(a)), Value::Number(b)) => {
                (a.as_u64().unwrap_or(0) + b.as_u64().unwrap_or(0)).into()
            }
            (Some(Value::Array(a)), Value::Array(b)) if key == "swaps" => {
                a.iter().chain(b).cloned().collect()
            }
            (Some(Value::String(a)), Value::String(b)) if key == "originalFilter" => {
                format!("{a}&{b}").into()
            }
            _ => continue,
        };
        out.insert(key.clone(), sum);
    }
    out
}

fn counts<K: Ord + serde::Serialize>(keys: impl Iterator<Item = K>) -> BTreeMap<K, u32> {
    let mut out = BTreeMap::new();
    for key in keys {
        *out.entry(key).or_default() += 1;
    }
    out
}

/// What a node no longer shows of a finished batch where a task shows `null`.
const NULLABLE: [&str; 9] = [
    "indexedDocuments",
    "editedDocuments",
    "primaryKey",
    "deletedDocuments",
    "canceledTasks",
    "deletedTasks",
    "originalFilter",
    "dumpUid",
    "context",
];

/// A batch as Meilisearch shows it. The first task is the one it is named after.
fn view(tasks: &[TaskRecord], nodes: &NodeBatches) -> Option<Value> {
    let first = tasks.first()?;
    let from = first.started_at?;
    let to = first.finished_at;
    let duration = to.map(|to| clock::iso_duration(from, to));
    let statuses = counts(tasks.iter().map(|task| task.status.as_str()));
    let types = counts(tasks.iter().map(|task| task.kind.as_str()));
    let indexes = counts(tasks.iter().filter_map(|task| task.index.as_deref()));
    let mut stats = json!({
        "totalNbTasks": tasks.len(), "status": statuses, "types": types, "indexUids": indexes,
    });
    if let Some(to) = to {
        let spent = (to - from).max(time::Duration::ZERO).unsigned_abs();
        stats["progressTrace"] = json!({"processing tasks": format!("{spent:.2?}")});
    }
    nodes.add_to(&mut stats, tasks);
    let mut details = accumulate(tasks.iter().filter_map(|task| task.details.as_ref()));
    if to.is_some() {
        details.retain(|key, value| !(value.is_null() && NULLABLE.contains(&key.as_str())));
    }
    Some(json!({
        "uid": first.uid,
        "progress": null,
        "details": form::details::ordered(details),
        "stats": stats,
        "duration": duration,
        "startedAt": clock::rfc3339(from),
        "finishedAt": to.map(clock::rfc3339),
        "batchStrategy": format!(
            "created batch containing only task with id {} of type `{}` that cannot be batched \
             with any other task.",
            first.uid,
            first.kind.as_str(),
        ),
    }))
}

/// Which uids a page shows, of two ascending or descending lists without repetition.
fn page(mut uids: Vec<u32>, query: &TaskQuery) -> (Vec<u32>, Option<u32>) {
    uids.sort_unstable();
    uids.dedup();
    if let Some(from) = query.from {
        uids.retain(|uid| if query.reverse { *uid >= from.0 } else { *uid <= from.0 });
    }
    if !query.reverse {
        uids.reverse();
    }
    let next = uids.get(query.limit).copied();
    uids.truncate(query.limit);
    (uids, next)
}

/// Statuses of tasks that are, or are named like, a batch.
fn batched(query: &TaskQuery) -> Vec<TaskStatus> {
    use TaskStatus::{Failed, Processing, Succeeded};
    let wanted = |status: &TaskStatus| {
        query.statuses.as_ref().is_none_or(|statuses| statuses.contains(status))
    };
    [Processing, Succeeded, Failed].into_iter().filter(wanted).collect()
}

impl Control {
    /// Tasks of one batch, the one it is named after first.
    async fn members(&self, uid: u32) -> Result<Vec<TaskRecord>, StoreError> {
        let tasks = &self.state.stores.tasks;
        let Some(first) = tasks.get(TaskUid(uid)).await? else { return Ok(Vec::new()) };
        if first.batch() != Some(uid) {
            return Ok(Vec::new());
        }
        let mut out = vec![first];
        if out[0].kind == TaskKind::TaskCancelation {
            let canceled = TaskQuery {
                reverse: true,
                canceled_by: Some([uid].into()),
                statuses: Some(vec![TaskStatus::Canceled]),
                ..TaskQuery::default()
            };
            // There may be very many: of each only what a batch shows is kept.
            let shown = |task| {
                let (nodes, protocol) = (Vec::new(), TaskProtocol::default());
                Some(TaskRecord { nodes, protocol, error: None, ..task })
            };
            out.extend(all_of(tasks, canceled, shown).await?);
        }
        Ok(out)
    }

    /// Uids of the cancelations whose batches match for what they canceled.
    async fn cancelers(&self, query: &TaskQuery) -> Result<BTreeSet<u32>, StoreError> {
        let wanted = query.statuses.as_ref().is_none_or(|s| s.contains(&TaskStatus::Canceled));
        if !wanted || query.canceled_by.is_some() {
            return Ok(BTreeSet::new());
        }
        let canceled = TaskQuery { statuses: Some(vec![TaskStatus::Canceled]), ..query.clone() };
        let mut cancelers = BTreeSet::new();
        let note = |task: TaskRecord| {
            cancelers.extend(task.canceled_by.map(|by| by.0));
            None::<()>
        };
        all_of(&self.state.stores.tasks, canceled, note).await?;
        Ok(cancelers)
    }

    pub(crate) async fn batch_list(
        &self,
        request: &Request,
        query: Option<Box<TaskQuery>>,
    ) -> Result<Response, Error> {
        let Some(mut query) = query else { return Err(self.refusal(request, "").await) };
        let tasks = &self.state.stores.tasks;
        if let Some(by) = &query.canceled_by {
            // A filter of batches: those of the cancelations themselves.
            let own = TaskQuery {
                limit: usize::MAX,
                uids: Some(by.clone()),
                kinds: Some(vec![TaskKind::TaskCancelation]),
                statuses: Some(vec![TaskStatus::Succeeded]),
                ..TaskQuery::default()
            };
            let own: BTreeSet<u32> = tasks.uids(own).await?.into_iter().collect();
            query.batches = Some(match query.batches.take() {
                Some(batches) => batches.intersection(&own).copied().collect(),
                None => own,
            });
            query.canceled_by = None;
        }
        let cx = &request.cx;
        let visible = self.only_visible(cx, TaskQuery::clone(&query)).await?;
        let cancelers = self.cancelers(&visible).await?;
        let own = TaskQuery { statuses: Some(batched(&query)), ..TaskQuery::clone(&query) };
        // A batch begins with its task.
        let begun = |task: &TaskRecord| task.batch().is_some();
        let (total, uids) = if cancelers.is_empty() {
            let wanted = TaskQuery { limit: query.limit.saturating_add(1), ..own };
            let found = self.visible_tasks(cx, wanted).await?;
            (found.total, found.tasks.iter().filter(|t| begun(t)).map(|t| t.uid.0).collect())
        } else {
            let mut uids = tasks.uids(self.only_visible(cx, own).await?).await?;
            let known = TaskQuery { uids: Some(cancelers), ..TaskQuery::default() };
            uids.extend(tasks.uids(known).await?);
            let distinct: BTreeSet<u32> = uids.iter().copied().collect();
            (distinct.len() as u64, uids)
        };
        let (uids, next) = page(uids, &query);
        let mut batches = Vec::with_capacity(uids.len());
        for uid in &uids {
            batches.push(self.members(*uid).await?);
        }
        let nodes = NodeBatches::ask(&self.state, cx, batches.iter().flatten()).await;
        let results: Vec<Value> = batches.iter().filter_map(|batch| view(batch, &nodes)).collect();
        Ok(Response::ok(&json!({
            "results": results, "total": total, "limit": query.limit, "from": uids.first(),
            "next": next,
        })))
    }

    pub(crate) async fn batch_get(&self, request: &Request, text: &str) -> Result<Response, Error> {
        let Ok(uid) = text.parse::<u32>() else { return Err(self.refusal(request, "").await) };
        let members = self.members(uid).await?;
        let visible = members.iter().any(|task| is_visible(&request.cx, task));
        let nodes = NodeBatches::ask(&self.state, &request.cx, members.iter()).await;
        match view(&members, &nodes).filter(|_| visible) {
            Some(batch) => Ok(Response::ok(&batch)),
            None => Err(Error::api("batch_not_found", format!("Batch `{uid}` not found."))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miroir_store::NewTask;

    fn task(uid: u32, kind: TaskKind, details: Value) -> TaskRecord {
        let new = NewTask {
            index: kind.is_about_one_index().then(|| "a".to_owned()),
            status: TaskStatus::Succeeded,
            details: details.as_object().cloned(),
            ..NewTask::new(kind, time::OffsetDateTime::UNIX_EPOCH)
        };
        TaskRecord::new(TaskUid(uid), new)
    }

    #[test]
    fn a_cancelation_shows_what_it_canceled() {
        let addition = json!({"receivedDocuments": 2, "indexedDocuments": 0});
        let filter = json!({"matchedTasks": 2, "canceledTasks": 2, "originalFilter": "?uids=1,2"});
        let mut canceled = task(1, TaskKind::DocumentAdditionOrUpdate, addition);
        canceled.status = TaskStatus::Canceled;
        canceled.canceled_by = Some(TaskUid(7));
        assert_eq!(canceled.batch(), Some(7));
        let tasks = [task(7, TaskKind::TaskCancelation, filter), canceled.clone(), canceled];
        let batch = view(&tasks, &NodeBatches::default()).unwrap();
        assert_eq!(
            batch["stats"],
            json!({
                "totalNbTasks": 3, "status": {"canceled": 2, "succeeded": 1},
                "types": {"documentAdditionOrUpdate": 2, "taskCancelation": 1},
                "indexUids": {"a": 2}, "progressTrace": {"processing tasks": "0.00ns"},
            })
        );
        assert_eq!(batch["details"]["receivedDocuments"], 4);
        assert_eq!(batch["details"]["originalFilter"], "?uids=1,2");
        assert_eq!(batch["uid"], 7);
    }

    #[test]
    fn a_finished_batch_does_not_show_what_is_not_there() {
        let details = json!({"primaryKey": null, "oldIndexUid": "b"});
        let batch =
            view(&[task(1, TaskKind::IndexUpdate, details)], &NodeBatches::default()).unwrap();
        assert_eq!(batch["details"], json!({"oldIndexUid": "b"}));
        let settings = json!({"stopWords": null});
        let batch = view(&[task(1, TaskKind::SettingsUpdate, settings)], &NodeBatches::default());
        assert_eq!(batch.unwrap()["details"], json!({"stopWords": null}), "a reset is a value");
    }

    #[test]
    fn pages_are_cut_after_joining() {
        let query = TaskQuery { limit: 2, from: Some(TaskUid(5)), ..TaskQuery::default() };
        assert_eq!(page(vec![9, 5, 3, 1, 3], &query), (vec![5, 3], Some(1)));
        let query = TaskQuery { reverse: true, ..query };
        assert_eq!(page(vec![9, 5, 3, 1, 3], &query), (vec![5, 9], None));
        let none = TaskQuery { limit: 0, ..TaskQuery::default() };
        assert_eq!(page(vec![9, 5], &none), (vec![], Some(9)));
    }
}
