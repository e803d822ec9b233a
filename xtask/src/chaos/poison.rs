//! A search that takes more memory than a node has, by a caller who may only search: it is refused
//! before a node is asked, and where an operator lets it pass, it ends one node and no second.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::judge::Judge;
use super::{INDEX, Ledger, Setting, pass, prepare};
use crate::Outcome;
use crate::bench::process;
use crate::cluster::{Node, NodeProgram, START_LIMIT, Server};
use crate::guard::{self, Scratch};
use crate::http::Client;

/// Conditions of the filter. A node needs memory with their square, 15 GB in the end.
const CONDITIONS: usize = 20_000;
/// Memory that a node may have beyond what it has, in bytes: enough for every other search.
const ROOM: u64 = 400_000_000;
/// How long a node may take to use it up.
const PATIENCE: Duration = Duration::from_mins(2);
/// Time between two attempts of the caller, who does not give up.
const AGAIN: Duration = Duration::from_secs(3);
/// How long is looked on after a node has ended.
const AFTER: Duration = Duration::from_secs(30);

/// Limits the memory of a running node.
fn limit(node: &Node) -> Outcome<()> {
    let data = format!("--data={}", process::data(node.id())? + ROOM);
    let done = Command::new("prlimit").args(["--pid", &node.id().to_string(), &data]).status();
    match done.map_err(|error| format!("prlimit does not start: {error}"))? {
        status if status.success() => Ok(()),
        status => Err(format!("prlimit ended: {status}").into()),
    }
}

fn ended(nodes: &mut [Node]) -> usize {
    nodes.iter_mut().map(Node::check).filter(Result::is_err).count()
}

/// Sends the query, and judges.
pub(super) fn run(program: &NodeProgram, server: &Path) -> Outcome<()> {
    if !matches!(program, NodeProgram::Meilisearch(_)) {
        return Err("only a real Meilisearch shows this: give it with --meilisearch".into());
    }
    let scratch = Scratch::new("chaos", false)?;
    let start = |number| Node::start(program, &format!("node-{number}"), scratch.path());
    let mut nodes: Vec<Node> = (0..3).map(start).collect::<Outcome<_>>()?;
    let urls: Vec<String> = nodes.iter().map(|node| node.url.clone()).collect();
    let mut judge = Judge::default();
    let filter = vec!["origin = 1"; CONDITIONS].join(" AND ");
    let poison = json!({"filter": filter});

    let first = Server::start(server, &urls, Setting::SHAPE, None, scratch.path())?;
    prepare(&mut first.client(), &Ledger::default())?;
    // Indexing needs more for a moment.
    nodes.iter().try_for_each(limit)?;
    let (searches, may) = (format!("/indexes/{INDEX}/search"), json!(["search"]));
    let new = json!({"actions": may, "indexes": [INDEX], "expiresAt": null});
    let made = first.client().json("POST", "/keys", &new)?.json();
    let key = made["key"].as_str().ok_or_else(|| format!("no key was made: {made}"))?.to_owned();
    let refused = Client::new(&first.url, &key).json("POST", &searches, &poison)?;
    println!("  by default: {} {}", refused.status, message(&refused.json()));
    judge.must(refused.status == 400, "it is not refused by default");
    judge.must(refused.text().contains("max_filter_conditions"), "the refusal names no limit");
    judge.must(ended(&mut nodes) == 0, "a node ended though the query was refused");
    drop(first);

    let mut command = Command::new(server);
    command.env("MIROIR__SERVER__MAX_FILTER_CONDITIONS", (2 * CONDITIONS).to_string());
    command.env("MIROIR__SERVER__MAX_FILTER_BYTES", (2 * filter.len()).to_string());
    let (shape, dir) = (Setting::SHAPE, scratch.path());
    let second = Server::start_command(command, START_LIMIT, &urls, shape, None, dir, "")?;
    let mut caller = Client::new(&second.url, &key).timeout(Duration::from_mins(1));
    let (begun, mut fell, mut told) = (Instant::now(), None, 0);
    while begun.elapsed() < PATIENCE && fell.is_none_or(|at: Instant| at.elapsed() < AFTER) {
        guard::check_stop()?;
        let reply = caller.json("POST", &searches, &poison)?;
        let code = reply.json()["code"].as_str().unwrap_or_default().to_owned();
        if told == 0 {
            println!("  with the limit raised: {} {}", reply.status, message(&reply.json()));
        }
        told += usize::from(code == "miroir_query_quarantined");
        if fell.is_none() && ended(&mut nodes) > 0 {
            println!("  a node ended after {:.1} s", begun.elapsed().as_secs_f64());
            fell = Some(Instant::now());
        }
        // Others search meanwhile.
        let other = caller.json("POST", &searches, &json!({"q": ""}))?;
        if other.status != 200 {
            judge.must(false, format!("another search was answered {}", other.text()));
        }
        pass(AGAIN)?;
    }
    judge.must(told > 0, "the query was not quarantined");
    judge.must(fell.is_some(), "no node ended: the query was harmless, and nothing was shown");
    judge.at_most("nodes that ended", ended(&mut nodes), 1);
    judge.end()
}

fn message(body: &Value) -> String {
    body["message"].as_str().unwrap_or_default().chars().take(120).collect()
}
