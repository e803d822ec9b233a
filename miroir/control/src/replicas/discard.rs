//! Throwing away what a node has, because an operator says so.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use miroir_api::NodeId;
use miroir_pipeline::cluster::{ClusterState, disk_loss};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::node::{Call, TaskRef};
use miroir_store::Part;
use miroir_store::records::NodeRecord;

use super::disk_check;
use super::identity::{self, Disk};
use crate::node_tasks::wait_for;

/// How long the node may take to delete one index.
const PATIENCE: Duration = Duration::from_mins(5);

/// Deletes every index of a node that has another node's disk, and makes the disk its own: a new life
/// of the node, which is built anew from its peers before it is read. Goes on where it is called
/// again after it broke off.
///
/// # Errors
/// `miroir_unknown_node` if there is no such node, `miroir_disk_not_foreign` if its disk is its own,
/// `miroir_no_leader` on a pod that does not lead; when the node or the store fails.
pub async fn discard_disk(state: &Arc<ClusterState>, node: &NodeId) -> Result<(), Error> {
    state.leadership.ensure_leader()?;
    if state.membership.topology().node(node).is_none() {
        return Err(Error::api(
            "miroir_unknown_node",
            format!("There is no node `{node}`. `GET /_miroir/topology` lists the nodes."),
        ));
    }
    let cx = Context::internal(Origin::Repair, PATIENCE);
    if state.lives.foreign(node).is_none() {
        return Err(Error::api(
            "miroir_disk_not_foreign",
            format!(
                "The disk of node `{node}` is its own, so there is nothing to throw away. A disk that \
                 was lost, or is an older copy, is built anew without being told."
            ),
        ));
    }
    let guard = state.leadership.begin_change();
    if let Disk::Foreign(of) = identity::look(state, node, &cx).await?.disk {
        tracing::warn!(%node, disk_of = %of, "what is on the node's disk is thrown away");
        disk_loss::declare(state, node, None).await?;
        for index in disk_check::names(state, node, &cx).await? {
            let call = Call::change(Method::DELETE, "indexes_delete", format!("/indexes/{index}"));
            let body = state.nodes.call(node, &call, &cx).await?;
            let task: TaskRef = Call::parse(node, &body)?;
            wait_for(state, node, task.task_uid, PATIENCE).await?;
        }
        // Until now whoever looks finds a foreign disk.
        identity::disown(state, node, &cx).await?;
    }
    if identity::look(state, node, &cx).await?.disk == Disk::Blank {
        identity::make(state, node, &cx).await?;
    }
    state.lives.change(node, |record| NodeRecord { foreign: None, ..record }).await?;
    state.leadership.publish(&[Part::Nodes]).await?;
    drop(guard);
    Ok(())
}
