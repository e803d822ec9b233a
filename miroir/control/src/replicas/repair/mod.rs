//! The repairer: brings replicas that missed something up to date, then lets them be read again.
//!
//! Each miss is a row in the store. A row is worked on when its node is well again:
//!
//! | kind | what is done |
//! | --- | --- |
//! | `pending` | ask the node how the writes in its queue went; if not well, as `shard` or `index` |
//! | `shard` | copy the shard's documents, vectors included, from an up-to-date peer, delete others |
//! | `shard`, of no shard in particular | copy the settings from a peer |
//! | `index` | make the index on the node, copy a peer's settings and all its shards |
//! | `deleted` | delete the index on the node; if there is a new one of its name, then as `index` |
//!
//! A copy holds back writes to its index (not to others), so that nothing can be written between
//! what is read from the peer and what is put on the node. So it takes as many shards as make some
//! ten thousand documents, at least one, and lets the writes go before the next.

mod copy;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use miroir_api::meili::TaskStatus;
use miroir_api::{NodeId, ShardId};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::applied;
use crate::node_setup::creation_calls;
use crate::node_tasks::wait_for;
use crate::replicas::pending;
use miroir_core::routing::ShardSet;
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_pipeline::cluster::{ClusterState, disk_loss};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::{Error, NodeFailure};
use miroir_pipeline::node::{Call, TaskRef};
use miroir_store::IndexEntry;

/// How long one node task of a repair may take.
const PATIENCE: Duration = Duration::from_mins(10);
const PAUSE: Duration = Duration::from_secs(1);

fn cx() -> Context {
    Context::internal(Origin::Repair, PATIENCE)
}

/// Repairs until cancelled.
pub async fn run(state: Arc<ClusterState>, stop: CancellationToken) {
    loop {
        if let Err(error) = applied::features::apply(&state).await {
            tracing::error!(%error, "experimental features could not be read");
        }
        if let Err(error) = applied::search_rules::apply(&state).await {
            tracing::error!(%error, "search rules could not be read");
        }
        let rows: Vec<StaleReplica> = state.staleness.load().rows().cloned().collect();
        if !rows.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = round(&state, rows) => {}
            }
        }
        // The pause also catches a miss that was noted between the look and the wait.
        tokio::select! {
            () = stop.cancelled() => return,
            () = state.signals.repairs.notified() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Works on every row whose node is well. Failures are logged and tried again in the next round.
pub async fn round(state: &Arc<ClusterState>, rows: Vec<StaleReplica>) {
    for row in rows {
        let topology = state.membership.topology();
        if !topology.node(&row.node).is_some_and(|node| state.nodes.is_available(node)) {
            continue;
        }
        match repair(state, &row).await {
            Ok(0) => {}
            Ok(rows) => {
                metrics::counter!("miroir_repairs_total", "kind" => label(row.kind))
                    .increment(rows);
                tracing::info!(node = %row.node, index = %row.index, kind = label(row.kind), rows, "replica repaired");
            }
            Err(error) => {
                tracing::warn!(node = %row.node, index = %row.index, %error, "repair failed");
            }
        }
    }
}

fn label(kind: CatchUp) -> &'static str {
    match kind {
        CatchUp::Pending => "pending",
        CatchUp::Shard => "shard",
        CatchUp::Index => "index",
        CatchUp::Deleted => "deleted",
    }
}

/// Repairs what a row is about, and other rows if that goes in one. Returns how many.
async fn repair(state: &Arc<ClusterState>, row: &StaleReplica) -> Result<u64, Error> {
    if row.kind == CatchUp::Pending {
        return pending::settle(state, row).await;
    }
    let gate = state.sequencer.exclusive(&row.index).await;
    // Looked up behind the gate: the index may have gone, or come back, meanwhile, and somebody
    // else may have repaired the row.
    if !state.staleness.load().rows().any(|now| now == row) {
        return Ok(0);
    }
    let entry = state.catalog.by_physical(&row.index);
    let cleared = match (entry, row.kind, row.shard) {
        (None, _, _) => {
            // Whatever was missed, the index is gone: so must it be on the node.
            let call =
                Call::change(Method::DELETE, "indexes_delete", format!("/indexes/{}", row.index));
            perform(state, &row.node, &call).await?;
            state.staleness.clear(row.clone()).await?.into()
        }
        (Some(entry), CatchUp::Shard, Some(shard)) => {
            copy_shards(state, &entry, row, shard).await?
        }
        (Some(entry), CatchUp::Shard, None) => {
            let settings = settings_of_peer(state, &entry, &row.node).await?;
            copy_settings(state, &entry, &row.node, &settings).await?;
            state.staleness.clear(row.clone()).await?.into()
        }
        (Some(entry), _, _) => rebuild(state, &entry, row).await?,
    };
    drop(gate);
    Ok(cleared)
}

