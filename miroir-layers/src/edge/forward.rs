//! Passes on what changes something to the pod that leads.
//!
//! Of several pods over one store only the elected one changes anything (`miroir_control::pods`). With this
//! layer clients need not know which: a request that changes something is sent on as it came, and
//! the leader's answer is the answer. While nobody leads, or nobody can be reached, it waits for the
//! next leader as long as the request may take.
//!
//! Nothing is sent before the leader has proven that it is a pod of this cluster, and the client's key
//! is not sent at all: a signed statement says who asks ([`pod_auth`](super::pod_auth)). Who changes
//! nothing, nobody in particular and a tenant, is answered here.
//!
//! Of the admin API (`/_miroir/…`) everything is passed on whose method is not safe.
//!
//! What the leader may have begun is never sent twice: if it breaks off in the middle, or another
//! leads before it has answered, the client is told that nobody knows.
//!
//! # Stage
//! Edge. Any `http::Request<B>`; the body of what is passed on is collected.
//!
//! # Order
//! Inside of `authenticate` and load shedding, next to `Decode`. Inside of `decompression`: what is
//! passed on is decoded.
//!
//! # Context
//! Reads [`Principal`](miroir_pipeline::context::Principal) and [`RequestId`]. Adds [`FORWARDED`] to
//! what it passes on, in place of the client's key. What another pod passed on is not passed on
//! again, and its body is read here and compared with what that pod said of it: services inside see
//! a body of [`Received`].
//!
//! # Errors
//! `miroir_no_leader` if there was none all the time, there is no TLS with it where its address begins
//! with `https://`, or who answered there was no pod of this cluster; `miroir_leader_lost` if the
//! leader broke off; `payload_too_large` and `bad_request` as `Decode`.
//!
//! # Metrics
//! `miroir_forwarded_total{outcome}`: `answered`, `no_leader` or `lost`;
//! `miroir_forward_wait_seconds`: time until somebody took the request.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use http_body_util::Full;
//! use miroir_layers::edge::forward::Received;
//! use miroir_layers::edge::{ForwardLayer, ForwardOptions, PodProof};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! // A pod that is alone leads, and answers everything itself.
//! let service = ServiceBuilder::new()
//!     .layer(ForwardLayer::new(ForwardOptions {
//!         leads: Arc::new(|| true),
//!         leader: Arc::new(|| None),
//!         timeout: Duration::from_secs(30),
//!         max_body: 1 << 20,
//!         proof: Arc::new(PodProof::new(b"the master key")),
//!         tls: Default::default(),
//!     }))
//!     .service_fn(|_: http::Request<Received<Full<bytes::Bytes>>>| async move {
//!         Ok::<_, std::convert::Infallible>(http::Response::new(Full::<bytes::Bytes>::default()))
//!     });
//! let request = http::Request::post("/indexes").body(Full::<bytes::Bytes>::default()).unwrap();
//! assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
//! # }
//! ```

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Either, Full};
use hyper_util::client::legacy::{Client, Error as HyperError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use miroir_api::{header as names, hexadecimal};
use miroir_pipeline::Placed;
use miroir_pipeline::deadline::Deadline;
use miroir_pipeline::error::{BoxError, Error};
use miroir_pipeline::http::routes::Route;
use miroir_pipeline::http::{
    Answered, EdgeFuture, EdgeService, Payload, RequestId, Router, refuse,
};
use miroir_pipeline::stack::LayerName;
use miroir_pipeline::tls::{self, ClientTls, Connector, LastSaid};
use tower::{Layer, Service};

use super::authenticate::AuthenticateLayer;
use super::decompression::DecompressionLayer;
use super::paths::ADMIN;
use super::pod_auth::{
    CHALLENGE, Claim, FORWARDED, HELLO, PROOF, PodAuthLayer, PodProof, Proven, Vouched, digest,
    nonce,
};

/// The body of a request inside of this layer, where outside it is `B`: that, or what another pod
/// passed on, read and compared.
pub type Received<B> = Either<B, Full<Bytes>>;

/// How long a connection to a leader may take to open.
const CONNECT: Duration = Duration::from_secs(2);
/// Pause before a leader is looked for again.
const PAUSE: Duration = Duration::from_millis(50);

/// Of one connection only.
const HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// Headers with keys, which no other pod is sent.
const KEYS: [HeaderName; 3] =
    [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, HeaderName::from_static(names::ADMIN_KEY)];

/// Whom to ask, and for how long.
#[derive(Clone)]
pub struct ForwardOptions {
    /// Returns whether this pod leads, and so answers changes itself.
    pub leads: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Returns where the leader is reached, `http://host:port` or `https://host:port`; `None` while nobody leads.
    pub leader: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// How long a request may take, waiting for a leader included.
    pub timeout: Duration,
    /// Largest body that is forwarded, in bytes; a larger one is refused with 413.
    pub max_body: usize,
    /// What this pod and the leader prove themselves with.
    pub proof: Arc<PodProof>,
    /// How a leader is called whose address begins with `https://`.
    pub tls: ClientTls,
}

impl fmt::Debug for ForwardOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardOptions").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

struct State {
    options: ForwardOptions,
    router: Router,
    client: Client<Connector, Full<Bytes>>,
    /// Why there was no TLS with the leader last.
    said: LastSaid,
    /// Who proved itself at which address.
    known: Mutex<Option<(String, Proven)>>,
}

/// See the [module's documentation](self).
#[derive(Clone)]
pub struct ForwardLayer(Arc<State>);

impl fmt::Debug for ForwardLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ForwardLayer").field(&self.0.options).finish()
    }
}

