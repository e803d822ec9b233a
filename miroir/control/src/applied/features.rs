//! Experimental features on nodes.

use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use miroir_api::NodeId;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::node::Call;
use serde_json::{Map, Value};

pub(crate) const PATH: &str = "/experimental-features";

/// A node's view with what clients set through Miroir on top.
pub(crate) fn overlaid(mut node: Map<String, Value>, set: &[(String, bool)]) -> Map<String, Value> {
    for (name, on) in set {
        node.insert(name.clone(), (*on).into());
    }
    node
}

fn patch(set: &[(String, bool)]) -> Call {
    let body = overlaid(Map::new(), set);
    Call::change(Method::PATCH, "features_patch", PATH).json(Value::Object(body).to_string())
}

/// Brings nodes that may lack what clients set up to date.
///
/// # Errors
/// When the store fails. Nodes that fail are tried again next time.
pub(crate) async fn apply(state: &Arc<ClusterState>) -> Result<(), Error> {
    let mut applied = state.applied.features.lock().await;
    let topology = state.membership.topology();
    let well: Vec<NodeId> = topology
        .nodes()
        .filter(|node| state.nodes.is_available(node))
        .map(|node| node.id.clone())
        .collect();
    // Whoever went away may come back without them.
    applied.retain(|node| well.contains(node));
    let lacking: Vec<&NodeId> = well.iter().filter(|node| !applied.contains(*node)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let set = state.stores.features.list().await?;
    let cx = Context::internal(Origin::Settings, state.options.scatter.call_timeout());
    let call = patch(&set);
    let done = join_all(lacking.into_iter().map(|node| {
        let (call, cx, set) = (&call, &cx, &set);
        async move {
            if set.is_empty() {
                return Some(node.clone());
            }
            match state.nodes.call(node, call, cx).await {
                Ok(_) => Some(node.clone()),
                Err(error) => {
                    tracing::warn!(%node, %error, "experimental features could not be set");
                    None
                }
            }
        }
    }))
    .await;
    applied.extend(done.into_iter().flatten());
    Ok(())
}
