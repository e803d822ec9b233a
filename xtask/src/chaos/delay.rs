//! A TCP relay in front of a node that can hold its answers back, all at once or one after another.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::cluster::{Node, NodeProgram};

/// What all connections of a relay share.
#[derive(Debug, Default)]
struct Shared {
    delay: AtomicU64,
    searches: AtomicUsize,
    /// How many searches the node works at; the others wait. `None`: none waits.
    free: Mutex<Option<usize>>,
    freed: Condvar,
    /// The largest `Content-Length` of a request or an answer, in bytes.
    largest: AtomicUsize,
    /// Bytes of all bodies of documents that the node was sent.
    written: AtomicUsize,
}

impl Shared {
    fn limited(&self) -> bool {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Notes the length that a head at the beginning of these bytes announces.
    fn note_length(&self, bytes: &[u8]) {
        let head = &bytes[..bytes.len().min(4_096)];
        if !(head.starts_with(b"HTTP/1.1 ")
            || head.starts_with(b"POST ")
            || head.starts_with(b"PUT "))
        {
            return;
        }
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let mut lines = text.split("\r\n").take_while(|line| !line.is_empty());
        let length = lines.find_map(|line| line.strip_prefix("content-length:"));
        if let Some(length) = length.and_then(|text| text.trim().parse().ok()) {
            self.largest.fetch_max(length, Ordering::Relaxed);
            let line = text.lines().next().unwrap_or_default();
            if line.contains("/documents") && !line.contains("/fetch") {
                self.written.fetch_add(length, Ordering::Relaxed);
            }
        }
    }

    /// Holds an answer back for so long, if need be once there is room for it.
    fn hold(&self, delay: Duration) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .freed
            .wait_while(free, |free| *free == Some(0))
            .unwrap_or_else(PoisonError::into_inner);
        let limited = free.is_some();
        *free = free.map(|free| free - 1);
        drop(free);
        thread::sleep(delay);
        if limited {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            *free = free.map(|free| free + 1);
            self.freed.notify_one();
        }
    }
}

/// A relay; it runs until the process ends.
#[derive(Debug)]
pub(super) struct Delay {
    /// Its address.
    pub(super) url: String,
    shared: Arc<Shared>,
}

impl Delay {
    /// Relays to a node's address, at first without delay.
    pub(super) fn start(node: &str) -> Outcome<Self> {
        let target = node.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared::default());
        let all = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A node that is gone closes the connection, as it would without a relay.
                let Ok(node) = TcpStream::connect(&target) else { continue };
                let _ = relay(client, node, &all);
            }
        });
        Ok(Self { url, shared })
    }

    /// Holds every answer back for so long.
    pub(super) fn set(&self, delay: Duration) {
        self.shared.delay.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// From now on every search takes so long, and only so many are worked at at a time.
    pub(super) fn work(&self, at_a_time: usize, takes: Duration) {
        *self.shared.free.lock().unwrap_or_else(PoisonError::into_inner) = Some(at_a_time);
        self.set(takes);
    }

    /// The largest body that passed, by its `Content-Length` in bytes; one in chunks is not seen.
    pub(super) fn largest_body(&self) -> usize {
        self.shared.largest.load(Ordering::Relaxed)
    }

    /// Bytes of all documents that the node was sent.
    pub(super) fn written(&self) -> usize {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Looks at bodies from now on only.
    pub(super) fn forget_bodies(&self) {
        self.shared.largest.store(0, Ordering::Relaxed);
        self.shared.written.store(0, Ordering::Relaxed);
    }

    /// Searches that passed since the last time somebody asked.
    pub(super) fn take_searches(&self) -> usize {
        self.shared.searches.swap(0, Ordering::Relaxed)
    }
}

/// Starts nodes, a relay in front of each, and says where the relays are.
pub(super) fn relayed(
    program: &NodeProgram,
    count: usize,
    dir: &Path,
) -> Outcome<(Vec<Node>, Vec<Delay>, Vec<String>)> {
    let start = |number| Node::start(program, &format!("node-{number}"), dir);
    let nodes = (0..count).map(start).collect::<Outcome<Vec<_>>>()?;
    let relays = nodes.iter().map(|node| Delay::start(&node.url)).collect::<Outcome<Vec<_>>>()?;
    let urls = relays.iter().map(|relay| relay.url.clone()).collect();
    Ok((nodes, relays, urls))
}

/// One thread for each direction.
fn relay(client: TcpStream, node: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    node.set_nodelay(true)?;
    // Whether the next bytes of the node begin an answer: one is held back once, not each part of it.
    let asked = Arc::new(AtomicBool::new(false));
    let (mut from, mut to) = (client.try_clone()?, node.try_clone()?);
    let (requests, begins) = (Arc::clone(shared), Arc::clone(&asked));
    thread::spawn(move || {
        copy(&mut from, &mut to, |bytes| {
            requests.note_length(bytes);
            let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let search = line.starts_with(b"POST ") && line.ends_with(b"search HTTP/1.1");
            if search {
                requests.searches.fetch_add(1, Ordering::Relaxed);
            }
            begins.store(search || !requests.limited(), Ordering::Relaxed);
        });
    });
    let (mut from, mut to, answers) = (node, client, Arc::clone(shared));
    thread::spawn(move || {
        copy(&mut from, &mut to, |bytes| {
            answers.note_length(bytes);
            let delay = answers.delay.load(Ordering::Relaxed);
            if asked.swap(false, Ordering::Relaxed) && delay > 0 {
                answers.hold(Duration::from_millis(delay));
            }
        });
    });
    Ok(())
}

fn copy(from: &mut TcpStream, to: &mut TcpStream, mut look: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        look(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