impl ForwardLayer {
    /// Passes on what this pod may not do.
    #[must_use]
    pub fn new(options: ForwardOptions) -> Self {
        let connector = Connector::new(options.tls.clone(), CONNECT);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Connections of a leader that died are not tried again.
            .pool_idle_timeout(Duration::from_secs(5))
            .build(connector);
        Self(Arc::new(State {
            options,
            router: Router::default(),
            client,
            said: LastSaid::default(),
            known: Mutex::default(),
        }))
    }
}

impl Placed for ForwardLayer {
    const NAME: &'static str = "forward";
    const INSIDE_OF: &'static [LayerName] = &[
        LayerName::of::<AuthenticateLayer>(),
        LayerName::of::<DecompressionLayer>(),
        LayerName::of::<PodAuthLayer>(),
    ];
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;
    fn layer(&self, inner: S) -> Forward<S> {
        Forward { inner, state: Arc::clone(&self.0) }
    }
}

/// See the [module's documentation](self).
#[derive(Clone)]
pub struct Forward<S> {
    inner: S,
    state: Arc<State>,
}

impl<S> fmt::Debug for Forward<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("options", &self.state.options).finish_non_exhaustive()
    }
}

/// What became of one attempt.
enum Tried {
    Answered(Response<Bytes>),
    /// Nobody took it.
    Nobody,
    /// Nobody knows.
    Lost,
}

