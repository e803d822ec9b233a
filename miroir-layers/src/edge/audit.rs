//! Writes a line for whoever looks later at who did what: every change of keys, webhooks and what
//! operators change, and every refusal of somebody who wanted to be an operator.
//!
//! Lines have the target `miroir::audit`, and say who asked (a kind of caller, and the uid of an API
//! key), from which address, under which request id, what for, and how it ended. They never hold a
//! key, and of what a stranger wrote nothing. A pod that passes a change on writes one, and the pod
//! that carries it out another one, with `forwarded` and the same request id; the address of the
//! client is in the first.
//!
//! # Stage
//! Edge. Any `http::Request<B>`; the body is not looked at.
//!
//! # Order
//! Inside of `authenticate` and `request_id`; outside of `forward`.
//!
//! # Context
//! Reads `Principal`, [`AuthFailure`], `RequestId` and [`Peer`] in the request's extensions.
//!
//! # Errors
//! None.
//!
//! # Metrics
//! None: `authenticate` counts wrong keys, `observe` refusals.
//!
//! # Example
//! ```
//! use miroir_layers::edge::{AuditLayer, AuditOptions};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new()
//!     .layer(AuditLayer::new(AuditOptions::default()))
//!     .service_fn(|_: http::Request<()>| async move {
//!         Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
//!     });
//! let request = http::Request::delete("/keys/a").body(()).unwrap();
//! assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
//! # }
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use http::Request;
use ipnet::IpNet;
use miroir_pipeline::Placed;
use miroir_pipeline::context::Principal;
use miroir_pipeline::http::{EdgeFuture, EdgeMiddleware, EdgeReady, EdgeService, Peer, RequestId};
use miroir_pipeline::stack::LayerName;
use uuid::Uuid;

use super::authenticate::{AuthFailure, AuthenticateLayer};
use super::paths::is_admin;
use super::pod_auth::Vouched;
use super::rate_limit::address;
use super::request_id::RequestIdLayer;

/// Where a line is filed.
const TARGET: &str = "miroir::audit";

/// Whom to believe about addresses.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// Proxies whose `X-Forwarded-For` is believed. None by default.
    pub trusted_proxies: Vec<IpNet>,
}

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct AuditLayer {
    options: Arc<AuditOptions>,
}

impl AuditLayer {
    /// Believes these proxies.
    pub fn new(options: AuditOptions) -> Self {
        Self { options: Arc::new(options) }
    }

    /// What a line says, if the request is one that is written down.
    fn line<B>(&self, request: &Request<B>) -> Option<Line> {
        let extensions = request.extensions();
        let path = request.uri().path();
        let changes = !request.method().is_safe();
        let refused = extensions.get::<AuthFailure>().filter(|_| is_admin(path));
        let what = match path.split('/').nth(1) {
            _ if is_admin(path) => operators(path, refused.is_none()),
            Some("keys") => named("/keys", path),
            Some("webhooks") => named("/webhooks", path),
            _ => return None,
        };
        // What needs no key is asked without one all the time.
        let open = matches!(path, "/_miroir/ready" | "/_miroir/errors");
        if open || !(changes || refused.is_some()) {
            return None;
        }
        let (who, key) = match extensions.get::<Principal>() {
            Some(Principal::MasterKey) => ("master_key", None),
            Some(Principal::Admin) => ("admin_key", None),
            Some(Principal::ApiKey(key)) => ("api_key", Some(key.uid)),
            Some(Principal::Tenant(tenant)) => ("tenant_token", Some(tenant.key.uid)),
            _ => ("nobody", None),
        };
        let peer = extensions
            .get::<Peer>()
            .map(|peer| address::client(peer.0, request.headers(), &self.options.trusted_proxies));
        Some(Line {
            who,
            key,
            peer,
            id: extensions.get::<RequestId>().map(|id| Arc::clone(&id.0)),
            method: request.method().as_str().to_owned(),
            what,
            failure: extensions.get::<AuthFailure>().map(AuthFailure::as_str),
            forwarded: extensions.get::<Vouched>().is_some(),
        })
    }
}

/// A path of the operators' API. Of one who is none nothing that he wrote.
fn operators(path: &str, known: bool) -> String {
    if known { path.to_owned() } else { "/_miroir".to_owned() }
}

/// A path whose last part may be a key: only a uid is shown.
fn named(of: &str, path: &str) -> String {
    match path.split('/').nth(2) {
        None => of.to_owned(),
        Some(name) => match Uuid::parse_str(name) {
            Ok(uid) => format!("{of}/{uid}"),
            Err(_) => format!("{of}/…"),
        },
    }
}

struct Line {
    who: &'static str,
    key: Option<Uuid>,
    peer: Option<IpAddr>,
    id: Option<Arc<str>>,
    method: String,
    what: String,
    failure: Option<&'static str>,
    forwarded: bool,
}

impl Line {
    fn write(&self, status: u16) {
        macro_rules! line {
            ($level:ident, $text:literal) => {
                tracing::$level!(
                    target: TARGET,
                    who = self.who,
                    key = self.key.map(tracing::field::display),
                    address = self.peer.map(tracing::field::display),
                    request_id = self.id.as_deref(),
                    method = self.method,
                    path = self.what,
                    status,
                    failure = self.failure,
                    forwarded = self.forwarded,
                    $text
                )
            };
        }
        match status {
            401 | 403 => line!(warn, "refused"),
            200..=299 => line!(info, "changed"),
            _ => line!(info, "not changed"),
        }
    }
}

impl Placed for AuditLayer {
    const NAME: &'static str = "audit";
    const INSIDE_OF: &'static [LayerName] =
        &[LayerName::of::<AuthenticateLayer>(), LayerName::of::<RequestIdLayer>()];
}

miroir_pipeline::edge_layer!(AuditLayer);

impl EdgeMiddleware for AuditLayer {
    type Body<C: Send + 'static> = C;

    fn call<B: Send + 'static, S: EdgeService<B>>(
        &self,
        request: Request<B>,
        next: EdgeReady<'_, S>,
    ) -> EdgeFuture<S::Body> {
        let line = self.line(&request);
        let answer = next.call(request);
        let Some(line) = line else { return Box::pin(answer) };
        Box::pin(async move {
            let response = answer.await?;
            line.write(response.status().as_u16());
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests;
