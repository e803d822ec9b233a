//! Nodes come and go, shards get more copies and fewer, a node dies meanwhile and so does the server,
//! all under writers and readers: no search misses a document or shows one twice, no write is refused
//! but while the server is away, and every acknowledged document is where it belongs in the end.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::judge::Judge;
use super::ledger::Ledger;
use super::load::{self, Figures};
use super::writers::Writers;
use super::{BASE, INDEX, Setting, metric, millis, pass, prepare, whole_again};
use crate::cluster::{self, ADMIN_KEY, Cluster, Node, Server};
use crate::guard;
use crate::http::Client;
use crate::{Failure, Outcome};

/// Clients that write, and that read.
const WRITERS: usize = 4;
const READERS: usize = 4;
/// Pause of a writer between two writes.
const PAUSE: Duration = Duration::from_millis(150);
/// Documents of one call that loads.
const BATCH: usize = 2_000;
/// How long one operation may take.
const LIMIT: Duration = Duration::from_mins(5);
/// What the server is started with again: its nodes are not those of its configuration any more, and one
/// that fails is not waited for long.
const USE_STORE: &str =
    "  topology: { on_difference: use_store }\n  rebalancer: { restore_after_s: 10 }\n";

/// What is asked of the admin API.
struct Step<'a> {
    name: &'a str,
    method: &'a str,
    path: String,
    body: Value,
}

impl<'a> Step<'a> {
    fn new(name: &'a str, method: &'a str, path: impl Into<String>, body: Value) -> Self {
        Self { name, method, path: path.into(), body }
    }
}

/// Changes the topology of a cluster with so many documents, and judges.
pub(super) fn run(setting: &Setting<'_>, documents: usize) -> Outcome<()> {
    let mut cluster = setting.start()?;
    let ledger = Ledger::default();
    prepare(&mut cluster.server.client(), &ledger)?;
    fill(&mut cluster, &ledger, documents)?;
    let mut judge = Judge::default();
    let (writers, figures) = (Writers::default(), Figures::default());
    under_load(&mut cluster, &ledger, (&writers, &figures), |cluster| {
        quiet(&writers)?;
        join_while_a_node_dies(setting, cluster, &mut judge)?;
        let drain = Step::new("drain node-0", "POST", "/_miroir/nodes/node-0/drain", json!({}));
        operate(cluster, &drain, &mut judge)?;
        remove(cluster, "node-0")?;
        let by = start(setting, cluster, "node-4")?;
        let body = json!({"id": "node-4", "address": by});
        let replace = Step::new("replace node-1", "POST", "/_miroir/nodes/node-1/replace", body);
        operate(cluster, &replace, &mut judge)?;
        for factor in [3, 2] {
            let name = format!("replication factor {factor}");
            let body = json!({"replication_factor": factor});
            let step = Step::new(&name, "PUT", "/_miroir/replication-factor", body);
            operate(cluster, &step, &mut judge)?;
        }
        roll_back(setting, cluster)
    })?;
    all_served(&writers, &figures, &mut judge)?;
    judge.outcome(whole_again(&mut cluster))?;
    judge.outcome(ledger.check(&cluster, INDEX, 2))?;
    // From here on writes may be refused: the server is away.
    let (writers, figures) = (Writers::default(), Figures::default());
    under_load(&mut cluster, &ledger, (&writers, &figures), |cluster| {
        kill_the_server(setting, cluster)
    })?;
    println!("  {} writes were sent again while the server was away", writers.refused().0);
    judge.must(writers.count() > 0, "nothing was written");
    judge.outcome(whole_again(&mut cluster))?;
    judge.outcome(ledger.check(&cluster, INDEX, 2))?;
    let (writers, figures) = (Writers::default(), Figures::default());
    under_load(&mut cluster, &ledger, (&writers, &figures), |cluster| restore(setting, cluster))?;
    all_served(&writers, &figures, &mut judge)?;
    judge.outcome(whole_again(&mut cluster))?;
    judge.outcome(ledger.check(&cluster, INDEX, 2))?;
    judge.end()
}

/// No write was refused, and no read failed.
pub(super) fn all_served(writers: &Writers, figures: &Figures, judge: &mut Judge) -> Outcome<()> {
    let (refused, first) = writers.refused();
    judge.must(refused == 0, format!("{refused} writes were refused, the first: {first}"));
    println!("  searches and reads {figures}");
    judge.outcome(figures.judge_reads(0))
}

