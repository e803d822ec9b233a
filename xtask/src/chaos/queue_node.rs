//! Stub nodes with a queue: they take any write at once and end tasks in order, as fast as they are
//! told to. What a cluster makes of many unfinished tasks shows in front of them without the time
//! that indexing takes.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::http_server::{Listener, Respond};

/// How often the queue is worked on.
const TICK: Duration = Duration::from_millis(5);
const TICKS_PER_SECOND: usize = 200;
const TIME: &str = "2025-01-01T00:00:00Z";

/// A running node; stops when dropped.
#[derive(Debug)]
pub(super) struct QueueNode {
    listener: Listener,
    queue: Arc<Queue>,
}

impl QueueNode {
    /// Starts a node without indexes that ends `rate` tasks a second.
    pub(super) fn start(rate: usize) -> Outcome<Self> {
        let queue = Arc::new(Queue::default());
        queue.rate.store(rate, Ordering::Relaxed);
        let listener = Listener::start(Arc::clone(&queue) as Arc<dyn Respond>)?;
        let worker = Arc::clone(&queue);
        thread::spawn(move || {
            while !worker.stopped.load(Ordering::Relaxed) {
                let step = worker.rate.load(Ordering::Relaxed).div_ceil(TICKS_PER_SECOND);
                {
                    let mut inner = worker.inner();
                    inner.ended = (inner.ended + step).min(inner.tasks.len());
                }
                thread::sleep(TICK);
            }
        });
        Ok(Self { listener, queue })
    }

    /// Base address.
    pub(super) fn url(&self) -> &str {
        &self.listener.url
    }

    /// From now on it ends so many tasks a second; 0: none.
    pub(super) fn set_rate(&self, rate: usize) {
        self.queue.rate.store(rate, Ordering::Relaxed);
    }

    /// Tasks that it has to end.
    pub(super) fn unfinished(&self) -> usize {
        let inner = self.queue.inner();
        inner.tasks.len() - inner.ended
    }
}

