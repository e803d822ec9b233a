//! A small blocking HTTP/1.1 client for loopback: one kept-alive connection, `Content-Length` and
//! chunked bodies. Enough for the demo and the benches, and free of dependencies.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Largest head of an answer that is read, in bytes.
const HEAD_LIMIT: u64 = 64 * 1024;

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// Status.
    pub(crate) status: u16,
    /// Body as it came.
    pub(crate) body: Vec<u8>,
    /// Names of Miroir's own headers, in lower case.
    pub(crate) own_headers: Vec<String>,
}

impl Reply {
    /// The body as JSON; `Null` when it is not.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Whether it says that something is missing.
    pub(crate) fn is_degraded(&self) -> bool {
        self.own_headers.iter().any(|name| name == "x-miroir-degraded")
    }

    /// The body as text, for messages.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client of one server.
#[derive(Debug)]
pub(crate) struct Client {
    authority: String,
    key: String,
    /// Header lines of every request.
    more: String,
    timeout: Duration,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    /// A client of `url` (`http://host:port`) that presents `key` as bearer token. Connects with
    /// the first request.
    pub(crate) fn new(url: &str, key: &str) -> Self {
        let authority = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let timeout = Duration::from_mins(1);
        Self { authority, key: key.to_owned(), more: String::new(), timeout, stream: None }
    }

    /// How long one read or write may take.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A header of every request.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let _ = write!(self.more, "{name}: {value}\r\n");
        self
    }

    /// `GET path`.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.send("GET", path, None)
    }

    /// `method path` with a JSON body.
    pub(crate) fn json(&mut self, method: &str, path: &str, body: &Value) -> io::Result<Reply> {
        self.send(method, path, Some(("application/json", body.to_string().as_bytes())))
    }

    /// Sends a request and reads its answer. A kept connection that the server closed in the
    /// meantime is opened again once.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> io::Result<Reply> {
        let bytes = write_request(&self.authority, &self.key, &self.more, method, path, body);
        self.exchange(&bytes)
    }

    /// Sends a request that was written out before.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<Reply> {
        let reused = self.stream.is_some();
        match self.attempt(request) {
            Err(error) if reused && closed(&error) => self.attempt(request),
            other => other,
        }
    }

    fn attempt(&mut self, request: &[u8]) -> io::Result<Reply> {
        // Taken out, so that a failure leaves no half-read connection behind.
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        stream.get_mut().write_all(request)?;
        let (reply, keep) = read_reply(&mut stream)?;
        if keep {
            self.stream = Some(stream);
        }
        Ok(reply)
    }

    /// Sends a request whose answer is read by [`Client::finish`], so that several servers can be
    /// asked at the same time. Nothing is tried again.
    pub(crate) fn begin(&mut self, request: &[u8]) -> io::Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        stream.get_mut().write_all(request)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Reads the answer to what [`Client::begin`] sent.
    pub(crate) fn finish(&mut self) -> io::Result<Reply> {
        let mut stream = self.stream.take().ok_or(io::ErrorKind::NotConnected)?;
        let (reply, keep) = read_reply(&mut stream)?;
        if keep {
            self.stream = Some(stream);
        }
        Ok(reply)
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(&self.authority)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        Ok(BufReader::with_capacity(32 * 1024, stream))
    }
}

/// The whole request as bytes, for [`Client::exchange`] in a loop.
pub(crate) fn render(
    url: &str,
    key: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Vec<u8> {
    let body = body.map(Value::to_string);
    write_request(
        url.trim_start_matches("http://"),
        key,
        "",
        method,
        path,
        body.as_ref().map(|body| ("application/json", body.as_bytes())),
    )
}

fn write_request(
    authority: &str,
    key: &str,
    more: &str,
    method: &str,
    path: &str,
    body: Option<(&str, &[u8])>,
) -> Vec<u8> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {key}\r\n{more}"
    );
    if let Some((kind, bytes)) = body {
        let length = bytes.len();
        let _ = write!(request, "Content-Type: {kind}\r\nContent-Length: {length}\r\n");
    }
    request += "\r\n";
    let mut request = request.into_bytes();
    request.extend_from_slice(body.map_or(&[], |(_, bytes)| bytes));
    request
}

fn closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::UnexpectedEof
    )
}

/// Reads one answer and says whether the connection can be used again.
fn read_reply(stream: &mut impl BufRead) -> io::Result<(Reply, bool)> {
    let status_line = line(stream)?;
    let mut parts = status_line.split(' ');
    let version = parts.next().unwrap_or_default();
    let status = parts.next().and_then(|text| text.parse().ok());
    let status: u16 = status.ok_or_else(|| broken("no status"))?;
    let (mut length, mut chunked, mut keep) = (None, false, version == "HTTP/1.1");
    let mut own_headers = Vec::new();
    loop {
        let header = line(stream)?;
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else { continue };
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        match name.as_str() {
            "content-length" => {
                length = Some(value.parse::<u64>().map_err(|_| broken("wrong length"))?);
            }
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => keep = !value.eq_ignore_ascii_case("close"),
            own if own.starts_with("x-miroir-") => own_headers.push(name),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = line(stream)?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| broken("wrong chunk"))?;
            take(stream, size, &mut body)?;
            line(stream)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = length {
        take(stream, length, &mut body)?;
    } else if status != 204 && status != 304 {
        stream.read_to_end(&mut body)?;
        keep = false;
    }
    Ok((Reply { status, body, own_headers }, keep))
}

fn take(stream: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = stream.take(length).read_to_end(body)? as u64;
    if read == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.take(HEAD_LIMIT).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end().len());
    Ok(line)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an HTTP answer: {what}"))
}

#[cfg(test)]
mod tests {
    use super::read_reply;

    fn read(text: &str) -> (u16, String, bool) {
        let (reply, keep) = read_reply(&mut text.as_bytes()).unwrap();
        (reply.status, reply.text(), keep)
    }

    #[test]
    fn bodies_by_length_and_in_chunks() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP";
        assert_eq!(read(text), (200, "abc".to_owned(), true));
        let text = "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n\
                    2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(read(text), (202, "abc".to_owned(), true));
        let text = "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\nrest";
        assert_eq!(read(text), (404, "rest".to_owned(), false));
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        for text in ["", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "nonsense\r\n\r\n"] {
            assert!(read_reply(&mut text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
