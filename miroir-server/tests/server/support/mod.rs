//! A server on ports of its own over small nodes that know only what the tests need.

#![allow(dead_code, reason = "every test file uses a part of it")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use miroir_server::config::{Config, Secret};
use miroir_server::{Addresses, BuildError, Server};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub(crate) const MASTER: &str = "the-master-key-of-these-tests";
pub(crate) const ADMIN: &str = "the-admin-key-of-these-tests";
pub(crate) const NODE: &str = "the-node-key-of-these-tests";

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node: answers `/health` while it is well, and `/version` once it may.
#[derive(Debug)]
pub(crate) struct FakeNode {
    pub(crate) address: SocketAddr,
    pub(crate) well: AtomicBool,
    /// One permit is taken by every answer to `/version`.
    pub(crate) versions: Semaphore,
    /// Requests for `/version` that arrived.
    pub(crate) asked: AtomicUsize,
    /// Whether every request carried the node key.
    pub(crate) keys: AtomicBool,
}

impl FakeNode {
    pub(crate) async fn start() -> Arc<Self> {
        Self::listen(None).await
    }

    /// A node that speaks TLS.
    pub(crate) async fn over_tls(tls: TlsAcceptor) -> Arc<Self> {
        Self::listen(Some(tls)).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            well: AtomicBool::new(true),
            versions: Semaphore::new(1_000_000),
            asked: AtomicUsize::new(0),
            keys: AtomicBool::new(true),
        });
        let state = Arc::clone(&node);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&state);
                let service = service_fn(move |request| Arc::clone(&state).answer(request));
                let http = hyper::server::conn::http1::Builder::new();
                match tls.clone() {
                    None => {
                        tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
                    }
                    Some(tls) => {
                        tokio::spawn(async move {
                            if let Ok(stream) = tls.accept(stream).await {
                                let _ = http.serve_connection(TokioIo::new(stream), service).await;
                            }
                        });
                    }
                }
            }
        });
        node
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let key = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        if key != Some(&format!("Bearer {NODE}")) {
            self.keys.store(false, Ordering::SeqCst);
        }
        let (status, body) = match request.uri().path() {
            "/health" if self.well.load(Ordering::SeqCst) => {
                (StatusCode::OK, r#"{"status":"available"}"#)
            }
            "/version" => {
                self.asked.fetch_add(1, Ordering::SeqCst);
                self.versions.acquire().await.unwrap().forget();
                (StatusCode::OK, r#"{"commitSha":"x","commitDate":"x","pkgVersion":"1.50.0"}"#)
            }
            "/tasks" | "/indexes" if self.well.load(Ordering::SeqCst) => {
                (StatusCode::OK, r#"{"results":[],"total":0,"limit":20,"from":null,"next":null}"#)
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "{}"),
        };
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        Ok(response)
    }
}

/// A configuration for these nodes; the store lies in `directory`.
pub(crate) fn config(nodes: &[Arc<FakeNode>], directory: &std::path::Path) -> Config {
    let list: Vec<String> = nodes
        .iter()
        .enumerate()
        .map(|(at, node)| format!("{{id: node-{at}, address: \"http://{}\"}}", node.address))
        .collect();
    let yaml = format!(
        "miroir: {{shards: 4, nodes: [{}], server: {{bind: 127.0.0.1, port: 0, metrics_port: 0}}, \
         health: {{interval_ms: 50, timeout_ms: 40, recovery_threshold: 1}}}}",
        list.join(", ")
    );
    keyed(&yaml, directory)
}

/// A configuration with the keys of these tests, and its state in this directory.
pub(crate) fn keyed(yaml: &str, directory: &std::path::Path) -> Config {
    let mut config = Config::from_yaml(yaml).unwrap();
    config.master_key = Secret::new(MASTER);
    config.admin.api_key = Secret::new(ADMIN);
    config.node_master_key = Secret::new(NODE);
    config.task_store.path = directory.join("miroir.db");
    config
}

/// A server that runs until it is told to stop.
pub(crate) struct Process {
    pub(crate) addresses: Addresses,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) run: JoinHandle<Result<(), BuildError>>,
}

impl Process {
    /// Starts a server.
    pub(crate) async fn start(config: Config) -> Self {
        let server = Box::pin(Server::build(config)).await.unwrap();
        let addresses = server.addresses();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = tokio::spawn(Box::pin(server.run(async move {
            let _ = stopped.await;
        })));
        Self { addresses, stop, run }
    }
}

/// An answer, collected.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// A running server.
pub(crate) struct Running {
    pub(crate) base: String,
    pub(crate) metrics: String,
    pub(crate) nodes: Vec<Arc<FakeNode>>,
    client: HttpClient,
    stop: Option<oneshot::Sender<()>>,
    run: Option<JoinHandle<Result<(), BuildError>>>,
    _directory: tempfile::TempDir,
}

impl Running {
    /// Starts a server over `count` nodes.
    pub(crate) async fn start(count: usize, change: impl FnOnce(&mut Config)) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(FakeNode::start().await);
        }
        Self::over(nodes, change).await
    }

    /// Starts a server over these nodes.
    pub(crate) async fn over(nodes: Vec<Arc<FakeNode>>, change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(&nodes, directory.path());
        change(&mut config);
        let Process { addresses, stop, run } = Process::start(config).await;
        Self {
            base: format!("http://{}", addresses.client),
            metrics: format!("http://{}", addresses.metrics),
            nodes,
            client: Client::builder(TokioExecutor::new()).build_http(),
            stop: Some(stop),
            run: Some(run),
            _directory: directory,
        }
    }

    /// Sends a request with these headers and no key.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let base = if path.starts_with("http://") { "" } else { &self.base };
        let mut request = Request::builder().method(method).uri(format!("{base}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let exchange = async {
            let (parts, body) = self.client.request(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Answer { status: parts.status.as_u16(), headers: parts.headers, body }
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time")
    }

    /// `GET` with these headers.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, "").await
    }

    /// `GET` with the master key.
    pub(crate) async fn master(&self, path: &str) -> Answer {
        self.get(path, &[("authorization", &format!("Bearer {MASTER}"))]).await
    }

    /// `GET` with the admin key.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        self.get(path, &[("authorization", &format!("Bearer {ADMIN}"))]).await
    }

    /// Asks the server to end.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until the server has ended.
    pub(crate) async fn ended(&mut self) {
        let run = self.run.take().unwrap();
        tokio::time::timeout(PATIENCE, run).await.expect("an end in time").unwrap().unwrap();
    }
}

/// Asks again until the answer is yes.
pub(crate) async fn eventually(mut question: impl AsyncFnMut() -> bool) {
    let asking = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        loop {
            ticks.tick().await;
            if question().await {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("it happens in time");
}
