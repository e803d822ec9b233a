//! The HTTP client under every node's stack: hyper-util with keep-alive.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Uri;
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::connect::Connect;
use hyper_util::client::legacy::{Client as Hyper, Error as HyperError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use miroir_api::NodeId;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tower::Service;

use super::connections::{Connections, Counted, exchange};
use super::link::{KnownDisks, Link, Proven, Unproven};
use super::{NodeCall, Request, Response};
use crate::error::{Error, NodeFailure};
use crate::tls::{self, ClientTls, Connector, LastSaid};
use miroir_core::options::{Faults, Validate, seconds};

/// `connection_pool_per_node`: how connections to one node are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientOptions {
    /// Idle connections kept per node.
    pub max_idle: usize,
    /// Connections to a node in use at one time. Requests beyond that wait for one.
    pub max_total: usize,
    /// How long an idle connection is kept. A minute by default.
    #[serde(rename = "idle_timeout_s", with = "seconds")]
    pub idle_timeout: Duration,
    /// How long a connection may take to open, TLS included. 2 s by default.
    #[serde(skip)]
    pub connect_timeout: Duration,
    /// Largest answer, in bytes. 1 GiB by default.
    #[serde(skip)]
    pub max_response: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            max_idle: 32,
            max_total: 128,
            idle_timeout: Duration::from_mins(1),
            connect_timeout: Duration::from_secs(2),
            max_response: 1 << 30,
        }
    }
}

impl Validate for ClientOptions {
    fn validate(&self, faults: &mut Faults) {
        faults.when(
            self.max_idle > self.max_total,
            &["max_idle", "max_total"],
            format!("{} idle connections of {} in all", self.max_idle, self.max_total),
            "make max_idle the smaller one",
        );
        faults.positive(&[("max_total", self.max_total == 0)]);
    }
}

/// The base service of the node stage: sends requests to one node.
#[derive(Clone, Debug)]
pub struct Client {
    hyper: Hyper<Proven, Full<Bytes>>,
    /// For calls that ask who it is.
    asks: Hyper<Counted, Full<Bytes>>,
    link: Arc<Link>,
    node: NodeId,
    base: Arc<Base>,
    connections: Arc<Connections>,
    /// One permit a connection: HTTP/1.1 answers one request at a time on each.
    open: Arc<Semaphore>,
    max_response: usize,
    /// Where TLS is spoken: where its files are named, and why it was not spoken last.
    tls: Option<Arc<(ClientTls, LastSaid)>>,
}

impl Client {
    /// A client of the node at `address` (`http://host:port` or `https://host:port`). With `https://`
    /// it trusts whom the system trusts; [`Client::with_tls`] says otherwise.
    pub fn new(node: NodeId, address: &str, options: ClientOptions) -> Self {
        Self::with_tls(node, address, options, ClientTls::default())
    }

    /// As [`Client::new`], with TLS as `tls` has it where the address begins with `https://`. A node
    /// with which there is no TLS is never called without.
    pub fn with_tls(node: NodeId, address: &str, options: ClientOptions, tls: ClientTls) -> Self {
        Self::with_disks(node, address, options, tls, KnownDisks::default())
    }

    /// As [`Client::with_tls`], of a node whose disk `disks` knows. When a connection is opened while
    /// there is no other one, whoever answers has to show the node's identity key, and a newest task
    /// that is not older than the newest known, before anything is sent to it but calls
    /// [to whoever answers](NodeCall::to_whoever). What is not shown fails as
    /// [`NodeFailure::Unproven`].
    pub fn with_disks(
        node: NodeId,
        address: &str,
        options: ClientOptions,
        tls: ClientTls,
        disks: KnownDisks,
    ) -> Self {
        let spoken = is_https(address).then(|| Arc::new((tls.clone(), LastSaid::default())));
        let connections = Arc::new(Connections::default());
        let counted = Counted {
            inner: Connector::new(tls, options.connect_timeout),
            connections: Arc::clone(&connections),
            node: node.clone(),
        };
        let base: Arc<str> = address.trim_end_matches('/').into();
        let asks = hyper(&options, counted.clone());
        let (of, at) = (node.clone(), Arc::clone(&base));
        let link = Arc::new(Link::new(of, at, disks, asks.clone(), options.connect_timeout));
        Self {
            hyper: hyper(&options, Proven::new(counted, Arc::clone(&link))),
            asks,
            link,
            node,
            base: Arc::new(Base::new(&base)),
            connections,
            open: Arc::new(Semaphore::new(options.max_total.clamp(1, Semaphore::MAX_PERMITS))),
            max_response: options.max_response,
            tls: spoken,
        }
    }

    /// Its connection counts.
    pub fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }
}

