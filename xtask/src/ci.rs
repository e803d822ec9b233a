//! `cargo xtask ci`: what CI runs, with a summary at the end. A failing step does not hide the ones
//! after it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::build::{self, Build, cargo, root, run as run_command};
use crate::cluster::{Cluster, MASTER_KEY, NodeProgram};
use crate::guard::{self, Scratch};
use crate::options::{ChaosOptions, DemoOptions, Shape, real_nodes};
use crate::test::{self, Report};
use crate::{Failure, Outcome, chaos, demo, sdk, tidy};

/// Areas of the conformance kit that pass in this version. It grows; nothing is ever taken out.
const AREAS: &[&str] =
    &["documents-read", "search-sort", "search-pagination", "settings-whole", "relevancy-movies"];

/// Clusters the kit is replayed against: nodes, S, RG, RF.
const SHAPES: &[(u32, u32, u32, u32)] =
    &[(1, 1, 1, 1), (3, 16, 1, 1), (3, 16, 1, 2), (6, 16, 2, 2)];

/// How a step ended.
#[derive(Debug)]
enum Verdict {
    Passed,
    Failed(String),
    NotRun(String),
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    time: Duration,
    verdict: Verdict,
}

#[derive(Debug, Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn run(&mut self, name: &'static str, work: impl FnOnce() -> Outcome<Verdict>) -> Outcome<()> {
        guard::check_stop()?;
        println!("\n== {name}");
        let start = Instant::now();
        let verdict = match work() {
            Ok(verdict) => verdict,
            Err(Failure::Stopped) => return Err(Failure::Stopped),
            Err(Failure::Message(message)) => {
                eprintln!("error: {message}");
                Verdict::Failed(message)
            }
        };
        self.0.push(Step { name, time: start.elapsed(), verdict });
        Ok(())
    }

    fn command(&mut self, name: &'static str, command: &mut Command) -> Outcome<()> {
        self.run(name, || run_command(command).map(|()| Verdict::Passed))
    }
}

/// Runs every step.
pub(crate) fn run(install: bool) -> Outcome<()> {
    guard::catch_signals()?;
    test::prepare(install)?;
    let mut steps = Steps::default();
    let mut report = Report::default();
    steps.command("fmt", &mut cargo(&["fmt", "--all", "--check"]))?;
    steps.run("tidy", || tidy::run().map(|()| Verdict::Passed))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--all-features", "--"];
    steps.command("clippy", cargo(&clippy).args(["-D", "warnings"]))?;
    let docs = ["doc", "--workspace", "--all-features", "--no-deps"];
    steps.command("docs", cargo(&docs).env("RUSTDOCFLAGS", "-D warnings"))?;
    steps.run("test", || {
        report = test::tests()?;
        Ok(if report.passed {
            Verdict::Passed
        } else {
            Verdict::Failed(format!("{} failed", report.failed.join(", ")))
        })
    })?;
    steps.run("one build", one_build)?;
    let mut clients = sdk::Report::default();
    steps.run("sdk", || {
        clients = sdk::check(install)?;
        println!("{}", clients.total());
        Ok(if !clients.failed.is_empty() {
            Verdict::Failed(clients.failed.join(", "))
        } else if clients.passed.is_empty() {
            Verdict::NotRun(clients.not_run.join("; "))
        } else {
            Verdict::Passed
        })
    })?;
    steps.run("demo --check", || {
        let options = DemoOptions {
            check: true,
            engine: real_nodes().is_none(),
            meilisearch: real_nodes(),
            ..DemoOptions::default()
        };
        demo::run(&options).map(|()| Verdict::Passed)
    })?;
    steps.run("chaos", || {
        // Only real processes lose what a real kill loses; the engine node is a stand-in.
        let Some(node) = real_nodes() else {
            return Ok(Verdict::NotRun("MIROIR_TEST_MEILISEARCH not set".to_owned()));
        };
        let options = ChaosOptions { meilisearch: Some(node), ..ChaosOptions::default() };
        chaos::run(&options).map(|()| Verdict::Passed)
    })?;
    steps.run("conformance", conformance)?;
    close(&steps, &report, &clients)
}

