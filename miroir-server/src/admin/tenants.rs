//! `/_miroir/tenants`: which tenant an API key is of. Only the pod that leads changes it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use http::StatusCode;
use miroir::Error;
use miroir::cluster::ClusterState;
use miroir::store::records::TenantMapping;
use miroir_api::admin::{NewTenantMapping, TenantMappingView, TenantMappingsView};
use miroir_api::meili::ApiError;
use miroir_layers::index::tenant_affinity::{MAX_NAME, TenantDirectory, hash_of, is_name};

use super::Refusal;

fn bad(message: impl Into<String>) -> Refusal {
    Refusal(ApiError::new("bad_request", message))
}

fn view(mapping: TenantMapping) -> TenantMappingView {
    let TenantMapping { api_key_hash, tenant, group } = mapping;
    TenantMappingView { api_key_hash, tenant, group }
}

/// Refuses where no tenants are kept.
fn kept(tenants: &TenantDirectory) -> Result<(), Refusal> {
    if tenants.is_kept() {
        return Ok(());
    }
    Err(bad("API keys are of no tenants here. Set `tenant_affinity.enabled: true` and \
         `tenant_affinity.mode: api_key`."))
}

pub(super) fn failed(error: &Error) -> Refusal {
    match error.kind() {
        miroir::error::ErrorKind::Api(error) => Refusal(error.clone()),
        _ => Refusal(ApiError::new("internal", "An internal error has occurred.")),
    }
}

pub(super) async fn list(
    State(tenants): State<Arc<TenantDirectory>>,
) -> Result<Json<TenantMappingsView>, Refusal> {
    kept(&tenants)?;
    Ok(Json(TenantMappingsView { results: tenants.list().into_iter().map(view).collect() }))
}

pub(super) async fn put(
    State(state): State<Arc<ClusterState>>,
    State(tenants): State<Arc<TenantDirectory>>,
    body: Result<Json<NewTenantMapping>, JsonRejection>,
) -> Result<Json<TenantMappingView>, Refusal> {
    kept(&tenants)?;
    let Json(NewTenantMapping { api_key, tenant, group }) =
        body.map_err(|error| bad(error.body_text()))?;
    if api_key.is_empty() {
        return Err(bad("`api_key` is empty. Give the key whose reads are the tenant's."));
    }
    if !is_name(&tenant) {
        return Err(bad(format!("`tenant` must be 1 to {MAX_NAME} visible ASCII characters.")));
    }
    if let Some(group) = group
        && state.membership.topology().group(group).is_none()
    {
        let count = state.membership.topology().groups().len();
        return Err(bad(format!(
            "There is no group {group}. Use 0 to {}, or leave `group` out.",
            count.saturating_sub(1)
        )));
    }
    let mapping = TenantMapping { api_key_hash: hash_of(api_key.as_bytes()), tenant, group };
    tenants.put(mapping.clone()).await.map_err(|error| failed(&error))?;
    Ok(Json(view(mapping)))
}

pub(super) async fn delete(
    State(tenants): State<Arc<TenantDirectory>>,
    Path(hash): Path<String>,
) -> Result<StatusCode, Refusal> {
    kept(&tenants)?;
    let hash = hash.to_ascii_lowercase();
    if tenants.delete(&hash).await.map_err(|error| failed(&error))? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Refusal(ApiError::new(
        "miroir_unmapped_tenant",
        "No key with this hash is of a tenant. `GET /_miroir/tenants` lists the hashes.",
    )))
}