impl Drop for QueueNode {
    fn drop(&mut self) {
        self.queue.stopped.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Queue {
    inner: Mutex<Inner>,
    rate: AtomicUsize,
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    tasks: Vec<Task>,
    /// How many of them, the first ones, have ended.
    ended: usize,
    indexes: HashMap<String, Map<String, Value>>,
    keys: BTreeMap<String, Value>,
}

#[derive(Debug)]
struct Task {
    index: Option<String>,
    kind: &'static str,
    tag: Option<String>,
}

impl Inner {
    fn enqueue(&mut self, index: Option<&str>, kind: &'static str, target: &str) -> (u16, String) {
        let uid = self.tasks.len();
        let tag = parameter(target, "customMetadata").map(str::to_owned);
        self.tasks.push(Task { index: index.map(str::to_owned), kind, tag });
        let task = json!({
            "taskUid": uid, "indexUid": index, "status": "enqueued", "type": kind,
            "enqueuedAt": TIME,
        });
        (202, task.to_string())
    }

    fn task(&self, uid: usize) -> Option<Value> {
        let task = self.tasks.get(uid)?;
        let done = uid < self.ended;
        let time = done.then_some(TIME);
        let documents = task.kind == "documentAdditionOrUpdate";
        Some(json!({
            "uid": uid, "batchUid": uid, "indexUid": task.index, "type": task.kind,
            "status": if done { "succeeded" } else { "enqueued" },
            "details": if documents {
                json!({"receivedDocuments": 1, "indexedDocuments": done.then_some(1)})
            } else {
                Value::Null
            },
            "canceledBy": null, "error": null, "customMetadata": task.tag,
            "duration": done.then_some("PT0.001S"),
            "enqueuedAt": TIME, "startedAt": time, "finishedAt": time,
        }))
    }

    fn tasks(&self, target: &str) -> Value {
        let list = |name| parameter(target, name).map(|text| text.split(',').collect::<Vec<_>>());
        let limit = parameter(target, "limit").and_then(|text| text.parse().ok()).unwrap_or(20);
        let mut uids: Vec<usize> = match list("uids") {
            Some(uids) => uids.iter().filter_map(|uid| uid.parse().ok()).collect(),
            None => (0..self.tasks.len()).collect(),
        };
        uids.retain(|uid| *uid < self.tasks.len());
        if let Some(statuses) = list("statuses") {
            let (open, done) = (statuses.contains(&"enqueued"), statuses.contains(&"succeeded"));
            uids.retain(|uid| if *uid < self.ended { done } else { open });
        }
        if let Some(indexes) = list("indexUids") {
            let of = |uid: &usize| self.tasks[*uid].index.as_deref();
            uids.retain(|uid| of(uid).is_some_and(|index| indexes.contains(&index)));
        }
        let total = uids.len();
        if parameter(target, "reverse") != Some("true") {
            uids.reverse();
        }
        uids.truncate(limit);
        let results: Vec<Value> = uids.iter().filter_map(|uid| self.task(*uid)).collect();
        json!({
            "results": results, "total": total, "limit": limit, "from": uids.first(), "next": null,
        })
    }
}

fn parameter<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn missing(code: &str) -> (u16, String) {
    (
        404,
        json!({"message": "Not found.", "code": code, "type": "invalid_request", "link": ""})
            .to_string(),
    )
}

impl Queue {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Respond for Queue {
    fn respond(&self, method: &str, target: &str, body: &[u8]) -> (u16, String) {
        let path = target.split('?').next().unwrap_or_default();
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let object = || serde_json::from_slice::<Map<String, Value>>(body).unwrap_or_default();
        let mut inner = self.inner();
        match (method, segments.as_slice()) {
            ("GET", ["health"]) => (200, json!({"status": "available"}).to_string()),
            ("GET", ["version"]) => {
                let version = json!({"commitSha": "", "commitDate": "", "pkgVersion": "1.50.0"});
                (200, version.to_string())
            }
            ("GET" | "PATCH", ["experimental-features"]) => (200, "{}".to_owned()),
            ("GET", ["tasks"]) => (200, inner.tasks(target).to_string()),
            ("GET", ["tasks", uid]) => match uid.parse().ok().and_then(|uid| inner.task(uid)) {
                Some(task) => (200, task.to_string()),
                None => missing("task_not_found"),
            },
            ("GET", ["indexes"]) => {
                let all: Vec<Value> = inner.indexes.keys().map(|uid| index(uid)).collect();
                let total = all.len();
                let page = json!({"results": all, "offset": 0, "limit": total, "total": total});
                (200, page.to_string())
            }
            ("POST", ["indexes"]) => {
                let uid = object()["uid"].as_str().unwrap_or_default().to_owned();
                inner.indexes.entry(uid.clone()).or_default();
                inner.enqueue(Some(&uid), "indexCreation", target)
            }
            ("GET", ["indexes", uid]) if inner.indexes.contains_key(*uid) => {
                (200, index(uid).to_string())
            }
            ("GET", ["indexes", uid, "settings"]) => match inner.indexes.get(*uid) {
                Some(settings) => (200, Value::Object(settings.clone()).to_string()),
                None => missing("index_not_found"),
            },
            ("PATCH", ["indexes", uid, "settings"]) => {
                inner.indexes.entry((*uid).to_owned()).or_default().extend(object());
                inner.enqueue(Some(uid), "settingsUpdate", target)
            }
            ("POST", ["indexes", uid, "search"]) if inner.indexes.contains_key(*uid) => {
                let page = json!({
                    "hits": [], "query": "", "processingTimeMs": 0, "limit": 20, "offset": 0,
                    "estimatedTotalHits": 0,
                });
                (200, page.to_string())
            }
            ("POST" | "PUT", ["indexes", uid, "documents"]) => {
                inner.enqueue(Some(uid), "documentAdditionOrUpdate", target)
            }
            ("POST", ["keys"]) => {
                let mut key = object();
                let uid = key["uid"].as_str().unwrap_or_default().to_owned();
                key.insert("key".to_owned(), Value::from(uid.clone()));
                inner.keys.insert(uid, Value::Object(key.clone()));
                (201, Value::Object(key).to_string())
            }
            ("GET", ["keys"]) => {
                let all: Vec<Value> = inner.keys.values().cloned().collect();
                let total = all.len();
                let page = json!({"results": all, "offset": 0, "limit": 1000, "total": total});
                (200, page.to_string())
            }
            ("GET" | "PATCH", ["keys", uid]) => match inner.keys.get_mut(*uid) {
                Some(key) => {
                    for (name, value) in object() {
                        key[name] = value;
                    }
                    (200, key.to_string())
                }
                None => missing("api_key_not_found"),
            },
            _ => missing("not_found"),
        }
    }
}

fn index(uid: &str) -> Value {
    json!({"uid": uid, "primaryKey": "id", "createdAt": TIME, "updatedAt": TIME})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Client;

    #[test]
    fn it_ends_tasks_in_order_and_only_when_told() {
        let node = QueueNode::start(0).unwrap();
        let mut client = Client::new(node.url(), "");
        let new = json!({"uid": "a", "primaryKey": "id"});
        assert_eq!(client.json("POST", "/indexes", &new).unwrap().json()["taskUid"], 0);
        let path = "/indexes/a/documents?customMetadata=m-1";
        assert_eq!(client.json("POST", path, &json!([{"id": 1}])).unwrap().json()["taskUid"], 1);
        let open = "/tasks?statuses=enqueued,processing&limit=1&reverse=true";
        assert_eq!(client.get(open).unwrap().json()["results"][0]["uid"], 0);
        assert_eq!(node.unfinished(), 2);
        node.set_rate(TICKS_PER_SECOND);
        while node.unfinished() > 0 {
            thread::yield_now();
        }
        let task = client.get("/tasks?uids=1,7&limit=2").unwrap().json();
        assert_eq!(task["total"], 1);
        assert_eq!(task["results"][0]["status"], "succeeded");
        assert_eq!(task["results"][0]["customMetadata"], "m-1");
    }
}
