//! What nodes say of their own tasks.

use std::time::Duration;

use miroir_api::NodeId;
use miroir_api::meili::{ApiError, TaskStatus};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::{Error, NodeFailure};
use miroir_pipeline::node::Call;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A node's view of one of its tasks, as far as it matters.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeTaskView {
    pub(crate) uid: u32,
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) index_uid: Option<String>,
    pub(crate) status: TaskStatus,
    pub(crate) details: Option<Map<String, Value>>,
    pub(crate) error: Option<ApiError>,
    pub(crate) started_at: Option<String>,
    pub(crate) finished_at: Option<String>,
    pub(crate) custom_metadata: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    results: Vec<NodeTaskView>,
}

/// The tasks of a node that a query string chooses.
pub(crate) async fn ask(
    state: &ClusterState,
    node: &NodeId,
    query: &str,
) -> Result<Vec<NodeTaskView>, Error> {
    let cx = Context::internal(Origin::Settings, state.options.scatter.call_timeout());
    let call = Call::get("tasks_get", format!("/tasks?{query}"));
    let body = state.nodes.call(node, &call, &cx).await?;
    Ok(Call::parse::<Page>(node, &body)?.results)
}

/// Waits for one task of one node.
pub(crate) async fn wait_for(
    state: &ClusterState,
    node: &NodeId,
    uid: u32,
    patience: Duration,
) -> Result<TaskStatus, Error> {
    #[derive(serde::Deserialize)]
    struct Seen {
        status: TaskStatus,
    }
    let cx = Context::internal(Origin::Settings, patience);
    let mut pause = Duration::from_millis(5);
    loop {
        let body =
            state.nodes.call(node, &Call::get("tasks_get", format!("/tasks/{uid}")), &cx).await?;
        let seen: Seen = Call::parse(node, &body)?;
        if seen.status.is_terminal() {
            return Ok(seen.status);
        }
        if cx.deadline.remaining().is_zero() {
            return Err(Error::node(node, NodeFailure::Timeout));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
