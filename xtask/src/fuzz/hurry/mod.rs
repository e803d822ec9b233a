//! `cargo xtask fuzz hurry`: changes of indexes in a hurry, sent without waiting for each other to two
//! plain nodes and to a cluster.
//!
//! A script of a seed makes up to three indexes, then sends creations, documents, settings, primary
//! keys, swaps, renames and deletions one right after the other. Where the two plain nodes agree with
//! each other on how a task ended, with which error, and on what an index is in the end, Miroir has to
//! agree with them. What a node gives for some scripts depends on how many tasks it found in its queue
//! at once: a deletion by a wrong filter succeeds if the deletion of its index is seen with it, and fails
//! otherwise. That is what the second node is there to show; and what Miroir gives may be what a plain
//! node gives for the same changes if each is waited for.
//!
//! A script that fails is made as short as it can be and still fail.

mod judge;
mod play;
mod script;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::thread;

use self::judge::{Played, Verdict, judge, kind};
use self::play::play;
use self::script::{INDEXES, Script, Start};
use crate::build::{self, Build, Programs};
use crate::cluster::{Cluster, Node, NodeProgram};
use crate::guard::{self, Scratch};
use crate::http::Client;
use crate::options::Shape;
use crate::{Failure, Outcome};

/// Options of `fuzz hurry`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HurryOptions {
    /// How many scripts.
    pub(crate) seeds: u64,
    /// Seed of the first.
    pub(crate) first: u64,
    /// How many failing scripts are printed.
    pub(crate) examples: usize,
    /// A real Meilisearch.
    pub(crate) meilisearch: Option<PathBuf>,
    /// A server built elsewhere; `None`: the checkout's.
    pub(crate) server: Option<PathBuf>,
}

impl Default for HurryOptions {
    fn default() -> Self {
        Self { seeds: 100, first: 1, examples: 20, meilisearch: None, server: None }
    }
}

/// Two plain nodes and a cluster.
struct Stage {
    plain: [Node; 2],
    cluster: Cluster,
    /// How many scripts were played: their names.
    runs: u64,
}

impl Stage {
    fn start(nodes: &NodeProgram, programs: &Programs) -> Outcome<Self> {
        let scratch = Scratch::new("fuzz-hurry", false)?;
        let node = |name: &str| Node::start(nodes, name, scratch.path());
        let plain = [node("plain-0")?, node("plain-1")?];
        let shape = Shape { shards: 16, groups: 1, factor: 2, nodes: Some(3) };
        let cluster = Cluster::start(nodes, &programs.server, shape, None, scratch)?;
        Ok(Self { plain, cluster, runs: 0 })
    }

    /// Plays a script everywhere at the same time.
    fn play(&mut self, script: &Script) -> Outcome<Verdict> {
        self.runs += 1;
        let run = format!("r{}", self.runs);
        let clients =
            [self.plain[0].client(), self.plain[1].client(), self.cluster.server.client()];
        let [one, other, miroir] = everywhere(clients, script, &run)?;
        let mut verdict = judge([&one, &other], &miroir);
        if !verdict.wrong.is_empty() {
            let waited = play(&mut self.plain[0].client(), script, &format!("{run}w"), true)?;
            verdict.allow(&waited);
        }
        Ok(verdict)
    }

    /// The script without what it needs not to fail in the same way; `kinds` are those it fails with.
    fn shorten(&mut self, script: Script, kinds: &[String]) -> Outcome<Script> {
        let mut best = script;
        let mut at = best.changes.len();
        let mut fails = |shorter: &Script| -> Outcome<bool> {
            let verdict = self.play(shorter)?;
            Ok(verdict.open.is_empty()
                && kinds_of(&verdict).iter().any(|kind| kinds.contains(kind)))
        };
        while at > 0 {
            at -= 1;
            let shorter = best.without(at);
            if fails(&shorter)? {
                best = shorter;
            }
        }
        for index in 0..INDEXES {
            if best.starts[index] != Start::Absent {
                let shorter = best.absent(index);
                if fails(&shorter)? {
                    best = shorter;
                }
            }
        }
        Ok(best)
    }
}

