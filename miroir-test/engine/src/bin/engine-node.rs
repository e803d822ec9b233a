//! One engine node as a process, for the demo and the benches.
//!
//! `engine-node --dir DIR --port PORT --master-key KEY` listens on loopback (port 0 takes a free
//! one) and prints its address as the first line of its standard output. It stops at the end of its
//! standard input, so that it does not outlive whoever started it, and on SIGINT and SIGTERM.

use std::io::{Read, Write};
use std::process::ExitCode;

use miroir_engine::{EngineNode, EngineOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

const USAGE: &str = "usage: engine-node --dir DIR [--port PORT] [--master-key KEY]";

#[tokio::main]
async fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engine-node: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: EngineOptions) -> std::io::Result<()> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let node = EngineNode::start(options).await?;
    {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", node.url())?;
        out.flush()?;
    }
    tokio::select! {
        _ = end_of_input() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    node.stop().await;
    Ok(())
}

/// Ends when standard input does. A thread of its own reads it: such a read cannot be cancelled,
/// and the runtime would wait for it.
fn end_of_input() -> oneshot::Receiver<()> {
    let (ended, waiting) = oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while matches!(std::io::stdin().read(&mut buffer), Ok(read) if read > 0) {}
        let _ = ended.send(());
    });
    waiting
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<EngineOptions, String> {
    let (mut dir, mut port, mut master_key) = (None, 0, None);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--dir" => dir = Some(value()?.into()),
            "--port" => {
                port = value()?.parse().map_err(|error| format!("--port: {error}"))?;
            }
            "--master-key" => master_key = Some(value()?),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(EngineOptions { dir: dir.ok_or("--dir is missing")?, port, master_key })
}
