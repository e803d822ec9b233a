//! A small blocking HTTP/1.1 server on loopback for stub nodes: kept-alive connections, bodies with a
//! `Content-Length`, answers in JSON.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::Outcome;

/// Answers requests: status and body of `method`, target and body.
pub(crate) trait Respond: Send + Sync + 'static {
    fn respond(&self, method: &str, target: &str, body: &[u8]) -> (u16, String);
}

/// A running server; stops when dropped.
pub(crate) struct Listener {
    /// Base address.
    pub(crate) url: String,
    stopped: Arc<AtomicBool>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Listener {
    /// Serves on a free port, with a thread a connection.
    pub(crate) fn start(respond: Arc<dyn Respond>) -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}", listener.local_addr()?);
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (respond, stop) = (Arc::clone(&respond), Arc::clone(&stop));
                // A connection that breaks concerns nobody but its client.
                thread::spawn(move || serve(stream, &*respond, &stop));
            }
        });
        Ok(Self { url, stopped })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

fn serve(stream: TcpStream, respond: &dyn Respond, stopped: &AtomicBool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 || stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = (words.next(), words.next());
        let mut length = 0;
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let header = line.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let (method, target) = (method.unwrap_or_default(), target.unwrap_or_default());
        let (status, text) = respond.respond(&method, &target, &body);
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        // One write, one packet.
        stream.get_mut().write_all(&[head.as_bytes(), text.as_bytes()].concat())?;
    }
}
