//! An actor that has a family of indexes for itself: it makes, fills, swaps, renames, deletes and
//! re-creates them, changes their settings and keys, and cancels and deletes tasks, many of these at
//! once and nothing waited for. In between, when all tasks have ended, each index must look as on
//! one plain node that did the same in the order of the task numbers.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use miroir_test::faults::Rng;
use miroir_test::oracle::{self, Oracle};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::run::Run;

/// Time in which every task must have ended.
const PATIENCE: Duration = Duration::from_mins(3);

/// What one workshop is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workshop {
    /// Number of names.
    pub(super) family: u64,
    /// The most requests sent at once.
    pub(super) burst: u64,
    /// Nodes are well: nothing may be refused or degraded.
    pub(super) strict: bool,
    /// Whether requests about one index overlap with those that change its name or make it.
    pub(super) overlaps: bool,
    /// Whether tasks are canceled and deleted.
    pub(super) cancels: bool,
}

/// A request and what came of it.
struct Done {
    what: &'static str,
    method: Method,
    path: String,
    body: Value,
    task: Option<u64>,
    answer: String,
}

struct Bench {
    settings: Workshop,
    oracle: Oracle,
    names: Vec<String>,
    told: String,
}

impl Bench {
    fn new(settings: Workshop, generation: u64) -> Self {
        let names = (0..settings.family).map(|at| format!("f{generation}-{at}")).collect();
        Self { settings, oracle: Oracle::default(), names, told: String::new() }
    }

    fn name(&self, rng: &mut Rng) -> &str {
        &self.names[rng.below(self.names.len() as u64) as usize]
    }
}

fn request(bench: &Bench, rng: &mut Rng, version: u64) -> (&'static str, Method, String, Value) {
    let (a, mut b) = (bench.name(rng).to_owned(), bench.name(rng).to_owned());
    while b == a {
        b = bench.name(rng).to_owned();
    }
    let index = format!("/indexes/{a}");
    let documents = format!("{index}/documents");
    let id = |rng: &mut Rng| format!("d{}", rng.below(6));
    match rng.below(24) {
        0..=5 => {
            let body = json!([
                {"id": id(rng), "v": version, "text": "word", "secret": "s"},
                {"id": id(rng), "v": version, "kind": "k"},
            ]);
            ("documents", Method::POST, format!("{documents}?primaryKey=id"), body)
        }
        6 | 7 => {
            let body = json!([{"id": id(rng), "u": version}]);
            ("update", Method::PUT, format!("{documents}?primaryKey=id"), body)
        }
        8 => ("deletion", Method::DELETE, format!("{documents}/{}", id(rng)), Value::Null),
        9 => {
            let body = json!({"filter": "kind = k"});
            ("deletion by filter", Method::POST, format!("{documents}/delete"), body)
        }
        10 => ("clear", Method::DELETE, documents, Value::Null),
        11 | 12 => {
            let body = json!({"uid": a, "primaryKey": "id"});
            ("creation", Method::POST, "/indexes".to_owned(), body)
        }
        13 | 14 => ("index deletion", Method::DELETE, index, Value::Null),
        15 | 16 => {
            let body = json!([{"indexes": [a, b]}]);
            ("swap", Method::POST, "/swap-indexes".to_owned(), body)
        }
        17 => {
            let body = json!([{"indexes": [a, b], "rename": true}]);
            ("rename by swap", Method::POST, "/swap-indexes".to_owned(), body)
        }
        18 => ("rename", Method::PATCH, index, json!({"uid": b})),
        19 => ("primary key", Method::PATCH, index, json!({"primaryKey": "id"})),
        20 | 21 => {
            let shown = if rng.below(2) == 0 { json!(["id", "v"]) } else { json!(["*"]) };
            let body = json!({"displayedAttributes": shown, "stopWords": [format!("w{version}")]});
            ("settings", Method::PATCH, format!("{index}/settings"), body)
        }
        _ => {
            let body = json!({"filterableAttributes": ["kind"]});
            ("filterable", Method::PATCH, format!("{index}/settings"), body)
        }
    }
}

impl Run {
    /// See the module's documentation.
    pub(super) async fn workshop(self: Arc<Self>, settings: Workshop, mut rng: Rng) {
        let mut generation = 0;
        let mut bench = Bench::new(settings, generation);
        while Instant::now() < self.until {
            sleep(rng.between(Duration::from_millis(100), Duration::from_secs(4))).await;
            if !self.burst(&mut bench, &mut rng).await {
                // Nobody knows what came of a request: these names are left alone from here on.
                generation += 1;
                bench = Bench::new(settings, generation);
                self.fired("workshop abandoned");
            }
        }
    }

