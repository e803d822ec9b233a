//! Large documents: 150 kB each, or a vector of 3,072 dimensions. A node that holds them loses its
//! disk and is rebuilt; neither a body that it gets nor a page of its peers is larger than 8 MB.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::delay::{Delay, relayed};
use super::judge::Judge;
use super::{CATCH_UP, INDEX, Setting, noticed, whole_within};
use crate::Outcome;
use crate::catalogue::Random;
use crate::cluster::{self, Cluster, Node, Server};
use crate::guard::Scratch;

/// Characters of a long text.
const LENGTH: usize = 150_000;
/// Dimensions of a vector.
const DIMENSIONS: usize = 3_072;
/// Documents of one write.
const BATCH: usize = 100;
/// Most that a body or a page may have, in bytes.
const MOST: usize = 8 << 20;
/// How long the rebuild may take.
const PATIENCE: Duration = Duration::from_mins(20);

/// Writes so many documents, takes a node's disk away, and judges.
pub(super) fn run(setting: &Setting<'_>, documents: usize) -> Outcome<()> {
    let scratch = Scratch::new("chaos", false)?;
    let (nodes, relays, urls) = relayed(setting.program, 3, scratch.path())?;
    let server = Server::start(setting.server, &urls, Setting::SHAPE, None, scratch.path())?;
    let mut cluster = Cluster { server, nodes, scratch };
    let mut client = cluster.server.client();
    cluster::apply(&mut client, "POST", "/indexes", &json!({"uid": INDEX, "primaryKey": "id"}))?;
    let embedders = json!({"v": {"source": "userProvided", "dimensions": DIMENSIONS}});
    let settings = format!("/indexes/{INDEX}/settings");
    cluster::apply(&mut client, "PATCH", &settings, &json!({ "embedders": embedders }))?;
    let path = format!("/indexes/{INDEX}/documents");
    for from in (0..documents).step_by(BATCH) {
        let batch: Vec<Value> = (from..documents.min(from + BATCH)).map(document).collect();
        cluster::apply(&mut client, "POST", &path, &Value::Array(batch))?;
    }
    whole_within(&mut cluster, CATCH_UP)?;
    for relay in &relays {
        relay.forget_bodies();
    }
    let port = cluster.nodes[1].port();
    cluster.nodes[1].kill()?;
    fs::remove_dir_all(cluster.scratch.path().join("node-1"))?;
    let dir = cluster.scratch.path().to_owned();
    cluster.nodes[1] = Node::start_at(setting.program, "node-1", &dir, port)?;
    println!("  node-1 is back with an empty disk");
    let back = Instant::now();
    let mut judge = Judge::default();
    judge.outcome(noticed(&mut cluster))?;
    judge.outcome(whole_within(&mut cluster, PATIENCE))?;
    println!("  rebuilt {:.1} s after it was back", back.elapsed().as_secs_f64());
    let largest = relays.iter().map(Delay::largest_body).max().unwrap_or_default();
    judge.must(largest > 0, "no body was seen");
    judge.at_most("largest body or page, bytes", largest, MOST);
    judge.outcome(compare(&cluster, documents))?;
    judge.end()
}

/// Every second document has a long text, the others a vector.
fn document(number: usize) -> Value {
    let mut random = Random::new(number as u64);
    if number.is_multiple_of(2) {
        let words = (0..LENGTH / 8).map(|_| format!("{:07x}", random.below(1 << 28)));
        let text = words.collect::<Vec<_>>().join(" ");
        json!({"id": number, "text": text, "_vectors": {"v": null}})
    } else {
        let vector = (0..DIMENSIONS).map(|_| random.below(1 << 20) as f64 / f64::from(1 << 20));
        json!({"id": number, "text": "", "_vectors": {"v": vector.collect::<Vec<_>>()}})
    }
}

/// Whether each document is on two nodes, alike.
fn compare(cluster: &Cluster, documents: usize) -> Outcome<()> {
    for number in 0..documents {
        let mut found = Vec::new();
        for node in &cluster.nodes {
            let path = format!("/indexes/{INDEX}/documents/{number}?retrieveVectors=true");
            let reply = node.client().get(&path)?;
            if reply.status == 200 {
                found.push(reply.json());
            }
        }
        if found.len() != 2 || found[0] != found[1] {
            return Err(format!("document {number} is on {} nodes, or unlike", found.len()).into());
        }
        if found[0]["text"] != document(number)["text"] {
            return Err(format!("document {number} has another text").into());
        }
    }
    println!("  {documents} documents compared on every node: each twice, alike");
    Ok(())
}
