//! A slow node: searches come at a steady rate while one of three nodes, then all of them, answer
//! late. What clients feel of it, and what it costs, is compared with the time before.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::INDEX;
use super::delay::Delay;
use crate::arguments::Shape;
use crate::catalogue::{self, Random};
use crate::cluster::{self, MASTER_KEY, Node, NodeProgram, Server};
use crate::guard::{self, Scratch};
use crate::http::Client;
use crate::{Failure, Outcome};

/// Documents.
const DOCUMENTS: usize = 6_000;
/// Clients; enough that none waits for another when nodes are slow.
const CLIENTS: usize = 64;
/// How late a slow node answers, and how late all do.
const LATE: Duration = Duration::from_millis(500);
const ALL_LATE: Duration = Duration::from_millis(200);

/// What became of the searches of a phase.
struct Phase {
    /// Time from when each was due, ascending.
    took: Vec<Duration>,
    failed: usize,
    first: Option<String>,
    /// Calls to each node.
    calls: Vec<usize>,
}

impl Phase {
    fn quantile(&self, percent: usize) -> Duration {
        let at = self.took.len() * percent / 100;
        self.took.get(at.min(self.took.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    fn calls_per_search(&self) -> f64 {
        self.calls.iter().sum::<usize>() as f64 / self.took.len().max(1) as f64
    }

    /// The first node's share of the calls.
    fn share(&self) -> f64 {
        self.calls[0] as f64 / self.calls.iter().sum::<usize>().max(1) as f64
    }

    fn print(&self, name: &str) {
        println!(
            "  {name:<30} {:>6} {:>8.1} {:>8.1} {:>8.2} {:>7.1} %",
            self.took.len(),
            self.quantile(50).as_secs_f64() * 1e3,
            self.quantile(99).as_secs_f64() * 1e3,
            self.calls_per_search(),
            self.share() * 100.0,
        );
    }
}

struct Load<'a> {
    url: &'a str,
    relays: &'a [Delay],
    words: Vec<String>,
    /// Searches a second.
    rate: u64,
    /// Phases so far, so that none asks what another did.
    phase: AtomicUsize,
}

impl Load<'_> {
    fn run(&self, name: &str, seconds: u64) -> Outcome<Phase> {
        for relay in self.relays {
            relay.take_searches();
        }
        let phase = self.phase.fetch_add(1, Ordering::Relaxed) as u64;
        let total = (seconds * self.rate) as usize;
        let next = AtomicUsize::new(0);
        let seen = Mutex::new((Vec::with_capacity(total), None));
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = Client::new(self.url, MASTER_KEY);
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= total || guard::stopping() {
                            return;
                        }
                        let due = start + Duration::from_secs(number as u64) / self.rate as u32;
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        let outcome = self.search(&mut client, phase << 32 | number as u64);
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        match outcome {
                            Ok(()) => seen.0.push(due.elapsed()),
                            Err(why) => _ = seen.1.get_or_insert(why),
                        }
                    }
                });
            }
        });
        guard::check_stop()?;
        let (mut took, first) = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        took.sort_unstable();
        let calls = self.relays.iter().map(Delay::take_searches).collect();
        let phase = Phase { failed: total - took.len(), took, first, calls };
        phase.print(name);
        Ok(phase)
    }

    fn search(&self, client: &mut Client, seed: u64) -> Result<(), String> {
        let mut random = Random::new(seed);
        let q = format!("{} {}", random.pick(&self.words), random.pick(&self.words));
        let path = format!("/indexes/{INDEX}/search");
        let reply = client.json("POST", &path, &json!({ "q": q })).map_err(|e| e.to_string())?;
        let whole = reply.json()["hits"].is_array();
        if reply.status == 200 && whole { Ok(()) } else { Err(reply.text()) }
    }
}

