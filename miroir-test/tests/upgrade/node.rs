//! A node that takes everything and does its tasks when it is told to.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use miroir_pipeline::node::{NodeCall, Request, Response};
use miroir_pipeline::query::query_pairs;
use miroir_pipeline::{Effect, Error};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The instant at which everything happens on a node.
const THEN: &str = "2024-05-01T10:00:00Z";

/// One task of a node, and what it is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Task {
    view: Value,
    method: String,
    path: String,
    query: String,
    body: Value,
}

/// What a node keeps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Disk {
    tasks: Vec<Task>,
    settings: BTreeMap<String, Value>,
    /// By uid; version 0.1 made none.
    #[serde(default)]
    keys: BTreeMap<String, Value>,
}

/// See the module's documentation. Clones are the same node.
#[derive(Clone, Debug)]
pub(crate) struct StubNode {
    name: String,
    disk: Arc<Mutex<Disk>>,
    held: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    unanswered: Arc<AtomicUsize>,
}

fn parameter(query: &str, name: &str) -> Option<String> {
    query_pairs(query).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn uids(query: &str) -> Option<Vec<u64>> {
    let list = parameter(query, "uids")?;
    Some(list.split(',').filter_map(|uid| uid.parse().ok()).collect())
}

impl StubNode {
    /// A node with what another one kept. Its tasks wait if some did, and are done at once if not.
    pub(crate) fn new(name: &str, disk: Disk) -> Self {
        let waits = disk.tasks.iter().any(|task| task.view["status"] == "enqueued");
        let (name, disk) = (name.to_owned(), Arc::new(Mutex::new(disk)));
        Self {
            name,
            disk,
            held: Arc::new(waits.into()),
            hangs: Arc::default(),
            unanswered: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// What it keeps.
    pub(crate) fn disk(&self) -> Disk {
        self.lock().clone()
    }

    /// The uids of its keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.lock().keys.keys().cloned().collect()
    }

    /// Leaves the tasks that come from now on in the queue.
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// Does what waits, and what comes at once.
    pub(crate) fn go_on(&self) {
        self.held.store(false, Ordering::Relaxed);
        self.lock().release(&self.name, |_| true);
    }

    /// Answers nothing that changes anything, from now on.
    pub(crate) fn hang(&self) {
        self.hangs.store(true, Ordering::Relaxed);
    }

    /// How many calls it has got since, which nobody will hear of.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// Whether it has a task of this kind about an index.
    pub(crate) fn has(&self, index: &str, kind: &str) -> bool {
        let wanted = |view: &Value| view["indexUid"] == index && view["type"] == kind;
        self.lock().tasks.iter().any(|task| wanted(&task.view))
    }

    /// Does the tasks of one kind.
    pub(crate) fn release(&self, kind: &str) {
        self.lock().release(&self.name, |task| task.view["type"] == kind);
    }

    /// The service of a node's stack.
    pub(crate) async fn answer(self, request: Request) -> Result<Response, Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        let reads = parts.method == Method::GET
            || path.ends_with("/fetch")
            || (parts.method == Method::POST && path == "/dynamic-search-rules");
        let call = parts.extensions.get::<NodeCall>().expect("every call says what it is");
        let effect = if reads { Effect::Read } else { Effect::Change };
        assert!(call.effect == effect || call.operation == "replay", "{path}: {call:?}");
        if !reads && self.hangs.load(Ordering::Relaxed) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return pending().await;
        }
        let (status, body) = if path == "/keys" && !reads {
            let uid = body["uid"].as_str().unwrap().to_owned();
            self.lock().keys.insert(uid, body.clone());
            (StatusCode::CREATED, body)
        } else if reads {
            self.lock().read(path, query)
        } else {
            let mut disk = self.lock();
            let accepted = disk.enqueue(&parts.method, path, query, body);
            if !self.held.load(Ordering::Relaxed) {
                disk.release(&self.name, |_| true);
            }
            (StatusCode::ACCEPTED, accepted)
        };
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = status;
        Ok(response)
    }
}

impl Disk {
    fn read(&self, path: &str, query: &str) -> (StatusCode, Value) {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let found = match parts.as_slice() {
            ["keys"] => json!({
                "results": self.keys.values().collect::<Vec<_>>(), "total": self.keys.len(),
            }),
            ["health"] => json!({"status": "available"}),
            ["tasks"] => self.list(query),
            ["tasks", uid] => uid
                .parse()
                .ok()
                .and_then(|uid: usize| Some(self.tasks.get(uid)?.view.clone()))
                .unwrap_or_default(),
            ["indexes"] => {
                let results: Vec<_> = self.settings.keys().map(|uid| json!({"uid": uid})).collect();
                json!({"results": results})
            }
            ["indexes", uid, "settings"] => self.settings.get(*uid).cloned().unwrap_or_default(),
            [.., "fetch"] => json!({"results": [], "total": 7}),
            _ => Value::Null,
        };
        if found.is_null() {
            let error = json!({"message": "Not found.", "code": "not_found", "type": "invalid_request", "link": ""});
            return (StatusCode::NOT_FOUND, error);
        }
        (StatusCode::OK, found)
    }

