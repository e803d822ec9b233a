//! The program in this process, and servers to talk to.

#![allow(dead_code, reason = "every test file uses a part of it")]

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clap::Parser;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use miroir_ctl::{Cli, Code, Output, run};
use tokio::net::TcpListener;

pub(crate) const KEY: &str = "the-admin-key-of-these-tests";
pub(crate) const MASTER: &str = "the-master-key-of-these-tests";

/// What the program printed.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Code,
    pub(crate) out: String,
    pub(crate) err: String,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs the program with these arguments and both keys.
pub(crate) async fn ctl(url: &str, arguments: &[&str]) -> Ran {
    with(url, arguments, &[("MIROIR_ADMIN_API_KEY", KEY), ("MIROIR_MASTER_KEY", MASTER)]).await
}

/// As [`ctl`], with these variables.
pub(crate) async fn with(url: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let (out, err) = (Buffer::default(), Buffer::default());
    let mut output = Output::new(out.clone(), err.clone(), false);
    let all = [&["miroir-ctl", "--url", url], arguments].concat();
    let cli = Cli::try_parse_from(all).unwrap();
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let code = run(cli, &mut output, |name| variables.get(name).map(|v| (*v).to_owned())).await;
    Ran { code, out: out.text(), err: err.text() }
}

/// A request that a server got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// Method, path and query.
    pub(crate) line: String,
    pub(crate) key: String,
    pub(crate) body: String,
}

/// A server that has an answer for some requests and 404 for all others.
pub(crate) struct Canned {
    pub(crate) url: String,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Canned {
    /// Answers are found by method and path, without the query. Several to one request are given one
    /// after the other, and the last for good.
    pub(crate) async fn start(answers: &[(&str, u16, &str)]) -> Self {
        let mut all: HashMap<String, VecDeque<(u16, String)>> = HashMap::new();
        for (line, status, body) in answers {
            all.entry((*line).to_owned()).or_default().push_back((*status, (*body).to_owned()));
        }
        let (answers, got) = (Arc::new(Mutex::new(all)), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&got);
        let address = serve(move |request| {
            let (answers, seen) = (Arc::clone(&answers), Arc::clone(&seen));
            async move {
                let key = request.headers().get("authorization");
                let key = key.map_or("", |key| key.to_str().unwrap()).to_owned();
                let short = format!("{} {}", request.method(), request.uri().path());
                let line = format!("{} {}", request.method(), request.uri());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body = String::from_utf8(body.to_vec()).unwrap();
                seen.lock().unwrap().push(Got { line, key, body });
                let (status, body) = next(answers.lock().unwrap().get_mut(&short));
                let mut response = Response::new(Full::from(body));
                *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
                response
            }
        })
        .await;
        Self { url: format!("http://{address}"), got }
    }

    /// What came, in order.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

fn next(answers: Option<&mut VecDeque<(u16, String)>>) -> (u16, String) {
    let Some(answers) = answers else { return (404, String::new()) };
    let first = answers.front().cloned().unwrap();
    if answers.len() > 1 {
        answers.pop_front();
    }
    first
}

/// Serves HTTP on a port of its own.
pub(crate) async fn serve<F, Fut>(answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}
