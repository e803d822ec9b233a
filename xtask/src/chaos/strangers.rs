//! Two thousand connections of nobody, each in the middle of a request: what those who search feel of
//! it, and what it costs the server.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::delay::relayed;
use super::judge::Judge;
use super::steady::{Load, Phase, heading, prepare};
use super::{Setting, pass};
use crate::bench::process;
use crate::cluster::{NodeProgram, Server};
use crate::guard::{self, Scratch};
use crate::{Failure, Outcome};

/// Connections, half of them in the middle of a body and half of a head.
const CONNECTIONS: usize = 2_000;
/// Threads that hold them.
const HANDS: usize = 4;
/// Time between two looks at a connection, which is opened again if the server closed it. Each has
/// its own moment, so that they come evenly: two thousand clients are not one clock.
const AGAIN: Duration = Duration::from_secs(10);
/// Searches a second of those who may search.
const RATE: u64 = 40;
/// Phases without and with strangers, in turn: what else the machine does falls on both.
const ROUNDS: usize = 4;
/// Length of a phase, in seconds.
const PHASE: u64 = 15;

/// Sends the begin of a request that never ends, as nobody.
fn open(address: &str, number: usize) -> Option<TcpStream> {
    let body = "POST /indexes/chaos/search HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                Content-Length: 100000\r\n\r\n{\"q\":\"";
    let head = "POST /indexes/chaos/search HTTP/1.1\r\nHost: a\r\nX-Long: ";
    let mut stream = TcpStream::connect(address).ok()?;
    let text = if number.is_multiple_of(2) { body } else { head };
    stream.set_nonblocking(true).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    Some(stream)
}

/// Whether the server still holds a connection.
fn is_held(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 4096];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Holds one hand's connections until told to stop, and says how many were opened and how many are
/// held at last.
fn hold(address: &str, stop: &AtomicBool) -> (usize, usize) {
    const OWN: usize = CONNECTIONS / HANDS;
    let (mut strangers, mut opened) = ([const { None }; OWN], 0);
    for number in (0..OWN).cycle() {
        if stop.load(Ordering::Relaxed) || guard::stopping() {
            break;
        }
        if !strangers[number].as_mut().is_some_and(is_held) {
            opened += 1;
            strangers[number] = open(address, number);
        }
        std::thread::sleep(AGAIN / OWN as u32);
    }
    let held = strangers.iter_mut().flatten().map(is_held).filter(|held| *held).count();
    (opened, held)
}

/// What was measured while strangers were there.
struct Flood {
    phase: Phase,
    opened: usize,
    held: usize,
    /// The server's memory at the end, in bytes.
    resident: u64,
}

/// Runs a phase while strangers hold their connections, all of which have come before it begins.
fn flood(
    address: &str,
    run: impl FnOnce() -> Outcome<Phase>,
    resident: impl FnOnce() -> Outcome<u64>,
) -> Outcome<Flood> {
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS).map(|_| scope.spawn(|| hold(address, stop))).collect();
        let measured = pass(AGAIN).and_then(|()| run()).and_then(|phase| Ok((phase, resident()?)));
        stop.store(true, Ordering::Relaxed);
        let (mut opened, mut held) = (0, 0);
        for hand in hands {
            let (new, at_last) = hand.join().map_err(|_| Failure::from("a client panicked"))?;
            opened += new;
            held += at_last;
        }
        let (phase, resident) = measured?;
        Ok(Flood { phase, opened, held, resident })
    })
}

/// Searches with and without strangers, and judges.
pub(super) fn run(program: &NodeProgram, server: &Path) -> Outcome<()> {
    let scratch = Scratch::new("chaos", false)?;
    let (_nodes, relays, urls) = relayed(program, 3, scratch.path())?;
    let server = Server::start(server, &urls, Setting::SHAPE, None, scratch.path())?;
    let words = prepare(&server)?;
    let load = Load::new(&server.url, &relays, &words, RATE);
    heading(RATE);
    load.run("at first", 10)?;
    let address = server.url.trim_start_matches("http://").to_owned();
    let (mut alone, mut beset, mut opened, mut grown) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..ROUNDS {
        alone.push(load.run("nobody else", PHASE)?);
        let idle = process::resident(server.id())?;
        let flood = flood(
            &address,
            || load.run("2,000 strangers", PHASE),
            || process::resident(server.id()),
        )?;
        println!("  {} connections opened, {} held at last", flood.opened, flood.held);
        beset.push(flood.phase);
        opened += flood.opened;
        grown = grown.max(flood.resident.saturating_sub(idle));
    }
    let (alone, beset) = (Phase::of_all(alone), Phase::of_all(beset));
    let mut judge = Judge::default();
    judge.must(opened >= ROUNDS * CONNECTIONS, "the flood was none");
    for phase in [&alone, &beset] {
        judge.outcome(phase.whole().map_err(Failure::from))?;
    }
    judge.at_most(
        "p99 with strangers, of that without",
        beset.quantile(0.99) / alone.quantile(0.99),
        1.2,
    );
    judge.at_most("memory above before, MiB", grown as f64 / 1_048_576.0, 32.0);
    judge.end()
}