    fn list(&self, query: &str) -> Value {
        let (uids, index) = (uids(query), parameter(query, "indexUids"));
        let limit = parameter(query, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(20);
        let fits = |view: &&Value| {
            uids.as_ref().is_none_or(|uids| uids.contains(&view["uid"].as_u64().unwrap()))
                && index.as_ref().is_none_or(|index| view["indexUid"] == *index)
        };
        let all = self.tasks.iter().rev().map(|task| &task.view);
        let results: Vec<&Value> = all.filter(fits).take(limit).collect();
        json!({ "results": results })
    }

    fn enqueue(&mut self, method: &Method, path: &str, query: &str, body: Value) -> Value {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let kind = match (method.as_str(), parts.as_slice()) {
            ("POST", ["indexes"]) => "indexCreation",
            ("PATCH", ["indexes", _]) => "indexUpdate",
            ("DELETE", ["indexes", _]) => "indexDeletion",
            ("PATCH", ["indexes", _, "settings"]) => "settingsUpdate",
            ("POST", ["indexes", _, "documents", "edit"]) => "documentEdition",
            ("POST" | "PUT", ["indexes", _, "documents"]) => "documentAdditionOrUpdate",
            (_, ["indexes", _, "documents", ..]) => "documentDeletion",
            ("POST", ["dumps"]) => "dumpCreation",
            ("POST", ["snapshots"]) => "snapshotCreation",
            ("POST", ["tasks", "cancel"]) => "taskCancelation",
            ("DELETE", ["tasks"]) => "taskDeletion",
            _ => panic!("no node is asked for {method} {path}"),
        };
        let index = match parts.as_slice() {
            ["indexes"] => body["uid"].clone(),
            ["indexes", uid, ..] => json!(uid),
            _ => Value::Null,
        };
        let uid = self.tasks.len();
        let view = json!({
            "uid": uid, "indexUid": index, "status": "enqueued", "type": kind,
            "enqueuedAt": THEN, "startedAt": null, "finishedAt": null, "details": null,
            "error": null, "customMetadata": parameter(query, "customMetadata"),
        });
        let accepted = json!({
            "taskUid": uid, "indexUid": index, "status": "enqueued", "type": kind,
            "enqueuedAt": THEN,
        });
        let (method, path, query) = (method.to_string(), path.to_owned(), query.to_owned());
        self.tasks.push(Task { view, method, path, query, body });
        accepted
    }

    /// Does what is enqueued, cancelations first.
    fn release(&mut self, node: &str, which: impl Fn(&Task) -> bool) {
        for first in [true, false] {
            for at in 0..self.tasks.len() {
                let task = self.tasks[at].clone();
                let cancels = task.view["type"] == "taskCancelation";
                if task.view["status"] == "enqueued" && cancels == first && which(&task) {
                    let details = self.perform(node, &task);
                    let view = &mut self.tasks[at].view;
                    if task.body["function"].as_str().is_some_and(|text| text.contains("broken")) {
                        view["status"] = json!("failed");
                        view["error"] = json!({
                            "message": "Function failed: `broken` is not known (line 4, position 1)",
                            "code": "invalid_document_edition_function", "type": "invalid_request",
                            "link": "",
                        });
                    } else {
                        view["status"] = json!("succeeded");
                        view["details"] = details;
                    }
                    view["startedAt"] = json!(THEN);
                    view["finishedAt"] = json!(THEN);
                }
            }
        }
    }

    fn perform(&mut self, node: &str, task: &Task) -> Value {
        let index = task.view["indexUid"].as_str().unwrap_or_default().to_owned();
        match task.view["type"].as_str().unwrap() {
            "indexCreation" => {
                self.settings.entry(index).or_insert_with(|| json!({"displayedAttributes": ["*"]}));
                json!({})
            }
            "indexDeletion" => {
                self.settings.remove(&index);
                json!({"deletedDocuments": 9})
            }
            "settingsUpdate" => {
                let settings = self.settings.entry(index).or_insert_with(|| json!({}));
                for (key, value) in task.body.as_object().unwrap() {
                    settings[key] = value.clone();
                }
                task.body.clone()
            }
            "documentEdition" => json!({"editedDocuments": 4, "deletedDocuments": 0}),
            "documentDeletion" => json!({"deletedDocuments": 1}),
            "dumpCreation" => json!({"dumpUid": format!("dump-of-{node}")}),
            "taskCancelation" => {
                for uid in uids(&task.query).unwrap_or_default() {
                    let view = &mut self.tasks[uid as usize].view;
                    if view["status"] == "enqueued" {
                        view["status"] = json!("canceled");
                        view["startedAt"] = json!(THEN);
                        view["finishedAt"] = json!(THEN);
                    }
                }
                json!({})
            }
            _ => json!({}),
        }
    }
}
