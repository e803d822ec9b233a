//! A disk that fills: one node's data is on a small file system of its own.
//!
//! What the node cannot write its replicas have; it is not read for it, and repaired once there is
//! room. Mounting needs root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::judge::Judge;
use super::ledger::Ledger;
use super::{INDEX, Setting, pass, prepare, whole_again};
use crate::cluster::{self, Cluster, MASTER_KEY};
use crate::guard::Scratch;
use crate::http::Client;
use crate::{Outcome, guard};

/// Size of the file system at first, and once there is room, in mebibytes.
const SMALL: u32 = 48;
const LARGE: u32 = 1_024;
/// Less than so many kibibytes are none.
const LEAST: u64 = 512;
/// Documents of one write, and the characters of each.
const BATCH: usize = 500;
const LENGTH: usize = 1_500;
/// Writes at most before the disk has to be full.
const WRITES: usize = 200;
/// Writes while it is full.
const MORE: usize = 10;
/// First number of documents that are written once; those before are of [`prepare`].
const FIRST: usize = 100_000;

/// A mounted file system in memory, unmounted when dropped.
#[derive(Debug)]
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path, mebibytes: u32) -> Outcome<Self> {
        std::fs::create_dir_all(at)?;
        let size = format!("size={mebibytes}m");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        if command.status()?.success() {
            Ok(Self(at.to_owned()))
        } else {
            Err("a small file system cannot be mounted: this part has to be run by root".into())
        }
    }

    fn grow(&self, mebibytes: u32) -> Outcome<()> {
        let size = format!("remount,size={mebibytes}m");
        let grown = Command::new("mount").args(["-o", &size]).arg(&self.0).status()?;
        if grown.success() { Ok(()) } else { Err("the file system does not grow".into()) }
    }

    fn kibibytes_left(&self) -> Outcome<u64> {
        let output = Command::new("df").args(["-k", "--output=avail"]).arg(&self.0).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let left = text.lines().nth(1).and_then(|line| line.trim().parse().ok());
        left.ok_or_else(|| format!("df does not say what is left: {text}").into())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.0.display());
        }
    }
}

/// Fills the disk, makes room, and judges.
pub(super) fn run(setting: &Setting<'_>) -> Outcome<()> {
    let scratch = Scratch::new("chaos", false)?;
    // Dropped after the cluster, whose node has it open.
    let mount = Mount::new(&scratch.path().join("node-1"), SMALL)?;
    let mut cluster = setting.start_in(scratch)?;
    let ledger = Ledger::default();
    prepare(&mut cluster.server.client(), &ledger)?;
    let (stop, confirmed) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let (reads, missing) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let url = cluster.server.url.clone();
    let mut judge = Judge::default();
    std::thread::scope(|scope| -> Outcome<()> {
        for seed in 0..2 {
            let (url, stop, confirmed) = (&url, &stop, &confirmed);
            let (reads, missing) = (&reads, &missing);
            scope.spawn(move || read(seed, url, stop, confirmed, reads, missing));
        }
        let outcome = fill(&mut cluster, &mount, &ledger, &confirmed, &mut judge).and_then(|()| {
            pass(Duration::from_secs(20))?;
            mount.grow(LARGE)?;
            println!("  there is room again");
            judge.outcome(whole_again(&mut cluster))
        });
        stop.store(true, Ordering::Relaxed);
        outcome
    })?;
    let missing = missing.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("  {} reads of documents whose task succeeded", reads.load(Ordering::Relaxed));
    judge.must(reads.load(Ordering::Relaxed) > 0, "nothing was read");
    judge.must(
        missing.is_empty(),
        format!("{} reads missed a document, the first: {:?}", missing.len(), missing.first()),
    );
    judge.outcome(ledger.check(&cluster, INDEX, 2))?;
    let Cluster { server, nodes, scratch } = cluster;
    drop((server, nodes));
    drop((mount, scratch));
    judge.end()
}

/// Writes until the small disk is full, and then some more.
fn fill(
    cluster: &mut Cluster,
    mount: &Mount,
    ledger: &Ledger,
    confirmed: &Mutex<Vec<String>>,
    judge: &mut Judge,
) -> Outcome<()> {
    let mut client = cluster.server.client();
    let path = format!("/indexes/{INDEX}/documents");
    let (mut full, mut after) = (None, 0);
    for write in 0..WRITES {
        let from = FIRST + write * BATCH;
        // Text that does not compress or repeat, so that the disk fills.
        let mut documents = ledger.load(from..from + BATCH, "");
        let mut random = crate::catalogue::Random::new(from as u64);
        for document in &mut documents {
            let words = (0..LENGTH / 8).map(|_| format!("{:07x}", random.below(1 << 28)));
            document["text"] = Value::from(words.collect::<Vec<_>>().join(" "));
        }
        let ids = documents.iter().filter_map(|it| Some(it["id"].as_str()?.to_owned()));
        let ids: Vec<String> = ids.collect();
        cluster::apply(&mut client, "POST", &path, &Value::Array(documents))?;
        confirmed.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
        if full.is_none() && is_full(cluster, mount)? {
            println!("  the disk is full after {} writes", write + 1);
            full = Some(write);
        }
        after += usize::from(full.is_some());
        if after > MORE {
            break;
        }
    }
    judge.must(full.is_some(), "the disk never filled");
    Ok(())
}

/// Whether a task of the small node failed for want of room, or there is not even room to note that:
/// then it tries for ever.
fn is_full(cluster: &Cluster, mount: &Mount) -> Outcome<bool> {
    let failed = cluster.nodes[1].client().get("/tasks?statuses=failed&limit=20")?.json();
    let tasks = failed["results"].as_array().cloned().unwrap_or_default();
    let code = |task: &Value| task["error"]["code"] == "no_space_left_on_device";
    Ok(tasks.iter().any(code) || mount.kibibytes_left()? < LEAST)
}

/// Reads documents whose task succeeded: each has to be there.
fn read(
    seed: u64,
    url: &str,
    stop: &AtomicBool,
    confirmed: &Mutex<Vec<String>>,
    reads: &AtomicUsize,
    missing: &Mutex<Vec<String>>,
) {
    let mut client = Client::new(url, MASTER_KEY);
    let mut random = crate::catalogue::Random::new(seed);
    while !stop.load(Ordering::Relaxed) && !guard::stopping() {
        let id = {
            let all = confirmed.lock().unwrap_or_else(PoisonError::into_inner);
            if all.is_empty() {
                drop(all);
                guard::pause();
                continue;
            }
            random.pick(&all).clone()
        };
        let path = format!("/indexes/{INDEX}/documents/{id}");
        let outcome = client.get(&path).map(|reply| (reply.status, reply.text()));
        reads.fetch_add(1, Ordering::Relaxed);
        if !matches!(outcome, Ok((200, _))) {
            let text = format!("{id}: {outcome:?}");
            missing.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }
    }
}
