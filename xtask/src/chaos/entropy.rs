//! A disk that lost, changed and made up documents, and no task of its node says so: the index is that
//! of a copy of the node's disk which somebody else wrote to.
//!
//! One pass finds each of them, and nothing else is written; searches and writes go on meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::disks::duplicate;
use super::elastic::{admin, all_served, fill, under_load};
use super::judge::Judge;
use super::ledger::Ledger;
use super::load::Figures;
use super::writers::Writers;
use super::{INDEX, Setting, metric, pass, prepare, whole_again};
use crate::bench::process;
use crate::cluster::{self, Cluster, Node, Server};
use crate::guard::{self, Scratch};
use crate::options::Shape;
use crate::{Failure, Outcome};

/// Three copies of each shard: a changed document has a majority against it.
const SHAPE: Shape = Shape { shards: 16, groups: 1, factor: 3, nodes: Some(3) };
/// How much of a node's time a pass may take, in percent.
const BUDGET: u32 = 2;
/// Of 1,000 documents so many are deleted, changed, made up.
const DELETED: usize = 4;
const CHANGED: usize = 5;
const MADE_UP: usize = 1;
/// How long a pass may take.
const LIMIT: Duration = Duration::from_mins(15);

/// Damages a disk of a cluster with so many documents, and judges.
pub(super) fn run(setting: &Setting<'_>, documents: usize) -> Outcome<()> {
    let mut cluster = start(setting)?;
    let ledger = Ledger::default();
    prepare(&mut cluster.server.client(), &ledger)?;
    fill(&mut cluster, &ledger, documents)?;
    whole_again(&mut cluster)?;
    let mut judge = Judge::default();

    let (took, node) = (compare(&mut cluster)?, cluster.nodes[2].id());
    println!(
        "  nothing differs: a pass over {documents} documents of three replicas in {took:.1} s"
    );
    let before = process::processor_time(node)?;
    let took = compare(&mut cluster)?;
    let spent = process::processor_time(node)?.saturating_sub(before);
    let percent = spent.as_secs_f64() / took * 100.0;
    judge.at_most("processor time of a node during a pass, percent of a core", percent, 4.0);

    let damaged = damage(setting, &mut cluster, documents)?;
    let metrics = cluster.server.metrics_url.clone();
    let written = metric(&metrics, "miroir_copy_documents_written_total")?;
    let (writers, figures) = (Writers::default(), Figures::default());
    under_load(&mut cluster, &ledger, (&writers, &figures), |cluster| {
        let took = compare(cluster)?;
        println!("  {damaged} documents of node-1 damaged: a pass under load in {took:.1} s");
        let name = "miroir_antientropy_docs_repaired_total";
        guard::wait_until(LIMIT, || Ok(metric(&metrics, name)? >= damaged as f64))?;
        Ok(())
    })?;
    all_served(&writers, &figures, &mut judge)?;
    let found = admin(&cluster).get("/_miroir/anti-entropy")?.json();
    judge.must(found["mended"] == damaged, format!("{} of {damaged} mended", found["mended"]));
    judge.must(found["ambiguous"] == 0, format!("{} ambiguous", found["ambiguous"]));
    let written = metric(&metrics, "miroir_copy_documents_written_total")? - written;
    judge.at_most("documents written, of those damaged", written / damaged as f64, 1.01);
    let kept = admin(&cluster).get("/_miroir/anti-entropy/kept")?.json();
    let kept = kept["kept"].as_array().map_or(0, Vec::len);
    let expected = ((documents / 1000 - 1) * (CHANGED + MADE_UP)).min(1000);
    judge.must(kept == expected, format!("{kept} overwritten versions are kept, not {expected}"));
    judge.outcome(whole_again(&mut cluster))?;
    judge.outcome(ledger.check(&cluster, INDEX, 3))?;
    judge.end()
}

fn start(setting: &Setting<'_>) -> Outcome<Cluster> {
    let scratch = Scratch::new("chaos", false)?;
    let dir = scratch.path().to_owned();
    let nodes = (0..3).map(|at| Node::start(setting.program, &format!("node-{at}"), &dir));
    let nodes = nodes.collect::<Outcome<Vec<Node>>>()?;
    let urls: Vec<String> = nodes.iter().map(|node| node.url.clone()).collect();
    let more = format!("  anti_entropy: {{ count_interval_s: 1d, node_time_percent: {BUDGET} }}\n");
    let server = Server::start_with(setting.server, &urls, SHAPE, None, &dir, &more)?;
    Ok(Cluster { server, nodes, scratch })
}

