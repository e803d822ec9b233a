//! `cargo xtask bench`: microbenchmarks through Cargo, ratios measured end to end in one run, and
//! instructions counted under callgrind.

mod ingest;
mod instructions;
mod latency;
pub(crate) mod load;
mod options;
pub(crate) mod process;
mod search;
mod stub;
mod table;
mod writes;

use std::path::PathBuf;
use std::time::Duration;

use self::options::BenchOptions;
pub(crate) use self::options::{BenchCommand, parse};
use self::table::Row;
use crate::build::{self, Build, Programs, cargo, root};
use crate::cluster::NodeProgram;
use crate::{Outcome, guard};

/// Runs what was asked for.
pub(crate) fn run(command: &BenchCommand) -> Outcome<()> {
    guard::catch_signals()?;
    let options = match command {
        BenchCommand::Times(options) => options,
        BenchCommand::Instructions(options) => return instructions::run(options),
        BenchCommand::Writes(options) => return small_writes(options),
    };
    if options.micro {
        build::run(&mut cargo(&["bench", "-p", "miroir-benches"]))?;
    }
    if options.e2e { end_to_end(options) } else { Ok(()) }
}

/// The server and the nodes to measure.
fn contenders(options: &BenchOptions) -> Outcome<(NodeProgram, PathBuf)> {
    let engine = options.meilisearch.is_none();
    let mut programs = match &options.server {
        Some(server) if !engine => Programs::of_server(server.clone()),
        _ => build::programs(Build { engine, release: true })?,
    };
    if let Some(server) = &options.server {
        programs.server =
            server.canonicalize().map_err(|e| format!("{}: {e}", server.display()))?;
    }
    let program = NodeProgram::choose(options.meilisearch.as_deref(), &programs)?;
    Ok((program, programs.server))
}

fn end_to_end(options: &BenchOptions) -> Outcome<()> {
    let (program, server) = contenders(options)?;
    let mut rows = latency::run(options, &server)?;
    rows.extend(ingest::run(options, &program, &server)?);
    rows.extend(search::run(options, &program, &server)?);
    let (nodes, shards) = (options.nodes, options.shards);
    let (connections, documents) = (options.connections, options.documents);
    let more = format!(" --nodes {nodes} --shards {shards} --connections {connections}");
    show(
        options,
        "e2e",
        &format!("{more} --seconds {} --documents {documents}", options.seconds),
        &rows,
    )
}

fn small_writes(options: &BenchOptions) -> Outcome<()> {
    let (program, server) = contenders(options)?;
    let rows = writes::run(options, &program, &server)?;
    let (nodes, shards, seconds) = (options.nodes, options.shards, options.seconds);
    let more = format!(" --nodes {nodes} --shards {shards} --seconds {seconds}");
    show(options, "writes", &more, &rows)
}

/// Prints a table, and puts it where it belongs.
fn show(options: &BenchOptions, name: &str, arguments: &str, rows: &[Row]) -> Outcome<()> {
    let heading = heading(options, &format!("{name}{arguments}"));
    let text = format!("{heading}\n\n{}", table::render(rows));
    println!("{text}");
    if options.write {
        table::write(&root().join("benches/README.md"), name, &text)?;
        eprintln!("wrote benches/README.md");
    }
    Ok(())
}

/// How the table of a command came about.
fn heading(options: &BenchOptions, command: &str) -> String {
    let (variable, nodes) = if options.meilisearch.is_some() {
        ("MIROIR_TEST_MEILISEARCH=… ", "real Meilisearch processes")
    } else {
        ("", "engine nodes of the test kit")
    };
    format!(
        "`{variable}cargo xtask bench {command}` with {nodes}, everything on one machine: {}.",
        process::machine(),
    )
}

/// The time of one measurement.
fn time(options: &BenchOptions) -> Duration {
    Duration::from_secs(options.seconds)
}

fn micros(time: Duration) -> String {
    format!("{:.0} µs", time.as_secs_f64() * 1e6)
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn ratio(miroir: f64, other: f64) -> String {
    if other > 0.0 { format!("{:.2}×", miroir / other) } else { String::new() }
}

fn row(
    what: impl Into<String>,
    miroir: impl Into<String>,
    other: impl Into<String>,
    ratio: impl Into<String>,
    target: &str,
) -> Row {
    Row {
        what: what.into(),
        miroir: miroir.into(),
        other: other.into(),
        ratio: ratio.into(),
        target: target.to_owned(),
    }
}
