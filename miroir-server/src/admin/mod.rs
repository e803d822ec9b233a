//! The admin API under `/_miroir`: parse, ask a handle, answer.
//!
//! Everything but `ready` and `errors` needs the admin key, as bearer token or `X-Admin-Key`. Unknown paths are
//! an empty 404, as on the client API.

mod aliases;
mod anti_entropy;
mod errors;
mod nodes;
mod operations;
mod pods;
mod ready;
mod replicas;
mod shadow;
mod stack;
mod tasks;
mod tenants;
mod topology;
mod versions;

use axum::Router;
use axum::extract::{FromRef, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use http::{StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;
use miroir::Miroir;
use miroir::cluster::ClusterState;
use miroir::context::Principal;
use miroir_api::admin::StackView;
use miroir_api::meili::ApiError;
use miroir_layers::index::tenant_affinity::TenantDirectory;
use miroir_layers::operation::{AliasOptions, ShadowLog};
use std::sync::Arc;

pub(crate) use self::ready::Readiness;
use crate::config::Config;
use crate::paths::{
    ACCEPT_STORE, ALIAS, ALIASES, ANTI_ENTROPY, ANTI_ENTROPY_KEPT, ANTI_ENTROPY_RUN, DISCARD_DISK,
    DRAIN, ERRORS, GROUP, GROUPS, METRICS, NODE, NODES, OPERATION, OPERATION_VERB, OPERATIONS,
    PODS, READY, REBUILD, REPLACE, REPLICAS, REPLICATION_FACTOR, SHADOW_DIFF, SHARDS, SPARES,
    STACK, TASK, TENANT, TENANTS, TOPOLOGY,
};
use crate::refusal::refuse;
use crate::serve::PROMETHEUS;

/// What handlers ask.
#[derive(Clone)]
struct AdminState {
    cluster: Arc<ClusterState>,
    tenants: Arc<TenantDirectory>,
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
        Arc::clone(&state.cluster)
    }
}

impl FromRef<AdminState> for Arc<TenantDirectory> {
    fn from_ref(state: &AdminState) -> Self {
        Arc::clone(&state.tenants)
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
    miroir: &Miroir,
    shadow: Option<Arc<ShadowLog>>,
    readiness: &Readiness,
    metrics: &PrometheusHandle,
) -> Router {
    let mut guarded = Router::new();
    if config.admin.enabled {
        guarded = guarded
            .route(TOPOLOGY, get(topology::topology))
            .route(ACCEPT_STORE, post(versions::accept_store))
            .route(REBUILD, post(versions::rebuild))
            .route(SHARDS, get(topology::shards))
            .route(REPLICAS, get(replicas::list))
            .route(DISCARD_DISK, post(nodes::discard_disk))
            .route(NODES, post(operations::add_node))
            .route(NODE, delete(operations::remove_node))
            .route(DRAIN, post(operations::drain))
            .route(REPLACE, post(operations::replace))
            .route(SPARES, post(operations::add_spare))
            .route(GROUPS, post(operations::add_group))
            .route(GROUP, delete(operations::remove_group))
            .route(REPLICATION_FACTOR, put(operations::replication_factor))
            .route(OPERATIONS, get(operations::list))
            .route(OPERATION, get(operations::show))
            .route(OPERATION_VERB, post(operations::apply))
            .route(ANTI_ENTROPY, get(anti_entropy::show))
            .route(ANTI_ENTROPY_RUN, post(anti_entropy::run))
            .route(ANTI_ENTROPY_KEPT, get(anti_entropy::kept))
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
            cluster: Arc::clone(&miroir.cluster().state),
            tenants: Arc::clone(&miroir.parts().tenants),
            shadow,
            stack: Arc::new(stack::view(config)),
            readiness: readiness.clone(),
            metrics: metrics.clone(),
            aliases: config.aliases,
        })
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
