//! `POST /_miroir/nodes/{id}/discard-disk`: what a node with another node's disk has is thrown away.
//! Only the pod that leads does it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use miroir::cluster::ClusterState;
use miroir_api::NodeId;
use miroir_api::admin::DiscardedView;
use miroir_api::meili::ApiError;

use super::Refusal;
use super::tenants::failed;

pub(super) async fn discard_disk(
    State(state): State<Arc<ClusterState>>,
    Path(id): Path<String>,
) -> Result<Json<DiscardedView>, Refusal> {
    let node = NodeId::new(&id)
        .map_err(|error| Refusal(ApiError::new("miroir_unknown_node", error.to_string())))?;
    // Goes on without the client.
    let (own, of) = (Arc::clone(&state), node.clone());
    let done = state.tracker.spawn(async move { miroir::replicas::discard_disk(&own, &of).await });
    match done.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(failed(&error)),
        Err(_) => return Err(Refusal(ApiError::new("internal", "The work broke off."))),
    }
    Ok(Json(DiscardedView { life: state.lives.of(&node), node }))
}