/// Makes a pass, and returns how many seconds it took.
fn compare(cluster: &mut Cluster) -> Outcome<f64> {
    let begun = Instant::now();
    let ended = |cluster: &Cluster| -> Outcome<Value> {
        Ok(admin(cluster).get("/_miroir/anti-entropy")?.json()["last"]["ended_at"].clone())
    };
    let before = ended(cluster)?;
    let reply = admin(cluster).json("POST", "/_miroir/anti-entropy/run", &json!({}))?;
    if reply.status != 202 {
        return Err(format!("a pass was refused: {}", reply.text()).into());
    }
    let over = guard::wait_until(LIMIT, || {
        cluster.server.check()?;
        Ok(ended(cluster)? != before)
    })?;
    if !over {
        return Err("a pass did not end".into());
    }
    let last = admin(cluster).get("/_miroir/anti-entropy")?.json()["last"].clone();
    if last["shards"] != 16 || last["skipped"] != 0 {
        return Err(format!("the pass compared {last}").into());
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Puts an index on node-1's disk that somebody else changed. Returns how many documents differ.
fn damage(setting: &Setting<'_>, cluster: &mut Cluster, documents: usize) -> Outcome<usize> {
    let dir = cluster.scratch.path().to_owned();
    cluster.nodes[1].kill()?;
    let (own, copy) = (dir.join("node-1"), dir.join("copy"));
    duplicate(&own, &copy)?;
    let mut node = Node::start(setting.program, "copy", &dir)?;
    let mut client = node.client();
    let path = format!("/indexes/{INDEX}/documents");
    let (mut lost, mut changed, mut made_up) = (Vec::new(), Vec::new(), Vec::new());
    // The first thousand is what readers look for.
    for first in (1000..documents / 1000 * 1000).step_by(1000) {
        let id = |number: usize| json!(format!("base-{number}"));
        lost.extend((first..first + DELETED).map(id));
        let from = first + DELETED;
        let to = from + CHANGED;
        changed.extend((from..to).map(|number| json!({"id": id(number), "text": "damaged"})));
        let like = client.get(&format!("{path}/base-{to}"))?.json();
        for number in 0..MADE_UP {
            let mut document = like.clone();
            document["id"] = json!(format!("ghost-{first}-{number}"));
            made_up.push(document);
        }
    }
    let all = lost.len() + changed.len() + made_up.len();
    cluster::apply(&mut client, "POST", &format!("{path}/delete-batch"), &Value::Array(lost))?;
    cluster::apply(&mut client, "PUT", &path, &Value::Array(changed))?;
    cluster::apply(&mut client, "POST", &path, &Value::Array(made_up))?;
    node.kill()?;
    let (of, to) = (index_of(&copy)?, index_of(&own)?);
    fs::remove_dir_all(&to)?;
    fs::rename(&of, &to)?;
    let port = cluster.nodes[1].port();
    cluster.nodes[1] = Node::start_at(setting.program, "node-1", &dir, port)?;
    // It is read again once it answers some checks.
    let metrics = cluster.server.metrics_url.clone();
    let back = guard::wait_until(LIMIT, || Ok(metric(&metrics, "miroir_shard_coverage")? == 1.0))?;
    if !back {
        return Err("node-1 did not come back".into());
    }
    pass(Duration::from_secs(10))?;
    Ok(all)
}

/// The directory of the one index that a node has besides the mark of its identity.
fn index_of(home: &Path) -> Outcome<PathBuf> {
    let mut largest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(home.join("data/indexes"))? {
        let path = entry?.path();
        let size = fs::metadata(path.join("data.mdb")).map_or(0, |file| file.len());
        if largest.as_ref().is_none_or(|(other, _)| size > *other) {
            largest = Some((size, path));
        }
    }
    largest.map(|(_, path)| path).ok_or_else(|| Failure::from("the node has no index"))
}
