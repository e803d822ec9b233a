//! A run, and the clients that write and read documents of the index `main`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use miroir_core::lock::Lock;
use miroir_test::cluster::{Answer, SimCluster};
use miroir_test::faults::Rng;
use miroir_test::history::History;
use miroir_test::node::Fired;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Clients of a run.
pub(super) const CLIENTS: usize = 4;
const IDS: u64 = 12;
/// How often what a run needs before it begins is asked for again, and how much later.
const TRIES: usize = 20;
const AGAIN: Duration = Duration::from_secs(1);
/// What tasks fail with on a node whose disk is full.
pub(super) const FULL: &str = "no_space_left_on_device";
/// What tasks fail with that every node has forgotten.
pub(super) const UNKNOWN: &str = "miroir_outcome_unknown";

/// One run: the cluster, what its clients know, and what happened.
pub(super) struct Run {
    /// The cluster.
    pub(super) cluster: SimCluster,
    /// What clients did and saw.
    pub(super) history: History,
    version: AtomicU64,
    fired: Lock<Fired>,
    /// When clients stop.
    pub(super) until: Instant,
    /// What a task that was acknowledged may fail with, for a reason of the nodes' own.
    pub(super) may_fail: Option<&'static str>,
    /// Whether the store goes back to what it was, and gives uids of tasks again.
    pub(super) goes_back: bool,
    /// Bytes by which documents are longer than they need be.
    pub(super) pad: usize,
}

impl Run {
    /// A run that ends some time from now.
    pub(super) fn new(cluster: SimCluster, until: Instant) -> Self {
        Self {
            cluster,
            history: History::default(),
            version: AtomicU64::new(1),
            fired: Lock::default(),
            until,
            may_fail: None,
            goes_back: false,
            pad: 0,
        }
    }

    /// A value that nobody has written.
    pub(super) fn next_version(&self) -> u64 {
        self.version.fetch_add(1, Ordering::Relaxed)
    }

    /// Something happened.
    pub(super) fn fired(&self, what: &'static str) {
        *self.fired.lock().entry(what).or_default() += 1;
    }

    /// How often everything happened, here and on the nodes.
    pub(super) fn all_fired(&self) -> Fired {
        let mut all = self.fired.lock().clone();
        for (what, count) in self.cluster.fired() {
            *all.entry(what).or_default() += count;
        }
        all
    }

    /// Sends a request whose task must succeed. It may be refused at first: calls may be late already.
    pub(super) async fn must(&self, method: Method, path: &str, body: Value) {
        let mut answer = self.cluster.request(method.clone(), path, Some(body.clone())).await;
        for _ in 0..TRIES {
            if answer.status < 500 {
                break;
            }
            sleep(AGAIN).await;
            answer = self.cluster.request(method.clone(), path, Some(body.clone())).await;
        }
        assert_eq!(answer.status, 202, "{path}: {}", answer.body);
        let task = answer.body["taskUid"].as_u64().unwrap();
        let status = self.cluster.wait(task, Duration::from_secs(30)).await;
        assert_eq!(status.as_deref(), Some("succeeded"), "{path}");
    }

    /// One client: writes its own ids, one write after the other, and reads what it likes.
    pub(super) async fn client(self: Arc<Self>, number: usize, mut rng: Rng) {
        while Instant::now() < self.until {
            sleep(rng.between(Duration::from_millis(5), Duration::from_millis(900))).await;
            if rng.below(100) < 45 {
                self.write(number, &mut rng).await;
            } else {
                self.read(&mut rng).await;
            }
        }
    }