fn hyper<C>(options: &ClientOptions, connector: C) -> Hyper<C, Full<Bytes>>
where
    C: Connect + Clone,
{
    Hyper::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_max_idle_per_host(options.max_idle)
        .pool_idle_timeout(options.idle_timeout)
        .build(connector)
}

/// The address of a node, before the paths of its API.
#[derive(Debug)]
struct Base {
    text: Box<str>,
    /// Its parts, unless it has a path of its own.
    host: Option<(Scheme, Authority)>,
}

impl Base {
    fn new(text: &str) -> Self {
        let parts = text.parse().map(Uri::into_parts).unwrap_or_default();
        let alone = parts.path_and_query.as_ref().is_none_or(|path| path.as_str() == "/");
        let host = parts.scheme.zip(parts.authority).filter(|_| alone);
        Self { text: text.into(), host }
    }

    /// The path of `uri` on this node.
    fn join(&self, uri: &Uri) -> Result<Uri, http::Error> {
        let path = uri.path_and_query();
        if let Some((scheme, authority)) = &self.host {
            let mut parts = uri::Parts::default();
            parts.scheme = Some(scheme.clone());
            parts.authority = Some(authority.clone());
            parts.path_and_query =
                Some(path.cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
            return Ok(Uri::from_parts(parts)?);
        }
        Ok(Uri::try_from(format!("{}{}", self.text, path.map_or("/", PathAndQuery::as_str)))?)
    }
}

/// Whether an address asks for TLS.
pub fn is_https(address: &str) -> bool {
    address.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

impl Client {
    fn failure(&self, error: &HyperError) -> NodeFailure {
        if let Some(tls) = &self.tls
            && let Some((failure, reason)) = tls::failure(error, error.is_connect())
        {
            let (client, said) = &**tls;
            if said.is_news(&reason) {
                let remedy = failure.remedy(client.block());
                tracing::warn!(
                    node = %self.node,
                    failure = failure.label(),
                    reason,
                    remedy,
                    "no TLS with the node; it counts as unreachable"
                );
            }
            return NodeFailure::Tls(failure);
        }
        if Unproven::is_cause_of(error) {
            return NodeFailure::Unproven;
        }
        self.link.doubt();
        if error.is_connect() { NodeFailure::Connect } else { NodeFailure::Reset }
    }

    fn answered(&self) {
        if self.tls.as_ref().is_some_and(|tls| tls.1.forget()) {
            tracing::info!(node = %self.node, "TLS with the node again");
        }
    }
}

impl Service<Request> for Client {
    type Response = Response;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response, Error>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            *request.uri_mut() = this.base.join(request.uri()).map_err(Error::internal)?;
            // They are for layers; what is sent has none, and is copied for less.
            let extensions = std::mem::take(request.extensions_mut());
            let call = extensions.get::<NodeCall>();
            let deadline = call.map(|call| call.deadline);
            let to_whoever = call.is_some_and(|call| call.to_whoever);
            let open = async { this.open.acquire().await.map_err(Error::internal) };
            let _open = match deadline {
                Some(deadline) if deadline.remaining().is_zero() => {
                    return Err(Error::node(&this.node, NodeFailure::Expired));
                }
                Some(deadline) => deadline
                    .run(open)
                    .await
                    .map_err(|_| Error::node(&this.node, NodeFailure::Expired))??,
                None => open.await?,
            };
            this.connections.requests.fetch_add(1, Ordering::Relaxed);
            let exchange = async {
                let failed = |error| Error::node(&this.node, this.failure(&error));
                let response = if to_whoever {
                    exchange(&this.asks, request).await
                } else {
                    this.link.prepare(request.headers());
                    exchange(&this.hyper, request).await
                };
                let response = response.map_err(failed)?;
                this.answered();
                let (parts, body) = response.into_parts();
                let body = Limited::new(body, this.max_response)
                    .collect()
                    .await
                    .map_err(|_| Error::node(&this.node, NodeFailure::Body))?;
                Ok(Response::from_parts(parts, body.to_bytes()))
            };
            match deadline {
                Some(deadline) => tokio::time::timeout(deadline.remaining(), exchange)
                    .await
                    .unwrap_or_else(|_| Err(Error::node(&this.node, NodeFailure::Timeout))),
                None => exchange.await,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_address_and_the_request() {
        let of = |base: &str, path: &str| {
            Base::new(base).join(&path.parse().unwrap()).map(|uri| uri.to_string())
        };
        for base in ["http://a:7700", "https://[::1]:1", "http://user@a", "http://a/with/a/path"] {
            for path in ["/indexes?limit=1", "/", "/indexes/x%20y/search"] {
                assert_eq!(of(base, path).unwrap(), format!("{base}{path}"));
            }
        }
        assert_eq!(of("http://a", "http://elsewhere/keys?x").unwrap(), "http://a/keys?x");
        assert!(of("no address at all", "/keys").is_err());
    }
}
