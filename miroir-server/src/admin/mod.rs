//! The admin API under `/_miroir`: parse, ask a handle, answer.
//!
//! Everything but `ready` and `errors` needs the admin key, as bearer token or `X-Admin-Key`. Unknown paths are
//! an empty 404, as on the client API.

mod aliases;
mod errors;
mod mount;
mod pods;
mod ready;
mod replicas;
mod shadow;
mod stack;
mod tasks;
mod tenants;
mod topology;

use axum::Router;
use axum::extract::{FromRef, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;
use metrics_exporter_prometheus::PrometheusHandle;
use miroir::Cluster;
use miroir::cluster::ClusterState;
use miroir::context::Principal;
use miroir_api::admin::StackView;
use miroir_api::meili::ApiError;
use miroir_layers::operation::{AliasOptions, ShadowLog};
use std::sync::Arc;

pub(crate) use self::mount::Mount;
pub(crate) use self::ready::Readiness;
use crate::config::Config;
use crate::serve::PROMETHEUS;

/// The readiness probe: without a key.
pub(crate) const READY: &str = "/_miroir/ready";
/// The page that errors link to: without a key.
const ERRORS: &str = "/_miroir/errors";
const TOPOLOGY: &str = "/_miroir/topology";
const SHARDS: &str = "/_miroir/shards";
const METRICS: &str = "/_miroir/metrics";
const REPLICAS: &str = "/_miroir/replicas";
const PODS: &str = "/_miroir/pods";
const ALIASES: &str = "/_miroir/aliases";
const ALIAS: &str = "/_miroir/aliases/{name}";
const SHADOW_DIFF: &str = "/_miroir/shadow/diff";
const STACK: &str = "/_miroir/stack";
const TENANTS: &str = "/_miroir/tenants";
const TENANT: &str = "/_miroir/tenants/{api_key_hash}";
const TASK: &str = "/_miroir/tasks/{uid}";
/// Everything else below the prefix.
const UNKNOWN: &str = "/_miroir/unknown";

/// The path's template, if it belongs to the admin API.
pub(crate) fn template(path: &str) -> Option<&'static str> {
    let rest = path.trim_start_matches('/').strip_prefix("_miroir")?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let known = [
        READY,
        ERRORS,
        TOPOLOGY,
        SHARDS,
        METRICS,
        REPLICAS,
        PODS,
        ALIASES,
        SHADOW_DIFF,
        STACK,
        TENANTS,
    ];
    let path = path.trim_end_matches('/');
    if path.strip_prefix("/_miroir/tasks/").is_some_and(|uid| !uid.contains('/')) {
        return Some(TASK);
    }
    if path.strip_prefix("/_miroir/aliases/").is_some_and(|name| !name.contains('/')) {
        return Some(ALIAS);
    }
    if path.strip_prefix("/_miroir/tenants/").is_some_and(|hash| !hash.contains('/')) {
        return Some(TENANT);
    }
    Some(known.into_iter().find(|known| *known == path).unwrap_or(UNKNOWN))
}

/// What handlers ask.
#[derive(Clone)]
struct AdminState {
    shared: Arc<ClusterState>,
    shadow: Option<Arc<ShadowLog>>,
    stack: Arc<StackView>,
    readiness: Readiness,
    metrics: PrometheusHandle,
    aliases: AliasOptions,
}

impl FromRef<AdminState> for AliasOptions {
    fn from_ref(state: &AdminState) -> Self {
        state.aliases
    }
}

impl FromRef<AdminState> for Arc<ClusterState> {
    fn from_ref(state: &AdminState) -> Self {
        Arc::clone(&state.shared)
    }
}

impl FromRef<AdminState> for Option<Arc<ShadowLog>> {
    fn from_ref(state: &AdminState) -> Self {
        state.shadow.clone()
    }
}

impl FromRef<AdminState> for Arc<StackView> {
    fn from_ref(state: &AdminState) -> Self {
        Arc::clone(&state.stack)
    }
}

