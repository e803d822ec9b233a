//! The shadows of the configuration: an HTTP client over each target's address.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use miroir::cluster::ClusterState;
use miroir::operation::{self, Response};
use miroir::options::Capability;
use miroir::{Error, NodeFailure};
use miroir_api::NodeId;
use miroir_layers::operation::shadow::{PrimaryKeys, base_address};
use miroir_layers::operation::{
    Shadow, ShadowLayer, ShadowLog, ShadowOptions, ShadowTargetOptions,
};
use std::sync::OnceLock;

use crate::BuildError;
use crate::config::Config;

type Sender = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The layer and what its admin route reads; nothing when it is switched off.
pub(crate) type Built = Option<(ShadowLayer, Arc<ShadowLog>)>;

/// Where primary keys are looked up once the cluster stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookup(Arc<OnceLock<Arc<ClusterState>>>);

impl Lookup {
    /// From now on keys are those of this cluster's indexes.
    pub(crate) fn set(&self, state: &Arc<ClusterState>) {
        let _ = self.0.set(Arc::clone(state));
    }

    fn keys(&self) -> PrimaryKeys {
        let lookup = self.clone();
        Arc::new(move |name| {
            let uid = miroir_api::IndexUid::new(name).ok()?;
            lookup.0.get()?.catalog.get(&uid)?.primary_key.clone()
        })
    }
}

/// The layer that the configuration asks for. `environment` finds the targets' keys.
///
/// # Errors
/// When a variable is not set, or holds what a header cannot carry.
pub(crate) fn build(
    config: &Config,
    lookup: &Lookup,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Built, BuildError> {
    let shadow = &config.shadow;
    if !shadow.enabled {
        return Ok(None);
    }
    let mut shadows = Vec::new();
    for (at, target) in shadow.targets.iter().enumerate() {
        let key = key(at, target, &environment)?;
        shadows.push(Shadow::of(target, Target::new(target, key, shadow)));
    }
    // Pods choose for themselves.
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let options = ShadowOptions { seed, ..shadow.clone() };
    Ok(Some(ShadowLayer::new(shadows, lookup.keys(), options)))
}

/// The layer as a description shows it: with nobody to send to.
pub(crate) fn described(config: &Config) -> Option<ShadowLayer> {
    config.shadow.layer(|shadow| ShadowLayer::new(Vec::new(), Lookup::default().keys(), shadow).0)
}

fn key(
    at: usize,
    target: &ShadowTargetOptions,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<Option<HeaderValue>, BuildError> {
    let variable = target.api_key_env.as_str();
    if variable.is_empty() {
        return Ok(None);
    }
    let refused = |problem| BuildError::ShadowKey { at, variable: variable.to_owned(), problem };
    let key = environment(variable).filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| refused("is not set"))?;
    let mut value = HeaderValue::try_from(format!("Bearer {key}"))
        .map_err(|_| refused("has characters that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// One target as a service of the operation stage.
#[derive(Clone)]
struct Target {
    id: NodeId,
    base: Arc<str>,
    key: Option<HeaderValue>,
    max_body: usize,
    sender: Sender,
}

impl Target {
    fn new(
        target: &ShadowTargetOptions,
        key: Option<HeaderValue>,
        options: &ShadowOptions,
    ) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(options.max_shadow_latency));
        let connector =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1();
        let sender = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(options.max_in_flight)
            .build(connector.wrap_connector(http));
        Self {
            id: NodeId::new(&target.name).expect("the name was checked with the configuration"),
            base: base_address(&target.url).unwrap_or_default().into(),
            key,
            max_body: options.max_body,
            sender,
        }
    }

    async fn run(self, request: operation::Request) -> Result<Response, Error> {
        let failed = |failure| Error::node(&self.id, failure);
        let call = request.repeat().ok_or_else(|| failed(NodeFailure::NotSent))?;
        let mut sent = Request::builder()
            .method(call.method.clone())
            .uri(format!("{}{}", self.base, call.path));
        if let Some(key) = &self.key {
            sent = sent.header(header::AUTHORIZATION, key);
        }
        if let Some(kind) = &call.content_type {
            sent = sent.header(header::CONTENT_TYPE, kind.as_ref());
        }
        let sent = sent.body(Full::new(call.body)).map_err(|_| failed(NodeFailure::NotSent))?;
        let response = self.sender.request(sent).await.map_err(|error| {
            failed(if error.is_connect() { NodeFailure::Connect } else { NodeFailure::Connection })
        })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), self.max_body).collect().await;
        let body = body.map_err(|error| {
            let large = error.is::<LengthLimitError>();
            failed(if large { NodeFailure::TooLarge } else { NodeFailure::Connection })
        })?;
        let mut answer = Response::json(status, &());
        answer.body = body.to_bytes();
        Ok(answer)
    }
}

miroir::service!(Target: operation::Request);

#[cfg(test)]
mod tests;