    /// Sends some requests at once, waits for all, and compares. Whether it is known what came of
    /// each.
    async fn burst(&self, bench: &mut Bench, rng: &mut Rng) -> bool {
        let count = 1 + rng.below(bench.settings.burst);
        let spread = Duration::from_millis([0, 2, 20, 300][rng.below(4) as usize]);
        let mut requests = Vec::new();
        for _ in 0..count {
            let version = self.next_version();
            let after = rng.between(Duration::ZERO, spread);
            requests.push((after, request(bench, rng, version)));
        }
        let (cluster, overlaps) = (&self.cluster, bench.settings.overlaps);
        let send = async |(after, (what, method, path, body)): (Duration, _)| {
            let (method, path, body): (Method, String, Value) = (method, path, body);
            sleep(after).await;
            let sent = (!body.is_null()).then(|| body.clone());
            let answer = cluster.request(method.clone(), &path, sent).await;
            let task = answer.body["taskUid"].as_u64().filter(|_| answer.status == 202);
            let answer = format!("{} {}", answer.status, answer.body);
            Done { what, method, path, body, task, answer }
        };
        let mut done = Vec::new();
        if overlaps {
            done = join_all(requests.into_iter().map(send)).await;
        } else {
            for one in requests {
                let one = send(one).await;
                if let Some(task) = one.task {
                    let _ = cluster.wait(task, PATIENCE).await;
                }
                done.push(one);
            }
        }
        let canceled = if bench.settings.cancels { self.cancel(&done, rng).await } else { None };
        if !self.judge_answers(bench, &done) || canceled == Some(false) {
            return false;
        }
        done.sort_by_key(|one| one.task);
        for one in &done {
            self.fired(one.what);
            let Some(task) = one.task else { continue };
            let Some((status, code)) = self.ended(task).await else {
                self.history
                    .violation(format!("task {task} never ends: {} {}", one.what, one.path));
                return false;
            };
            if code.as_deref() == Some("miroir_canceled_in_part") {
                // No plain node does half of it. The client is told so, and what is left is not known.
                self.fired("canceled in part");
                return false;
            }
            let expected = match status.as_str() {
                "canceled" => status.clone(),
                _ => bench.oracle.does(&one.method, &one.path, &one.body),
            };
            let line = format!("{task} {} {} {} {status}", one.method, one.path, one.body);
            let _ = write!(bench.told, "\n    {line}");
            if status != expected {
                self.history.violation(format!(
                    "on a plain node this task is {expected}: {line}; all of them:{}",
                    bench.told
                ));
                return false;
            }
        }
        self.compare(bench).await
    }

    /// Cancels or deletes some of the tasks. `Some(false)` if nobody knows what came of it.
    async fn cancel(&self, done: &[Done], rng: &mut Rng) -> Option<bool> {
        if rng.below(3) > 0 {
            return None;
        }
        let uids: Vec<String> =
            done.iter().filter_map(|one| one.task).map(|t| t.to_string()).collect();
        if uids.is_empty() {
            return None;
        }
        let path = format!("/tasks/cancel?uids={}", uids.join(","));
        let answer = self.cluster.request(Method::POST, &path, None).await;
        self.fired("cancelation");
        if let Some(task) = answer.body["taskUid"].as_u64() {
            let _ = self.cluster.wait(task, PATIENCE).await;
        }
        Some((200..300).contains(&answer.status))
    }

    /// Whether all requests were accepted, as a plain node would.
    fn judge_answers(&self, bench: &Bench, done: &[Done]) -> bool {
        let mut known = true;
        for one in done.iter().filter(|one| one.task.is_none()) {
            known = false;
            let refused = one.answer.starts_with('4') && !one.answer.starts_with("408");
            if refused || bench.settings.strict {
                let text = format!("{} {} {}: {}", one.what, one.path, one.body, one.answer);
                self.history.violation(format!("not accepted: {text}"));
            }
        }
        known
    }

    /// The status of a task that has ended, and the code of its error.
    async fn ended(&self, task: u64) -> Option<(String, Option<String>)> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let path = format!("/tasks/{task}");
            let answer = self.cluster.request(Method::GET, &path, None).await;
            match answer.body["status"].as_str() {
                Some("enqueued" | "processing") | None => sleep(Duration::from_millis(100)).await,
                Some(status) => {
                    let code = answer.body.pointer("/error/code").and_then(Value::as_str);
                    return Some((status.to_owned(), code.map(str::to_owned)));
                }
            }
        }
        None
    }

    /// Compares each index with the plain node's.
    async fn compare(&self, bench: &Bench) -> bool {
        for name in &bench.names {
            match oracle::shown(&self.cluster, name).await {
                Ok(shown) => {
                    let expected = bench.oracle.shows(name);
                    if shown != expected {
                        self.history.violation(format!(
                            "{name} is {shown}, on a plain node {expected}; all tasks:{}",
                            bench.told
                        ));
                        return false;
                    }
                    self.fired("workshop compared");
                }
                Err(answer) if bench.settings.strict => {
                    self.history.violation(format!("{name} cannot be read: {answer}"));
                    return false;
                }
                Err(_) => self.history.degraded(),
            }
        }
        true
    }
}