/// The routes. With `admin.enabled: false` only the readiness probe and the page of errors are left.
pub(crate) fn router(
    config: &Config,
    cluster: &Cluster,
    shadow: Option<Arc<ShadowLog>>,
    readiness: &Readiness,
    metrics: &PrometheusHandle,
) -> Router {
    let mut guarded = Router::new();
    if config.admin.enabled {
        guarded = guarded
            .route(TOPOLOGY, get(topology::topology))
            .route(SHARDS, get(topology::shards))
            .route(REPLICAS, get(replicas::list))
            .route(PODS, get(pods::list))
            .route(TASK, get(tasks::show))
            .route(TENANTS, get(tenants::list).post(tenants::put))
            .route(TENANT, delete(tenants::delete))
            .route(SHADOW_DIFF, get(shadow::diff))
            .route(STACK, get(stack::show))
            .route(METRICS, get(exposition));
        if config.aliases.enabled {
            guarded = guarded
                .route(ALIASES, get(aliases::list).post(aliases::create))
                .route(ALIAS, get(aliases::show).put(aliases::flip).delete(aliases::delete));
        }
        guarded = guarded.route_layer(from_fn(operators_only));
    }
    guarded
        .route(READY, get(ready::probe))
        .route(ERRORS, get(errors::page))
        .fallback(async || StatusCode::NOT_FOUND)
        .with_state(AdminState {
            shared: Arc::clone(&cluster.state),
            shadow,
            stack: Arc::new(stack::view(config)),
            readiness: readiness.clone(),
            metrics: metrics.clone(),
            aliases: config.aliases,
        })
}

/// An error in Meilisearch's shape.
pub(crate) fn refuse(error: &ApiError) -> http::Response<Full<Bytes>> {
    let body = serde_json::to_vec(error).unwrap_or_default();
    let mut response = http::Response::new(Full::from(body));
    *response.status_mut() =
        StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// An error as handlers return it.
#[derive(Debug)]
struct Refusal(ApiError);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        refuse(&self.0).map(axum::body::Body::new)
    }
}

async fn operators_only(request: Request, next: Next) -> Response {
    if request.extensions().get::<Principal>() == Some(&Principal::Admin) {
        return next.run(request).await;
    }
    Refusal(ApiError::new(
        "miroir_invalid_auth",
        "The admin key is missing or wrong. Send it as `Authorization: Bearer <key>` or as \
         `X-Admin-Key`.",
    ))
    .into_response()
}

/// What the metrics listener shows, for operators outside the cluster's network.
async fn exposition(State(state): State<AdminState>) -> Response {
    ([(header::CONTENT_TYPE, PROMETHEUS)], state.metrics.render()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_bounded() {
        assert_eq!(template("/_miroir/ready"), Some(READY));
        assert_eq!(template("/_miroir/errors"), Some(ERRORS));
        assert_eq!(template("/_miroir/shards/"), Some(SHARDS));
        assert_eq!(template("/_miroir/pods"), Some(PODS));
        assert_eq!(template("/_miroir/shadow/diff"), Some(SHADOW_DIFF));
        assert_eq!(template("/_miroir/shadow/x"), Some(UNKNOWN));
        assert_eq!(template("/_miroir/7f3a"), Some(UNKNOWN));
        assert_eq!(template("/_miroir/tasks/7"), Some(TASK));
        assert_eq!(template("/_miroir/aliases/"), Some(ALIASES));
        assert_eq!(template("/_miroir/aliases/shop"), Some(ALIAS));
        assert_eq!(template("/_miroir/aliases/shop/x"), Some(UNKNOWN));
        assert_eq!(template("/_miroir/tasks"), Some(UNKNOWN));
        assert_eq!(template("/_miroir/tasks/7/x"), Some(UNKNOWN));
        assert_eq!(template("/_miroir/tenants/2b"), Some(TENANT));
        assert_eq!(template("/_miroir"), Some(UNKNOWN));
        assert_eq!(template("/_miroirs"), None);
        assert_eq!(template("/health"), None);
    }
}
