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

use super::repair;
use crate::cluster::Shared;
use crate::context::{Context, Origin};
use crate::error::Error;
use crate::index::scatter::missed::{self, Fate};
use crate::node::Call;
use crate::store::{Stale, StaleKind, Stores, TaskQuery};

/// Tasks looked back at for a node's numbers.
const LOOK_BACK: usize = 200;
/// Deletions looked back at for indexes that an older copy brings back.
const DELETIONS: usize = 1000;

/// Reads the highest known task number of each node out of the task registry.
///
/// # Errors
/// When the store fails.
pub(crate) async fn remember(
    stores: &Stores,
    numbering: &crate::node::Numbering,
) -> Result<(), crate::store::StoreError> {
    let query = TaskQuery { limit: LOOK_BACK, ..TaskQuery::default() };
    for task in stores.tasks.list(query).await?.tasks {
        // A node that was restored from a dump need not know the task that made the dump.
        if task.physical.is_none() {
            continue;
        }
        for on_node in task.nodes.iter().filter(|n| !n.dropped) {
            if let Some(uid) = on_node.uid {
                numbering.saw(&on_node.node, uid);
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
    shared: &Arc<Shared>,
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
    let before = shared.numbering.highest(node);
    let body = shared.call(node, &Call::get("tasks_get", "/tasks?limit=1"), &cx).await?;
    let newest = Call::parse::<Page>(node, &body)?.results.first().map(|task| task.uid);
    if before.is_some_and(|before| newest.is_none_or(|newest| newest < before)) {
        declare(shared, node).await?;
    }
    if let Some(newest) = newest {
        shared.numbering.saw(node, newest);
    }
    if !shared.numbering.is_proven(node) {
        find_missing(shared, node, &cx).await?;
        shared.numbering.prove(node);
    }
    Ok(())
}

/// Records that a node lost what it had: nothing of it is read before it was rebuilt, and its old
/// tasks say nothing any more.
///
/// # Errors
/// When the store fails.
pub(crate) async fn declare(shared: &Shared, node: &NodeId) -> Result<(), Error> {
    tracing::error!(%node, "the node lost its disk, or came back with an older copy: rebuilding it");
    metrics::counter!("miroir_nodes_lost_total").increment(1);
    let rows = shared.indexes().into_iter().filter(|entry| !entry.making).map(|entry| Stale {
        node: node.clone(),
        index: entry.physical.clone(),
        shard: None,
        kind: StaleKind::Index,
        generation: 0,
    });
    shared.mark_stale(rows.collect()).await?;
    shared.numbering.forget(node);
    shared.features.lock().await.remove(node);
    shared.rules.lock().await.remove(node);
    // The numbers of its former life would be taken for those of the new one.
    let query = TaskQuery { limit: LOOK_BACK, ..TaskQuery::default() };
    let mut tasks = shared.stores.tasks.list(query).await?.tasks;
    tasks.extend(shared.stores.tasks.unfinished().await?);
    let mut seen = BTreeSet::new();
    for mut task in tasks {
        let mut changed = false;
        for on_node in task.nodes.iter_mut().filter(|n| n.node == *node && n.uid.is_some()) {
            changed |= !on_node.dropped;
            on_node.dropped = true;
        }
        if seen.insert(task.uid) && changed {
            shared.stores.tasks.update(task).await?;
        }
    }
    shared.tasks_changed.notify_one();
    Ok(())
}

async fn names(shared: &Shared, node: &NodeId, cx: &Context) -> Result<BTreeSet<String>, Error> {
    #[derive(Deserialize)]
    struct Index {
        uid: String,
    }
    #[derive(Deserialize)]
    struct Page {
        results: Vec<Index>,
    }
    let call = Call::get("indexes_get", "/indexes?limit=1000000");
    let body = shared.call(node, &call, cx).await?;
    let page = Call::parse::<Page>(node, &body)?;
    Ok(page.results.into_iter().map(|index| index.uid).collect())
}

/// Marks indexes that the node should have and has not, and those it should have deleted.
async fn find_missing(shared: &Arc<Shared>, node: &NodeId, cx: &Context) -> Result<(), Error> {
    let held = names(shared, node, cx).await?;
    let unfinished = shared.stores.tasks.unfinished().await?;
    let making = |physical: &str| {
        unfinished.iter().any(|task| {
            task.kind == TaskKind::IndexCreation && task.physical.as_deref() == Some(physical)
        })
    };
    let mut missing = Vec::new();
    for entry in shared.indexes() {
        let physical = &entry.physical;
        let known = held.contains(physical) || shared.stale().lacks_index(physical, node);
        // What is still in the node's queue is on its disk.
        let awaited = entry.making || making(physical);
        if !known && !awaited && repair::idle(shared, node, physical).await? {
            missing.push(physical.clone());
        }
    }
    if !missing.is_empty() {
        // Made meanwhile, perhaps: only what is missing in both looks is.
        let held = names(shared, node, cx).await?;
        missing.retain(|physical| !held.contains(physical));
    }
    let one = std::iter::once(node);
    let mut rows: Vec<Stale> = missing
        .iter()
        .flat_map(|physical| {
            tracing::error!(%node, index = %physical, "the node lacks an index: rebuilding it");
            missed::whole(physical, StaleKind::Index, one.clone(), |_| Fate::Refused)
        })
        .collect();
    let listed: BTreeSet<String> =
        shared.indexes().iter().map(|entry| entry.physical.clone()).collect();
    let strangers: BTreeSet<&String> = held.difference(&listed).collect();
    if !strangers.is_empty() {
        let query = TaskQuery {
            limit: DELETIONS,
            kinds: Some(vec![TaskKind::IndexDeletion]),
            statuses: Some(vec![TaskStatus::Succeeded]),
            ..TaskQuery::default()
        };
        let deletions = shared.stores.tasks.list(query).await?.tasks;
        let deleted: BTreeSet<String> =
            deletions.into_iter().filter_map(|task| task.physical).collect();
        for stranger in strangers.into_iter().filter(|name| deleted.contains(*name)) {
            tracing::warn!(%node, index = %stranger, "the node has an index that was deleted");
            rows.extend(missed::whole(stranger, StaleKind::Deleted, one.clone(), |_| {
                Fate::Refused
            }));
        }
    }
    Ok(shared.mark_stale(rows).await?)
}
