//! Webhooks over real sockets: what is sent, that it is sent again, and that it ends.

use std::convert::Infallible;
use std::io::Read as _;

use flate2::read::GzDecoder;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::support::{MASTER, Running};
use miroir_server::config::Config;

type Seen = (http::HeaderMap, Vec<Value>);

/// A place that takes tasks; the first time it answers an error.
async fn listen() -> (String, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
    let (sender, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut first = true;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let status = if first { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            first = false;
            let sender = sender.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let sender = sender.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let mut text = String::new();
                    GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
                    let tasks = text.lines().map(|line| serde_json::from_str(line).unwrap());
                    sender.send((parts.headers, tasks.collect())).unwrap();
                    let mut response = Response::new(Empty::<Bytes>::new());
                    *response.status_mut() = status;
                    // One answer per connection, so that the next is another.
                    response.headers_mut().insert("connection", "close".parse().unwrap());
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (url, seen)
}

async fn ask(server: &Running, method: Method, path: &str, body: Value) -> (u16, Value) {
    let key = format!("Bearer {MASTER}");
    let mut headers = vec![("authorization", key.as_str())];
    let text = if body.is_null() { String::new() } else { body.to_string() };
    if !text.is_empty() {
        headers.push(("content-type", "application/json"));
    }
    let answer = server.send(method, path, &headers, text).await;
    let body = if answer.body.is_empty() { Value::Null } else { answer.json() };
    (answer.status, body)
}

#[tokio::test]
async fn a_webhook_is_told_of_what_finished_until_it_listens() {
    let (url, mut seen) = listen().await;
    let allow = |config: &mut Config| {
        config.webhooks.allowed_networks = vec!["127.0.0.0/8".parse().unwrap()];
    };
    let mut server = Running::start(1, allow).await;
    let hook = json!({"url": url, "headers": {"Authorization": "Bearer 0123456789abc"}});
    let (status, made) = ask(&server, Method::POST, "/webhooks", hook).await;
    assert_eq!(status, 201);
    assert_eq!(made["headers"]["Authorization"], "Bearer 01XXXX...");
    let path = format!("/webhooks/{}", made["uuid"].as_str().unwrap());
    assert_eq!(ask(&server, Method::GET, &path, Value::Null).await, (200, made.clone()));

    let (status, task) = ask(&server, Method::DELETE, "/indexes/nowhere", Value::Null).await;
    assert_eq!(status, 202);
    let (headers, refused) = seen.recv().await.unwrap();
    assert_eq!(headers["content-encoding"], "gzip");
    assert_eq!(headers["content-type"], "application/x-ndjson");
    assert_eq!(headers["authorization"], "Bearer 0123456789abc");
    let (_, again) = seen.recv().await.unwrap();
    assert_eq!(again, refused);
    let path_of_task = format!("/tasks/{}", task["taskUid"]);
    let (_, shown) = ask(&server, Method::GET, &path_of_task, Value::Null).await;
    assert_eq!(again, [shown]);
    assert_eq!(again[0]["status"], "failed");
    // Operators see the nodes' part as well.
    let own = server.admin(&format!("/_miroir/tasks/mtask-{}", task["taskUid"])).await;
    assert_eq!((own.status, &own.json()["details"]["nodes"]), (200, &json!([])));
    assert_eq!(server.admin("/_miroir/tasks/999").await.status, 404);
    assert_eq!(server.master("/_miroir/tasks/0").await.status, 401);

    assert_eq!(ask(&server, Method::DELETE, &path, Value::Null).await, (204, Value::Null));
    assert_eq!(ask(&server, Method::GET, &path, Value::Null).await.0, 404);
    ask(&server, Method::DELETE, "/indexes/nowhere", Value::Null).await;
    server.stop();
    server.ended().await;
    assert!(seen.try_recv().is_err(), "nobody listens any more");
}
