//! Whole clusters under faults, many seeds of them, in virtual time.
//!
//! `MIROIR_SIM_SEEDS` says how many seeds to try (60 by default), `MIROIR_SIM_FIRST` where to begin.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use miroir_core::quorum::WriteQuorum;
use miroir_test::cluster::{Answer, Shape, SimCluster};
use miroir_test::faults::{Fault, Flaky, Rng, Schedule};
use miroir_test::history::{Figures, History};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

const LENGTH: Duration = Duration::from_secs(40);
const CLIENTS: usize = 4;
const IDS: u64 = 12;

fn shape(seed: u64) -> Shape {
    let (groups, rf, nodes_per_group, quorum) = match seed % 4 {
        0 => (1, 2, 3, WriteQuorum::Auto),
        1 => (2, 1, 2, WriteQuorum::Auto),
        2 => (1, 3, 3, WriteQuorum::Majority),
        _ => (2, 2, 2, WriteQuorum::Auto),
    };
    Shape { shards: 6, groups, rf, nodes_per_group, quorum }
}

struct Run {
    cluster: SimCluster,
    history: History,
    version: AtomicU64,
    until: Instant,
}

impl Run {
    async fn must(&self, method: Method, path: &str, body: Value) {
        let answer = self.cluster.request(method, path, Some(body)).await;
        assert_eq!(answer.status, 202, "{path}: {}", answer.body);
        let task = answer.body["taskUid"].as_u64().unwrap();
        let status = self.cluster.wait(task, Duration::from_secs(30)).await;
        assert_eq!(status.as_deref(), Some("succeeded"), "{path}");
    }

    /// One client: writes its own ids, one write after the other, and reads what it likes.
    async fn client(self: Arc<Self>, number: usize, mut rng: Rng) {
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
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        let documents: Vec<Value> = ids
            .iter()
            .map(|id| json!({"id": id, "v": version, "owner": format!("c{number}"), "text": format!("word {id}")}))
            .collect();
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
            match self.cluster.wait(task, Duration::from_secs(5)).await.as_deref() {
                Some("succeeded") => self.history.confirmed(&pending),
                Some(_) => {
                    let answer =
                        self.cluster.request(Method::GET, &format!("/tasks/{task}"), None).await;
                    self.history.violation(format!("acknowledged, then failed: {}", answer.body));
                }
                None => {}
            }
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

    /// Kills pods and holds them up, the one that leads more often than others.
    async fn trouble_pods(self: Arc<Self>, mut rng: Rng) {
        while Instant::now() < self.until {
            sleep(rng.between(Duration::from_secs(1), Duration::from_secs(8))).await;
            let any = rng.below(self.cluster.pods() as u64) as usize;
            let pod = match self.cluster.leader() {
                Some(leader) if rng.below(3) > 0 => leader,
                _ => any,
            };
            if rng.below(2) == 0 {
                self.cluster.restart_pod(pod).await;
                self.history.restarted();
            } else {
                self.cluster.hold_up(pod, true);
                sleep(rng.between(Duration::from_millis(200), Duration::from_secs(7))).await;
                self.cluster.hold_up(pod, false);
            }
        }
    }

    /// Changes settings, and makes and deletes an index.
    async fn operator(self: Arc<Self>, mut rng: Rng) {
        while Instant::now() < self.until {
            sleep(rng.between(Duration::from_millis(200), Duration::from_secs(6))).await;
            let answer = match rng.below(4) {
                0 | 1 => {
                    let words = [format!("w{}", rng.below(1000))];
                    let body = json!({"stopWords": words});
                    self.cluster.request(Method::PATCH, "/indexes/main/settings", Some(body)).await
                }
                2 => {
                    let body = json!([{"id": "x", "v": 0}]);
                    self.cluster.request(Method::POST, "/indexes/other/documents", Some(body)).await
                }
                _ => self.cluster.request(Method::DELETE, "/indexes/other", None).await,
            };
            if let Some(task) = answer.body["taskUid"].as_u64().filter(|_| rng.below(2) == 0) {
                let _ = self.cluster.wait(task, Duration::from_secs(3)).await;
            }
        }
    }
}

struct Options {
    shape: Shape,
    schedule: Schedule,
    restarts: bool,
    broken: bool,
    /// Several pods, which are killed and held up; 0: one process.
    pods: usize,
}

impl Options {
    fn new(seed: u64) -> Self {
        let shape = shape(seed);
        let nodes = (shape.groups * shape.nodes_per_group) as usize;
        let schedule = Schedule::random(&mut Rng::new(seed ^ 0xFA17), nodes, LENGTH);
        let restarts = seed.is_multiple_of(3);
        Self { shape, schedule, restarts, broken: false, pods: 0 }
    }