/// Documents beside those that readers look for.
pub(super) fn fill(cluster: &mut Cluster, ledger: &Ledger, documents: usize) -> Outcome<()> {
    let mut client = cluster.server.client();
    for first in (BASE..documents.max(BASE)).step_by(BATCH) {
        let numbers = first..documents.min(first + BATCH);
        let mut all = ledger.load(numbers, "words enough that a document is not all too small");
        for document in &mut all {
            document["origin"] = "more".into();
        }
        let path = format!("/indexes/{INDEX}/documents");
        cluster::apply(&mut client, "POST", &path, &Value::Array(all))?;
    }
    println!("  {documents} documents");
    Ok(())
}

/// Does something under writers and readers.
pub(super) fn under_load(
    cluster: &mut Cluster,
    ledger: &Ledger,
    (writers, figures): (&Writers, &Figures),
    act: impl FnOnce(&mut Cluster) -> Outcome<()>,
) -> Outcome<()> {
    let (stop, url) = (AtomicBool::new(false), cluster.server.url.clone());
    std::thread::scope(|scope| {
        writers.start(scope, WRITERS, PAUSE, &url, ledger, &stop);
        for number in 0..READERS {
            let (url, stop) = (&url, &stop);
            scope.spawn(move || load::search(url, number, stop, figures));
        }
        let outcome = act(cluster);
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

/// Lets writers write for a while with nothing going on.
fn quiet(writers: &Writers) -> Outcome<()> {
    let begun = Instant::now();
    pass(Duration::from_secs(10))?;
    println!(
        "  p99 of writes before: {:.1} ms",
        millis(writers.since(begun).quantile_after(0, 0.99))
    );
    Ok(())
}

pub(super) fn admin(cluster: &Cluster) -> Client {
    Client::new(&cluster.server.url, ADMIN_KEY)
}

fn start(setting: &Setting<'_>, cluster: &mut Cluster, name: &str) -> Outcome<String> {
    let node = Node::start(setting.program, name, cluster.scratch.path())?;
    let url = node.url.clone();
    cluster.nodes.push(node);
    Ok(url)
}

/// Begins an operation. Answers its id and how many documents it is to copy.
fn begin(cluster: &Cluster, step: &Step<'_>) -> Outcome<(String, f64)> {
    let reply = admin(cluster).json(step.method, &step.path, &step.body)?;
    let text = reply.text();
    let body = reply.json();
    let id = body["operation_id"].as_str().filter(|_| reply.status == 202);
    let id = id.ok_or_else(|| Failure::from(format!("{}: {}: {text}", step.name, reply.status)))?;
    Ok((id.to_owned(), body["plan"]["documents"].as_f64().unwrap_or_default()))
}

/// Waits until an operation has ended, and answers how.
fn ended(cluster: &mut Cluster, id: &str) -> Outcome<String> {
    let mut seen = String::new();
    let begun = Instant::now();
    let done = guard::wait_until(LIMIT, || {
        cluster.server.check()?;
        // It may be starting.
        let Ok(reply) = admin(cluster).get(&format!("/_miroir/operations/{id}")) else {
            return Ok(false);
        };
        let operation = reply.json();
        let mut now = operation["state"].as_str().unwrap_or_default().to_owned();
        if let Some(phase) = operation["phase"].as_str() {
            write!(now, " {phase}").map_err(|error| Failure::from(error.to_string()))?;
        }
        if now != seen {
            println!("    {:5.1} s {now}", begun.elapsed().as_secs_f64());
            seen = now;
        }
        Ok(operation["ended_at"].is_string())
    })?;
    if done { Ok(seen) } else { Err(format!("operation {id} did not end: {seen}").into()) }
}

/// Does one operation to its end.
fn operate(cluster: &mut Cluster, step: &Step<'_>, judge: &mut Judge) -> Outcome<()> {
    println!("  {}", step.name);
    let copied = "miroir_copy_documents_written_total";
    let before = metric(&cluster.server.metrics_url, copied)?;
    let (id, planned) = begin(cluster, step)?;
    let state = ended(cluster, &id)?;
    judge.must(state == "committed", format!("{} ended {state}", step.name));
    let written = metric(&cluster.server.metrics_url, copied)? - before;
    println!("    planned {planned} documents; copied and deleted {written}");
    Ok(())
}

fn join_while_a_node_dies(
    setting: &Setting<'_>,
    cluster: &mut Cluster,
    judge: &mut Judge,
) -> Outcome<()> {
    let address = start(setting, cluster, "node-3")?;
    let body = json!({"id": "node-3", "address": address});
    let step = Step::new("join node-3", "POST", "/_miroir/nodes", body);
    println!("  {} while node-1 dies", step.name);
    let (id, planned) = begin(cluster, &step)?;
    let port = cluster.nodes[1].port();
    cluster.nodes[1].kill()?;
    pass(Duration::from_secs(4))?;
    let dir = cluster.scratch.path().to_owned();
    cluster.nodes[1] = Node::start_at(setting.program, "node-1", &dir, port)?;
    println!("    node-1 is back");
    let state = ended(cluster, &id)?;
    judge.must(state == "committed", format!("{} ended {state}", step.name));
    judge.must(planned > 0.0, "nothing was to be copied");
    Ok(())
}

/// Forgets a node that was drained, and compares what it holds: nothing.
fn remove(cluster: &mut Cluster, name: &str) -> Outcome<()> {
    let removed = guard::wait_until(LIMIT, || {
        let path = format!("/_miroir/nodes/{name}");
        Ok(admin(cluster).json("DELETE", &path, &json!({}))?.status == 204)
    })?;
    if !removed {
        return Err(format!("{name} could not be removed").into());
    }
    println!("    {name} is removed");
    Ok(())
}

/// Begins a join and takes it back.
fn roll_back(setting: &Setting<'_>, cluster: &mut Cluster) -> Outcome<()> {
    println!("  join node-5, rolled back");
    let address = start(setting, cluster, "node-5")?;
    let body = json!({"id": "node-5", "address": address});
    let step = Step::new("join node-5", "POST", "/_miroir/nodes", body);
    let (id, _) = begin(cluster, &step)?;
    let copying = guard::wait_until(LIMIT, || {
        let operation = admin(cluster).get(&format!("/_miroir/operations/{id}"))?.json();
        Ok(operation["phase"] != "announced")
    })?;
    let path = format!("/_miroir/operations/{id}/rollback");
    let reply = admin(cluster).json("POST", &path, &json!({}))?;
    if !copying || reply.status != 204 {
        return Err(format!("rolling back: {}: {}", reply.status, reply.text()).into());
    }
    let state = ended(cluster, &id)?;
    if state == "rolled_back" { Ok(()) } else { Err(format!("rolled back: {state}").into()) }
}

/// Kills the server in every phase of a join that it can be caught in.
fn kill_the_server(setting: &Setting<'_>, cluster: &mut Cluster) -> Outcome<()> {
    println!("  join node-5 while the server is killed");
    let url = cluster.nodes.last().map(|node| node.url.clone()).unwrap_or_default();
    let body = json!({"id": "node-5", "address": url});
    let (id, _) = begin(cluster, &Step::new("join node-5", "POST", "/_miroir/nodes", body))?;
    let urls: Vec<String> = cluster.nodes[..3].iter().map(|node| node.url.clone()).collect();
    let port = cluster.server.url.rsplit(':').next().and_then(|text| text.parse::<u16>().ok());
    for _ in 0..3 {
        pass(Duration::from_millis(1_500))?;
        cluster.server.kill()?;
        let dir = cluster.scratch.path().to_owned();
        cluster.server =
            Server::start_with(setting.server, &urls, Setting::SHAPE, port, &dir, USE_STORE)?;
    }
    let state = ended(cluster, &id)?;
    if state == "committed" { Ok(()) } else { Err(format!("it ended {state}").into()) }
}

/// Kills a node for good while there is a spare, which takes its place.
fn restore(setting: &Setting<'_>, cluster: &mut Cluster) -> Outcome<()> {
    println!("  node-2 dies for good; node-6 is a spare");
    let address = start(setting, cluster, "node-6")?;
    let body = json!({"id": "node-6", "address": address});
    let reply = admin(cluster).json("POST", "/_miroir/spares", &body)?;
    if reply.status != 201 {
        return Err(format!("a spare: {}: {}", reply.status, reply.text()).into());
    }
    cluster.nodes[2].kill()?;
    let (died, mut id) = (Instant::now(), String::new());
    let begun = guard::wait_until(LIMIT, || {
        let first = admin(cluster).get("/_miroir/operations")?.json()["operations"][0].clone();
        let own = first["restores"] == "node-2" && first["operation"] == "replace";
        id = first["id"].as_str().filter(|_| own).unwrap_or_default().to_owned();
        Ok(own)
    })?;
    if !begun {
        return Err("nobody took the place of node-2".into());
    }
    println!("    begins {:.1} s after it died", died.elapsed().as_secs_f64());
    let state = ended(cluster, &id)?;
    cluster.nodes.remove(2);
    if state == "committed" { Ok(()) } else { Err(format!("it ended {state}").into()) }
}
