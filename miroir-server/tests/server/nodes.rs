//! The server over nodes that go wrong on the wire: what a client sees while a replica hangs,
//! resets, answers garbage or errors, or disappears in the middle of an answer or altogether.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use miroir_api::NodeId;
use miroir_server::BuildError;
use miroir_test::node::{Document, FakeNode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt;

use crate::support::{ADMIN, MASTER, Process, eventually, keyed};

/// How a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Well,
    /// Answers late.
    Slow,
    /// Takes requests and never answers.
    Hangs,
    /// Closes the connection instead of answering.
    Resets,
    /// Answers what is no JSON.
    Garbage,
    /// Answers 500.
    Errors,
    /// Closes the connection after half of the body.
    HalfABody,
    /// Refuses connections.
    Gone,
    /// Ends over a request that says `poison`: it resets all connections from then on.
    Mortal,
}

const MODES: [Mode; 6] =
    [Mode::Hangs, Mode::Resets, Mode::Garbage, Mode::Errors, Mode::HalfABody, Mode::Gone];

/// How late a slow node answers; less than what Miroir gives a node.
const LATE: Duration = Duration::from_millis(350);

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A fake node behind a socket.
#[derive(Debug)]
struct Socket {
    address: SocketAddr,
    node: FakeNode,
    mode: Arc<Mutex<Mode>>,
    /// Ends the listener, and who listens.
    accept: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Socket {
    async fn start(number: u64) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let id = NodeId::new(&format!("socket-{number}")).unwrap();
        let socket = Self {
            address: listener.local_addr().unwrap(),
            node: FakeNode::new(id, number),
            mode: Arc::new(Mutex::new(Mode::Well)),
            accept: Mutex::default(),
        };
        socket.listen(listener);
        Arc::new(socket)
    }

    fn listen(&self, listener: TcpListener) {
        let (node, mode) = (self.node.clone(), Arc::clone(&self.mode));
        let (end, mut ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = &mut ended => break,
                };
                let (node, mode) = (node.clone(), Arc::clone(&mode));
                let service =
                    service_fn(move |request| answer(node.clone(), Arc::clone(&mode), request));
                connections.spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
            // As with a process: nobody listens again before all of them are closed.
            drop(listener);
            connections.shutdown().await;
        });
        *self.accept.lock().unwrap() = Some((end, task));
    }

    async fn set(&self, mode: Mode) {
        let before = std::mem::replace(&mut *self.mode.lock().unwrap(), mode);
        if mode == Mode::Gone {
            let (end, task) = self.accept.lock().unwrap().take().unwrap();
            end.send(()).unwrap();
            task.await.unwrap();
        } else if before == Mode::Gone {
            self.listen(TcpListener::bind(self.address).await.unwrap());
        }
    }

    fn documents(&self) -> BTreeMap<String, Document> {
        self.node.inspect(|disk| {
            let documents = disk.indexes.get("main").map(|index| index.documents.iter());
            let all = documents.into_iter().flatten();
            all.map(|(id, document)| (id.clone(), document.clone())).collect()
        })
    }
}

fn whole(status: StatusCode, bytes: Bytes) -> Response<Body> {
    let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

async fn answer(
    node: FakeNode,
    mode: Arc<Mutex<Mode>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let poisoned = body.windows(6).any(|text| text == b"poison");
    let request = Request::from_parts(parts, Full::new(body));
    let mode = {
        let mut mode = mode.lock().unwrap();
        if poisoned && *mode == Mode::Mortal {
            *mode = Mode::Resets;
        }
        *mode
    };
    match mode {
        Mode::Slow => tokio::time::sleep(LATE).await,
        Mode::Hangs => std::future::pending().await,
        Mode::Resets | Mode::Gone => return Err(io::Error::other("reset")),
        Mode::Errors => return Ok(whole(StatusCode::INTERNAL_SERVER_ERROR, "{}".into())),
        Mode::Well | Mode::Garbage | Mode::HalfABody | Mode::Mortal => {}
    }
    let (parts, body) = node.oneshot(request).await.map_err(io::Error::other)?.into_parts();
    Ok(match mode {
        Mode::Garbage => whole(StatusCode::OK, "<html>not a node</html>".into()),
        Mode::HalfABody => {
            let half = body.slice(..body.len() / 2);
            let frames = [Ok(Frame::data(half)), Err(io::Error::other("gone"))];
            let mut response =
                Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync());
            *response.status_mut() = parts.status;
            response.headers_mut().insert("content-length", body.len().into());
            response
        }
        _ => whole(parts.status, body),
    })
}