    /// Three pods. In every other run nodes are well.
    fn pods(seed: u64) -> Self {
        let mut options = Self { pods: 3, restarts: false, ..Self::new(seed) };
        if seed.is_multiple_of(2) {
            options.schedule = Schedule::default();
        }
        options
    }
}

async fn simulate(seed: u64, options: &Options) -> (Vec<String>, Figures) {
    let mut rng = Rng::new(seed);
    let cluster = match options.pods {
        0 => SimCluster::new(rng.next(), options.shape).await,
        pods => SimCluster::several(rng.next(), options.shape, pods).await,
    };
    if options.broken {
        cluster.life().lose_marks();
    }
    let start = Instant::now() + Duration::from_secs(2);
    let run = Arc::new(Run {
        cluster,
        history: History::default(),
        version: AtomicU64::new(1),
        until: start + LENGTH,
    });
    run.must(Method::POST, "/indexes", json!({"uid": "main", "primaryKey": "id"})).await;
    run.must(Method::PATCH, "/indexes/main/settings", json!({"filterableAttributes": ["owner"]}))
        .await;
    sleep_until(start).await;

    let mut jobs = Vec::new();
    for number in 0..CLIENTS {
        jobs.push(tokio::spawn(Arc::clone(&run).client(number, rng.fork())));
    }
    jobs.push(tokio::spawn(Arc::clone(&run).operator(rng.fork())));
    let (faults, events) = (Arc::clone(&run), options.schedule.events.clone());
    jobs.push(tokio::spawn(async move {
        for event in events {
            sleep_until(start + event.at).await;
            faults.cluster.nodes[event.node].suffer(event.fault);
        }
    }));
    if options.restarts {
        let (run, mut rng) = (Arc::clone(&run), rng.fork());
        jobs.push(tokio::spawn(async move {
            loop {
                sleep(rng.between(Duration::from_secs(3), Duration::from_secs(20))).await;
                if Instant::now() >= run.until {
                    return;
                }
                run.cluster.restart().await;
                run.history.restarted();
            }
        }));
    }
    if options.pods > 0 {
        jobs.push(tokio::spawn(Arc::clone(&run).trouble_pods(rng.fork())));
    }
    for job in jobs {
        job.await.unwrap();
    }
    let history = &run.history;
    if let Err(stuck) = run.cluster.quiesce(Duration::from_mins(15)).await {
        history.violation(stuck);
    }
    history.check_nodes(&run.cluster, "main");
    history.check_catalogue(&run.cluster);
    let floor = history.floor();
    let answer = run
        .cluster
        .request(Method::POST, "/indexes/main/documents/fetch", Some(json!({"limit": 1000})))
        .await;
    if answer.complete() {
        let hits = answer.body["results"].as_array().cloned().unwrap_or_default();
        history.saw_all("last fetch", &floor, &hits, answer.body["total"].as_u64());
    } else {
        history.violation(format!("a healed cluster answers {answer:?}"));
    }
    let (violations, figures) = (history.violations(), history.figures());
    run.cluster.end();
    (violations, figures)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Each seed gets a runtime of its own, so that nothing is left of the one before.
fn in_virtual_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(future)
}

#[test]
fn no_seed_breaks_a_promise() {
    try_all(number("MIROIR_SIM_SEEDS", 60), Options::new);
}

/// Several pods: `MIROIR_SIM_POD_SEEDS` seeds, 24 by default.
#[test]
fn no_seed_with_several_pods_breaks_a_promise() {
    try_all(number("MIROIR_SIM_POD_SEEDS", 24), Options::pods);
}

fn try_all(count: u64, make: impl Fn(u64) -> Options + Sync) {
    let first = number("MIROIR_SIM_FIRST", 0);
    let threads = number("MIROIR_SIM_THREADS", 2);
    let next = AtomicU64::new(first);
    let begun = std::time::Instant::now();
    let results: Vec<(u64, Vec<String>, Figures)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut out = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first + count {
                            return out;
                        }
                        let options = make(seed);
                        let (violations, figures) = in_virtual_time(simulate(seed, &options));
                        if let Some(first) = violations.first() {
                            println!("seed {seed}: {first}");
                        }
                        out.push((seed, violations, figures));
                    }
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let mut total = Figures::default();
    let mut report = String::new();
    let mut failed = 0;
    for (seed, violations, figures) in results {
        total += figures;
        if violations.is_empty() {
            continue;
        }
        failed += 1;
        if failed <= 5 {
            let options = make(seed);
            let _ = writeln!(report, "seed {seed}, {:?}", options.shape);
            for violation in violations.iter().take(12) {
                let _ = writeln!(report, "  {violation}");
            }
            let _ = writeln!(report, "faults:\n{}", options.schedule);
        } else {
            let _ = writeln!(report, "seed {seed}: {}", violations[0]);
        }
    }
    println!("{count} seeds in {:?}: {total:?}", begun.elapsed());
    assert_eq!(failed, 0, "{failed} of {count} seeds failed\n{report}");
    let all = [total.acknowledged, total.reads, total.unknown, total.degraded];
    assert!(count < 20 || all.iter().all(|figure| *figure > 0), "{total:?}");
}

