//! The client of one node: how many connections it uses at one time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use miroir_api::NodeId;
use miroir_pipeline::Context;
use miroir_pipeline::context::Origin;
use miroir_pipeline::node::{Call, Client, ClientOptions};
use tokio::net::TcpListener;
use tower::ServiceExt;

/// A node that counts how many requests it serves at one time.
async fn node(most: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let busy = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (busy, most) = (Arc::clone(&busy), Arc::clone(&most));
            tokio::spawn(async move {
                let service = service_fn(|_| async {
                    most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // Lets requests meet that may.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    busy.fetch_sub(1, Ordering::SeqCst);
                    let body = Full::new(Bytes::from_static(b"{}"));
                    Ok::<_, std::convert::Infallible>(http::Response::new(body))
                });
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_are_used_than_allowed() {
    const ALLOWED: usize = 3;
    let most = Arc::new(AtomicUsize::new(0));
    let address = node(Arc::clone(&most)).await;
    let options =
        ClientOptions { max_idle: ALLOWED, max_total: ALLOWED, ..ClientOptions::default() };
    let client = Client::new(NodeId::new("a").unwrap(), &address, options);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let client = client.clone();
        calls.spawn(async move {
            let patience = Duration::from_secs(30);
            let cx = Context::internal(Origin::Repair, patience);
            let request = Call::get("health", "/health").request(&cx, patience).unwrap();
            client.oneshot(request).await.unwrap().status()
        });
    }
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    let most = most.load(Ordering::SeqCst);
    assert!((1..=ALLOWED).contains(&most), "{most} requests at one time");
    assert_eq!(client.connections().requests(), 60);
}

/// A node that tells its first `idle` connections that it saw no request in time, whatever comes.
async fn impatient(idle: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for nth in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |_| async move {
                let status = if nth < idle { 408 } else { 200 };
                let body = Full::new(Bytes::new());
                let answer = http::Response::builder().status(status);
                answer.header("connection", "close").body(body)
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    });
    address
}

#[tokio::test]
async fn what_a_node_says_of_an_idle_connection_is_no_answer() {
    for idle in [1, 2] {
        let id = NodeId::new("a").unwrap();
        let client = Client::new(id.clone(), &impatient(idle).await, ClientOptions::default());
        let patience = Duration::from_secs(30);
        let cx = Context::internal(Origin::Repair, patience);
        let request = Call::get("search", "/indexes/a/search").request(&cx, patience).unwrap();
        let answer = client.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), if idle == 1 { 200 } else { 408 });
        // Nor is it anything about what the client asked.
        let judged = Call::accept(&id, answer).map_err(|error| error.fault().clone());
        assert_eq!(judged.err(), (idle == 2).then_some(miroir_pipeline::Fault::Node(id)));
    }
}
