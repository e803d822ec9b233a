//! The repairer: brings replicas that missed something up to date, then lets them be read again.
//!
//! Each miss is a row in the store. A row is worked on when its node is well again:
//!
//! | kind | what is done |
//! | --- | --- |
//! | `pending` | wait until the node has worked off its queue for the index |
//! | `shard` | copy the shard's documents, vectors included, from an up-to-date peer |
//! | `index` | delete the index on the node, make it anew with a peer's settings, copy all its shards |
//! | `deleted` | delete the index on the node |
//!
//! A copy holds back writes to its index (not to others) while one shard is copied, so that nothing
//! can be written between what is read from the peer and what is put on the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use miroir_api::meili::TaskStatus;
use miroir_api::{NodeId, ShardId};
use serde_json::{Value, json};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::indexes::creation_calls;
use super::protocol::wait_for;
use crate::cluster::Shared;
use crate::context::{Context, Origin};
use crate::documents::shard_value;
use crate::error::Error;
use crate::node::{Call, TaskRef};
use crate::store::{IndexEntry, Stale, StaleKind};

/// Documents per page of a copy.
const PAGE: usize = 1000;
/// How long one node task of a repair may take.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_secs(1);

fn cx() -> Context {
    Context::internal(Origin::Repair, PATIENCE)
}

/// Repairs until cancelled.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let rows: Vec<Stale> = shared.stale().rows().cloned().collect();
        if !rows.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = round(&shared, rows) => {}
            }
        }
        let waiting = !shared.stale().is_empty();
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.repairs_changed.notified() => {}
            () = tokio::time::sleep(PAUSE), if waiting => {}
        }
    }
}

/// Works on every row whose node is well. Failures are logged and tried again in the next round.
pub async fn round(shared: &Arc<Shared>, rows: Vec<Stale>) {
    for row in rows {
        let topology = shared.topology();
        let well = topology.node(&row.node).is_some_and(|n| n.status.is_writable())
            && !shared.scores.is_open(&row.node);
        if !well {
            continue;
        }
        match repair(shared, &row).await {
            Ok(true) => {
                metrics::counter!("miroir_repairs_total", "kind" => label(row.kind)).increment(1);
                tracing::info!(node = %row.node, index = %row.index, kind = label(row.kind), "replica repaired");
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(node = %row.node, index = %row.index, %error, "repair failed"),
        }
    }
}

fn label(kind: StaleKind) -> &'static str {
    match kind {
        StaleKind::Pending => "pending",
        StaleKind::Shard => "shard",
        StaleKind::Index => "index",
        StaleKind::Deleted => "deleted",
    }
}

async fn repair(shared: &Arc<Shared>, row: &Stale) -> Result<bool, Error> {
    let entry = shared.indexes().into_iter().find(|entry| entry.physical == row.index);
    match (entry, row.kind, row.shard) {
        (None, _, _) => {
            // Whatever was missed, the index is gone: so must it be on the node.
            let call = Call::new(Method::DELETE, "indexes_delete", format!("/indexes/{}", row.index));
            perform(shared, &row.node, &call).await?;
            Ok(shared.clear_stale(row.clone()).await?)
        }
        (Some(_), StaleKind::Pending, _) => {
            if !idle(shared, &row.node, &row.index).await? {
                return Ok(false);
            }
            Ok(shared.clear_stale(row.clone()).await?)
        }
        (Some(entry), StaleKind::Shard, Some(shard)) => {
            let gate = shared.sequencer.exclusive(&entry.physical).await;
            copy_shard(shared, &entry, &row.node, shard).await?;
            let cleared = shared.clear_stale(row.clone()).await?;
            drop(gate);
            Ok(cleared)
        }
        (Some(entry), _, _) => rebuild(shared, &entry, row).await,
    }
}

async fn rebuild(shared: &Arc<Shared>, entry: &Arc<IndexEntry>, row: &Stale) -> Result<bool, Error> {
    let gate = shared.sequencer.exclusive(&entry.physical).await;
    let topology = shared.topology();
    let stale = shared.stale();
    let peer = topology.nodes().find(|n| {
        n.id != row.node && n.status.is_readable() && !stale.misses_index(&entry.physical, &n.id)
    });
    let Some(peer) = peer else { return Ok(false) };
    idle_for(shared, &peer.id, &entry.physical).await?;
    let path = format!("/indexes/{}/settings", entry.physical);
    let body = shared.call(&peer.id, &Call::get("settings_get", path), &cx()).await?;
    let settings: Value = Call::parse(&peer.id, &body)?;
    let delete = Call::new(Method::DELETE, "indexes_delete", format!("/indexes/{}", entry.physical));
    perform(shared, &row.node, &delete).await?;
    for call in creation_calls(&entry.physical, entry.primary_key.as_deref(), &settings) {
        if perform(shared, &row.node, &call).await? != TaskStatus::Succeeded {
            return Err(Error::node(&row.node, "repair_refused"));
        }
    }
    let placement = topology.placement(entry.shards);
    for shard in placement.owned_by(&row.node).iter() {
        copy_shard(shared, entry, &row.node, shard).await?;
    }
    let mut cleared = false;
    let rows: Vec<Stale> = shared
        .stale()
        .rows()
        .filter(|r| r.node == row.node && r.index == row.index)
        .cloned()
        .collect();
    for other in rows {
        cleared |= shared.clear_stale(other).await?;
    }
    shared.stores.settings_versions.set(&entry.physical, &row.node, entry.settings_version).await?;
    drop(gate);
    Ok(cleared)
}

