//! The HTTP server: one task per connection, requests handled on blocking threads.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::State;
use super::answers::Answer;
use super::errors::ApiError;
use super::routes::{self, Request};

/// Largest body, as in Meilisearch.
const BODY_LIMIT: usize = 100 * 1024 * 1024;
/// How long connections may take to end when the node stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts connections until `stop` changes, then lets the requests under way finish. When this
/// future is dropped the connections are cut.
pub(crate) async fn serve(
    listener: TcpListener,
    state: Arc<State>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Without this every small answer waits for the client's delayed acknowledgement.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection(stream, Arc::clone(&state), stop.clone()));
                }
                // Usually too many open files: connections that end will make room.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
}

async fn connection(stream: TcpStream, state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(respond(state, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    tokio::select! {
        _ = served.as_mut() => {}
        _ = stop.changed() => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

async fn respond(
    state: Arc<State>,
    request: http::Request<Incoming>,
) -> http::Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let (authorization, content_type) =
        (header(AUTHORIZATION.as_str()), header(CONTENT_TYPE.as_str()));
    let proxy = header("meili-proxy-search").is_some_and(|value| value == "true" || value == "1");
    let body = match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let error = if error.is::<LengthLimitError>() {
                ApiError::new(
                    "payload_too_large",
                    "The provided payload reached the size limit. The maximum accepted payload size is 100 MiB.",
                )
            } else {
                ApiError::new("bad_request", error.to_string())
            };
            return encode((error.status, Some(error.to_value())));
        }
    };
    let request = Request {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        authorization,
        content_type,
        proxy,
        body,
    };
    let handled =
        tokio::task::spawn_blocking(move || encode(routes::handle(&state, &request))).await;
    handled.unwrap_or_else(|_| {
        let error = ApiError::internal("the request handler panicked");
        encode((error.status, Some(error.to_value())))
    })
}

fn encode((status, body): Answer) -> http::Response<Full<Bytes>> {
    let bytes = body.and_then(|value| serde_json::to_vec(&value).ok()).unwrap_or_default();
    let mut response = http::Response::new(Full::new(Bytes::from(bytes)));
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
