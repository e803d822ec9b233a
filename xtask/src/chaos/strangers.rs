//! Two thousand connections of nobody, each in the middle of a request: what those who search feel of
//! it, and what it costs the server.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Setting;
use super::delay::relayed;
use super::judge::Judge;
use super::steady::{Load, Phase, heading, prepare};
use crate::bench::process;
use crate::cluster::{NodeProgram, Server};
use crate::guard::{self, Scratch};
use crate::{Failure, Outcome};

/// Connections, half of them in the middle of a body and half of a head.
const CONNECTIONS: usize = 2_000;
/// Threads that hold them.
const HANDS: usize = 4;
/// Time after which a connection that was closed is opened again.
const AGAIN: Duration = Duration::from_secs(10);
/// Searches a second of those who may search.
const RATE: u64 = 40;
/// Time between two looks at the connections, short beside what the server gives them.
const LOOK: Duration = Duration::from_millis(500);
/// Phases without and with strangers, in turn: what else the machine does falls on both.
const ROUNDS: usize = 4;
/// Length of a phase, in seconds.
const PHASE: u64 = 15;

/// A request that never ends, by nobody.
struct Stranger {
    stream: Option<TcpStream>,
    since: Instant,
}

impl Stranger {
    fn open(address: &str, number: usize) -> Self {
        let body = "POST /indexes/chaos/search HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                    Content-Length: 100000\r\n\r\n{\"q\":\"";
        let head = "POST /indexes/chaos/search HTTP/1.1\r\nHost: a\r\nX-Long: ";
        let stream = TcpStream::connect(address).ok().filter(|mut stream| {
            let text = if number.is_multiple_of(2) { body } else { head };
            stream.set_nonblocking(true).is_ok() && stream.write_all(text.as_bytes()).is_ok()
        });
        Self { stream, since: Instant::now() }
    }

    /// Whether the server still holds it.
    fn is_held(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let mut answer = [0; 4096];
        loop {
            match stream.read(&mut answer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    }
}

/// Holds connections until told to stop, and says how many were opened.
fn hold(address: &str, stop: &AtomicBool, held: &AtomicUsize) -> usize {
    let mut opened = 0;
    let mut open = |number| {
        opened += 1;
        Stranger::open(address, number)
    };
    let mut strangers: Vec<Stranger> = (0..CONNECTIONS / HANDS).map(&mut open).collect();
    let mut before = 0;
    while !stop.load(Ordering::Relaxed) && !guard::stopping() {
        let mut now = 0;
        for (number, stranger) in strangers.iter_mut().enumerate() {
            if stranger.is_held() {
                now += 1;
            } else {
                stranger.stream = None;
                if stranger.since.elapsed() >= AGAIN {
                    *stranger = open(number);
                }
            }
        }
        held.fetch_add(now, Ordering::Relaxed);
        held.fetch_sub(before, Ordering::Relaxed);
        before = now;
        std::thread::sleep(LOOK);
    }
    opened
}

/// What was measured while strangers were there.
struct Flood {
    phase: Phase,
    opened: usize,
    held: usize,
    /// The server's memory at the end, in bytes.
    resident: u64,
}

/// Runs a phase while strangers hold their connections.
fn flood(
    address: &str,
    run: impl FnOnce() -> Outcome<Phase>,
    resident: impl FnOnce() -> Outcome<u64>,
) -> Outcome<Flood> {
    let (stop, held) = (&AtomicBool::new(false), &AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS).map(|_| scope.spawn(|| hold(address, stop, held))).collect();
        let measured = run().and_then(|phase| Ok((phase, resident()?)));
        stop.store(true, Ordering::Relaxed);
        let mut opened = 0;
        for hand in hands {
            opened += hand.join().map_err(|_| Failure::from("a client panicked"))?;
        }
        let (phase, resident) = measured?;
        Ok(Flood { phase, opened, held: held.load(Ordering::Relaxed), resident })
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
