//! Stub nodes: they answer a search at once, so what is left of a request's time is Miroir's own.
//!
//! A stub knows just enough of Meilisearch for an index to be created in front of it: tasks that
//! have succeeded when they are asked about, and settings that can be read back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::http_server::{Listener, Respond};

/// Hits of a canned answer.
const HITS: usize = 20;

/// A running stub; stops when dropped.
#[derive(Debug)]
pub(crate) struct Stub {
    listener: Listener,
    state: Arc<State>,
}

/// Bodies that a stub answers with, by what the request asks for.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// Pages of a search, by its `q`.
    pub(crate) searches: HashMap<String, String>,
    /// Documents, by their id.
    pub(crate) documents: HashMap<String, String>,
}

#[derive(Debug, Default)]
struct State {
    tasks: AtomicU64,
    asked: AtomicU64,
    settings: Mutex<Map<String, Value>>,
    /// The answer to any search and any read of a document; `None` where they are recorded.
    canned: Option<String>,
    recorded: Recorded,
}

impl Stub {
    /// Starts a stub whose hits have ids and scores of their own.
    pub(crate) fn start(number: usize) -> Outcome<Self> {
        let canned = Some(answer(number).to_string());
        Self::serve(State { canned, ..State::default() })
    }

    /// Starts a stub that answers what was recorded, and 404 to anything else.
    pub(crate) fn replay(recorded: Recorded) -> Outcome<Self> {
        Self::serve(State { recorded, ..State::default() })
    }

    /// Searches and reads of documents that it was asked for since it runs.
    pub(crate) fn asked(&self) -> u64 {
        self.state.asked.load(Ordering::Relaxed)
    }

    fn serve(state: State) -> Outcome<Self> {
        let state = Arc::new(state);
        let listener = Listener::start(Arc::clone(&state) as Arc<dyn Respond>)?;
        Ok(Self { listener, state })
    }

    /// Base address.
    pub(crate) fn url(&self) -> &str {
        &self.listener.url
    }
}

impl Respond for State {
    fn respond(&self, method: &str, target: &str, body: &[u8]) -> (u16, String) {
        respond(method, target, body, self)
    }
}

/// A page of hits as a node ranks them for two words.
fn answer(number: usize) -> Value {
    let hits: Vec<Value> = (0..HITS)
        .map(|rank| {
            let words = 2 - rank / 15;
            let typos = rank / 5 % 3;
            json!({
                "id": format!("doc-{number}-{rank}"),
                "title": format!("Document {rank} of stub {number}"),
                "description": "A few words, as many as the description of a product often has, \
                                so that an answer is about as large as a real one.",
                "price": 10 + rank,
                "_rankingScore": 1.0 - rank as f64 / 40.0,
                "_rankingScoreDetails": {
                    "words": { "order": 0, "matchingWords": words, "maxMatchingWords": 2,
                               "score": words as f64 / 2.0 },
                    "typo": { "order": 1, "typoCount": typos, "maxTypoCount": 3,
                              "score": (4 - typos) as f64 / 4.0 },
                    "proximity": { "order": 2, "score": 1.0 - rank as f64 / 50.0 },
                },
            })
        })
        .collect();
    json!({
        "hits": hits, "query": "two words", "processingTimeMs": 0, "limit": HITS, "offset": 0,
        "estimatedTotalHits": 1_000, "requestUid": "00000000-0000-0000-0000-000000000000",
    })
}

fn respond(method: &str, target: &str, body: &[u8], state: &State) -> (u16, String) {
    let path = target.split('?').next().unwrap_or_default();
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let task = || {
        let uid = state.tasks.fetch_add(1, Ordering::Relaxed);
        let task = json!({ "taskUid": uid, "indexUid": segments.get(1), "status": "enqueued",
                           "type": "settingsUpdate", "enqueuedAt": TIME });
        (202, task.to_string())
    };
    match (method, segments.as_slice()) {
        ("POST", ["indexes", _, "search"]) => {
            state.asked.fetch_add(1, Ordering::Relaxed);
            match &state.canned {
                Some(page) => (200, page.clone()),
                None => {
                    let body: Value = serde_json::from_slice(body).unwrap_or_default();
                    let q = body["q"].as_str().unwrap_or_default();
                    let (status, page) = replayed(&state.recorded.searches, q);
                    (status, part(page, &body))
                }
            }
        }
        ("GET", ["indexes", _, "documents", id]) => {
            state.asked.fetch_add(1, Ordering::Relaxed);
            match &state.canned {
                Some(_) => {
                    (200, json!({ "id": id, "title": "A document", "price": 12 }).to_string())
                }
                None => replayed(&state.recorded.documents, id),
            }
        }
        ("GET", ["health"]) => (200, json!({ "status": "available" }).to_string()),
        ("GET", ["version"]) => {
            let version = json!({ "commitSha": "", "commitDate": "", "pkgVersion": "1.50.0" });
            (200, version.to_string())
        }
        ("GET", ["tasks", uid]) => {
            let uid = uid.parse::<u64>().unwrap_or(0);
            (200, finished(uid).to_string())
        }
        ("GET", ["tasks"]) => {
            let named = target.split(['?', '&']).find_map(|part| part.strip_prefix("uids="));
            let named: Option<Vec<u64>> =
                named.map(|list| list.split(',').filter_map(|uid| uid.parse().ok()).collect());
            let all: Vec<Value> = (0..state.tasks.load(Ordering::Relaxed))
                .rev()
                .filter(|uid| named.as_ref().is_none_or(|named| named.contains(uid)))
                .map(finished)
                .collect();
            let page = json!({ "results": all, "total": all.len(), "limit": all.len(),
                               "from": null, "next": null });
            (200, page.to_string())
        }
        ("GET", ["indexes", _, "settings"] | ["experimental-features"]) => {
            let settings = state.settings.lock().map(|map| Value::Object(map.clone()));
            (200, settings.unwrap_or_default().to_string())
        }
        ("PATCH", ["experimental-features"]) => (200, String::from_utf8_lossy(body).into_owned()),
        ("PATCH", ["indexes", _, "settings"]) => {
            if let (Ok(Value::Object(new)), Ok(mut all)) =
                (serde_json::from_slice(body), state.settings.lock())
            {
                all.extend(new);
            }
            task()
        }
        ("GET", ["indexes", uid]) => {
            let index = json!({ "uid": uid, "primaryKey": "id", "createdAt": TIME,
                                "updatedAt": TIME });
            (200, index.to_string())
        }
        _ => task(),
    }
}