    async fn write(&self, number: usize, rng: &mut Rng) {
        let id = |rng: &mut Rng| format!("c{number}-{}", rng.below(IDS));
        let mut ids: Vec<String> = (0..=rng.below(5)).map(|_| id(rng)).collect();
        ids.sort();
        ids.dedup();
        let version = self.next_version();
        let document = |id: &String| {
            let text = format!("word {id}{}", "x".repeat(self.pad));
            json!({"id": id, "v": version, "owner": format!("c{number}"), "text": text})
        };
        let documents: Vec<Value> = ids.iter().map(document).collect();
        let path = "/indexes/main/documents";
        let (method, path, body, value) = match rng.below(12) {
            0..=5 => (Method::POST, path.to_owned(), Some(json!(documents)), Some(version)),
            6..=8 => (Method::PUT, path.to_owned(), Some(json!(documents)), Some(version)),
            9 => {
                ids.truncate(1);
                (Method::DELETE, format!("{path}/{}", ids[0]), None, None)
            }
            10 => (Method::POST, format!("{path}/delete-batch"), Some(json!(ids)), None),
            _ => {
                ids = (0..IDS).map(|at| format!("c{number}-{at}")).collect();
                let body = json!({"filter": format!("owner = 'c{number}'")});
                (Method::POST, format!("{path}/delete"), Some(body), None)
            }
        };
        let pending = self.history.begin(&ids, value);
        let answer = self.cluster.request(method, &path, body).await;
        if answer.status != 202 {
            if (400..500).contains(&answer.status) {
                self.history.violation(format!("{path} was refused: {}", answer.body));
            }
            self.history.unknown(pending);
            return;
        }
        self.history.acknowledged(&pending);
        let Some(task) = answer.body["taskUid"].as_u64() else {
            return self.history.violation("a task without a uid");
        };
        if rng.below(3) > 0 {
            let Some(ended) = self.cluster.ended(task, Duration::from_secs(5)).await else {
                return;
            };
            if ended["enqueuedAt"] != answer.body["enqueuedAt"] {
                return self.given_again(&answer.body, &ended);
            }
            if ended["status"] == "succeeded" {
                return self.history.confirmed(&pending);
            }
            if self.may_fail.is_some_and(|code| ended["error"]["code"] == code) {
                self.fired("task failed for the nodes' own reason");
                return self.history.failed(&pending);
            }
            self.history.violation(format!("acknowledged, then failed: {ended}"));
        }
    }

    /// A uid is another task's than it was. A store that went back does not know whom it gave it to,
    /// and how that one ends is not told to anybody: nothing is promised of such a task. Its
    /// documents are on the nodes.
    fn given_again(&self, first: &Value, then: &Value) {
        if self.goes_back {
            self.fired("uid given again");
        } else {
            self.history.violation(format!("a uid was given twice: {first} is now {then}"));
        }
    }

    async fn read(&self, rng: &mut Rng) {
        let floor = self.history.floor();
        match rng.below(3) {
            0 => {
                let id = format!("c{}-{}", rng.below(CLIENTS as u64), rng.below(IDS));
                let path = format!("/indexes/main/documents/{id}");
                let answer = self.cluster.request(Method::GET, &path, None).await;
                if answer.complete() || answer.code() == "document_not_found" {
                    let value = answer.body["v"].as_u64();
                    self.history.saw("get", &floor, &id, value);
                } else {
                    self.refused("get", &answer);
                }
            }
            1 => {
                let body = json!({"limit": 1000});
                let answer = self
                    .cluster
                    .request(Method::POST, "/indexes/main/documents/fetch", Some(body))
                    .await;
                match answer.body["results"].as_array().filter(|_| answer.complete()) {
                    Some(hits) => {
                        self.history.saw_all("fetch", &floor, hits, answer.body["total"].as_u64());
                    }
                    None => self.refused("fetch", &answer),
                }
            }
            _ => {
                let query = if rng.below(2) == 0 { "" } else { "word" };
                let body = json!({"q": query, "limit": 1000});
                let answer =
                    self.cluster.request(Method::POST, "/indexes/main/search", Some(body)).await;
                match answer.body["hits"].as_array().filter(|_| answer.complete()) {
                    Some(hits) => {
                        let total = answer.body["estimatedTotalHits"].as_u64();
                        self.history.saw_all("search", &floor, hits, total);
                    }
                    None => self.refused("search", &answer),
                }
            }
        }
    }

    fn refused(&self, what: &str, answer: &Answer) {
        if (400..500).contains(&answer.status) {
            self.history.violation(format!("{what} was refused: {}", answer.body));
        }
        self.history.degraded();
    }
}
