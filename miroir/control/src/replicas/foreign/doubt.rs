//! Replicas in doubt: what was changed there past this process is compared with another one.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use miroir_api::{NodeId, ShardId};
use miroir_core::documents::shard_value;
use miroir_core::routing::ShardSet;
use miroir_core::view::{CatchUp, StaleMap, StaleReplica};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::node::Call;
use miroir_store::IndexEntry;
use serde_json::json;

use super::changed::Changed;
use crate::node_setup::SHARD;

/// How long a node may take for the call that removes documents.
const PATIENCE: Duration = Duration::from_secs(30);

/// The indexes that documents of no shard of their node were deleted from since it was looked at: one
/// deletion comes after all tasks that it had by then.
pub(super) type Swept = BTreeSet<String>;

/// What of a change waits for another replica that is complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// All can be compared, or never will be.
    Nothing,
    /// These shards.
    Shards(Vec<ShardId>),
    /// The index as a whole.
    All,
}

impl Left {
    fn of(done: bool) -> Self {
        if done { Self::Nothing } else { Self::All }
    }
}

/// Puts in doubt what a task has changed, as far as that can be compared by now.
pub(super) async fn put(
    state: &ClusterState,
    node: &NodeId,
    changed: &Changed,
    shards: Option<Vec<ShardId>>,
    swept: &mut Swept,
) -> Result<Left, Error> {
    let entry = |name: &str| state.catalog.by_physical(name);
    match changed {
        Changed::Nothing => Ok(Left::Nothing),
        Changed::Documents { index, adds } => {
            let Some(entry) = entry(index) else { return Ok(Left::Nothing) };
            // A call that was meant for another node brings what this one is not to have.
            if *adds && shards.is_none() && !swept.contains(index) {
                remove_strangers(state, node, &entry).await?;
                swept.insert(index.clone());
            }
            doubt_documents(state, node, &entry, shards).await
        }
        Changed::Settings(index) => {
            let Some(entry) = entry(index) else { return Ok(Left::Nothing) };
            doubt_whole(state, node, &entry, CatchUp::Shard).await.map(Left::of)
        }
        Changed::Indexes(names) => {
            let mut done = true;
            for entry in names.iter().filter_map(|name| entry(name)) {
                done &= !entry.making && doubt_whole(state, node, &entry, CatchUp::Index).await?;
            }
            Ok(Left::of(done))
        }
    }
}

/// Whether a shard has another owner, and whether one of those is complete.
fn others(
    state: &ClusterState,
    stale: &StaleMap,
    node: &NodeId,
    entry: &IndexEntry,
    shard: ShardId,
) -> (bool, bool) {
    let placement = state.membership.topology().placement(entry.shards);
    let mut any = false;
    let mut complete = false;
    for (_, owner) in placement.write_targets(shard).filter(|(_, owner)| *owner != node) {
        any = true;
        complete |= stale.is_authority(&entry.physical, owner, shard);
    }
    (any, complete)
}

/// Has shards of a node compared, all it owns where nobody says which.
async fn doubt_documents(
    state: &ClusterState,
    node: &NodeId,
    entry: &IndexEntry,
    shards: Option<Vec<ShardId>>,
) -> Result<Left, Error> {
    let owned = state.membership.topology().placement(entry.shards).owned_by(node);
    let mut touched = ShardSet::empty(entry.shards);
    for shard in owned.iter().filter(|s| shards.as_ref().is_none_or(|all| all.contains(s))) {
        touched.insert(shard);
    }
    let decide = |stale: &StaleMap| {
        let (mut rows, mut left) = (Vec::new(), Vec::new());
        for shard in touched.iter() {
            let (any, complete) = others(state, stale, node, entry, shard);
            let doubted = !stale.is_authority(&entry.physical, node, shard);
            if complete || doubted {
                rows.push(StaleReplica::new(node, &entry.physical, Some(shard), CatchUp::Shard));
            } else if any {
                left.push(shard);
            }
        }
        if !rows.is_empty() {
            // No copy that is under way has heard of what changed it.
            state.sequencer.interrupt_copies(&entry.physical, node);
        }
        (rows, left)
    };
    let left = state.staleness.mark_by(decide).await?;
    Ok(if left.is_empty() { Left::Nothing } else { Left::Shards(left) })
}

/// Has an index deleted from a node that is in no catalogue any more, unless it is another's by now.
pub(super) async fn take_away(
    state: &ClusterState,
    node: &NodeId,
    index: &str,
) -> Result<(), Error> {
    let decide = |_: &StaleMap| {
        let gone = state.catalog.by_physical(index).is_none();
        let row = || StaleReplica::new(node, index, None, CatchUp::Deleted);
        (gone.then(row).into_iter().collect(), ())
    };
    Ok(state.staleness.mark_by(decide).await?)
}

/// Has an index of a node compared as a whole: its settings, or all there is of it. Returns whether
/// it is.
async fn doubt_whole(
    state: &ClusterState,
    node: &NodeId,
    entry: &IndexEntry,
    kind: CatchUp,
) -> Result<bool, Error> {
    let topology = state.membership.topology();
    let placement = topology.placement(entry.shards);
    let owned = placement.owned_by(node);
    // What one that is read follows in settings is read as well: others may go, with what they have.
    let read = placement.is_read(node);
    let nodes: Vec<&NodeId> = topology
        .nodes()
        .map(|other| &other.id)
        .filter(|other| *other != node && (!read || placement.is_read(other)))
        .collect();
    let decide = |stale: &StaleMap| {
        let fine = match kind {
            CatchUp::Index => owned.iter().all(|shard| others(state, stale, node, entry, shard).1),
            _ => nodes.iter().any(|other| !stale.misses_index(&entry.physical, other)),
        };
        let alone = match kind {
            CatchUp::Index => owned.iter().all(|shard| !others(state, stale, node, entry, shard).0),
            _ => nodes.is_empty(),
        };
        let rows = fine
            .then(|| StaleReplica::new(node, &entry.physical, None, kind))
            .into_iter()
            .collect();
        (rows, fine || alone)
    };
    Ok(state.staleness.mark_by(decide).await?)
}

/// Deletes documents of a node that are of no shard it owns: they were not written by Miroir, and no
/// other replica tells about them.
async fn remove_strangers(
    state: &ClusterState,
    node: &NodeId,
    entry: &IndexEntry,
) -> Result<(), Error> {
    let owned = state.membership.topology().placement(entry.shards).owned_by(node);
    let values: Vec<String> =
        owned.iter().map(|s| format!("'{}'", shard_value(s.0, entry.shards))).collect();
    let filter = format!("{SHARD} NOT IN [{}]", values.join(","));
    let path = format!(
        "/indexes/{}/documents/delete?customMetadata=miroir:{}:strangers",
        entry.physical, state.store_id
    );
    let call = Call::change(Method::POST, "documents_delete", path);
    let call = call.json(json!({ "filter": filter }).to_string());
    let cx = Context::internal(Origin::Repair, PATIENCE);
    state.nodes.call(node, &call, &cx).await.map(drop)
}
