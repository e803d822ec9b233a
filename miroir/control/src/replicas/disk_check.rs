//! Nodes that come back with an empty disk, an older copy of theirs, or another node's.
//!
//! A node is read again only after it has shown its own key (`identity`), that its task
//! numbers go on from where they were and that it has every index of the catalogue. One that shows
//! another node's key is not used at all. One that cannot is rebuilt like a replica that
//! missed the making of its indexes: everything is copied from its peers before it is read. Where
//! no peer holds a shard, the shard stays unread rather than silently empty.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use miroir_api::NodeId;
use miroir_api::meili::{TaskKind, TaskStatus};
use serde::Deserialize;

use crate::replicas::identity::{self, Disk, Look};
use crate::replicas::{foreign, repair};
use miroir_core::topology::NodeEvent;
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_pipeline::cluster::{ClusterState, disk_loss};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::{Error, NodeFailure};
use miroir_pipeline::index::scatter::stale_marks::{self, WriteOutcome};
use miroir_pipeline::node::Call;
use miroir_store::records::NodeRecord;
use miroir_store::{NodeTask, Part, TaskQuery};

/// Deletions looked back at for indexes that an older copy brings back.
const DELETIONS: usize = 1000;

/// How long the first look at a node may take, before anything is read.
const FIRST: Duration = Duration::from_secs(2);

/// Whether a node's disk is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is, as far as can be told. What it lacks is on record.
    Own,
    /// It is another node's: nothing may be read from it, and nothing written.
    Foreign,
}

/// Reads the highest known task number of each node out of the store: what was stored of each, what
/// unfinished tasks say since, and, for nodes of which nothing was, the newest tasks.
///
/// # Errors
/// When the store fails.
pub(crate) async fn remember(state: &ClusterState) -> Result<(), miroir_store::StoreError> {
    let task_uids = &state.membership.task_uids;
    for record in state.lives.all() {
        if let Some(highest) = record.highest {
            task_uids.saw(&record.node, highest);
        }
    }
    let query = TaskQuery { limit: disk_loss::LOOK_BACK, ..TaskQuery::default() };
    let tasks = state.stores.tasks.list(query).await?.tasks;
    // A node that was restored from a dump need not know the task that made the dump.
    for task in tasks.iter().filter(|task| task.physical.is_some()) {
        let counts = |n: &&NodeTask| !n.dropped && !state.lives.is_former(n);
        for on_node in task.nodes.iter().filter(counts) {
            if let Some(uid) = on_node.uid {
                task_uids.saw(&on_node.node, uid);
            }
        }
    }
    state.open_tasks.given(|node, life, uid| {
        if life == state.lives.of(node) {
            task_uids.saw(node, uid);
        }
    });
    Ok(())
}

/// Looks whose disk each node has that answers, before anything is read. One that was known by its
/// key and does not listen is not read before it has shown it.
pub(crate) async fn at_first(state: &ClusterState) {
    let topology = state.membership.topology();
    let looks = topology.nodes().map(|node| async {
        let cx = Context::internal(Origin::Repair, FIRST);
        (&node.id, identify(state, &node.id, &cx).await)
    });
    for (node, looked) in join_all(looks).await {
        let Err(error) = looked else { continue };
        tracing::warn!(%node, %error, "the node did not show whose disk it has");
        let absent = error.node_failure().is_some_and(NodeFailure::is_absence);
        let fails = state.membership.topology().node(node).is_some_and(|n| n.is_readable());
        if absent && fails && state.lives.get(node).identified {
            state.membership.apply(node, NodeEvent::Fail);
        }
    }
    foreign::round(state, FIRST).await;
}

/// Asks a node for its keys, its newest task and, the first time after it was away, for its indexes.
/// What it lost is on record when this returns.
///
/// # Errors
/// When the node does not say, or the store fails.
pub(crate) async fn check(
    state: &Arc<ClusterState>,
    node: &NodeId,
    timeout: Duration,
) -> Result<Verdict, Error> {
    let cx = Context::internal(Origin::Repair, timeout);
    let verdict = identify(state, node, &cx).await?;
    if verdict == Verdict::Own && !state.membership.task_uids.is_verified(node) {
        find_missing(state, node, &cx).await?;
        let accounted = tokio::time::timeout(timeout, foreign::account_for(state, node)).await;
        accounted.map_err(|_| Error::node(node, NodeFailure::Timeout))??;
        state.membership.task_uids.mark_verified(node);
    }
    Ok(verdict)
}

