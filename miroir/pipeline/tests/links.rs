//! The client of one node that may have another disk whenever it starts again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use miroir_api::NodeId;
use miroir_pipeline::context::Origin;
use miroir_pipeline::node::{Call, Client, ClientOptions, KnownDisk, KnownDisks};
use miroir_pipeline::tls::ClientTls;
use miroir_pipeline::{Context, NodeFailure};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt;

const PATIENCE: Duration = Duration::from_secs(30);
const KEY: &str = "5f7a0e59-0000-5000-8000-000000000001";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Disk {
    has_key: bool,
    newest: Option<u32>,
}

const OWN: Disk = Disk { has_key: true, newest: Some(7) };

/// A process at an address, which ends with all of its connections.
struct Process {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    runs: JoinHandle<()>,
}

impl Process {
    async fn start(at: Option<SocketAddr>, disk: Disk) -> Self {
        let at = at.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        let runs = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let log = Arc::clone(&log);
                let service = service_fn(move |request: http::Request<_>| {
                    let path = request.uri().path().to_owned();
                    let (status, body) = answer(disk, &path);
                    log.lock().unwrap().push(path);
                    async move {
                        // Lets calls meet.
                        tokio::task::yield_now().await;
                        let answer = http::Response::builder().status(status);
                        answer.body(Full::new(Bytes::from(body)))
                    }
                });
                let server = hyper::server::conn::http1::Builder::new();
                connections.spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, asked, runs }
    }

    /// Another process with this disk in its place.
    async fn restart(self, disk: Disk) -> Self {
        self.runs.abort();
        let _ = self.runs.await;
        Self::start(Some(self.address), disk).await
    }

    fn asked(&self, begin: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| path.starts_with(begin)).count()
    }
}

fn answer(disk: Disk, path: &str) -> (StatusCode, String) {
    if path.starts_with("/keys/") {
        let known = disk.has_key && path.ends_with(KEY);
        return (if known { StatusCode::OK } else { StatusCode::NOT_FOUND }, "{}".to_owned());
    }
    let newest = disk.newest.map(|uid| format!(r#"{{"uid":{uid}}}"#)).unwrap_or_default();
    (StatusCode::OK, format!(r#"{{"results":[{newest}]}}"#))
}

fn client(process: &Process, known: KnownDisk) -> Client {
    let disks = KnownDisks::default();
    disks.told_by(move |_| known.clone());
    let (node, address) = (NodeId::new("a").unwrap(), format!("http://{}", process.address));
    let (options, tls) = (ClientOptions::default(), ClientTls::default());
    Client::with_disks(node, &address, options, tls, disks)
}

fn known() -> KnownDisk {
    KnownDisk { key: Some(KEY.to_owned()), highest: Some(7) }
}

async fn send(client: &Client, call: Call) -> Result<StatusCode, Option<NodeFailure>> {
    let cx = Context::internal(Origin::Repair, PATIENCE);
    let request = call.request(&cx, PATIENCE).unwrap();
    let answer = client.clone().oneshot(request).await;
    answer.map(|answer| answer.status()).map_err(|error| error.node_failure())
}

async fn read(client: &Client) -> Result<StatusCode, Option<NodeFailure>> {
    send(client, Call::get("search", "/read")).await
}

/// Sends reads until one is answered: the first after a restart may be lost with its connection.
async fn settle(client: &Client) -> Result<StatusCode, Option<NodeFailure>> {
    loop {
        match read(client).await {
            Err(Some(NodeFailure::Reset | NodeFailure::Connect)) => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_starts_again_with_another_disk_is_sent_nothing() {
    let unproven = Err(Some(NodeFailure::Unproven));
    for other in [
        Disk { has_key: false, newest: None },
        Disk { has_key: false, newest: Some(9) },
        Disk { has_key: true, newest: Some(6) },
        Disk { has_key: true, newest: None },
    ] {
        let process = Process::start(None, OWN).await;
        let client = client(&process, known());
        assert_eq!(read(&client).await, Ok(StatusCode::OK));
        let process = process.restart(other).await;
        assert_eq!(settle(&client).await, unproven, "{other:?}");
        assert_eq!(read(&client).await, unproven, "{other:?}");
        assert_eq!(process.asked("/read"), 0, "{other:?}");
        // Who asks whose disk it is gets an answer.
        let health = Call::get("health", "/health").to_whoever();
        assert_eq!(send(&client, health).await, Ok(StatusCode::OK));
        assert_eq!(read(&client).await, unproven, "{other:?}");
        let process = process.restart(Disk { newest: Some(8), ..OWN }).await;
        assert_eq!(settle(&client).await, Ok(StatusCode::OK), "{other:?}");
        assert!(process.asked("/read") > 0);
        process.runs.abort();
    }
}

/// One question for as long as a connection stays open, however many are opened beside it.
#[tokio::test(flavor = "multi_thread")]
async fn kept_connections_cost_no_question() {
    let process = Process::start(None, OWN).await;
    let client = client(&process, known());
    for _ in 0..3 {
        let mut calls = JoinSet::new();
        for _ in 0..200 {
            let client = client.clone();
            calls.spawn(async move { read(&client).await });
        }
        while let Some(answer) = calls.join_next().await {
            assert_eq!(answer.unwrap(), Ok(StatusCode::OK));
        }
    }
    assert_eq!((process.asked("/keys/"), process.asked("/tasks")), (1, 1));
    assert_eq!(process.asked("/read"), 600);
    assert!(client.connections().opened() > 3, "no two connections beside each other");
    process.runs.abort();
}

/// Calls that wait for one answer share it, the wrong one, too.
#[tokio::test(flavor = "multi_thread")]
async fn many_calls_ask_once() {
    let process = Process::start(None, Disk { has_key: false, newest: None }).await;
    let client = client(&process, known());
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let client = client.clone();
        calls.spawn(async move { read(&client).await });
    }
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.unwrap(), Err(Some(NodeFailure::Unproven)));
    }
    assert_eq!(process.asked("/read"), 0);
    assert!(process.asked("/keys/") < 100, "{}", process.asked("/keys/"));
    process.runs.abort();
}

/// Nothing is asked of which nothing is known, and what a node has no keys for is told by its tasks.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_not_asked() {
    let blank = Disk { has_key: false, newest: Some(3) };
    let process = Process::start(None, blank).await;
    let nothing = client(&process, KnownDisk::default());
    assert_eq!(read(&nothing).await, Ok(StatusCode::OK));
    assert_eq!((process.asked("/keys/"), process.asked("/tasks")), (0, 0));
    let numbers = client(&process, KnownDisk { highest: Some(4), key: None });
    assert_eq!(read(&numbers).await, Err(Some(NodeFailure::Unproven)));
    let numbers = client(&process, KnownDisk { highest: Some(3), key: None });
    assert_eq!(read(&numbers).await, Ok(StatusCode::OK));
    assert_eq!(process.asked("/keys/"), 0);
    process.runs.abort();
}
