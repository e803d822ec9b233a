//! What a fake node keeps: indexes, and a queue of tasks worked off in order.

use std::collections::BTreeMap;
use std::time::Duration;

use miroir_store::clock;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::documents::Document;
use super::errors::{error, no_index};
use super::filter;
use super::index::{Index, patch_settings};
use super::task::{SHOWN, Task, Work, of_document};
use crate::trace;

/// Statuses of tasks that have not ended.
const OPEN: [&str; 2] = ["enqueued", "processing"];

/// Everything that survives a restart.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Whose disk it was at first.
    name: String,
    /// Indexes by uid.
    pub indexes: BTreeMap<String, Index>,
    /// Search rules by uid.
    pub rules: BTreeMap<String, Value>,
    /// Whether search rules are switched on.
    pub has_rules: bool,
    /// API keys by uid, as `GET /keys/{uid}` shows them.
    pub keys: BTreeMap<String, Value>,
    /// All tasks ever, by uid. Those that were deleted are [`Task::is_deleted`].
    pub tasks: Vec<Task>,
    done: usize,
}

impl Disk {
    /// The empty disk of a node.
    pub(super) fn of(node: &str) -> Self {
        Self { name: node.to_owned(), ..Self::default() }
    }

    /// Enqueues a task; answers what a `202` says.
    pub fn enqueue(
        &mut self,
        index: &str,
        work: Work,
        metadata: Option<String>,
        took: Duration,
    ) -> Value {
        let uid = self.tasks.len() as u32;
        let now = Instant::now();
        let last = self.tasks[self.done..].iter().rfind(|task| OPEN.contains(&task.status));
        let begin = last.map_or(now, |last| last.due.max(now));
        let kind = work.kind();
        let enqueued = clock::rfc3339(clock::now());
        trace::line(|| {
            let work = format!("{work:?}");
            format!("disk of {} takes {uid} of {index}: {metadata:?}, {work:.400}", self.name)
        });
        self.tasks.push(Task {
            uid,
            index: index.to_owned(),
            work,
            metadata,
            due: begin + took,
            took,
            status: "enqueued",
            canceled_by: None,
            is_deleted: false,
            error: None,
            details: Value::Null,
            enqueued: enqueued.clone(),
            finished: None,
        });
        json!({
            "taskUid": uid, "indexUid": (!index.is_empty()).then_some(index), "status": "enqueued",
            "type": kind, "enqueuedAt": enqueued,
        })
    }

    /// Does the tasks that are due. Those for which `fault` has an error fail with it.
    pub fn advance(&mut self, mut fault: impl FnMut() -> Option<Value>) {
        let now = Instant::now();
        while let Some(task) = self.tasks.get(self.done) {
            if OPEN.contains(&task.status) {
                if task.due > now {
                    return;
                }
                let task = task.clone();
                let mut details = json!({});
                let result = match fault() {
                    Some(error) => Err(error),
                    None => self.perform(&task.index, &task.work, &mut details),
                };
                self.end(self.done, result, details);
            }
            self.done += 1;
        }
    }

    fn end(&mut self, at: usize, result: Result<(), Value>, details: Value) {
        let task = &mut self.tasks[at];
        task.status = if result.is_ok() { "succeeded" } else { "failed" };
        task.error = result.err();
        task.details = details;
        task.finished = Some(clock::rfc3339(clock::now()));
        trace::line(|| {
            let (uid, index, status) = (task.uid, &task.index, task.status);
            let (tag, work) = (&task.metadata, format!("{:?}", task.work));
            format!("disk of {} ends {uid} of {index}: {status}, {tag:?}, {work:.400}", self.name)
        });
    }

    /// Cancels the unfinished ones of these tasks, before anything else is done.
    pub fn cancel(&mut self, uids: &[u32], filter: &str) -> Value {
        let answer = self.enqueue("", Work::Cancel, None, Duration::ZERO);
        let by = self.tasks.len() - 1;
        let mut canceled = 0;
        for uid in uids {
            let Some(task) = self.tasks[..by].get_mut(*uid as usize) else { continue };
            if OPEN.contains(&task.status) {
                task.status = "canceled";
                task.canceled_by = Some(by as u32);
                task.finished = Some(clock::rfc3339(clock::now()));
                canceled += 1;
            }
        }
        self.end(
            by,
            Ok(()),
            json!({"matchedTasks": uids.len(), "canceledTasks": canceled, "originalFilter": filter}),
        );
        self.restart();
        answer
    }