/// Whose disk a node has, by its keys and by its newest task.
async fn identify(state: &ClusterState, node: &NodeId, cx: &Context) -> Result<Verdict, Error> {
    let known = state.lives.get(node);
    let looked = if state.lives.is_keyless(node) && state.membership.task_uids.is_verified(node) {
        // It was asked when it came.
        Look { disk: Disk::Keyless, name: None }
    } else {
        identity::look(state, node, cx).await?
    };
    let disk = looked.disk;
    match &disk {
        Disk::Foreign(of) => {
            refuse(state, node, of).await?;
            return Ok(Verdict::Foreign);
        }
        // Nothing shows that what was foreign is not any more.
        Disk::Keyless if known.foreign.is_some() => return Ok(Verdict::Foreign),
        Disk::Keyless => warn_keyless(state, node, known.identified),
        Disk::OtherLife(life) => disk_loss::declare(state, node, Some(*life)).await?,
        Disk::Blank if known.identified => disk_loss::declare(state, node, None).await?,
        Disk::Blank | Disk::Own => {}
    }
    compare_uids(state, node, cx).await?;
    let now = state.lives.get(node);
    if disk != Disk::Keyless && !now.identified {
        if disk == Disk::Own && now.life == known.life {
            identity::note(state, node, now.life).await?;
        } else {
            identity::make(state, node, cx).await?;
        }
    }
    if disk == Disk::Own {
        compare_topology(state, node, looked.name.as_deref().unwrap_or_default(), cx).await?;
    }
    if now.foreign.is_some() {
        tracing::info!(%node, "the node has a disk of its own again");
        state.lives.change(node, |record| NodeRecord { foreign: None, ..record }).await?;
        state.leadership.publish(&[Part::Nodes]).await?;
    }
    Ok(Verdict::Own)
}

/// Compares the topology that a node was told with the store's, and tells it a later one.
async fn compare_topology(
    state: &ClusterState,
    node: &NodeId,
    name: &str,
    cx: &Context,
) -> Result<(), Error> {
    let committed = state.committed.load_full();
    let ahead = identity::version(name).filter(|told| *told > committed.version);
    if state.lives.get(node).ahead != ahead {
        state.lives.change(node, |record| NodeRecord { ahead, ..record }).await?;
        state.look_behind();
        state.leadership.publish_and_wait(&[Part::Nodes]).await?;
    }
    if ahead.is_none() && name != identity::name(node, &committed) {
        identity::tell(state, node, cx).await?;
    }
    Ok(())
}

/// Compares a node's newest task with the highest number known.
async fn compare_uids(state: &ClusterState, node: &NodeId, cx: &Context) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Newest {
        uid: u32,
        #[serde(rename = "type", default)]
        kind: String,
    }
    #[derive(Deserialize)]
    struct Page {
        results: Vec<Newest>,
    }
    let before = state.membership.task_uids.highest(node);
    let call = Call::get("tasks_get", "/tasks?limit=1").to_whoever();
    let body = state.nodes.call(node, &call, cx).await?;
    let page = Call::parse::<Page>(node, &body)?;
    let newest = page.results.first();
    if before.is_some_and(|before| newest.is_none_or(|newest| newest.uid < before)) {
        disk_loss::declare(state, node, None).await?;
    }
    let after = newest.map_or(0, |newest| newest.uid.saturating_add(1));
    let next = state.lives.get(node).unaccounted.unwrap_or(after);
    state.nodes.pool.given().begin_at(node, next, after);
    // A node that is restored from a dump or a snapshot need not know the task that made it.
    let saves = |kind: &str| matches!(kind, "dumpCreation" | "snapshotCreation");
    if let Some(newest) = newest.filter(|newest| !saves(&newest.kind)) {
        state.membership.task_uids.saw(node, newest.uid);
    }
    Ok(())
}

/// The disk behind a node's address is another node's: it is not used until that one's is back, or an
/// operator says what becomes of it.
async fn refuse(state: &ClusterState, node: &NodeId, of: &NodeId) -> Result<(), Error> {
    state.membership.bar(node);
    if state.lives.foreign(node).as_ref() == Some(of) {
        return Ok(());
    }
    tracing::error!(
        %node, disk_of = %of,
        "the node has another node's disk and is not used: give it its own disk back, or have what \
         it has now thrown away and built anew with `miroir-ctl node discard-disk {node}`"
    );
    metrics::counter!("miroir_nodes_foreign_total").increment(1);
    let of = Some(of.clone());
    state.lives.change(node, |record| NodeRecord { foreign: of, ..record }).await?;
    // No other pod reads it either, from now on.
    Ok(state.leadership.publish_and_wait(&[Part::Nodes]).await?)
}

/// Says once that a node cannot be told from another one by a key.
fn warn_keyless(state: &ClusterState, node: &NodeId, had_one: bool) {
    if !state.lives.note_keyless(node) {
        return;
    }
    if had_one {
        tracing::error!(
            %node,
            "the node does not show its keys any more: start it with its master key, and give \
             Miroir that key. Until then only task numbers and names of indexes tell whose disk it has"
        );
    } else {
        tracing::warn!(
            %node,
            "the node keeps no keys, so that only task numbers and names of indexes tell whose disk \
             it has: start nodes with a master key, and give it to Miroir as `node_master_key`"
        );
    }
}

/// The names of the indexes a node has.
pub(crate) async fn names(
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
    let mut rows: Vec<StaleReplica> =
        missing.iter().flat_map(|physical| repair::lacking(physical, &[node])).collect();
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
            let one = std::iter::once(node);
            rows.extend(stale_marks::whole(stranger, CatchUp::Deleted, one, |_| {
                WriteOutcome::Rejected
            }));
        }
    }
    Ok(state.staleness.mark(rows).await?)
}
