//! What the engine-backed tests share: a client for nodes and for Miroir, a generator of numbers.
#![allow(dead_code, reason = "every test uses its own part of this module")]

pub(crate) mod corpus;
pub(crate) mod real;
mod spellings;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use miroir_control::Miroir;
use miroir_engine::EngineNode;
use miroir_pipeline::http::Decode;
use serde_json::Value;
use sha2::Sha256;
use tower::ServiceExt;

/// The key of all nodes.
pub(crate) const KEY: &str = "test-master-key";

/// How long a task may take before a test gives up.
const PATIENCE: Duration = Duration::from_mins(2);

/// Somebody who speaks the Meilisearch API.
#[allow(clippy::large_enum_variant, reason = "a handful live in a test")]
#[derive(Clone, Debug)]
pub(crate) enum Api {
    /// A node, over the network.
    Node { base: String, client: Client<HttpConnector, Full<Bytes>> },
    /// Miroir, in this process.
    Miroir(Decode),
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// Requires a status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// A header, as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Api {
    pub(crate) fn node(node: &EngineNode) -> Self {
        Self::at(node.url())
    }

    /// A node by its address.
    pub(crate) fn at(base: String) -> Self {
        Self::Node { base, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub(crate) fn miroir(miroir: &Miroir) -> Self {
        Self::Miroir(miroir.http(Duration::from_secs(30)))
    }

    /// What a node answers to `GET /health`, if it does.
    pub(crate) async fn reachable(&self) -> Option<u16> {
        let Self::Node { base, client } = self else { return None };
        let request = Request::get(format!("{base}/health")).body(Full::default()).unwrap();
        client.request(request).await.ok().map(|answer| answer.status().as_u16())
    }

    /// Sends a request as it is.
    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let (parts, body) = match self {
            Self::Node { base, client } => {
                let request = request
                    .uri(format!("{base}{path}"))
                    .header("authorization", format!("Bearer {KEY}"))
                    .body(body)
                    .unwrap();
                let (parts, body) = client.request(request).await.unwrap().into_parts();
                (parts, body.collect().await.unwrap().to_bytes())
            }
            Self::Miroir(service) => {
                let request = request.uri(path).body(body).unwrap();
                let answer: Result<Response<Full<Bytes>>, Infallible> =
                    service.clone().oneshot(request).await;
                let (parts, body) = answer.unwrap().into_parts();
                (parts, body.collect().await.unwrap().to_bytes())
            }
        };
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body)
                .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&body)))
        };
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(crate) async fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.raw(method, path, "application/json", &body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.raw("GET", path, "", "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.raw("DELETE", path, "", "").await
    }

    /// Waits until a task has ended and answers it.
    pub(crate) async fn wait(&self, task: u64) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let task = self.get(&format!("/tasks/{task}")).await.expect(200);
            if !matches!(task["status"].as_str(), Some("enqueued" | "processing")) {
                return task;
            }
            assert!(Instant::now() < deadline, "the task does not end: {task}");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    /// Waits for the task of an accepted write.
    #[track_caller]
    pub(crate) fn finish(&self, accepted: Answer) -> impl Future<Output = Value> {
        assert_eq!(accepted.status, 202, "{}", accepted.body);
        let task = accepted.body["taskUid"].as_u64().expect("a summary names its task");
        let this = self.clone();
        async move { this.wait(task).await }
    }

    /// Sends a JSON write and answers its ended task.
    pub(crate) async fn write(&self, method: &str, path: &str, body: &Value) -> Value {
        let accepted = self.json(method, path, body).await;
        self.finish(accepted).await
    }

    /// As [`Api::write`], and the task must succeed.
    pub(crate) async fn succeed(&self, method: &str, path: &str, body: &Value) -> Value {
        let task = self.write(method, path, body).await;
        assert_eq!(task["status"], "succeeded", "{method} {path}: {task}");
        task
    }

    pub(crate) async fn search(&self, index: &str, query: &Value) -> Answer {
        self.json("POST", &format!("/indexes/{index}/search"), query).await
    }
}

/// A tenant token with these claims, signed with an API key.
pub(crate) fn token(claims: &Value, key: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = serde_json::json!({"alg": "HS256", "typ": "JWT"});
    let message = format!("{}.{}", part(&header), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// Starts nodes, each with a directory of its own.
pub(crate) async fn nodes(count: usize) -> Vec<EngineNode> {
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        out.push(EngineNode::start_temp(KEY).await.unwrap());
    }
    out
}

/// SplitMix64 (Steele, Lea, Flood 2014): a seed, and the same numbers everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// From `low` to `high`, both included.
    pub(crate) fn range(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.next() % 100 < u64::from(percent)
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}
