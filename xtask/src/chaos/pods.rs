//! Three servers over one Redis, thousands of indexes and a long queue, in front of stub nodes: what
//! following the tasks costs the leader, and whether the others answer throughout.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::judge::Judge;
use super::queue_node::QueueNode;
use super::{Setting, metric, metric_of, pass};
use crate::bench::process;
use crate::cluster::{self, MASTER_KEY, Server};
use crate::guard::{self, Process, Scratch};
use crate::http::Client;
use crate::{Outcome, catalogue};

const PODS: usize = 3;
const NODES: usize = 3;
/// Indexes that the writes are spread over.
const INDEXES: usize = 2_000;
/// Connections that write, to all pods alike.
const CONNECTIONS: usize = 64;
/// Writes of which the cost of few unfinished tasks is taken: one for each index, since the work may
/// grow with the indexes that have some, and not with the tasks.
const FEW: usize = INDEXES;
/// Tasks a second that a node ends: while indexes are made, and of the queue.
const QUICK: usize = 100_000;
const RATE: usize = 5_000;
/// Seconds that the last task may end after the nodes' last.
const LATE: f64 = 10.0;
/// How long a follower may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_mins(20);

/// Servers over one Redis. Fields stop in their order.
struct Pods {
    servers: Vec<Server>,
    nodes: Vec<QueueNode>,
    _redis: Process,
    _scratch: Scratch,
}

impl Pods {
    fn start(program: &Path) -> Outcome<Self> {
        let scratch = Scratch::new("chaos", false)?;
        let port = cluster::free_port()?;
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no"])
            .current_dir(scratch.path());
        let log = scratch.path().join("redis.log");
        let mut redis = Process::start("redis-server", &mut command, &log)?;
        let listens = guard::wait_until(Duration::from_secs(20), || {
            redis.check()?;
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        })?;
        if !listens {
            return Err(redis.trouble("does not listen"));
        }
        let nodes: Vec<QueueNode> =
            (0..NODES).map(|_| QueueNode::start(QUICK)).collect::<Outcome<_>>()?;
        let urls: Vec<String> = nodes.iter().map(|node| node.url().to_owned()).collect();
        // Settings of thousands of indexes are compared by a worker of its own, at moments of its own:
        // what following tasks costs is measured without it, after its first passes.
        let store = format!(
            "{{ backend: redis, url: \"redis://127.0.0.1:{port}\" }}\n  \
             settings_drift_check: {{ interval_s: 24h }}"
        );
        let start = |number: usize| {
            let name = format!("pod-{number}");
            let dir = scratch.path().join(&name);
            std::fs::create_dir_all(&dir)?;
            Server::start_pod(program, &name, &urls, Setting::SHAPE, &store, &dir)
        };
        let servers = (0..PODS).map(start).collect::<Outcome<_>>()?;
        Ok(Self { servers, nodes, _redis: redis, _scratch: scratch })
    }

    fn check(&mut self) -> Outcome<()> {
        self.servers.iter_mut().try_for_each(Server::check)
    }

    fn leader(&self) -> Outcome<usize> {
        for (at, server) in self.servers.iter().enumerate() {
            if metric(&server.metrics_url, "miroir_leader")? > 0.0 {
                return Ok(at);
            }
        }
        Err("no pod leads".into())
    }

    /// Waits for the first pass of every pod's settings check, which comes whatever its interval is.
    fn wait_for_settings_to_be_compared(&self) -> Outcome<()> {
        let passes = "miroir_worker_pass_seconds_count";
        let compared = guard::wait_until(PATIENCE, || {
            self.servers.iter().try_fold(true, |all, server| {
                let own = metric_of(&server.metrics_url, passes, "settings_drift_check")?;
                Ok(all && own > 0.0)
            })
        })?;
        if compared { Ok(()) } else { Err("settings are still compared".into()) }
    }

    fn set_rate(&self, rate: usize) {
        self.nodes.iter().for_each(|node| node.set_rate(rate));
    }

    fn unfinished(&self) -> usize {
        self.nodes.iter().map(QueueNode::unfinished).sum()
    }
}

/// What reads of the pods that do not lead came to.
#[derive(Default)]
struct Answers {
    count: AtomicUsize,
    bad: Mutex<Vec<String>>,
    slowest: Mutex<Duration>,
}

impl Answers {
    /// Searches and reads tasks at one pod until told to stop.
    fn ask(&self, url: &str, stop: &AtomicBool) {
        let mut client = Client::new(url, MASTER_KEY).timeout(Duration::from_secs(10));
        let mut random = catalogue::Random::new(7);
        while !stop.load(Ordering::Relaxed) && !guard::stopping() {
            let begun = Instant::now();
            let number = random.below(INDEXES as u64);
            let search = client.json("POST", &format!("/indexes/i{number}/search"), &json!({}));
            let tasks = client.get("/tasks?limit=1");
            let took = begun.elapsed();
            for reply in [search, tasks] {
                self.count.fetch_add(1, Ordering::Relaxed);
                if !reply.as_ref().is_ok_and(|reply| reply.status == 200) {
                    let text = format!("{:?}", reply.map(|reply| reply.text()));
                    self.bad.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                }
            }
            let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
            *slowest = (*slowest).max(took);
            drop(slowest);
            guard::pause();
        }
    }
}

