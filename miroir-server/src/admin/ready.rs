//! `GET /_miroir/ready`: 503 until every shard could be answered for once, then 200 for good.
//!
//! Later losses do not take readiness back: a degraded answer is better than none, and pods that
//! all leave the balancer because one node died would turn a scratch into an outage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use miroir::cluster::ClusterState;
use serde_json::json;

use super::AdminState;

/// Remembers that the cluster was complete.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Looks at the cluster; once complete, complete for good.
    pub(crate) fn look(&self, state: &ClusterState) -> bool {
        if self.0.load(Ordering::Relaxed) {
            return true;
        }
        let ready = state.nodes.fully_covered();
        if ready && !self.0.swap(true, Ordering::Relaxed) {
            tracing::info!("ready: every shard can be answered for");
        }
        ready
    }
}

pub(super) async fn probe(State(state): State<AdminState>) -> Response {
    if state.readiness.look(&state.cluster) {
        return Json(json!({"status": "ready"})).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "starting"}))).into_response()
}
