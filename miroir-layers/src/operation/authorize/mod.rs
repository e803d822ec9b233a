//! Refuses what a caller has no key for, in Meilisearch's own words, and narrows the rest to what
//! the key shows.
//!
//! The master key, the operator and Miroir itself may do everything. The holder of an API key may do
//! what its actions name, with the indexes it names, until it expires. A tenant token may search what
//! both its rules and its key allow, and its rules become filters of every query. A request without
//! a valid key may do what needs no action (`GET /health`).
//!
//! What is about one index is judged here. What is about several, lists and batches, is answered by
//! the stages below from the *scope* that this layer leaves in the context: an index outside of it
//! does not exist for the caller.
//!
//! # Stage
//! Operation, all of them. A tenant token's rules are added to the queries of searches.
//!
//! # Order
//! None declared. It belongs outside of everything that answers or remembers.
//!
//! # Context
//! Reads `principal`, and the [`AuthFailure`] that [`authenticate`](crate::edge::authenticate) left
//! in the extensions of the HTTP request; without one the key counts as missing. Writes `scope`.
//!
//! # Errors
//! 401 `missing_authorization_header` and 403 `invalid_api_key`.
//!
//! # Metrics
//! `miroir_unauthorized_total{operation,code}`.
//!
//! # Example
//! ```
//! use std::{sync::Arc, time::Duration};
//! use miroir_pipeline::{Context, context::Principal, query::ClientRequest};
//! use miroir_pipeline::operation::{Operation, Request, SystemOp};
//! use miroir_layers::operation::AuthorizeLayer;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let original = ClientRequest {
//!     method: http::Method::GET,
//!     path: "/version".into(),
//!     query: None,
//!     body: Default::default(),
//!     content_type: None,
//!     metadata: false,
//! };
//! let op = Operation::System(SystemOp::Version);
//! let cx = Context::client("1", Duration::from_secs(1));
//! let request = Request::new(op, &["version"], original, cx);
//! assert_eq!(request.cx.principal, Principal::Anonymous);
//! let (mut service, mut inner) = miroir_test::layered(AuthorizeLayer::default());
//! let error = service.call(request).await.unwrap_err();
//! assert_eq!(error.render().0, http::StatusCode::UNAUTHORIZED);
//! inner.assert_idle().await;
//! # }
//! ```

use miroir_api::meili::{ApiError, KeyAction};
use miroir_core::keys::{ApiKey, Scope};
use miroir_pipeline::context::Principal;
use miroir_pipeline::operation::Request;
use miroir_pipeline::refused::Refused;
use miroir_pipeline::stage::{Middleware, Ready, Reply};
use miroir_pipeline::{Error, Placed, StageService};
use miroir_store::clock;

use crate::edge::authenticate::AuthFailure;

/// Nothing to choose yet.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AuthorizeOptions {}

/// See the [module's documentation](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct AuthorizeLayer {
    _options: AuthorizeOptions,
}

impl AuthorizeLayer {
    /// Refuses with these options.
    pub fn new(options: AuthorizeOptions) -> Self {
        Self { _options: options }
    }
}

impl Placed for AuthorizeLayer {
    const NAME: &'static str = "authorize";
}

miroir_pipeline::layer!(AuthorizeLayer);

fn invalid() -> ApiError {
    ApiError::new("invalid_api_key", "The provided API key is invalid.")
}

/// Only these take tenant tokens.
const TENANT_ACTIONS: &[&str] = &["search", "chatCompletions"];

fn takes_tenants(request: &Request) -> bool {
    request.actions.iter().all(|action| TENANT_ACTIONS.contains(action))
}

/// The refusal of somebody unknown, in Meilisearch's words.
fn refusal(failure: AuthFailure, request: &Request) -> ApiError {
    match failure {
        AuthFailure::Missing => ApiError::new(
            "missing_authorization_header",
            "The Authorization header is missing. It must use the bearer authorization method.",
        ),
        AuthFailure::Token(fault) if takes_tenants(request) => {
            ApiError::new("invalid_api_key", fault.as_ref())
        }
        AuthFailure::Token(_) | AuthFailure::Invalid => invalid(),
    }
}

/// What a key shows, if it may do what is asked: indexes first, then actions, as a node does it.
fn admit(request: &Request, key: &ApiKey, scope: Scope) -> Result<Scope, ApiError> {
    let index = request.op.index();
    if let Some(index) = index {
        scope.check_index(index)?;
    }
    let now = clock::now();
    let may = |name: &&str| KeyAction::parse(name).is_some_and(|a| key.allows(a, index, now));
    // What names no action is open to nobody in particular, so not to this key either.
    let all = !request.actions.is_empty() && request.actions.iter().all(may);
    if all { Ok(scope) } else { Err(invalid()) }
}

fn judge(request: &Request) -> Result<Scope, ApiError> {
    match &request.cx.principal {
        Principal::MasterKey | Principal::Admin | Principal::Internal => Ok(Scope::default()),
        Principal::ApiKey(key) => {
            let creates = key.allows(KeyAction::IndexesCreate, None, clock::now());
            admit(request, key, Scope::of_key(key, creates))
        }
        Principal::Tenant(tenant) if takes_tenants(request) => {
            admit(request, &tenant.key, Scope::of_tenant(tenant))
        }
        Principal::Tenant(_) => Err(invalid()),
        // Whoever is not known yet may do nothing yet.
        _ => {
            let failure = request.cx.http().get::<AuthFailure>().cloned();
            Err(refusal(failure.unwrap_or(AuthFailure::Missing), request))
        }
    }
}

impl Middleware<Request> for AuthorizeLayer {
    fn call<S: StageService<Request>>(
        &self,
        mut request: Request,
        next: Ready<'_, S>,
    ) -> Reply<Request, S> {
        if request.op.is_public() {
            return next.pass(request);
        }
        let judged = judge(&request).and_then(|scope| {
            request.cx.scope = scope;
            request.apply_search_rules()
        });
        if let Err(error) = judged {
            let reason = match &request.cx.principal {
                Principal::ApiKey(_) | Principal::Tenant(_) => Refused::Authorization,
                _ => Refused::Authentication,
            };
            metrics::counter!(
                "miroir_unauthorized_total",
                "operation" => request.op.name(),
                "code" => error.code.clone()
            )
            .increment(1);
            return Reply::refused(Error::client(error).and(reason));
        }
        next.pass(request)
    }
}

#[cfg(test)]
mod tests;