fn everywhere(clients: [Client; 3], script: &Script, run: &str) -> Outcome<[Played; 3]> {
    thread::scope(|scope| {
        let playing =
            clients.map(|mut client| scope.spawn(move || play(&mut client, script, run, false)));
        let mut played = playing.map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Failure::from("a thread panicked")))
        });
        let mut take = |at: usize| std::mem::replace(&mut played[at], Ok(Played::new()));
        Ok([take(0)?, take(1)?, take(2)?])
    })
}

fn kinds_of(verdict: &Verdict) -> Vec<String> {
    verdict.wrong.iter().map(|(name, plain, miroir)| kind(name, plain, miroir)).collect()
}

/// Plays the scripts.
pub(super) fn run(options: &HurryOptions) -> Outcome<()> {
    guard::catch_signals()?;
    let programs = match &options.server {
        Some(server) if options.meilisearch.is_some() => Programs::of_server(server.clone()),
        Some(_) => return Err("--server needs --meilisearch".into()),
        None => build::programs(Build { engine: options.meilisearch.is_none(), release: false })?,
    };
    let nodes = NodeProgram::choose(options.meilisearch.as_deref(), &programs)?;
    let mut stage = Stage::start(&nodes, &programs)?;
    let (first, seeds) = (options.first, options.seeds);
    println!("{seeds} scripts from seed {first}: two plain nodes, and 3 {}", nodes.describe());
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let (mut failed, mut open, mut waited, mut scripts) = (Vec::new(), 0, 0, 0);
    for seed in first..first.saturating_add(seeds) {
        guard::check_stop()?;
        stage.cluster.server.check()?;
        let script = Script::of(seed);
        let verdict =
            stage.play(&script).map_err(|error| about(seed, &script, &error.to_string()))?;
        scripts += 1;
        waited += u64::from(!verdict.waited.is_empty());
        open += u64::from(!verdict.open.is_empty());
        if verdict.wrong.is_empty() {
            continue;
        }
        let found = kinds_of(&verdict);
        for kind in &found {
            *kinds.entry(kind.clone()).or_default() += 1;
        }
        failed.push(seed);
        if failed.len() <= options.examples {
            let (script, verdict) = shortest(&mut stage, script, verdict, &found)?;
            println!("seed {seed}, plain nodes / Miroir:\n{script}{}", shown(&verdict));
        }
    }
    println!(
        "{scripts} scripts, {} differ; in {open} the plain nodes differ, in {waited} Miroir gives what one \
         that waits is given",
        failed.len()
    );
    for (kind, count) in &kinds {
        println!("  {count:4} {kind}");
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("seeds that differ: {failed:?}").into()) }
}

fn about(seed: u64, script: &Script, error: &str) -> Failure {
    if guard::stopping() {
        return Failure::Stopped;
    }
    format!("seed {seed}: {error}\n{script}").into()
}

/// The shortest script that was found to fail, and how it fails; the given one if none fails again.
fn shortest(
    stage: &mut Stage,
    script: Script,
    verdict: Verdict,
    kinds: &[String],
) -> Outcome<(Script, Verdict)> {
    let shorter = stage.shorten(script.clone(), kinds)?;
    let again = stage.play(&shorter)?;
    Ok(if again.wrong.is_empty() { (script, verdict) } else { (shorter, again) })
}

fn shown(verdict: &Verdict) -> String {
    let wrong = verdict
        .wrong
        .iter()
        .map(|(name, plain, miroir)| format!("  {name}:\n    {plain}\n    {miroir}\n"));
    let mut out: String = wrong.collect();
    if !verdict.open.is_empty() {
        let _ = writeln!(out, "  the plain nodes differ in {}", verdict.open.join(", "));
    }
    out
}
