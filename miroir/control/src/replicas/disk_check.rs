//! Nodes that come back with an empty disk, or with an older copy of it.
//!
//! A node is read again only after it has shown that its task numbers go on from where they were
//! and that it has every index of the catalogue. One that cannot is rebuilt like a replica that
//! missed the making of its indexes: everything is copied from its peers before it is read. Where
//! no peer holds a shard, the shard stays unread rather than silently empty.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use miroir_api::NodeId;
use miroir_api::meili::{TaskKind, TaskStatus};
use serde::Deserialize;

use crate::replicas::repair;
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_pipeline::cluster::{ClusterState, disk_loss};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::index::scatter::stale_marks::{self, WriteOutcome};
use miroir_pipeline::node::Call;
use miroir_store::{Stores, TaskQuery};

/// Deletions looked back at for indexes that an older copy brings back.
const DELETIONS: usize = 1000;

/// Reads the highest known task number of each node out of the task registry.
///
/// # Errors
/// When the store fails.
pub(crate) async fn remember(
    stores: &Stores,
    task_uids: &miroir_pipeline::node::TaskUidTracker,
) -> Result<(), miroir_store::StoreError> {
    let query = TaskQuery { limit: disk_loss::LOOK_BACK, ..TaskQuery::default() };
    for task in stores.tasks.list(query).await?.tasks {
        // A node that was restored from a dump need not know the task that made the dump.
        if task.physical.is_none() {
            continue;
        }
        for on_node in task.nodes.iter().filter(|n| !n.dropped) {
            if let Some(uid) = on_node.uid {
                task_uids.saw(&on_node.node, uid);
            }
        }
    }
    Ok(())
}

/// Asks a node for its newest task and, the first time after it was away, for its indexes. What it
/// lost is on record when this returns.
///
/// # Errors
/// When the node does not say, or the store fails.
pub(crate) async fn check(
    state: &Arc<ClusterState>,
    node: &NodeId,
    timeout: Duration,
) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Newest {
        uid: u32,
    }
    #[derive(Deserialize)]
    struct Page {
        results: Vec<Newest>,
    }
    let cx = Context::internal(Origin::Repair, timeout);
    let before = state.membership.task_uids.highest(node);
    let body = state.nodes.call(node, &Call::get("tasks_get", "/tasks?limit=1"), &cx).await?;
    let newest = Call::parse::<Page>(node, &body)?.results.first().map(|task| task.uid);
    if before.is_some_and(|before| newest.is_none_or(|newest| newest < before)) {
        disk_loss::declare(state, node).await?;
    }
    if let Some(newest) = newest {
        state.membership.task_uids.saw(node, newest);
    }
    if !state.membership.task_uids.is_verified(node) {
        find_missing(state, node, &cx).await?;
        state.membership.task_uids.mark_verified(node);
    }
    Ok(())
}

async fn names(
    state: &ClusterState,
    node: &NodeId,
    cx: &Context,
) -> Result<BTreeSet<String>, Error> {
    #[derive(Deserialize)]
    struct Index {
        uid: String,
    }
    #[derive(Deserialize)]
    struct Page {
        results: Vec<Index>,
    }
    let call = Call::get("indexes_get", "/indexes?limit=1000000");
    let body = state.nodes.call(node, &call, cx).await?;
    let page = Call::parse::<Page>(node, &body)?;
    Ok(page.results.into_iter().map(|index| index.uid).collect())
}

/// Marks indexes that the node should have and has not, and those it should have deleted.
async fn find_missing(state: &Arc<ClusterState>, node: &NodeId, cx: &Context) -> Result<(), Error> {
    let held = names(state, node, cx).await?;
    let making = |physical: &str| state.open_tasks.has(physical, TaskKind::IndexCreation);
    let mut missing = Vec::new();
    for entry in state.catalog.all() {
        let physical = &entry.physical;
        let known = held.contains(physical) || state.staleness.load().lacks_index(physical, node);
        // What is still in the node's queue is on its disk.
        let awaited = entry.making || making(physical);
        if !known && !awaited && repair::idle(state, node, physical).await? {
            missing.push(physical.clone());
        }
    }
    if !missing.is_empty() {
        // Made meanwhile, perhaps: only what is missing in both looks is.
        let held = names(state, node, cx).await?;
        missing.retain(|physical| !held.contains(physical));
    }
    let one = std::iter::once(node);
    let mut rows: Vec<StaleReplica> = missing
        .iter()
        .flat_map(|physical| {
            tracing::error!(%node, index = %physical, "the node lacks an index: rebuilding it");
            stale_marks::whole(physical, CatchUp::Index, one.clone(), |_| WriteOutcome::Rejected)
        })
        .collect();
    let listed: BTreeSet<String> =
        state.catalog.all().iter().map(|entry| entry.physical.clone()).collect();
    let strangers: BTreeSet<&String> = held.difference(&listed).collect();
    if !strangers.is_empty() {
        let query = TaskQuery {
            limit: DELETIONS,
            kinds: Some(vec![TaskKind::IndexDeletion]),
            statuses: Some(vec![TaskStatus::Succeeded]),
            ..TaskQuery::default()
        };
        let deletions = state.stores.tasks.list(query).await?.tasks;
        let deleted: BTreeSet<String> =
            deletions.into_iter().filter_map(|task| task.physical).collect();
        for stranger in strangers.into_iter().filter(|name| deleted.contains(*name)) {
            tracing::warn!(%node, index = %stranger, "the node has an index that was deleted");
            rows.extend(stale_marks::whole(stranger, CatchUp::Deleted, one.clone(), |_| {
                WriteOutcome::Rejected
            }));
        }
    }
    Ok(state.staleness.mark(rows).await?)
}
