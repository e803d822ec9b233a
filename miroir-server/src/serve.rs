//! Listeners: HTTP/1.1 over TCP or TLS, and their orderly end.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use miroir::error::BoxError;
use miroir::http::Peer;
use miroir_api::meili::ApiError;
use miroir_layers::edge::pod_auth::FORWARDED;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tower::util::MapRequest;

use crate::refusal::refuse;
use crate::tls::{self, Accepted};

/// How long a client may take to send a request's head; also how long an idle connection is kept,
/// so it is longer than what pools of clients usually keep.
const HEADER_READ_TIMEOUT: Duration = Duration::from_mins(2);

/// Content type of the Prometheus text format.
pub(crate) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Accepts connections until `stop`, then closes the listener and lets requests under way finish
/// for at most `drain`; what is left is cut. Dropping the future cuts every connection.
///
/// With `tls` each connection begins with a handshake in its own task, so that nobody waits for
/// another one's.
pub(crate) async fn serve<S, B>(
    listener: TcpListener,
    tls: Option<tls::Listener>,
    service: S,
    stop: CancellationToken,
    drain: Duration,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // Without this every small answer waits for a delayed acknowledgement.
                    let _ = stream.set_nodelay(true);
                    let peer = Peer(peer.ip());
                    let named = MapRequest::new(service.clone(), move |mut request: Request<Incoming>| {
                        request.extensions_mut().insert(peer);
                        request
                    });
                    let (watcher, http) = (graceful.watcher(), http.clone());
                    let Some(tls) = tls.clone() else {
                        connections.spawn(attend(http, watcher, stream, named));
                        continue;
                    };
                    let stop = stop.clone();
                    connections.spawn(async move {
                        // Who has not asked for anything yet is not waited for.
                        let accepted = tokio::select! {
                            biased;
                            () = stop.cancelled() => None,
                            accepted = tls.accept(stream) => accepted,
                        };
                        match accepted {
                            Some(Accepted::Tls(stream)) => {
                                attend(http, watcher, *stream, named).await;
                            }
                            Some(Accepted::Plain(stream)) => {
                                attend(http, watcher, stream, tower::service_fn(refuse_plain)).await;
                            }
                            None => {}
                        }
                    });
                }
                Err(error) => {
                    // Usually too many open files: connections that end will make room.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were cut: they took longer than `server.request_timeout_ms`");
    }
}

/// Answers the requests of one connection.
async fn attend<I, S, B>(
    http: hyper::server::conn::http1::Builder,
    watcher: Watcher,
    stream: I,
    service: S,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let service = TowerToHyperService::new(service);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended early");
    }
}

/// The answer to plain HTTP where TLS is spoken. A pod that has not heard yet that this one speaks
/// TLS is told to ask again.
async fn refuse_plain(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let error = if request.headers().contains_key(FORWARDED) {
        ApiError::new("miroir_no_leader", "This pod speaks TLS. Retry in a few seconds.")
    } else {
        let message = "This port speaks TLS, and the request came without. Use `https://` in place \
                       of `http://`.";
        ApiError::new("bad_request", message)
    };
    let mut response = refuse(&error);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// `GET /metrics` for scrapers inside the cluster's network.
pub(crate) fn scrape_service(
    metrics: PrometheusHandle,
) -> impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    tower::service_fn(move |request: Request<Incoming>| {
        let metrics = metrics.clone();
        async move {
            let mut response = Response::new(Full::default());
            if request.uri().path().trim_end_matches('/') != "/metrics" {
                *response.status_mut() = StatusCode::NOT_FOUND;
            } else if request.method() != Method::GET {
                *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            } else {
                *response.body_mut() = Full::from(metrics.render());
                let text = HeaderValue::from_static(PROMETHEUS);
                response.headers_mut().insert(header::CONTENT_TYPE, text);
            }
            Ok::<_, Infallible>(response)
        }
    })
}

/// Done when the process is asked to end: SIGTERM or SIGINT.
pub async fn terminated() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let asked = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let asked = std::future::pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = asked => {}
    }
}