/// Copies a shard and others the node needs. The caller holds back writes to the index.
async fn copy_shards(
    state: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
    row: &StaleReplica,
    shard: ShardId,
) -> Result<u64, Error> {
    let rows: Vec<StaleReplica> = state
        .staleness
        .load()
        .rows()
        .filter(|r| r.node == row.node && r.index == row.index && r.kind == CatchUp::Shard)
        .cloned()
        .collect();
    let needed = ShardSet::from_iter(rows.iter().filter_map(|row| row.shard), entry.shards);
    let (peer, some) = copy::portion(state, entry, &row.node, shard, &needed).await?;
    copy::copy(state, entry, &row.node, &peer, &some).await?;
    let mut cleared = 0;
    for row in rows.into_iter().filter(|row| row.shard.is_some_and(|s| some.contains(s))) {
        cleared += u64::from(state.staleness.clear(row).await?);
    }
    Ok(cleared)
}

/// The settings of a node that missed nothing about them, with its queue worked off.
async fn settings_of_peer(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
) -> Result<Value, Error> {
    let topology = state.membership.topology();
    let stale = state.staleness.load();
    let peer = topology
        .nodes()
        .find(|n| {
            n.id != *node && n.status.is_readable() && !stale.misses_index(&entry.physical, &n.id)
        })
        .ok_or_else(|| Error::node(node, NodeFailure::NoPeer))?;
    idle_for(state, &peer.id, &entry.physical).await?;
    let path = format!("/indexes/{}/settings", entry.physical);
    let body = state.nodes.call(&peer.id, &Call::get("settings_get", path), &cx()).await?;
    Call::parse(&peer.id, &body)
}

async fn copy_settings(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
    settings: &Value,
) -> Result<(), Error> {
    let path = format!("/indexes/{}/settings", entry.physical);
    let call = Call::change(Method::PATCH, "settings_patch", path).json(settings.to_string());
    if perform(state, node, &call).await? != TaskStatus::Succeeded {
        return Err(Error::node(node, NodeFailure::RepairRefused));
    }
    state.stores.settings_versions.set(&entry.physical, node, entry.settings_version).await?;
    Ok(())
}

/// The caller holds back writes to the index.
async fn rebuild(
    state: &Arc<ClusterState>,
    entry: &Arc<IndexEntry>,
    row: &StaleReplica,
) -> Result<u64, Error> {
    let topology = state.membership.topology();
    let placement = topology.placement(entry.shards);
    // Nothing is deleted before it is sure that it can be copied back.
    let owned = placement.owned_by(&row.node);
    for shard in owned.iter() {
        copy::peer_of(state, entry, &row.node, shard)?;
    }
    let settings = settings_of_peer(state, entry, &row.node).await?;
    if row.kind == CatchUp::Deleted {
        // What it has is another index of the same name.
        let path = format!("/indexes/{}", entry.physical);
        let delete = Call::change(Method::DELETE, "indexes_delete", path);
        perform(state, &row.node, &delete).await?;
    }
    let calls = creation_calls(&entry.physical, entry.primary_key.as_deref(), &settings);
    for (at, call) in calls.iter().enumerate() {
        let status = perform(state, &row.node, call).await?;
        // The first makes the index, and fails where there is one.
        if status != TaskStatus::Succeeded && at > 0 {
            return Err(Error::node(&row.node, NodeFailure::RepairRefused));
        }
    }
    let mut rest = owned;
    loop {
        let first = rest.iter().next();
        let Some(shard) = first else { break };
        let (peer, some) = copy::portion(state, entry, &row.node, shard, &rest).await?;
        copy::copy(state, entry, &row.node, &peer, &some).await?;
        rest = rest.difference(&some);
    }
    let mut cleared = 0;
    let rows: Vec<StaleReplica> = state
        .staleness
        .load()
        .rows()
        .filter(|r| r.node == row.node && r.index == row.index)
        .cloned()
        .collect();
    for other in rows {
        cleared += u64::from(state.staleness.clear(other).await?);
    }
    state.stores.settings_versions.set(&entry.physical, &row.node, entry.settings_version).await?;
    Ok(cleared)
}

/// Sends a call that enqueues a task, and waits for the task.
async fn perform(state: &ClusterState, node: &NodeId, call: &Call) -> Result<TaskStatus, Error> {
    let before = state.membership.task_uids.highest(node);
    let body =
        state.nodes.call_within(node, call, &cx(), state.options.scatter.node_timeout * 6).await?;
    let task: TaskRef = Call::parse(node, &body)?;
    disk_loss::accept_task_uid(state, node, before, task.task_uid).await?;
    wait_for(state, node, task.task_uid, PATIENCE).await
}

/// Whether a node has nothing left to do for an index.
pub(crate) async fn idle(state: &ClusterState, node: &NodeId, index: &str) -> Result<bool, Error> {
    let path = format!("/tasks?indexUids={index}&statuses=enqueued,processing&limit=1");
    let body = state.nodes.call(node, &Call::get("tasks_get", path), &cx()).await?;
    let page: Value = Call::parse(node, &body)?;
    Ok(page["results"].as_array().is_some_and(Vec::is_empty))
}

async fn idle_for(state: &ClusterState, node: &NodeId, index: &str) -> Result<(), Error> {
    let cx = cx();
    let mut pause = Duration::from_millis(5);
    while !idle(state, node, index).await? {
        if cx.deadline.remaining().is_zero() {
            return Err(Error::node(node, NodeFailure::Timeout));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
    Ok(())
}