/// Sends a call that enqueues a task, and waits for the task.
async fn perform(shared: &Shared, node: &NodeId, call: &Call) -> Result<TaskStatus, Error> {
    let body = shared.call_within(node, call, &cx(), shared.tuning.node_timeout * 6).await?;
    let task: TaskRef = Call::parse(node, &body)?;
    wait_for(shared, node, task.task_uid, PATIENCE).await
}

/// Whether a node has nothing left to do for an index.
async fn idle(shared: &Shared, node: &NodeId, index: &str) -> Result<bool, Error> {
    let path = format!("/tasks?indexUids={index}&statuses=enqueued,processing&limit=1");
    let body = shared.call(node, &Call::get("tasks_get", path), &cx()).await?;
    let page: Value = Call::parse(node, &body)?;
    Ok(page["results"].as_array().is_some_and(Vec::is_empty))
}

async fn idle_for(shared: &Shared, node: &NodeId, index: &str) -> Result<(), Error> {
    let cx = cx();
    let mut pause = Duration::from_millis(5);
    while !idle(shared, node, index).await? {
        if cx.deadline.remaining().is_zero() {
            return Err(Error::node(node, "timeout"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
    Ok(())
}

/// Puts one shard of an index on a node exactly as an up-to-date peer has it. The caller holds back
/// writes to the index.
async fn copy_shard(
    shared: &Arc<Shared>,
    entry: &Arc<IndexEntry>,
    node: &NodeId,
    shard: ShardId,
) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    struct Listing {
        results: Vec<Box<RawValue>>,
    }
    let topology = shared.topology();
    let stale = shared.stale();
    let placement = topology.placement(entry.shards);
    let peer = placement
        .write_targets(shard)
        .map(|(_, id)| id)
        .find(|id| {
            *id != node
                && topology.node(id).is_some_and(|n| n.status.is_readable())
                && !stale.is_stale(&entry.physical, id, shard)
                && !shared.scores.is_open(id)
        })
        .cloned()
        .ok_or_else(|| Error::node(node, "no_peer"))?;
    // What the peer has not worked off yet is not in what it shows.
    idle_for(shared, &peer, &entry.physical).await?;
    let filter = format!("_miroir_shard = '{}'", shard_value(shard.0, entry.shards));
    let base = format!("/indexes/{}/documents", entry.physical);
    let delete = Call::new(Method::POST, "documents_delete", format!("{base}/delete"))
        .json(json!({"filter": filter}).to_string());
    perform(shared, node, &delete).await?;
    let key = entry.primary_key.as_deref().map(crate::http::encode);
    let query = key.map(|key| format!("?primaryKey={key}")).unwrap_or_default();
    let mut offset = 0;
    loop {
        let body = json!({"filter": filter, "offset": offset, "limit": PAGE, "retrieveVectors": true});
        let call = Call::new(Method::POST, "documents_fetch", format!("{base}/fetch"))
            .json(body.to_string());
        let body = shared.call_within(&peer, &call, &cx(), shared.tuning.node_timeout * 6).await?;
        let page: Listing = Call::parse(&peer, &body)?;
        if page.results.is_empty() {
            return Ok(());
        }
        offset += page.results.len();
        let last = page.results.len() < PAGE;
        let mut payload = Vec::with_capacity(body.len());
        payload.push(b'[');
        for (at, document) in page.results.iter().enumerate() {
            if at > 0 {
                payload.push(b',');
            }
            payload.extend_from_slice(document.get().as_bytes());
        }
        payload.push(b']');
        let add = Call::new(Method::POST, "documents_post", format!("{base}{query}"))
            .json(Bytes::from(payload));
        if perform(shared, node, &add).await? != TaskStatus::Succeeded {
            return Err(Error::node(node, "repair_refused"));
        }
        if last {
            return Ok(());
        }
    }
}

/// Stale rows by node, for operators.
pub fn summary(shared: &Shared) -> BTreeMap<NodeId, usize> {
    let mut out = BTreeMap::new();
    for row in shared.stale().rows() {
        *out.entry(row.node.clone()).or_default() += 1;
    }
    out
}