struct Running {
    base: String,
    metrics: String,
    nodes: Vec<Arc<Socket>>,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: Option<oneshot::Sender<()>>,
    run: JoinHandle<Result<(), BuildError>>,
    _directory: tempfile::TempDir,
}

impl Running {
    async fn start(groups: u32, per_group: u32, copies: u32) -> Self {
        Self::named("node", groups, per_group, copies).await
    }

    /// Node ids begin with `prefix`: metrics are those of the process, and so of all tests.
    async fn named(prefix: &str, groups: u32, per_group: u32, copies: u32) -> Self {
        Self::checked(prefix, groups, per_group, copies, Duration::from_millis(200)).await
    }

    /// Nodes are checked each `interval`.
    async fn checked(
        prefix: &str,
        groups: u32,
        per_group: u32,
        copies: u32,
        interval: Duration,
    ) -> Self {
        let mut nodes = Vec::new();
        let mut list = Vec::new();
        for number in 0..groups * per_group {
            let node = Socket::start(u64::from(number)).await;
            let group = number / per_group;
            let address = node.address;
            list.push(format!(
                "{{id: {prefix}-{number}, address: \"http://{address}\", replica_group: {group}}}"
            ));
            nodes.push(node);
        }
        let directory = tempfile::tempdir().unwrap();
        let yaml = format!(
            "miroir: {{shards: 8, replication_factor: {copies}, replica_groups: {groups}, \
             nodes: [{}], server: {{bind: 127.0.0.1, port: 0, metrics_port: 0}}, \
             scatter: {{node_timeout_ms: 400}}, hedging: {{budget_percent: 100}}, \
             health: {{interval_ms: {}, timeout_ms: 150, unhealthy_threshold: 3}}}}",
            list.join(", "),
            interval.as_millis()
        );
        let config = keyed(&yaml, directory.path());
        let Process { addresses, stop, run } = Process::start(config).await;
        Self {
            base: format!("http://{}", addresses.client),
            metrics: format!("http://{}/metrics", addresses.metrics),
            nodes,
            client: Client::builder(TokioExecutor::new()).build_http(),
            stop: Some(stop),
            run,
            _directory: directory,
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, HeaderMap, Value) {
        let key = if path.starts_with("/_miroir") { ADMIN } else { MASTER };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {key}"));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let (parts, body) = self.client.request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Sends a write and waits for its task.
    async fn write(&self, method: Method, path: &str, body: &Value) -> HeaderMap {
        let (status, headers, answer) = self.send(method, path, Some(body)).await;
        assert_eq!(status, 202, "{path}: {answer}");
        let task = format!("/tasks/{}", answer["taskUid"]);
        eventually(async || {
            let (_, _, task) = self.send(Method::GET, &task, None).await;
            assert_ne!(task["status"], "failed", "{task}");
            task["status"] == "succeeded"
        })
        .await;
        headers
    }

    async fn fill(&self) {
        let index = json!({"uid": "main", "primaryKey": "id"});
        self.write(Method::POST, "/indexes", &index).await;
        self.write(Method::POST, DOCUMENTS, &documents(0..COUNT)).await;
    }

    /// Every kind of read, all of them complete.
    async fn reads(&self, count: u64, what: &str) {
        let search = ("/indexes/main/search", json!({"q": "word", "limit": 1000}), "hits");
        let fetch = ("/indexes/main/documents/fetch", json!({"limit": 1000}), "results");
        for (path, body, list) in [search, fetch] {
            let (status, headers, answer) = self.send(Method::POST, path, Some(&body)).await;
            assert_eq!(status, 200, "{what}, {path}: {answer}");
            assert_eq!(headers.get("x-miroir-degraded"), None, "{what}, {path}");
            assert_eq!(answer[list].as_array().unwrap().len() as u64, count, "{what}, {path}");
        }
        for number in 0..4 {
            let path = format!("{DOCUMENTS}/d{number}");
            let (status, _, answer) = self.send(Method::GET, &path, None).await;
            assert_eq!((status, &answer["v"]), (200, &json!(number)), "{what}, {path}: {answer}");
        }
    }

    async fn metric(&self, wanted: &str) -> Vec<f64> {
        let request = Request::get(&self.metrics).body(Full::default()).unwrap();
        let body = self.client.request(request).await.unwrap().into_body();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(wanted));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
    }

    async fn end(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.run.await.unwrap().unwrap();
    }
}

const DOCUMENTS: &str = "/indexes/main/documents";
const COUNT: u64 = 60;

fn documents(numbers: std::ops::Range<u64>) -> Value {
    numbers.map(|n| json!({"id": format!("d{n}"), "v": n, "text": "word"})).collect()
}

/// Every document is on `copies` nodes, and they agree.
fn check_copies(nodes: &[Arc<Socket>], copies: usize, count: u64) {
    let mut held: BTreeMap<String, Vec<Document>> = BTreeMap::new();
    for node in nodes {
        for (id, document) in node.documents() {
            held.entry(id).or_default().push(document);
        }
    }
    assert_eq!(held.len() as u64, count);
    for (id, found) in held {
        assert_eq!(found.len(), copies, "{id}");
        assert!(found.iter().all(|document| *document == found[0]), "{id}: {found:?}");
    }
}

async fn clients_see_nothing(groups: u32, per_group: u32, copies: u32) {
    for mode in MODES {
        let server = Running::start(groups, per_group, copies).await;
        server.fill().await;
        let what = format!("{mode:?} at {groups} groups of {per_group}, {copies} copies");
        server.nodes[1].set(mode).await;
        // From the first request on, and long after everybody has noticed.
        let begun = Instant::now();
        let mut rounds = 0;
        while rounds < 12 || begun.elapsed() < Duration::from_millis(1500) {
            server.reads(COUNT, &what).await;
            rounds += 1;
        }
        let more = documents(COUNT..COUNT + 20);
        let headers = server.write(Method::POST, DOCUMENTS, &more).await;
        let degraded = headers.get("x-miroir-degraded").map(|value| value.to_str().unwrap());
        assert_eq!(degraded, Some("groups=0"), "{what}");
        server.reads(COUNT + 20, &what).await;
        server.nodes[1].set(Mode::Well).await;
        // Not the metric: it is the process's, and so of all tests.
        eventually(async || {
            let (_, _, stale) = server.send(Method::GET, "/_miroir/replicas", None).await;
            stale["total"] == 0
        })
        .await;
        server.reads(COUNT + 20, &what).await;
        let all = usize::try_from(groups * copies).unwrap();
        eventually(async || server.nodes.iter().all(|n| n.node.inspect(|disk| disk.idle()))).await;
        check_copies(&server.nodes, all, COUNT + 20);
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_replica_is_not_seen_where_a_group_has_two_copies() {
    clients_see_nothing(1, 3, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_replica_is_not_seen_where_another_group_has_a_copy() {
    clients_see_nothing(2, 2, 1).await;
}

/// Where nothing covers it, the answer says what is missing; and a timeout is not asked elsewhere
/// when that is switched off.
#[tokio::test(flavor = "multi_thread")]
async fn shards_that_nothing_covers_are_named() {
    let server = Running::start(1, 2, 1).await;
    server.fill().await;
    server.nodes[1].set(Mode::Resets).await;
    let body = json!({"q": "word", "limit": 1000});
    let search = "/indexes/main/search";
    let (status, headers, answer) = server.send(Method::POST, search, Some(&body)).await;
    assert_eq!(status, 200, "{answer}");
    let degraded = headers.get("x-miroir-degraded").unwrap().to_str().unwrap();
    assert!(degraded.starts_with("shards="), "{degraded}");
    assert!((answer["hits"].as_array().unwrap().len() as u64) < COUNT);
    let refused = server.send(Method::POST, DOCUMENTS, Some(&documents(0..COUNT))).await;
    assert_eq!((refused.0, &refused.2["code"]), (503, &json!("miroir_no_quorum")), "{refused:?}");
    server.end().await;
}

/// Connections to nodes are used again: at least 999 of 1,000 calls find one open.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_reused_under_load() {
    const CLIENTS: usize = 3;
    const SEARCHES: usize = 2_500;
    let server = Arc::new(Running::named("reused", 1, 3, 1).await);
    server.fill().await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let server = Arc::clone(&server);
        clients.spawn(async move {
            for number in 0..SEARCHES {
                let body = json!({"q": format!("word {client} {number}"), "limit": 3});
                let path = "/indexes/main/search";
                let (status, _, answer) = server.send(Method::POST, path, Some(&body)).await;
                assert_eq!(status, 200, "{answer}");
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let ratios = server.metric("miroir_node_connection_reuse_ratio{node_id=\"reused-").await;
    println!("{} searches over 3 nodes, reuse {ratios:?}", CLIENTS * SEARCHES);
    assert_eq!(ratios.len(), 3);
    assert!(ratios.iter().all(|ratio| *ratio >= 0.999), "{ratios:?}");
    let Ok(server) = Arc::try_unwrap(server) else { panic!("all clients have ended") };
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_becomes_slow_holds_nobody_up() {
    let server = Running::named("hedged", 1, 3, 2).await;
    server.fill().await;
    let search = json!({"q": "word", "limit": 1000});
    let slowest = async |count: usize| {
        let mut slowest = Duration::ZERO;
        for _ in 0..count {
            let begun = Instant::now();
            let path = "/indexes/main/search";
            let (status, headers, answer) = server.send(Method::POST, path, Some(&search)).await;
            slowest = slowest.max(begun.elapsed());
            assert_eq!(status, 200, "{answer}");
            assert_eq!(headers.get("x-miroir-degraded"), None);
            assert_eq!(answer["hits"].as_array().unwrap().len() as u64, COUNT);
        }
        slowest
    };
    // Nobody knows yet how long a node takes.
    slowest(100).await;
    let won = async || server.metric("miroir_hedge_fired_total{outcome=\"winner\"}").await[0];
    let before = won().await;
    server.nodes[1].set(Mode::Slow).await;
    let took = slowest(20).await;
    assert!(took < LATE, "a search waited {took:?} for the slow node");
    assert!(won().await > before, "the node was in no cover");
    server.nodes[1].set(Mode::Well).await;
    server.end().await;
}

/// A heavy query that ends a node is not asked of a second one, by whoever sends it however often.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_a_node_does_not_survive_ends_no_second() {
    let server = Running::named("mortal", 1, 3, 2).await;
    server.fill().await;
    for node in &server.nodes {
        node.set(Mode::Mortal).await;
    }
    let dead = || server.nodes.iter().filter(|n| *n.mode.lock().unwrap() == Mode::Resets).count();
    let filter = vec!["text = poison"; 1_500].join(" OR ");
    let body = json!({"q": "word", "filter": filter});
    for path in ["/indexes/main/search", "/indexes/main/search", "/multi-search"] {
        let mut query = body.clone();
        if path == "/multi-search" {
            query["indexUid"] = json!("main");
            query = json!({"queries": [query.clone(), query]});
        }
        let (status, _, answer) = server.send(Method::POST, path, Some(&query)).await;
        assert_eq!(
            (status, &answer["code"]),
            (503, &json!("miroir_query_quarantined")),
            "{answer}"
        );
        assert_eq!(dead(), 1, "{path}");
    }
    // Others go on, with the replicas that are left.
    server.reads(COUNT, "one node is dead").await;
    assert!(server.metric("miroir_quarantined_queries").await[0] >= 1.0);
    assert_eq!(dead(), 1);
    server.end().await;
}

/// What becomes of the disk of a node while it starts again.
#[derive(Clone, Copy, Debug)]
enum Change {
    Emptied,
    Older,
    Swapped,
}

/// A node starts again with another disk, and no check of it is near: nothing it has is believed, and
/// it is written nothing that is to be found on its own disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_changed_between_two_checks_is_not_believed() {
    for change in [Change::Older, Change::Emptied, Change::Swapped] {
        let what = format!("{change:?}");
        let interval = Duration::from_mins(10);
        let server = Running::checked("changed", 1, 3, 2, interval).await;
        let old: Value = (0..COUNT).map(|n| json!({"id": format!("d{n}"), "v": "old"})).collect();
        let index = json!({"uid": "main", "primaryKey": "id"});
        server.write(Method::POST, "/indexes", &index).await;
        server.write(Method::POST, DOCUMENTS, &old).await;
        let nodes = &server.nodes;
        let copies: Vec<_> = nodes.iter().map(|node| node.node.inspect(Clone::clone)).collect();
        server.write(Method::POST, DOCUMENTS, &documents(0..COUNT)).await;
        server.reads(COUNT, "before").await;
        let away: &[usize] = if matches!(change, Change::Swapped) { &[0, 1] } else { &[1] };
        for at in away {
            nodes[*at].set(Mode::Gone).await;
        }
        match change {
            Change::Emptied => nodes[1].node.wipe(),
            Change::Older => nodes[1].node.restore(copies[1].clone()),
            Change::Swapped => nodes[0].node.swap_disks(&nodes[1].node),
        }
        for at in away {
            nodes[*at].set(Mode::Well).await;
        }
        if matches!(change, Change::Swapped) {
            // Two of three are not used, so some shards have no replica that is.
            for _ in 0..12 {
                let all = json!({"limit": 1000});
                let path = format!("{DOCUMENTS}/fetch");
                let (status, headers, answer) = server.send(Method::POST, &path, Some(&all)).await;
                let found = answer["results"].as_array().map_or(0, Vec::len) as u64;
                let partial = status != 200 || headers.contains_key("x-miroir-degraded");
                assert!(partial, "{what}: {found} documents, {answer}");
            }
            let (_, _, shown) = server.send(Method::GET, "/_miroir/topology", None).await;
            let shown = shown.to_string();
            assert_eq!(shown.matches("foreign_disk").count(), 2, "{shown}");
            server.end().await;
            continue;
        }
        for _ in 0..12 {
            server.reads(COUNT, &what).await;
        }
        let more = documents(COUNT..COUNT + 20);
        server.write(Method::POST, DOCUMENTS, &more).await;
        server.reads(COUNT + 20, &what).await;
        eventually(async || {
            let (_, _, stale) = server.send(Method::GET, "/_miroir/replicas", None).await;
            stale["total"] == 0
        })
        .await;
        server.reads(COUNT + 20, &what).await;
        eventually(async || server.nodes.iter().all(|n| n.node.inspect(|disk| disk.idle()))).await;
        check_copies(&server.nodes, 2, COUNT + 20);
        server.end().await;
    }
}
