//! Connections to one node: counted as they open, and what is sent on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll};

use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::client::legacy::{Client as Hyper, Error as HyperError};
use miroir_api::NodeId;
use tower::Service;

use super::Request;
use crate::error::BoxError;
use crate::tls::{self, Connecting, Connector};

/// Counts of one node's connections: keep-alive reuse is `1 - opened / requests`.
#[derive(Debug, Default)]
pub struct Connections {
    pub(super) opened: AtomicU64,
    pub(super) requests: AtomicU64,
}

impl Connections {
    /// Connections opened so far.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Requests sent so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Counts connections as they open.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) inner: Connector,
    pub(super) connections: Arc<Connections>,
    pub(super) node: NodeId,
}

impl Service<Uri> for Counted {
    type Response = tls::Stream;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        self.connections.opened.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("miroir_node_connections_opened_total", "node_id" => self.node.to_string())
            .increment(1);
        self.inner.call(uri)
    }
}

/// Sends a request, and once more where the node says what it says on a connection on which it saw no
/// request for five seconds, before it closes it: the pool may have sent one in this very moment.
pub(super) async fn exchange<C>(
    hyper: &Hyper<C, Full<Bytes>>,
    request: Request,
) -> Result<http::Response<Incoming>, HyperError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let response = hyper.request(request.clone()).await?;
    if response.status() == StatusCode::REQUEST_TIMEOUT {
        return hyper.request(request).await;
    }
    Ok(response)
}
