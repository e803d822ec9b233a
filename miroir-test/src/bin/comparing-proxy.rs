//! The comparing proxy as a process, for `cargo xtask compare`.
//!
//! Listens on loopback and prints its address as the first line of its standard output. It stops at the
//! end of its standard input, so that it does not outlive whoever started it. The keys come from the
//! environment: `COMPARE_REFERENCE_KEY`, `COMPARE_CANDIDATE_KEY` and, if clients use another one than
//! that of the side they see, `COMPARE_CLIENT_KEY`.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;

use miroir_test::compare::keys::MainKeys;
use miroir_test::compare::proxy::{Options, Proxy};
use miroir_test::compare::side::Side;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const USAGE: &str = "usage: comparing-proxy --reference URL --candidate URL [--port PORT] \
                     [--answer candidate] [--key-order] [--examples N]";

#[tokio::main]
async fn main() -> ExitCode {
    let (options, port) = match options(std::env::args().skip(1)) {
        Ok(read) => read,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(options, port).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("comparing-proxy: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options, port: u16) -> Result<(), String> {
    let proxy = Proxy::new(options).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = listener.map_err(|error| format!("port {port}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let mut out = std::io::stdout();
    writeln!(out, "http://{address}")
        .and_then(|()| out.flush())
        .map_err(|error| error.to_string())?;
    tokio::select! {
        _ = end_of_input() => {}
        () = proxy.serve(listener) => {}
    }
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

fn options(mut arguments: impl Iterator<Item = String>) -> Result<(Options, u16), String> {
    let (mut reference, mut candidate, mut port) = (None, None, 0);
    let (mut facing, mut key_order, mut examples) = (Side::Reference, false, 20);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--reference" => reference = Some(value()?),
            "--candidate" => candidate = Some(value()?),
            "--port" => port = value()?.parse().map_err(|error| format!("--port: {error}"))?,
            "--answer" => {
                facing = match value()?.as_str() {
                    "reference" => Side::Reference,
                    "candidate" => Side::Candidate,
                    other => return Err(format!("--answer: `{other}`")),
                }
            }
            "--key-order" => key_order = true,
            "--examples" => {
                examples = value()?.parse().map_err(|error| format!("--examples: {error}"))?;
            }
            _ => return Err(format!("unknown option {name}")),
        }
    }
    let key = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
    let (left, right) = (key("COMPARE_REFERENCE_KEY")?, key("COMPARE_CANDIDATE_KEY")?);
    let seen = if facing == Side::Reference { &left } else { &right };
    let client = key("COMPARE_CLIENT_KEY").unwrap_or_else(|_| seen.clone());
    let options = Options {
        reference: reference.ok_or("--reference is missing")?,
        candidate: candidate.ok_or("--candidate is missing")?,
        keys: MainKeys { client, reference: left, candidate: right },
        facing,
        key_order,
        examples,
    };
    Ok((options, port))
}
