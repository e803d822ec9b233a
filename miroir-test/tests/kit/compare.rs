//! The comparing proxy between a client and two servers of a few routes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use miroir_test::compare::keys::MainKeys;
use miroir_test::compare::proxy::{Options, Proxy};
use miroir_test::compare::side::Side;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A server with a key, whose tasks are counted from `first` and end when they were asked for often
/// enough.
#[derive(Debug)]
struct Stub {
    main: &'static str,
    key: &'static str,
    first: u64,
    tasks: AtomicU64,
    looks: u64,
    /// What searches find.
    title: &'static str,
}

impl Stub {
    fn answer(&self, method: &Method, target: &str, key: &str, looked: &AtomicU64) -> (u16, Value) {
        if key != self.main && key != self.key {
            return (403, json!({"message": "The provided API key is invalid.", "code": "k"}));
        }
        let path = target.split('?').next().unwrap();
        match (method, path) {
            (&Method::GET, "/keys") => {
                let key = json!({"name": "a", "uid": self.key, "key": self.key, "actions": ["*"]});
                (200, json!({"results": [key]}))
            }
            (&Method::POST, "/indexes/a/documents") => {
                let uid = self.first + self.tasks.fetch_add(1, Ordering::Relaxed);
                (202, json!({"taskUid": uid, "enqueuedAt": "2026-01-01T00:00:00Z"}))
            }
            (&Method::GET, "/tasks") => (200, json!({"results": [], "total": 0})),
            (&Method::GET, path) if path.starts_with("/tasks/") => {
                let uid: u64 = path.trim_start_matches("/tasks/").parse().unwrap();
                if uid < self.first || uid >= self.first + self.tasks.load(Ordering::Relaxed) {
                    return (
                        404,
                        json!({"message": format!("Task `{uid}` not found."), "code": "t"}),
                    );
                }
                let ended = looked.fetch_add(1, Ordering::Relaxed) >= self.looks;
                (200, json!({"uid": uid, "status": if ended { "succeeded" } else { "enqueued" }}))
            }
            _ => (200, json!({"hits": [{"title": self.title}], "processingTimeMs": self.first})),
        }
    }

    async fn start(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stub, looked) = (Arc::new(self), Arc::new(AtomicU64::new(0)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (stub, looked) = (Arc::clone(&stub), Arc::clone(&looked));
                let service = service_fn(move |request: Request<Incoming>| {
                    let target = request.uri().path_and_query().unwrap().to_string();
                    let key =
                        request.headers().get("authorization").map(|key| key.to_str().unwrap());
                    let key = key.unwrap_or_default().trim_start_matches("Bearer ").to_owned();
                    let (status, body) = stub.answer(request.method(), &target, &key, &looked);
                    let body = Full::new(Bytes::from(body.to_string()));
                    let answer = Response::builder().status(status).body(body).unwrap();
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        format!("http://{address}")
    }
}

/// A proxy between a reference and a candidate; the latter finds `title`.
async fn proxy(facing: Side, title: &'static str) -> (SocketAddr, Arc<Proxy>) {
    let stub = |main, key, first, looks, title| Stub {
        main,
        key,
        first,
        tasks: AtomicU64::new(0),
        looks,
        title,
    };
    let reference = stub("R", "one", 3, 2, "same").start().await;
    let candidate = stub("C", "two", 70, 5, title).start().await;
    let [client, left, right] = ["mine", "R", "C"].map(str::to_owned);
    let options = Options {
        reference,
        candidate,
        keys: MainKeys { client, reference: left, candidate: right },
        facing,
        key_order: false,
        examples: 5,
    };
    let proxy = Proxy::new(options).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Arc::clone(&proxy).serve(listener));
    (address, proxy)
}

async fn ask(proxy: SocketAddr, method: Method, target: &str, key: &str) -> (u16, Value) {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{proxy}{target}"))
        .header("authorization", format!("Bearer {key}"))
        .body(Full::default())
        .unwrap();
    let answer = client.request(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn a_client_of_either_side_goes_on_as_if_there_was_no_other() {
    for (facing, first, key) in [(Side::Reference, 3, "one"), (Side::Candidate, 70, "two")] {
        let (address, proxy) = proxy(facing, "same").await;
        let documents = "/indexes/a/documents";
        for number in 0..2 {
            let (status, body) = ask(address, Method::POST, documents, "mine").await;
            assert_eq!((status, &body["taskUid"]), (202, &json!(first + number)));
        }
        // It has ended on both sides when the client gets to see it.
        let (status, task) = ask(address, Method::GET, &format!("/tasks/{first}"), key).await;
        assert_eq!((status, &task["status"]), (200, &json!("succeeded")));
        let (status, _) = ask(address, Method::GET, "/indexes/a", "nobody's").await;
        assert_eq!(status, 403);
        let (_, found) = ask(address, Method::POST, "/indexes/a/search", key).await;
        assert_eq!(found["hits"][0]["title"], "same");
        let (_, told) = ask(address, Method::GET, "/_compare/json", "mine").await;
        assert_eq!((&told["requests"], &told["different"]), (&json!(5), &json!(0)), "{told}");
        assert!(proxy.report().contains("a key that no side has handed out"));
    }
}

#[tokio::test]
async fn what_differs_is_told_with_its_route_and_in_full() {
    let (address, proxy) = proxy(Side::Reference, "another").await;
    let (_, found) = ask(address, Method::POST, "/indexes/a/search", "mine").await;
    assert_eq!(found["hits"][0]["title"], "same");
    let (_, told) = ask(address, Method::GET, "/_compare/json", "mine").await;
    let kind = json!({"route": "POST /indexes/{uid}/search", "kind": "value /hits/…", "count": 1});
    assert_eq!(told["kinds"], json!([kind]));
    let text = proxy.report();
    assert!(text.contains("1 requests compared, 1 differ"), "{text}");
    assert!(text.contains("another") && text.contains("/hits/0/title"), "{text}");
}