fn replayed(recorded: &HashMap<String, String>, key: &str) -> (u16, String) {
    match recorded.get(key) {
        Some(body) => (200, body.clone()),
        None => (404, json!({ "message": format!("nothing is recorded for `{key}`") }).to_string()),
    }
}

/// What is asked for of a recorded page: from a hit on, or some of the fields only.
fn part(page: String, asked: &Value) -> String {
    let fields = asked["attributesToRetrieve"].as_array();
    let (from, limit) = (asked["offset"].as_u64(), asked["limit"].as_u64());
    if fields.is_none() && from.is_none() {
        return page;
    }
    let mut page: Value = serde_json::from_str(&page).unwrap_or_default();
    let Some(hits) = page["hits"].as_array_mut() else { return page.to_string() };
    let from = (from.unwrap_or(0) as usize).min(hits.len());
    hits.drain(..from);
    hits.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
    if let Some(fields) = fields {
        for hit in hits.iter_mut().filter_map(Value::as_object_mut) {
            hit.retain(|name, _| {
                name.starts_with("_ranking") || fields.iter().any(|field| field == name)
            });
        }
    }
    page.to_string()
}

const TIME: &str = "2025-01-01T00:00:00Z";

fn finished(uid: u64) -> Value {
    json!({
        "uid": uid, "batchUid": uid, "indexUid": "bench", "status": "succeeded",
        "type": "settingsUpdate", "canceledBy": null, "details": null, "error": null,
        "duration": "PT0.001S", "enqueuedAt": TIME, "startedAt": TIME, "finishedAt": TIME,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Client;

    #[test]
    fn a_replaying_stub_answers_what_was_recorded_and_counts_it() {
        let recorded = Recorded {
            searches: [("x".to_owned(), r#"{"hits":[]}"#.to_owned())].into(),
            documents: [("7".to_owned(), r#"{"id":7}"#.to_owned())].into(),
        };
        let stub = Stub::replay(recorded).unwrap();
        let mut client = Client::new(stub.url(), "key");
        let mut search =
            |q: &str| client.json("POST", "/indexes/a/search", &json!({ "q": q })).unwrap().status;
        assert_eq!((search("x"), search("y")), (200, 404));
        assert_eq!(client.get("/indexes/a/documents/7").unwrap().json(), json!({ "id": 7 }));
        assert_eq!(client.get("/health").unwrap().status, 200);
        assert_eq!(stub.asked(), 3);
    }

    #[test]
    fn answers_over_one_connection_and_stops() {
        let stub = Stub::start(0).unwrap();
        let mut client = Client::new(stub.url(), "key");
        let answer = client.json("POST", "/indexes/a/search", &json!({ "q": "x" })).unwrap();
        assert_eq!(answer.json()["hits"].as_array().unwrap().len(), HITS);
        let body = json!({ "pagination": { "maxTotalHits": 5 } });
        assert_eq!(client.json("PATCH", "/indexes/a/settings", &body).unwrap().status, 202);
        assert_eq!(client.get("/indexes/a/settings").unwrap().json(), body);
        assert_eq!(client.get("/tasks/0").unwrap().json()["status"], "succeeded");
        let url = stub.url().to_owned();
        drop(stub);
        // The one connection that woke the accepting thread is gone; nobody accepts another.
        let refused = crate::guard::wait_until(std::time::Duration::from_secs(30), || {
            Ok(Client::new(&url, "").get("/health").is_err())
        });
        assert!(refused.unwrap());
    }
}
