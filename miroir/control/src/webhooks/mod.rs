//! The worker that tells webhooks of finished tasks: gzipped NDJSON of tasks, one request for
//! everything that finished since the last.
//!
//! A request that fails is sent again a few times. One webhook that hangs holds up nobody else. No
//! address is told that is not public, unless `webhooks.allowed_networks` has it.
//!
//! # Metrics
//! `miroir_webhook_requests_total{result}`: `ok` or `failed`.

mod networks;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Method, Request, header};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use miroir_pipeline::cluster::ClusterState;
use miroir_store::Webhook;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::api::webhooks::news;
use networks::Guarded;

/// How long one request may take, as on one node.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Pauses before a request is sent again.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];
/// Deliveries under way at the same time. More wait, and what finishes meanwhile goes with them.
const AT_ONCE: usize = 64;

type Sender = Client<HttpsConnector<HttpConnector<Guarded>>, Full<Bytes>>;

fn sender(guard: &Guarded) -> Sender {
    let mut http = HttpConnector::new_with_resolver(guard.clone());
    http.enforce_http(false);
    http.set_connect_timeout(Some(TIMEOUT));
    let connector = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1();
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector.wrap_connector(http))
}

fn gzip(text: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text)?;
    Ok(encoder.finish()?.into())
}

/// One request; the error says what went wrong.
async fn send(
    (sender, guard): &(Sender, Guarded),
    hook: &Webhook,
    body: Bytes,
) -> Result<(), String> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&hook.url)
        .header(header::CONTENT_ENCODING, "gzip")
        .header(header::CONTENT_TYPE, "application/x-ndjson");
    for (name, value) in &hook.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
    guard.judge(request.uri().host().unwrap_or_default())?;
    match tokio::time::timeout(TIMEOUT, sender.request(request)).await {
        Ok(Ok(response)) if response.status().is_success() => Ok(()),
        Ok(Ok(response)) => Err(format!("it answered {}", response.status())),
        Ok(Err(error)) => Err(cause(&error)),
        Err(_) => Err("it did not answer in time".to_owned()),
    }
}

/// What an error says, and what those behind it say.
fn cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    text
}

async fn deliver(sender: (Sender, Guarded), hook: Webhook, body: Bytes) {
    for pause in PAUSES.map(Some).into_iter().chain([None]) {
        let result = send(&sender, &hook, body.clone()).await;
        let label = if result.is_ok() { "ok" } else { "failed" };
        metrics::counter!("miroir_webhook_requests_total", "result" => label).increment(1);
        let (Err(error), uuid) = (result, hook.uuid) else { return };
        let Some(pause) = pause else {
            tracing::error!(%uuid, error, "a webhook was not told of finished tasks");
            return;
        };
        tracing::warn!(%uuid, error, "a webhook is told again");
        tokio::time::sleep(pause).await;
    }
}

/// Tells webhooks until cancelled.
pub async fn run(state: Arc<ClusterState>, stop: CancellationToken) {
    let guard = Guarded::new(state.options.webhooks.allowed_networks.clone());
    let sender = (sender(&guard), guard);
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let news = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            news = news(&state) => news,
        };
        let (hooks, body) = match news {
            Ok((hooks, text)) if !text.is_empty() => match gzip(&text) {
                Ok(body) => (hooks, body),
                Err(error) => {
                    tracing::error!(%error, "finished tasks could not be compressed");
                    continue;
                }
            },
            Ok(_) => continue,
            Err(error) => {
                tracing::error!(%error, "webhooks could not be told of finished tasks");
                continue;
            }
        };
        for hook in hooks {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let delivery = deliver(sender.clone(), hook, body.clone());
            let stop = stop.clone();
            state.tracker.spawn(async move {
                // The end of the process waits for nobody's webhook.
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = delivery => {}
                }
                drop(permit);
            });
        }
    }
}
