//! `GET /_miroir/pods`: who is there, who leads, and how far each has read.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use miroir::clock;
use miroir::cluster::ClusterState;
use miroir_api::admin::{PodView, PodsView};
use miroir_api::meili::ApiError;

use super::Refusal;

pub(super) async fn list(
    State(state): State<Arc<ClusterState>>,
) -> Result<Json<PodsView>, Refusal> {
    let roster = state.stores.pods.roster(clock::now()).await.map_err(|error| {
        tracing::warn!(%error, "pods could not be listed");
        Refusal(ApiError::new("miroir_store_failed", "Miroir's store did not answer. Retry later."))
    })?;
    // One that was just followed may still say that it leads.
    let newest = roster.pods.iter().filter_map(|pod| pod.leads).max();
    let pods = roster
        .pods
        .into_iter()
        .map(|pod| {
            let leads = pod.leads.is_some() && pod.leads == newest;
            PodView {
                pod: pod.pod,
                name: pod.name,
                address: pod.address,
                epoch: pod.seen,
                leads,
                fence: pod.leads.filter(|_| leads),
            }
        })
        .collect();
    Ok(Json(PodsView { me: state.leadership.process().to_owned(), epoch: roster.epoch, pods }))
}
