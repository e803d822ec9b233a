//! Connections to `http://` and `https://` addresses.

use std::io;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{
    DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, MaybeHttpsStream,
    ResolveServerName,
};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use super::ClientTls;
use tower::BoxError;

/// An open connection.
pub type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
/// One that is being opened.
pub type Connecting = BoxFuture<'static, Result<Stream, BoxError>>;

/// Opens connections by what the address says: with TLS to `https://`, without to `http://`, and
/// never the one in place of the other. Each `https://` connection uses what [`ClientTls`] has by
/// then.
#[derive(Clone, Debug)]
pub struct Connector {
    http: HttpConnector,
    tls: ClientTls,
    timeout: Duration,
}

impl Connector {
    /// Connections that take no longer than `timeout` to open, TLS included.
    #[must_use]
    pub fn new(tls: ClientTls, timeout: Duration) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(timeout));
        Self { http, tls, timeout }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        // The one that was asked whether it is ready is the one that is used.
        let next = self.http.clone();
        let mut http = std::mem::replace(&mut self.http, next);
        if uri.scheme() == Some(&Scheme::HTTP) {
            let opening = http.call(uri);
            return Box::pin(async move { Ok(MaybeHttpsStream::Http(opening.await?)) });
        }
        let (tls, timeout) = (self.tls.clone(), self.timeout);
        Box::pin(async move {
            let opening = async {
                let ready = tls.ready().await?;
                let names: Arc<dyn ResolveServerName + Send + Sync> = match &ready.server_name {
                    Some(name) => Arc::new(FixedServerNameResolver::new(name.clone())),
                    None => Arc::new(DefaultServerNameResolver::default()),
                };
                let config = Arc::clone(&ready.config);
                // Refuses every other scheme.
                HttpsConnector::new(http, config, true, names).call(uri).await
            };
            match tokio::time::timeout(timeout, opening).await {
                Ok(opened) => opened,
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}
