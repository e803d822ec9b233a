//! What a fake node keeps: indexes, and a queue of tasks worked off in order.

use std::collections::BTreeMap;
use std::time::Duration;

use miroir_store::clock;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::filter;

/// A document.
pub type Document = Map<String, Value>;

/// An index of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    /// Primary key, once known.
    pub primary_key: Option<String>,
    /// All settings.
    pub settings: Value,
    /// Documents by id.
    pub documents: BTreeMap<String, Document>,
}

impl Default for Index {
    fn default() -> Self {
        Self { primary_key: None, settings: default_settings(), documents: BTreeMap::new() }
    }
}

impl Index {
    /// Whether the settings allow a filter.
    ///
    /// # Errors
    /// The node's words if they do not.
    pub fn filterable(&self, filter: &Value) -> Result<(), Value> {
        let known = self.settings["filterableAttributes"].as_array();
        let known = known.map(Vec::as_slice).unwrap_or_default();
        for name in filter::attributes(filter) {
            if !known.iter().any(|value| value.as_str() == Some(&name)) {
                let text = format!("Attribute `{name}` is not filterable.");
                return Err(error("invalid_search_filter", &text));
            }
        }
        Ok(())
    }
}

/// Settings of a new index.
pub fn default_settings() -> Value {
    json!({
        "displayedAttributes": ["*"],
        "searchableAttributes": ["*"],
        "filterableAttributes": [],
        "sortableAttributes": [],
        "rankingRules": ["words", "typo", "proximity", "attribute", "sort", "exactness"],
        "stopWords": [],
        "synonyms": {},
        "distinctAttribute": null,
        "faceting": {"maxValuesPerFacet": 100, "sortFacetValuesBy": {"*": "alpha"}},
        "pagination": {"maxTotalHits": 1000},
        "embedders": {},
    })
}

/// Applies a settings patch: `null` resets, two blocks are merged, all else is replaced.
fn patch_settings(settings: &mut Value, patch: &Map<String, Value>) {
    let defaults = default_settings();
    for (key, value) in patch {
        let default = &defaults[key];
        settings[key] = match (key.as_str(), value) {
            (_, Value::Null) => default.clone(),
            ("faceting" | "pagination", Value::Object(fields)) => {
                let mut block = settings[key].clone();
                for (name, field) in fields {
                    block[name] =
                        if field.is_null() { default[name].clone() } else { field.clone() };
                }
                block
            }
            ("filterableAttributes" | "sortableAttributes" | "stopWords", Value::Array(list)) => {
                // Sets, which a node prints in order.
                let mut list = list.clone();
                list.sort_by_key(Value::to_string);
                list.dedup();
                Value::Array(list)
            }
            (_, other) => other.clone(),
        };
    }
}

/// What a task does.
#[derive(Clone, Debug)]
pub enum Work {
    /// Add documents, replacing (`true`) or updating those with the same id.
    Add(Vec<Document>, Option<String>, bool),
    /// Delete documents by id.
    DeleteIds(Vec<String>),
    /// Delete documents by filter.
    DeleteFilter(Value),
    /// Delete all documents.
    Clear,
    /// Make the index.
    Create(Option<String>),
    /// Delete the index.
    Drop,
    /// Set the primary key.
    Rekey(Option<String>),
    /// Change settings.
    Settings(Map<String, Value>),
    /// Set a search rule, or delete it.
    Rule(String, Option<Value>),
}

impl Work {
    fn kind(&self) -> &'static str {
        match self {
            Self::Add(..) => "documentAdditionOrUpdate",
            Self::DeleteIds(_) | Self::DeleteFilter(_) | Self::Clear => "documentDeletion",
            Self::Create(_) => "indexCreation",
            Self::Drop => "indexDeletion",
            Self::Rekey(_) => "indexUpdate",
            Self::Settings(_) => "settingsUpdate",
            Self::Rule(..) => "dsrUpdate",
        }
    }
}

/// A task of a node.
#[derive(Clone, Debug)]
pub struct Task {
    /// Uid.
    pub uid: u32,
    /// Its index.
    pub index: String,
    work: Work,
    metadata: Option<String>,
    /// When it will be done.
    due: Instant,
    took: Duration,
    /// `enqueued`, `succeeded` or `failed`.
    pub status: &'static str,
    error: Option<Value>,
    details: Value,
    enqueued: String,
    finished: Option<String>,
}

impl Task {
    /// As `GET /tasks/{uid}` shows it.
    pub fn view(&self) -> Value {
        let mut view = json!({
            "uid": self.uid,
            "batchUid": self.finished.is_some().then_some(self.uid),
            "indexUid": self.index,
            "status": self.status,
            "type": self.work.kind(),
            "canceledBy": null,
            "details": self.details,
            "error": self.error,
            "duration": self.finished.is_some().then_some("PT0.010S"),
            "enqueuedAt": self.enqueued,
            "startedAt": self.finished,
            "finishedAt": self.finished,
        });
        if let Some(metadata) = &self.metadata {
            view["customMetadata"] = json!(metadata);
        }
        view
    }
}