/// The closing lines: summary, what did not run, the tests' results.
fn close(steps: &Steps, report: &Report, clients: &sdk::Report) -> Outcome<()> {
    println!("\n{:<14} {:>8}  result", "step", "seconds");
    let mut failed = Vec::new();
    let mut total = Duration::ZERO;
    for step in &steps.0 {
        let verdict = match &step.verdict {
            Verdict::Passed => "passed".to_owned(),
            Verdict::NotRun(why) => format!("did not run: {why}"),
            Verdict::Failed(why) => {
                failed.push(step.name);
                format!("FAILED: {}", why.lines().next().unwrap_or_default())
            }
        };
        println!("{:<14} {:>8.1}  {verdict}", step.name, step.time.as_secs_f64());
        total += step.time;
    }
    println!("{:<14} {:>8.1}", "all", total.as_secs_f64());
    for line in report.not_run().iter().chain(&clients.not_run) {
        println!("did not run: {line}");
    }
    println!();
    for line in &report.results {
        println!("{line}");
    }
    println!("{}", report.total());
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}

/// What the tests have compiled is all that the demo needs: Cargo compiles a crate again for other
/// features or flags, and of the engine that takes minutes and gigabytes.
fn one_build() -> Outcome<Verdict> {
    let again = build::programs(Build { engine: true, release: false })?.compiled;
    if again.is_empty() {
        return Ok(Verdict::Passed);
    }
    let names: Vec<String> = again.into_iter().collect();
    Ok(Verdict::Failed(format!(
        "compiled again after the tests: {}; features of a dependency that only tests switch on \
         belong into `[workspace.dependencies]`",
        names.join(", ")
    )))
}

/// Replays the conformance kit where it lies beside the checkout.
fn conformance() -> Outcome<Verdict> {
    let beside = root().parent().map(|parent| parent.join("shared/conformance/conform.py"));
    let Some(kit) = beside.filter(|path| path.is_file()) else {
        return Ok(Verdict::NotRun("the kit is not beside the checkout".to_owned()));
    };
    let Some(node) = real_nodes() else {
        let why = "MIROIR_TEST_MEILISEARCH not set; the recording is of Meilisearch 1.50";
        return Ok(Verdict::NotRun(why.to_owned()));
    };
    if !guard::in_path("python3") {
        return Ok(Verdict::NotRun("python3 is not installed".to_owned()));
    }
    let programs = build::programs(Build { engine: true, release: false })?;
    let program = NodeProgram::choose(Some(&node), &programs)?;
    let mut failed = Vec::new();
    for &(nodes, shards, groups, factor) in SHAPES {
        guard::check_stop()?;
        let shape = Shape { shards, groups, factor, nodes: Some(nodes) };
        let name = format!("({shards},{groups},{factor}) on {nodes}");
        println!("-- {name}");
        if let Err(error) = replay(&kit, &program, &programs.server, shape) {
            if matches!(error, Failure::Stopped) {
                return Err(error);
            }
            eprintln!("error: {error}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        Ok(Verdict::Passed)
    } else {
        Ok(Verdict::Failed(format!("shapes {}", failed.join("; "))))
    }
}

fn replay(
    kit: &PathBuf,
    program: &NodeProgram,
    server: &std::path::Path,
    shape: Shape,
) -> Outcome<()> {
    let scratch = Scratch::new("conformance", false)?;
    let cluster = Cluster::start(program, server, shape, None, scratch)?;
    run_command(
        Command::new("python3")
            .arg(kit)
            .args(["replay", "--candidate", &cluster.server.url])
            .args(["--candidate-key", MASTER_KEY, "--areas", &AREAS.join(",")]),
    )
}