impl State {
    /// The template of the request's route, if it changes something.
    fn changes<B>(&self, request: &Request<B>) -> Option<&'static str> {
        let path = request.uri().path();
        // The operator's API is changed by the methods that are not safe.
        if path.strip_prefix(ADMIN).is_some_and(|rest| rest.starts_with('/')) {
            return (!request.method().is_safe()).then_some(ADMIN);
        }
        let route = self.router.route(request.method(), request.uri().path())?;
        route.changes().then_some(route.path)
    }

    /// Whether a request failed because there is no TLS with the leader; the log says why.
    fn no_tls(&self, leader: &str, error: &HyperError) -> bool {
        let Some((failure, reason)) = tls::failure(error, error.is_connect()) else {
            return false;
        };
        if self.said.is_news(&reason) {
            let remedy = failure.remedy(self.options.tls.block());
            let failure = failure.label();
            tracing::warn!(leader, failure, reason, remedy, "no TLS with the pod that leads");
        }
        true
    }

    /// Who is at an address, if that was proven.
    fn known(&self, address: &str) -> Option<Proven> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(at, _)| at == address).map(|(_, proven)| *proven)
    }

    fn know(&self, known: Option<(String, Proven)>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Asks who is at an address; `None` for nobody of this cluster.
    async fn meet(&self, address: &str) -> Option<Proven> {
        if let Some(proven) = self.known(address) {
            return Some(proven);
        }
        let challenge = nonce();
        let mut hello = Request::new(Full::default());
        *hello.uri_mut() = Uri::try_from(format!("{address}{HELLO}")).ok()?;
        let text = HeaderValue::from_str(&hexadecimal(&challenge)).ok()?;
        hello.headers_mut().insert(CHALLENGE, text);
        let response = match self.client.request(hello).await {
            Ok(response) => response,
            Err(error) => {
                // Says why, if it is for want of TLS.
                self.no_tls(address, &error);
                return None;
            }
        };
        let answer = response.headers().get(PROOF);
        let Some(proven) =
            answer.and_then(|answer| self.options.proof.proven(address, &challenge, answer))
        else {
            // One that is only overloaded says so. The next attempt asks again.
            if response.status() != StatusCode::SERVICE_UNAVAILABLE {
                metrics::counter!("miroir_pod_proofs_failed_total", "of" => "leader").increment(1);
                tracing::warn!(
                    address,
                    "nothing is passed on: who answers at the leader's address in the store is no \
                     pod with this master key, or is reached there by another name than it tells \
                     (`peer_discovery.advertise_url`)"
                );
            }
            return None;
        };
        self.know(Some((address.to_owned(), proven)));
        Some(proven)
    }

    async fn attempt(
        &self,
        claim: Claim,
        parts: &Parts,
        body: &Bytes,
        deadline: Deadline,
    ) -> Tried {
        let Some(leader) = (self.options.leader)() else { return Tried::Nobody };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let Ok(uri) = Uri::try_from(format!("{leader}{path}")) else { return Tried::Nobody };
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = parts.headers.clone();
        let headers = request.headers_mut();
        for name in HOP.iter().chain(&KEYS) {
            headers.remove(name);
        }
        if let Some(RequestId(id)) = parts.extensions.get()
            && let Ok(id) = HeaderValue::from_str(id)
        {
            // One name of it in the logs of both.
            headers.insert(names::REQUEST_ID, id);
        }
        // What comes back is encoded for the client here, and its body was decoded here.
        headers.remove(header::ACCEPT_ENCODING);
        headers.remove(header::CONTENT_ENCODING);
        let sent = AtomicBool::new(false);
        let exchange = async {
            let Some(proven) = self.meet(&leader).await else { return Tried::Nobody };
            let statement = self.options.proof.statement(&proven, &claim, parts, body);
            request.headers_mut().insert(FORWARDED, statement);
            sent.store(true, Ordering::Relaxed);
            let response = match self.client.request(request).await {
                Ok(response) => response,
                // Without TLS it has read nothing.
                Err(error) if self.no_tls(&leader, &error) => return Tried::Nobody,
                Err(error) if error.is_connect() => return Tried::Nobody,
                Err(_) => return Tried::Lost,
            };
            self.said.forget();
            let (mut head, body) = response.into_parts();
            let Ok(body) = body.collect().await else { return Tried::Lost };
            let body = body.to_bytes();
            let no_leader = head.status == StatusCode::SERVICE_UNAVAILABLE
                && body.windows(18).any(|w| w == b"\"miroir_no_leader\"");
            if no_leader {
                return Tried::Nobody;
            }
            for name in &HOP {
                head.headers.remove(name);
            }
            // Told to clients who gave one, by this pod.
            head.headers.remove(names::REQUEST_ID);
            Tried::Answered(Response::from_parts(head, body))
        };
        // A leader that is held up answers nobody, and another leads meanwhile.
        let followed = async {
            loop {
                tokio::time::sleep(PAUSE).await;
                if (self.options.leader)().is_some_and(|now| now != leader) {
                    return;
                }
            }
        };
        let given_up = || if sent.load(Ordering::Relaxed) { Tried::Lost } else { Tried::Nobody };
        let tried = tokio::select! {
            biased;
            tried = exchange => tried,
            () = followed => given_up(),
            () = tokio::time::sleep(deadline.remaining()) => given_up(),
        };
        if !matches!(tried, Tried::Answered(_)) {
            // Whoever is there next proves itself anew.
            self.know(None);
        }
        tried
    }

    /// The body of what another pod passed on, which is the one it spoke of.
    async fn passed_on<B>(&self, body: B, Vouched(said): &Vouched) -> Result<Bytes, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let payload = Payload { documents: false, length: None };
        let body = payload.read(body, self.options.max_body, self.options.timeout).await?;
        if digest(&body) == said.body {
            return Ok(body);
        }
        metrics::counter!("miroir_pod_proofs_failed_total", "of" => "statement").increment(1);
        // The pod says it again.
        Err(Error::no_leader())
    }

    async fn forward<B>(&self, claim: Claim, request: Request<B>) -> Result<Response<Bytes>, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let route = self.router.route(&parts.method, parts.uri.path());
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let payload = Payload {
            documents: route.is_some_and(Route::takes_documents),
            length: text(header::CONTENT_LENGTH).and_then(|text| text.parse().ok()),
        };
        let read = payload.read(body, self.options.max_body, self.options.timeout).await;
        let content_type = text(header::CONTENT_TYPE);
        let reads = route.is_none_or(|route| route.reads_body(content_type));
        let body = if reads { read? } else { read.unwrap_or_default() };
        let deadline = Deadline::after(self.options.timeout);
        let begun = tokio::time::Instant::now();
        let counted = |outcome| {
            metrics::counter!("miroir_forwarded_total", "outcome" => outcome).increment(1);
        };
        loop {
            match self.attempt(claim, &parts, &body, deadline).await {
                Tried::Answered(response) => {
                    counted("answered");
                    metrics::histogram!("miroir_forward_wait_seconds").record(begun.elapsed());
                    return Ok(response);
                }
                Tried::Lost => {
                    counted("lost");
                    return Err(Error::leader_lost());
                }
                Tried::Nobody if deadline.remaining() < PAUSE => {
                    counted("no_leader");
                    return Err(Error::no_leader());
                }
                Tried::Nobody => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

impl<S, B> Service<Request<B>> for Forward<S>
where
    S: EdgeService<Received<B>, Body = Full<Bytes>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = EdgeFuture<Full<Bytes>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let state = Arc::clone(&self.state);
        if let Some(vouched) = request.extensions_mut().remove::<Vouched>() {
            let next = self.inner.clone();
            let mut inner = std::mem::replace(&mut self.inner, next);
            return Box::pin(async move {
                let (parts, body) = request.into_parts();
                match state.passed_on(body, &vouched).await {
                    Ok(body) => {
                        let body = Either::Right(Full::new(body));
                        inner.call(Request::from_parts(parts, body)).await
                    }
                    Err(error) => Ok(refuse(&error)),
                }
            });
        }
        let changes = self.state.changes(&request).filter(|_| !(state.options.leads)());
        // Who may change nothing is refused here, before anybody has read what he sends.
        let claim = request.extensions().get().and_then(Claim::of);
        let Some((route, claim)) = changes.zip(claim) else {
            return Box::pin(self.inner.call(request.map(Either::Left)));
        };
        Box::pin(async move {
            let mut answered =
                Answered { route, index: None, degraded: false, nodes: 0, label: None };
            let mut response = match state.forward(claim, request).await {
                Ok(response) => response.map(Full::new),
                Err(error) => {
                    answered.label = Some(error.label());
                    refuse(&error)
                }
            };
            response.extensions_mut().insert(answered);
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests;
