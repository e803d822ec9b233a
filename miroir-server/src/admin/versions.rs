//! `POST /_miroir/topology/accept-store` and `…/rebuild`: what becomes of a store that is behind its
//! nodes. Only the pod that leads does it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use miroir::cluster::ClusterState;
use miroir_api::admin::{AcceptedStoreView, RebuiltView};

use super::Refusal;
use super::tenants::failed;

pub(super) async fn accept_store(
    State(state): State<Arc<ClusterState>>,
) -> Result<Json<AcceptedStoreView>, Refusal> {
    let version = miroir::founding::accept_store(&state).await.map_err(|error| failed(&error))?;
    Ok(Json(AcceptedStoreView { version }))
}

pub(super) async fn rebuild(
    State(state): State<Arc<ClusterState>>,
) -> Result<Json<RebuiltView>, Refusal> {
    let done = miroir::founding::rebuild(&state).await.map_err(|error| failed(&error))?;
    Ok(Json(RebuiltView { differences: done.differences, version: done.version }))
}
