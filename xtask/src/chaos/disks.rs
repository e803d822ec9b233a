//! Disks that are not what their node had: another node's, an older copy, an empty one.
//!
//! Each is noticed before the node is read for the first time, what can be repaired is repaired, and
//! no answer is ever false: it is complete, or it says that something is missing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::judge::Judge;
use super::ledger::Ledger;
use super::{BASE, INDEX, Setting, pass, prepare, whole_again};
use crate::cluster::{Cluster, MASTER_KEY, Node};
use crate::http::Client;
use crate::{Failure, Outcome, guard};

/// Time that readers look at each state of the disks.
const LOOK: Duration = Duration::from_secs(20);

/// Answers of readers.
#[derive(Debug, Default)]
struct Answers {
    complete: AtomicUsize,
    /// Said that something was missing, or refused.
    open: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Answers {
    fn read(&self, url: &str, stop: &AtomicBool) {
        let mut client = Client::new(url, MASTER_KEY).timeout(Duration::from_secs(30));
        let body = json!({"q": "", "filter": "origin = base", "hitsPerPage": 1000});
        let path = format!("/indexes/{INDEX}/search");
        while !stop.load(Ordering::Relaxed) && !guard::stopping() {
            let Ok(reply) = client.json("POST", &path, &body) else { continue };
            let page = reply.json();
            let hits = page["hits"].as_array().map_or(0, Vec::len);
            let whole = page["totalHits"] == BASE && hits == BASE;
            if reply.status == 200 && whole {
                self.complete.fetch_add(1, Ordering::Relaxed);
            } else if reply.status != 200 || reply.is_degraded() {
                self.open.fetch_add(1, Ordering::Relaxed);
            } else {
                let text = format!("{hits} hits, total {}, nothing said", page["totalHits"]);
                self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
        }
    }
}

/// Changes the disks of stopped nodes in turn, and judges what clients see.
pub(super) fn run(setting: &Setting<'_>) -> Outcome<()> {
    let mut cluster = setting.start()?;
    let ledger = Ledger::default();
    prepare(&mut cluster.server.client(), &ledger)?;
    whole_again(&mut cluster)?;
    let home = |cluster: &Cluster, node: usize| cluster.scratch.path().join(format!("node-{node}"));
    let mut judge = Judge::default();

    let (first, second) = (home(&cluster, 1), home(&cluster, 2));
    let spare = cluster.scratch.path().join("spare");
    let exchange = || -> Outcome<()> {
        fs::rename(&first, &spare)?;
        fs::rename(&second, &first)?;
        Ok(fs::rename(&spare, &second)?)
    };
    let (told, open) = during(setting, &mut cluster, &[1, 2], &exchange)?;
    judge.outcome(told)?;
    println!("  two disks exchanged: {open}");
    let (told, open) = during(setting, &mut cluster, &[1, 2], &exchange)?;
    judge.outcome(told)?;
    println!("  exchanged back: {open}");
    judge.outcome(whole_again(&mut cluster))?;

    // A copy of before the writes that follow.
    let copy = cluster.scratch.path().join("copy");
    stop_nodes(&mut cluster, &[1])?;
    duplicate(&first, &copy)?;
    start_nodes(setting, &mut cluster, &[1])?;
    whole_again(&mut cluster)?;
    late_writes(&cluster, &ledger)?;
    let restore = || -> Outcome<()> {
        fs::remove_dir_all(&first)?;
        duplicate(&copy, &first)
    };
    let (told, open) = during(setting, &mut cluster, &[1], &restore)?;
    judge.outcome(told)?;
    println!("  an older copy restored: {open}");
    judge.outcome(whole_again(&mut cluster))?;
    judge.outcome(ledger.check(&cluster, INDEX, 2))?;

    let empty = || -> Outcome<()> { Ok(fs::remove_dir_all(&first)?) };
    let (told, open) = during(setting, &mut cluster, &[1], &empty)?;
    judge.outcome(told)?;
    println!("  an empty disk: {open}");
    judge.outcome(whole_again(&mut cluster))?;
    judge.outcome(ledger.check(&cluster, INDEX, 2))?;
    judge.end()
}

/// Stops nodes, changes disks, and starts them again, under readers. Whether an answer was false,
/// and how many were complete.
fn during(
    setting: &Setting<'_>,
    cluster: &mut Cluster,
    nodes: &[usize],
    change: &dyn Fn() -> Outcome<()>,
) -> Outcome<(Outcome<()>, String)> {
    let (stop, answers) = (AtomicBool::new(false), Answers::default());
    let url = cluster.server.url.clone();
    std::thread::scope(|scope| -> Outcome<()> {
        for _ in 0..2 {
            scope.spawn(|| answers.read(&url, &stop));
        }
        let outcome = (|| {
            stop_nodes(cluster, nodes)?;
            change()?;
            start_nodes(setting, cluster, nodes)?;
            pass(LOOK)
        })();
        stop.store(true, Ordering::Relaxed);
        outcome
    })?;
    let load = |value: &AtomicUsize| value.load(Ordering::Relaxed);
    let told = format!(
        "{} complete answers, {} that said what is missing",
        load(&answers.complete),
        load(&answers.open)
    );
    let wrong = answers.wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    let judged = match wrong.first() {
        None => Ok(()),
        Some(first) => Err(Failure::from(format!("{} false answers: {first}", wrong.len()))),
    };
    Ok((judged, told))
}

fn stop_nodes(cluster: &mut Cluster, nodes: &[usize]) -> Outcome<()> {
    nodes.iter().try_for_each(|node| cluster.nodes[*node].kill())
}

fn start_nodes(setting: &Setting<'_>, cluster: &mut Cluster, nodes: &[usize]) -> Outcome<()> {
    for node in nodes {
        let (name, port) = (format!("node-{node}"), cluster.nodes[*node].port());
        let dir = cluster.scratch.path().to_owned();
        cluster.nodes[*node] = Node::start_at(setting.program, &name, &dir, port)?;
    }
    Ok(())
}

/// Writes that an older copy does not have.
fn late_writes(cluster: &Cluster, ledger: &Ledger) -> Outcome<()> {
    let mut client = cluster.server.client();
    let path = format!("/indexes/{INDEX}/documents");
    for _ in 0..20 {
        let (ids, documents) = ledger.next(0, 10);
        crate::cluster::apply(&mut client, "POST", &path, &documents)?;
        ledger.acknowledged(&ids);
    }
    Ok(())
}

pub(super) fn duplicate(from: &Path, to: &Path) -> Outcome<()> {
    let status = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to).status()?;
    if status.success() { Ok(()) } else { Err("a disk could not be copied".into()) }
}