    /// Deletes the finished ones of these tasks.
    pub fn delete_tasks(&mut self, uids: &[u32], filter: &str) -> Value {
        let answer = self.enqueue("", Work::DeleteTasks, None, Duration::ZERO);
        let by = self.tasks.len() - 1;
        let mut deleted = 0;
        for uid in uids {
            let Some(task) = self.tasks[..by].get_mut(*uid as usize) else { continue };
            if !OPEN.contains(&task.status) && !task.is_deleted {
                task.is_deleted = true;
                deleted += 1;
            }
        }
        self.end(
            by,
            Ok(()),
            json!({"matchedTasks": uids.len(), "deletedTasks": deleted, "originalFilter": filter}),
        );
        answer
    }

    /// The tasks that ended and are still shown.
    pub fn finished(&self) -> Vec<u32> {
        self.ended().map(|task| task.uid).collect()
    }

    /// Whether one of them did more than delete others.
    pub(super) fn finished_work(&self) -> bool {
        self.ended().any(|task| !matches!(task.work, Work::DeleteTasks))
    }

    fn ended(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| !task.is_deleted && !OPEN.contains(&task.status))
    }

    /// Makes every task due now.
    pub(super) fn hurry(&mut self) {
        let now = Instant::now();
        for task in &mut self.tasks[self.done..] {
            task.due = now;
        }
    }

    /// Begins the queue anew, as a process does that starts.
    pub fn restart(&mut self) {
        let mut at = Instant::now();
        for task in self.tasks[self.done..].iter_mut().filter(|task| OPEN.contains(&task.status)) {
            at += task.took;
            task.due = at;
        }
    }

    /// What tasks did to one document, or to settings if none is named, a line each: for whoever has
    /// to explain a violation.
    pub fn story_of(&self, id: Option<&str>) -> Vec<String> {
        let about = |work: &Work| match (id, work) {
            (_, Work::Create(_) | Work::Drop) => Some(work.kind().to_owned()),
            (None, Work::Settings(patch)) => {
                Some(format!("{patch:?}").chars().take(SHOWN).collect())
            }
            (Some(id), work) => of_document(id, work),
            (None, _) => None,
        };
        let line = |task: &Task| {
            let work = about(&task.work)?;
            let (tag, end) = (task.metadata.as_deref(), task.finished.as_deref());
            Some(format!(
                "{} {} {} {} [{}, {}] {work}",
                task.uid,
                task.index,
                task.status,
                tag.unwrap_or("-"),
                task.enqueued,
                end.unwrap_or("-")
            ))
        };
        self.tasks.iter().filter_map(line).collect()
    }

    /// Whether every task is done.
    pub fn idle(&self) -> bool {
        !self.tasks[self.done..].iter().any(|task| OPEN.contains(&task.status))
    }

    fn perform(&mut self, uid: &str, work: &Work, details: &mut Value) -> Result<(), Value> {
        match work {
            // Done when they arrive.
            Work::Cancel | Work::DeleteTasks => Ok(()),
            Work::Rule(uid, rule) => {
                match rule.clone() {
                    Some(rule) => self.rules.insert(uid.clone(), rule),
                    None => self.rules.remove(uid),
                };
                Ok(())
            }
            Work::Add(documents, key, replace) => {
                *details = json!({"receivedDocuments": documents.len(), "indexedDocuments": 0});
                self.add(uid, documents, key.as_ref(), *replace)?;
                details["indexedDocuments"] = documents.len().into();
                Ok(())
            }
            Work::Create(key) => {
                if self.indexes.contains_key(uid) {
                    return Err(error("index_already_exists", "Index already exists."));
                }
                let index = Index { primary_key: key.clone(), ..Index::default() };
                self.indexes.insert(uid.to_owned(), index);
                Ok(())
            }
            Work::Settings(patch) => {
                let index = self.indexes.entry(uid.to_owned()).or_default();
                patch_settings(&mut index.settings, patch);
                *details = Value::Object(patch.clone());
                Ok(())
            }
            Work::Drop => match self.indexes.remove(uid) {
                Some(index) => {
                    *details = json!({"deletedDocuments": index.documents.len()});
                    Ok(())
                }
                None => Err(no_index(uid)),
            },
            Work::Swap(pairs) => self.swap(pairs),
            Work::Rekey(key, name) => {
                let taken = name.as_ref().filter(|name| *name != uid);
                let taken = taken.is_some_and(|name| self.indexes.contains_key(name));
                let index = self.indexes.get_mut(uid).ok_or_else(|| no_index(uid))?;
                *details = json!({"primaryKey": key});
                if taken {
                    return Err(error("index_already_exists", "Index already exists."));
                }
                match (key, &index.primary_key) {
                    (None, _) => Ok(()),
                    (Some(new), Some(old)) if new != old && !index.documents.is_empty() => {
                        Err(has_key(&format!("Index `{uid}`: "), old))
                    }
                    _ => {
                        index.primary_key.clone_from(key);
                        Ok(())
                    }
                }?;
                if let Some(name) = name {
                    let index = self.indexes.remove(uid).unwrap_or_default();
                    self.indexes.insert(name.clone(), index);
                }
                Ok(())
            }
            Work::DeleteIds(_) | Work::DeleteFilter(_) | Work::Clear => {
                let index = self.indexes.get_mut(uid).ok_or_else(|| no_index(uid))?;
                let before = index.documents.len();
                if let Work::DeleteFilter(filter) = work {
                    index.filterable(filter)?;
                }
                match work {
                    Work::DeleteIds(ids) => {
                        for id in ids {
                            index.documents.remove(id);
                        }
                    }
                    Work::DeleteFilter(filter) => {
                        index.documents.retain(|_, d| !filter::passes(filter, d).unwrap_or(false));
                    }
                    _ => index.documents.clear(),
                }
                *details = json!({"deletedDocuments": before - index.documents.len()});
                Ok(())
            }
        }
    }
    fn swap(&mut self, pairs: &[(String, String, bool)]) -> Result<(), Value> {
        for (a, b, rename) in pairs {
            for name in [a, b].into_iter().take(if *rename { 1 } else { 2 }) {
                if !self.indexes.contains_key(name) {
                    return Err(no_index(name));
                }
            }
            if *rename && self.indexes.contains_key(b) {
                return Err(error("index_already_exists", "Index already exists."));
            }
        }
        for (a, b, _) in pairs {
            let (first, second) = (self.indexes.remove(a), self.indexes.remove(b));
            let moved = [(b, first), (a, second)];
            let moved = moved.into_iter().filter_map(|(to, index)| Some((to.clone(), index?)));
            self.indexes.extend(moved);
        }
        Ok(())
    }

    fn add(
        &mut self,
        uid: &str,
        documents: &[Document],
        key: Option<&String>,
        replace: bool,
    ) -> Result<(), Value> {
        let index = self.indexes.entry(uid.to_owned()).or_default();
        let key = match (&index.primary_key, key) {
            (Some(old), Some(new)) if new != old => return Err(has_key("", old)),
            (Some(key), _) | (None, Some(key)) => key.clone(),
            (None, None) => {
                return Err(error("index_primary_key_no_candidate_found", "No primary key."));
            }
        };
        let id = |document: &Document| match document.get(&key) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => Err(error("missing_document_id", "A document has no id.")),
        };
        let ids: Vec<String> = documents.iter().map(id).collect::<Result<_, _>>()?;
        for (id, document) in ids.into_iter().zip(documents) {
            match index.documents.get_mut(&id).filter(|_| !replace) {
                Some(known) => known.extend(document.clone()),
                None => index.documents.insert(id, document.clone()),
            }
        }
        index.primary_key = Some(key);
        Ok(())
    }
}

/// The error about a primary key that an index has already.
fn has_key(of: &str, key: &str) -> Value {
    let text = format!("{of}Index already has a primary key: `{key}`.");
    error("index_primary_key_already_exists", &text)
}
