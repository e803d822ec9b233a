//! What the examples share: nodes to talk to, and a client for a service in the same process.

#![allow(dead_code, reason = "every example uses its own part of this module")]

use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use miroir::error::BoxError;
use miroir::http::EdgeService;
use miroir_engine::EngineNode;
use serde_json::Value;
use tower::ServiceExt;

/// Anything that can go wrong in an example.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Nodes of an example.
pub(crate) struct Nodes {
    /// Their addresses.
    pub urls: Vec<String>,
    /// Their key.
    pub key: String,
    /// Nodes of this process live as long as this.
    own: Vec<EngineNode>,
}

impl Nodes {
    /// The nodes named on the command line, or three new ones in this process.
    pub(crate) async fn get(arguments: Vec<String>) -> Result<Self> {
        let key = std::env::var("MIROIR_NODE_MASTER_KEY").unwrap_or("example-node-key".to_owned());
        let mut own = Vec::new();
        if arguments.is_empty() {
            for _ in 0..3 {
                own.push(EngineNode::start_temp(&key).await?);
            }
        }
        let urls =
            if own.is_empty() { arguments } else { own.iter().map(EngineNode::url).collect() };
        Ok(Self { urls, key, own })
    }
}

impl Nodes {
    /// Ends one of this process without a word to anybody.
    pub(crate) fn kill(&mut self, at: usize) {
        self.own.remove(at).kill();
    }
}

/// A client API, with a body that can be read.
pub(crate) trait Api:
    EdgeService<Full<Bytes>, Body: Body<Data = Bytes, Error: Into<BoxError>>> + Sync
{
}

impl<S> Api for S where
    S: EdgeService<Full<Bytes>, Body: Body<Data = Bytes, Error: Into<BoxError>>> + Sync
{
}

/// The key of clients.
pub(crate) const MASTER_KEY: &str = "example-master-key";

/// Sends one request, with the clients' key, and answers its JSON.
pub(crate) async fn call(api: &impl Api, method: &str, path: &str, body: &Value) -> Result<Value> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {MASTER_KEY}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))?;
    let Ok(answer) = api.clone().oneshot(request).await;
    let body = answer.into_body().collect().await.map_err(Into::into)?;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}

/// Sends a write and waits for its task.
pub(crate) async fn write(api: &impl Api, method: &str, path: &str, body: &Value) -> Result<()> {
    let accepted = call(api, method, path, body).await?;
    let uid = accepted["taskUid"].as_u64().ok_or_else(|| accepted.to_string())?;
    loop {
        let task = call(api, "GET", &format!("/tasks/{uid}"), &Value::Null).await?;
        match task["status"].as_str() {
            Some("succeeded") => return Ok(()),
            Some("enqueued" | "processing") => tokio::time::sleep(Duration::from_millis(5)).await,
            _ => return Err(task.to_string().into()),
        }
    }
}
