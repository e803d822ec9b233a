//! Three server processes over one Redis, under load: one is killed, one is held up, and Redis goes
//! away. Nothing that was acknowledged is lost or doubled, and no read is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use miroir_engine::EngineNode;
use miroir_test::redis::RedisServer;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::TURN;
use crate::support::{ADMIN, MASTER, NODE, eventually};

/// Documents that are there from the beginning.
const BASE: usize = 300;
/// Ids that are written again and again.
const IDS: u64 = 60;
/// Longer than a lease (3 s) and its renewal (1 s).
const HELD_UP: Duration = Duration::from_secs(6);
const PODS: usize = 3;
/// Between two turns of the workers whose work is split.
const INTERVAL: Duration = Duration::from_secs(2);

type Http = Client<HttpConnector, Full<Bytes>>;

/// Sends a request; `None` where there is no answer.
async fn ask(
    client: &Http,
    method: Method,
    base: &str,
    path: &str,
    key: &str,
    body: Option<&Value>,
) -> Option<(u16, Value)> {
    let request = Request::builder()
        .method(method)
        .uri(format!("{base}{path}"))
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(Full::from(body.map(Value::to_string).unwrap_or_default()))
        .unwrap();
    let exchange = async {
        let (head, body) = client.request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some((head.status.as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null)))
    };
    tokio::time::timeout(Duration::from_secs(35), exchange).await.ok()?
}

/// One pod: a process that can be started again at the same place.
struct Pod {
    name: String,
    base: String,
    config: PathBuf,
    log: PathBuf,
    child: Child,
}

fn start(name: &str, config: &Path, log: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    Command::new(env!("CARGO_BIN_EXE_miroir-server"))
        .env_clear()
        .env("MIROIR_MASTER_KEY", MASTER)
        .env("MIROIR_NODE_MASTER_KEY", NODE)
        .env("MIROIR_ADMIN_API_KEY", ADMIN)
        .env("POD_NAME", name)
        .arg("--config")
        .arg(config)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

impl Pod {
    fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let status = std::process::Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(status.unwrap().success());
    }

    /// The fences of the terms it has begun.
    fn terms(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let begun = text.lines().filter(|line| line.contains("\"took over\""));
        begun
            .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["fence"].as_u64())
            .collect()
    }
}

struct Deployment {
    pods: Vec<Pod>,
    nodes: Vec<EngineNode>,
    redis: RedisServer,
    client: Http,
    directory: tempfile::TempDir,
}

fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Deployment {
    async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(EngineNode::start_temp(NODE).await.unwrap());
        }
        let redis = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
        let directory = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..PODS).map(|number| format!("pod-{number}")).collect();
        let list: Vec<Value> = nodes
            .iter()
            .enumerate()
            .map(|(at, node)| json!({"id": format!("node-{at}"), "address": node.url()}))
            .collect();
        let mut pods = Vec::new();
        for name in &names {
            let (client, metrics) = (port(), port());
            let config = directory.path().join(format!("{name}.yaml"));
            let settings = json!({"miroir": {
                "shards": 8, "replication_factor": 2, "nodes": list,
                "server": {"bind": "127.0.0.1", "port": client, "metrics_port": metrics},
                "task_store": {"backend": "redis", "url": redis.url(), "response_timeout_ms": 1000},
                "leader_election": {"lease_ttl_s": 3, "renew_interval_s": 1},
                "peer_discovery": {"peers": names, "refresh_interval_s": 1},
                "settings_drift_check": {"interval_s": INTERVAL.as_secs()},
                "task_registry": {"prune_interval_s": INTERVAL.as_secs()},
            }});
            std::fs::write(&config, settings.to_string()).unwrap();
            let log = directory.path().join(format!("{name}.log"));
            pods.push(Pod {
                child: start(name, &config, &log),
                name: name.clone(),
                base: format!("http://127.0.0.1:{client}"),
                config,
                log,
            });
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        let this = Self { pods, nodes, redis, client, directory };
        for pod in &this.pods {
            this.ready(pod).await;
        }
        this
    }

    async fn ready(&self, pod: &Pod) {
        eventually(async || {
            let answer =
                ask(&self.client, Method::GET, &pod.base, "/_miroir/ready", "", None).await;
            answer.is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    async fn ask(
        &self,
        pod: usize,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let base = &self.pods[pod].base;
        ask(&self.client, method, base, path, MASTER, body).await.expect("an answer")
    }

    /// Waits for the end of a task, asking this pod.
    async fn end_of(&self, pod: usize, task: u64) -> String {
        let mut status = String::new();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_mins(1) {
            let (_, task) = self.ask(pod, Method::GET, &format!("/tasks/{task}"), None).await;
            task["status"].as_str().unwrap_or_default().clone_into(&mut status);
            if matches!(status.as_str(), "succeeded" | "failed" | "canceled") {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        status
    }

    async fn apply(&self, pod: usize, method: Method, path: &str, body: Value) {
        let (status, answer) = self.ask(pod, method, path, Some(&body)).await;
        assert_eq!(status, 202, "{answer}");
        let end = self.end_of((pod + 1) % PODS, answer["taskUid"].as_u64().unwrap()).await;
        assert_eq!(end, "succeeded", "{path}");
    }

    /// How many items a worker has on a pod, and how many it has worked on so far.
    async fn share(&self, pod: usize, worker: &str) -> (u64, u64) {
        let request = Request::get(format!("{}/_miroir/metrics", self.pods[pod].base))
            .header("authorization", format!("Bearer {ADMIN}"))
            .body(Full::default())
            .unwrap();
        let body = self.client.request(request).await.unwrap().into_body();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body);
        let value = |family: &str, more: &str| {
            let start = format!("{family}{{worker=\"{worker}\"{more}}} ");
            let found = text.lines().find_map(|line| line.strip_prefix(&start));
            found.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
        };
        let worked = value("miroir_worker_items_total", ",outcome=\"ok\"");
        (value("miroir_worker_owned_items", ""), worked)
    }

    async fn shares(&self, pods: &[usize], worker: &str) -> Vec<(u64, u64)> {
        let mut shares = Vec::new();
        for pod in pods {
            shares.push(self.share(*pod, worker).await);
        }
        shares
    }

    /// Which pod began the newest term.
    fn leader(&self) -> Option<(usize, u64)> {
        let terms = self.pods.iter().enumerate();
        let newest = terms.filter_map(|(at, pod)| Some((at, pod.terms().into_iter().max()?)));
        newest.max_by_key(|(_, fence)| *fence)
    }

    async fn next_leader(&self, after: u64) -> (usize, u64) {
        eventually(async || self.leader().is_some_and(|(_, fence)| fence > after)).await;
        self.leader().unwrap()
    }
}

#[derive(Default)]
struct Entry {
    acknowledged: Option<u64>,
    open: BTreeSet<u64>,
}

/// What clients did and saw.
#[derive(Default)]
struct Clients {
    stop: AtomicBool,
    version: AtomicU64,
    ledger: Mutex<BTreeMap<String, Entry>>,
    tasks: Mutex<Vec<u64>>,
    reads: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

/// Reads what was there from the beginning: all of it has to be there, always.
async fn read(clients: Arc<Clients>, client: Http, bases: Vec<String>, number: usize) {
    let mut turn = number;
    while !clients.stop.load(Ordering::Relaxed) {
        turn += 1;
        let base = &bases[turn % bases.len()];
        let (answer, right) = if turn.is_multiple_of(3) {
            let path = format!("/indexes/chaos/documents/base-{}", turn * 7 % BASE);
            let answer = ask(&client, Method::GET, base, &path, MASTER, None).await;
            let right = answer.as_ref().is_none_or(|(_, body)| body["origin"] == "base");
            (answer, right)
        } else {
            let body = json!({"q": "word", "filter": "origin = base", "hitsPerPage": 3});
            let path = "/indexes/chaos/search";
            let answer = ask(&client, Method::POST, base, path, MASTER, Some(&body)).await;
            let right = answer.as_ref().is_none_or(|(_, body)| body["totalHits"] == BASE);
            (answer, right)
        };
        match answer {
            Some((200, _)) if right => {
                clients.reads.fetch_add(1, Ordering::Relaxed);
            }
            // A pod that is out of touch says so.
            Some((503, _)) | None => {}
            Some((status, body)) => {
                clients.wrong.lock().unwrap().push(format!("{status} {body}"));
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Writes batches, each until it is acknowledged.
async fn write(clients: Arc<Clients>, client: Http, bases: Vec<String>, number: u64) {
    while !clients.stop.load(Ordering::Relaxed) {
        let version = clients.version.fetch_add(1, Ordering::Relaxed) + 1;
        let ids: Vec<String> =
            (0..4).map(|at| format!("w{number}-{}", (version * 13 + at) % IDS)).collect();
        for id in &ids {
            clients.ledger.lock().unwrap().entry(id.clone()).or_default().open.insert(version);
        }
        let documents: Value = ids
            .iter()
            .map(|id| json!({"id": id, "version": version, "origin": "late", "text": "word"}))
            .collect();
        for attempt in 0.. {
            let base = &bases[(version as usize + attempt) % bases.len()];
            let path = "/indexes/chaos/documents";
            let answer = ask(&client, Method::POST, base, path, MASTER, Some(&documents)).await;
            if let Some((202, task)) = answer {
                clients.tasks.lock().unwrap().push(task["taskUid"].as_u64().unwrap());
                let mut ledger = clients.ledger.lock().unwrap();
                for id in &ids {
                    let entry = ledger.get_mut(id).unwrap();
                    entry.acknowledged = Some(version);
                    entry.open.retain(|open| *open > version);
                }
                break;
            }
            if clients.stop.load(Ordering::Relaxed) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        sleep(Duration::from_millis(30)).await;
    }
}

/// Compares what the nodes hold with what was acknowledged.
async fn compare(all: &Deployment, clients: &Clients) {
    let mut held: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for node in &all.nodes {
        let path = "/indexes/chaos/documents/fetch";
        let body = json!({"limit": 100_000});
        let (status, page) =
            ask(&all.client, Method::POST, &node.url(), path, NODE, Some(&body)).await.unwrap();
        assert_eq!(status, 200, "{page}");
        for document in page["results"].as_array().unwrap() {
            let id = document["id"].as_str().unwrap().to_owned();
            held.entry(id).or_default().push(document.clone());
        }
    }
    let ledger = clients.ledger.lock().unwrap();
    for (id, entry) in &*ledger {
        let copies = held.remove(id).unwrap_or_default();
        if copies.is_empty() && entry.acknowledged.is_none() {
            continue;
        }
        assert_eq!(copies.len(), 2, "{id}: {copies:?}");
        assert_eq!(copies[0], copies[1], "{id}");
        let version = copies[0]["version"].as_u64();
        let right =
            version == entry.acknowledged || version.is_some_and(|v| entry.open.contains(&v));
        assert!(right, "{id} is {version:?}, acknowledged {:?}", entry.acknowledged);
    }
    for (id, copies) in held {
        assert!(id.starts_with("base-") && copies.len() == 2, "{id}: {copies:?}");
    }
}

/// Each item of split work is one pod's, once per interval, and a dead pod's items are others' soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn work_is_split_and_a_dead_pods_share_moves() {
    const INDEXES: u64 = 9;
    /// Tasks, sessions, keys.
    const REGISTRIES: u64 = 3;
    let _turn = TURN.lock().await;
    let mut all = Deployment::start().await;
    for index in 0..INDEXES {
        all.apply(0, Method::POST, "/indexes", json!({"uid": format!("index-{index}")})).await;
    }
    let workers = [("settings_drift_check", INDEXES), ("task_pruner", REGISTRIES)];
    let everybody = [0, 1, 2];
    for (worker, items) in workers {
        eventually(async || {
            let shares = all.shares(&everybody, worker).await;
            shares.iter().map(|(owned, _)| owned).sum::<u64>() == items
        })
        .await;
    }
    // Turns come after nine to ten tenths of an interval: five of them in ten seconds.
    let mut before = Vec::new();
    for (worker, _) in workers {
        before.push(all.shares(&everybody, worker).await);
    }
    sleep(INTERVAL * 5).await;
    for ((worker, items), before) in workers.into_iter().zip(before) {
        let after = all.shares(&everybody, worker).await;
        assert_eq!(after.iter().map(|(owned, _)| owned).sum::<u64>(), items, "{worker}: {after:?}");
        for ((owned, worked), (_, earlier)) in after.iter().zip(&before) {
            let turns = worked - earlier;
            let fits = owned * 4 <= turns && turns <= owned * 6;
            assert!(fits, "{worker}: {turns} turns of {owned} items, {before:?} {after:?}");
        }
        let turns = |shares: &[(u64, u64)]| shares.iter().map(|(_, worked)| worked).sum::<u64>();
        let once = turns(&after) - turns(&before);
        assert!(items * 4 <= once && once <= items * 6, "{worker}: {once} turns of {items} items");
    }

    let (leader, _) = all.leader().unwrap();
    let dead = (leader + 1) % PODS;
    all.pods[dead].child.kill().await.unwrap();
    let begun = Instant::now();
    let left: Vec<usize> = everybody.into_iter().filter(|pod| *pod != dead).collect();
    for (worker, items) in workers {
        eventually(async || {
            let shares = all.shares(&left, worker).await;
            shares.iter().map(|(owned, _)| owned).sum::<u64>() == items
        })
        .await;
    }
    // Its last word (3 s) has to run out, two looks at the list (1 s each), and a turn (2 s); the
    // machine may be busy with other tests.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pods_die_are_held_up_and_lose_their_store() {
    let _turn = TURN.lock().await;
    let mut all = Deployment::start().await;
    let settings = json!({"filterableAttributes": ["origin"]});
    all.apply(0, Method::PATCH, "/indexes/chaos/settings", settings).await;
    let base: Value = (0..BASE)
        .map(|number| {
            json!({"id": format!("base-{number}"), "version": 0, "origin": "base", "text": "word"})
        })
        .collect();
    all.apply(1, Method::POST, "/indexes/chaos/documents", base).await;

    let clients = Arc::<Clients>::default();
    let bases: Vec<String> = all.pods.iter().map(|pod| pod.base.clone()).collect();
    let mut running = Vec::new();
    for number in 0..3 {
        let (clients, client) = (Arc::clone(&clients), all.client.clone());
        running.push(tokio::spawn(read(clients, client, bases.clone(), number)));
    }
    for number in 0..2 {
        let (clients, client) = (Arc::clone(&clients), all.client.clone());
        running.push(tokio::spawn(write(clients, client, bases.clone(), number)));
    }
    sleep(Duration::from_secs(2)).await;

    let (dead, first) = all.leader().unwrap();
    all.pods[dead].child.kill().await.unwrap();
    let (held_up, second) = all.next_leader(first).await;
    assert_ne!(held_up, dead);
    sleep(Duration::from_secs(1)).await;

    all.pods[held_up].signal("STOP");
    sleep(HELD_UP).await;
    let (third_pod, _) = all.next_leader(second).await;
    assert!(third_pod != dead && third_pod != held_up);
    all.pods[held_up].signal("CONT");
    let pod = &mut all.pods[dead];
    pod.child = start(&pod.name, &pod.config, &pod.log);
    all.ready(&all.pods[dead]).await;
    sleep(Duration::from_secs(1)).await;

    all.redis.kill();
    sleep(Duration::from_secs(5)).await;
    all.redis.start_again();
    let before = clients.tasks.lock().unwrap().len();
    eventually(async || clients.tasks.lock().unwrap().len() > before + 3).await;
    clients.stop.store(true, Ordering::Relaxed);
    for task in running {
        task.await.unwrap();
    }

    let wrong = clients.wrong.lock().unwrap().clone();
    assert!(wrong.is_empty(), "{} wrong reads: {:?}", wrong.len(), wrong.first());
    let reads = clients.reads.load(Ordering::Relaxed);
    assert!(reads > 100, "{reads} reads");
    let tasks = clients.tasks.lock().unwrap().clone();
    assert_eq!(tasks.iter().collect::<BTreeSet<_>>().len(), tasks.len(), "a uid was given twice");
    for (at, task) in tasks.iter().enumerate() {
        assert_eq!(all.end_of(at % PODS, *task).await, "succeeded", "task {task}");
    }
    // No replica has anything to catch up, and nothing is under way.
    for pod in 0..PODS {
        eventually(async || {
            let path = "/tasks?statuses=enqueued,processing&limit=1";
            let (status, open) = all.ask(pod, Method::GET, path, None).await;
            let base = &all.pods[pod].base;
            let replicas = ask(&all.client, Method::GET, base, "/_miroir/replicas", ADMIN, None);
            let stale = replicas.await.map(|(_, body)| body["stale"].clone());
            status == 200 && open["total"] == 0 && stale == Some(json!([]))
        })
        .await;
    }
    compare(&all, &clients).await;
    let mut lists = BTreeSet::new();
    for pod in 0..PODS {
        lists.insert(all.ask(pod, Method::GET, "/tasks?limit=1000", None).await.1.to_string());
    }
    assert_eq!(lists.len(), 1, "pods list other tasks");
    let base = &all.pods[third_pod].base;
    let (_, view) =
        ask(&all.client, Method::GET, base, "/_miroir/pods", ADMIN, None).await.unwrap();
    let listed = view["pods"].as_array().unwrap();
    let names: BTreeSet<&str> = listed.iter().filter_map(|pod| pod["pod"].as_str()).collect();
    assert_eq!(names, BTreeSet::from(["pod-0", "pod-1", "pod-2"]), "{view}");
    assert_eq!(listed.iter().filter(|pod| pod["leads"] == true).count(), 1, "{view}");
    // Every term had a token of its own.
    let terms: Vec<u64> = all.pods.iter().flat_map(Pod::terms).collect();
    assert_eq!(terms.iter().collect::<BTreeSet<_>>().len(), terms.len(), "{terms:?}");
    drop(all.directory);
}