/// Writes so many documents one by one, and judges.
pub(super) fn run(server: &Path, documents: usize) -> Outcome<()> {
    let mut pods = Pods::start(server)?;
    let begun = Instant::now();
    spread(&pods, 0..INDEXES, |client, number| {
        let new = json!({"uid": format!("i{number}"), "primaryKey": "id"});
        let reply = client.json("POST", "/indexes", &new)?;
        let uid = reply.json()["taskUid"].as_u64().ok_or_else(|| reply.text())?;
        cluster::wait_task(client, uid).map(|_| ())
    })?;
    println!("  {INDEXES} indexes in {:.1} s", begun.elapsed().as_secs_f64());
    let leader = pods.leader()?;
    pods.wait_for_settings_to_be_compared()?;
    let (stop, answers) = (AtomicBool::new(false), Answers::default());
    let urls: Vec<String> = pods.servers.iter().map(|server| server.url.clone()).collect();
    let mut judge = Judge::default();
    std::thread::scope(|scope| {
        for (_, url) in urls.iter().enumerate().filter(|(at, _)| *at != leader) {
            let (stop, answers) = (&stop, &answers);
            scope.spawn(move || answers.ask(url, stop));
        }
        let outcome = queue(&mut pods, leader, documents, &mut judge);
        stop.store(true, Ordering::Relaxed);
        outcome
    })?;
    let bad = answers.bad.into_inner().unwrap_or_else(PoisonError::into_inner);
    let slowest = answers.slowest.into_inner().unwrap_or_else(PoisonError::into_inner);
    let count = answers.count.load(Ordering::Relaxed);
    println!("  {count} answers of pods that do not lead");
    judge.must(count > 0, "nobody was asked");
    judge.must(bad.is_empty(), format!("{} were none, the first: {:?}", bad.len(), bad.first()));
    judge.at_most("slowest of them, s", slowest.as_secs_f64(), ANSWER.as_secs_f64());
    judge.must(pods.leader()? == leader, "another pod leads");
    judge.end()
}

fn queue(pods: &mut Pods, leader: usize, documents: usize, judge: &mut Judge) -> Outcome<()> {
    let idle = process::resident(pods.servers[leader].id())?;
    pods.set_rate(0);
    let begun = Instant::now();
    let write = |client: &mut Client, number: usize| {
        let path = format!("/indexes/i{}/documents", number % INDEXES);
        let body = json!([{"id": number, "text": "a word or two"}]).to_string();
        cluster::enqueue(client, "POST", &path, "application/json", body.as_bytes()).map(|_| ())
    };
    spread(pods, 0..FEW.min(documents), write)?;
    let few = cost(pods, leader)?;
    spread(pods, FEW.min(documents)..documents, write)?;
    println!("  {documents} writes in {:.1} s", begun.elapsed().as_secs_f64());
    let many = cost(pods, leader)?;
    for (name, (unfinished, memory, processor)) in [("few", few), ("many", many)] {
        println!(
            "  {name}: {unfinished} unfinished tasks, {} MiB above idle, {processor:.3} s of \
             processor time a second",
            memory.saturating_sub(idle) >> 20,
        );
    }
    judge.at_most(
        "processor time of following many tasks to that of few",
        many.2 / few.2.max(0.01),
        2.0,
    );
    pods.set_rate(RATE);
    let (begun, mut nodes_done, mut done) = (Instant::now(), None, None);
    let mut client = pods.servers[leader].client();
    guard::wait_until(PATIENCE, || {
        pods.check()?;
        if nodes_done.is_none() && pods.unfinished() == 0 {
            nodes_done = Some(Instant::now());
        }
        if crate::cluster::is_idle(&mut client)? {
            done = Some(Instant::now());
        }
        Ok(done.is_some() && nodes_done.is_some())
    })?;
    let (Some(nodes), Some(all)) = (nodes_done, done) else {
        judge.must(false, "not all tasks ended");
        return Ok(());
    };
    println!("  all ended {:.1} s after the nodes began", (all - begun).as_secs_f64());
    let late = all.saturating_duration_since(nodes).as_secs_f64();
    judge.at_most("last task after the nodes' last, s", late, LATE);
    let failed = client.get("/tasks?statuses=failed&limit=1")?.json();
    judge.must(failed["total"] == 0, format!("tasks failed: {failed}"));
    Ok(())
}

/// Unfinished tasks, memory in bytes and processor time a second of the leader, while nobody writes.
fn cost(pods: &Pods, leader: usize) -> Outcome<(f64, u64, f64)> {
    let server = &pods.servers[leader];
    let unfinished = metric(&server.metrics_url, "miroir_task_registry_size")?;
    let (before, from) = (process::processor_time(server.id())?, Instant::now());
    pass(Duration::from_secs(5))?;
    let used = process::processor_time(server.id())?.saturating_sub(before);
    let processor = used.as_secs_f64() / from.elapsed().as_secs_f64();
    Ok((unfinished, process::resident(server.id())?, processor))
}

/// Does something for each number, over connections to all pods; the first error ends it.
fn spread(
    pods: &Pods,
    numbers: std::ops::Range<usize>,
    work: impl Fn(&mut Client, usize) -> Outcome<()> + Sync,
) -> Outcome<()> {
    let next = AtomicUsize::new(numbers.start);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let (next, failed, work) = (&next, &failed, &work);
            let mut client = pods.servers[connection % PODS].client();
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end || guard::stopping() {
                        return;
                    }
                    if let Err(error) = work(&mut client, number) {
                        next.store(numbers.end, Ordering::Relaxed);
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        return;
                    }
                }
            });
        }
    });
    guard::check_stop()?;
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