/// How much of a settings patch a story tells.
const SHOWN: usize = 200;

/// What work does to a document.
fn of_document(id: &str, work: &Work) -> Option<String> {
    match work {
        Work::Add(documents, key, replace) => {
            let key = key.as_deref().unwrap_or("id");
            let all = documents.iter().filter(|d| d.get(key).and_then(Value::as_str) == Some(id));
            let all: Vec<_> = all.map(|d| d.get("v").cloned().unwrap_or_default()).collect();
            let verb = if *replace { "put" } else { "update" };
            (!all.is_empty()).then(|| format!("{verb} v={all:?} of {}", documents.len()))
        }
        Work::DeleteIds(ids) => ids.iter().any(|i| i == id).then(|| "delete".to_owned()),
        Work::DeleteFilter(filter) => Some(format!("delete {filter}")),
        Work::Clear => Some("clear".to_owned()),
        Work::Create(_) | Work::Drop | Work::Rekey(_) | Work::Settings(_) | Work::Rule(..) => None,
    }
}

/// An error object of Meilisearch.
pub(super) fn error(code: &str, message: &str) -> Value {
    json!({
        "message": message, "code": code, "type": "invalid_request",
        "link": format!("https://docs.meilisearch.com/errors#{code}"),
    })
}

/// The error about a missing index.
pub(super) fn no_index(uid: &str) -> Value {
    error("index_not_found", &format!("Index `{uid}` not found."))
}

/// Everything that survives a restart.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Indexes by uid.
    pub indexes: BTreeMap<String, Index>,
    /// Search rules by uid.
    pub rules: BTreeMap<String, Value>,
    /// Whether search rules are switched on.
    pub has_rules: bool,
    /// All tasks ever, by uid.
    pub tasks: Vec<Task>,
    done: usize,
}

impl Disk {
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
        let begin = self.tasks.last().map_or(now, |last| last.due.max(now));
        let kind = work.kind();
        let enqueued = clock::rfc3339(clock::now());
        self.tasks.push(Task {
            uid,
            index: index.to_owned(),
            work,
            metadata,
            due: begin + took,
            took,
            status: "enqueued",
            error: None,
            details: Value::Null,
            enqueued: enqueued.clone(),
            finished: None,
        });
        json!({
            "taskUid": uid, "indexUid": index, "status": "enqueued", "type": kind,
            "enqueuedAt": enqueued,
        })
    }

    /// Does the tasks that are due.
    pub fn advance(&mut self) {
        let now = Instant::now();
        while self.tasks.get(self.done).is_some_and(|task| task.due <= now) {
            let task = self.tasks[self.done].clone();
            let mut details = json!({});
            let result = self.perform(&task.index, &task.work, &mut details);
            let task = &mut self.tasks[self.done];
            task.status = if result.is_ok() { "succeeded" } else { "failed" };
            task.error = result.err();
            task.details = details;
            task.finished = Some(clock::rfc3339(clock::now()));
            self.done += 1;
        }
    }

    /// Begins the queue anew, as a process does that starts.
    pub fn restart(&mut self) {
        let mut at = Instant::now();
        for task in &mut self.tasks[self.done..] {
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
        self.done == self.tasks.len()
    }

    fn perform(&mut self, uid: &str, work: &Work, details: &mut Value) -> Result<(), Value> {
        match work {
            Work::Rule(uid, rule) => {
                match rule.clone() {
                    Some(rule) => self.rules.insert(uid.clone(), rule),
                    None => self.rules.remove(uid),
                };
                Ok(())
            }
            Work::Add(documents, key, replace) => {
                let index = self.indexes.entry(uid.to_owned()).or_default();
                if let (None, Some(key)) = (&index.primary_key, key) {
                    index.primary_key = Some(key.clone());
                }
                let Some(key) = index.primary_key.clone() else {
                    return Err(error("index_primary_key_no_candidate_found", "No primary key."));
                };
                for document in documents {
                    let id = match document.get(&key) {
                        Some(Value::String(text)) => text.clone(),
                        Some(Value::Number(number)) => number.to_string(),
                        _ => return Err(error("missing_document_id", "A document has no id.")),
                    };
                    match index.documents.get_mut(&id).filter(|_| !replace) {
                        Some(known) => known.extend(document.clone()),
                        None => drop(index.documents.insert(id, document.clone())),
                    }
                }
                *details = json!({
                    "receivedDocuments": documents.len(), "indexedDocuments": documents.len(),
                });
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
            Work::Rekey(key) => {
                let index = self.indexes.get_mut(uid).ok_or_else(|| no_index(uid))?;
                index.primary_key.clone_from(key);
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
}