/// The checker must be able to fail: with replicas that miss writes and are read all the same.
#[test]
fn a_broken_quorum_is_noticed() {
    let noticed = (0..8)
        .filter(|seed| {
            let mut options = Options::new(*seed);
            options.shape.quorum = WriteQuorum::Any;
            options.restarts = false;
            options.broken = true;
            !in_virtual_time(simulate(*seed, &options)).0.is_empty()
        })
        .count();
    assert!(noticed >= 6, "noticed in {noticed} of 8 runs");
}

/// A node that acknowledges and forgets is noticed, too.
#[test]
fn a_forgetful_node_is_noticed() {
    let (violations, _) = in_virtual_time(async {
        let cluster = SimCluster::new(1, shape(0)).await;
        cluster.nodes[0].forget(300);
        let run = Arc::new(Run {
            cluster,
            history: History::default(),
            version: AtomicU64::new(1),
            until: Instant::now() + LENGTH,
        });
        run.must(Method::POST, "/indexes", json!({"uid": "main", "primaryKey": "id"})).await;
        let _ = Arc::clone(&run).client(0, Rng::new(5)).await;
        run.cluster.quiesce(Duration::from_mins(1)).await.unwrap();
        run.history.check_nodes(&run.cluster, "main");
        (run.history.violations(), ())
    });
    assert!(violations.iter().any(|text| text.contains("lost")), "{violations:?}");
}

/// Without faults there is nothing to explain.
#[test]
fn a_healthy_cluster_is_never_degraded() {
    for seed in 0..4 {
        let options =
            Options { schedule: Schedule::default(), restarts: false, ..Options::new(seed) };
        let (violations, figures) = in_virtual_time(simulate(seed, &options));
        assert_eq!(violations, Vec::<String>::new());
        assert_eq!((figures.unknown, figures.degraded), (0, 0));
    }
}

/// A write is finished by the process that comes after the one that took it.
#[tokio::test(start_paused = true)]
async fn a_restart_finishes_what_was_enqueued() {
    let cluster = SimCluster::new(3, shape(0)).await;
    for node in &cluster.nodes {
        // Acknowledged, but not worked off before the process has gone.
        node.suffer(Fault::Flaky(Flaky::default()));
    }
    let body = json!([{"id": "a", "v": 1}, {"id": "b", "v": 1}]);
    let answer = cluster.request(Method::POST, "/indexes/main/documents", Some(body)).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let task = answer.body["taskUid"].as_u64().unwrap();
    let status = cluster.request(Method::GET, &format!("/tasks/{task}"), None).await;
    assert_eq!(status.body["status"], "enqueued");
    cluster.restart().await;
    assert_eq!(cluster.wait(task, Duration::from_secs(10)).await.as_deref(), Some("succeeded"));
    cluster.quiesce(Duration::from_secs(10)).await.unwrap();
    let answer = cluster.request(Method::GET, "/indexes/main/documents/b", None).await;
    assert_eq!((answer.status, &answer.body["v"]), (200, &json!(1)));
}