/// Every word of the documents' texts.
fn words(documents: &[Value]) -> Vec<String> {
    let texts = documents.iter().flat_map(|it| it.as_object().into_iter().flatten());
    let words = texts.filter_map(|(_, value)| value.as_str()).flat_map(str::split_whitespace);
    let mut words: Vec<String> = words.filter(|word| word.len() > 3).map(str::to_owned).collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Slows nodes of a cluster with two copies of each shard, and judges.
pub(super) fn run(program: &NodeProgram, server: &Path, rate: u64) -> Outcome<()> {
    let scratch = Scratch::new("chaos", false)?;
    let nodes = (0..3)
        .map(|number| Node::start(program, &format!("node-{number}"), scratch.path()))
        .collect::<Outcome<Vec<_>>>()?;
    let relays =
        nodes.iter().map(|node| Delay::start(&node.url)).collect::<Outcome<Vec<Delay>>>()?;
    let urls: Vec<String> = relays.iter().map(|relay| relay.url.clone()).collect();
    let shape = Shape { factor: 2, ..Shape::default() };
    let server = Server::start(server, &urls, shape, None, scratch.path())?;
    let mut client = server.client();
    let primary_key = json!({ "uid": INDEX, "primaryKey": catalogue::PRIMARY_KEY });
    cluster::apply(&mut client, "POST", "/indexes", &primary_key)?;
    let settings = format!("/indexes/{INDEX}/settings");
    cluster::apply(&mut client, "PATCH", &settings, &catalogue::settings())?;
    let documents: Vec<Value> = catalogue::documents(DOCUMENTS).collect();
    let path = format!("/indexes/{INDEX}/documents");
    cluster::apply(&mut client, "POST", &path, &Value::Array(documents.clone()))?;

    let phase = AtomicUsize::new(0);
    let words = words(&documents);
    let load = Load { url: &server.url, relays: &relays, words, rate, phase };
    println!("  {rate} searches a second; milliseconds; calls a search; share of node-0");
    println!("  {:<30} {:>6} {:>8} {:>8} {:>8} {:>9}", "", "n", "p50", "p99", "calls", "share");
    load.run("at first", 10)?;
    let healthy = load.run("all well", 30)?;
    relays[0].set(LATE);
    let first = load.run("node-0 late by 500 ms: 5 s", 5)?;
    let slow = load.run("node-0 late by 500 ms: after", 30)?;
    relays[0].set(Duration::ZERO);
    let recovering = load.run("well again: 10 s", 10)?;
    let well = load.run("well again: after", 20)?;
    for relay in &relays {
        relay.set(ALL_LATE);
    }
    let all = load.run("all late by 200 ms", 30)?;

    let mut wrong: Vec<String> = Vec::new();
    let phases = [&healthy, &first, &slow, &recovering, &well, &all];
    if let Some(phase) = phases.iter().find(|phase| phase.failed > 0) {
        let why = phase.first.as_deref().unwrap_or("stopped");
        wrong.push(format!("{} searches failed, the first: {why}", phase.failed));
    }
    let extra = |phase: &Phase| phase.calls_per_search() / healthy.calls_per_search() - 1.0;
    let mut judge = |what: &str, value: f64, most: f64| {
        println!("  {what}: {value:.3}, at most {most}");
        if value > most {
            wrong.push(format!("{what} is {value:.3}, more than {most}"));
        }
    };
    let p99 = |phase: &Phase| phase.quantile(99).as_secs_f64();
    judge("p99 with a late node, of what it is when all are well", p99(&slow) / p99(&healthy), 2.0);
    judge("share of the late node after 5 s", slow.share(), 0.02);
    judge("extra calls with a late node", extra(&slow), 0.05);
    judge("extra calls while all are late", extra(&all), 0.05);
    judge(
        "fair share less the share of the node when it is well again",
        1.0 / 3.0 - well.share(),
        0.1,
    );
    if wrong.is_empty() { Ok(()) } else { Err(Failure::from(wrong.join("; "))) }
}
