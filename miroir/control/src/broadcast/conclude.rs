//! How a settings broadcast ends: committed, refused, or its index frozen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use miroir_api::meili::{ApiError, TaskStatus};
use miroir_api::{NodeId, hexadecimal};
use serde_json::{Map, Value};

use crate::broadcast::progress::{phase, proposal, publish_version};
use crate::outcome::{canceled, embedding_errors};
use crate::secrets;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_pipeline::index::scatter::stale_marks::{self, WriteOutcome};
use miroir_pipeline::node_errors;
use miroir_store::task_state::Broadcast;
use miroir_store::{IndexEntry, TaskProtocol, TaskRecord, TaskState, clock};

/// Takes nodes whose settings nobody could check out of reads until they copied them.
pub(crate) async fn leave_out(
    state: &ClusterState,
    entry: &IndexEntry,
    took: &BTreeMap<NodeId, bool>,
    checked: &BTreeSet<NodeId>,
) -> Result<(), Error> {
    let outcome_of = |node: &NodeId| {
        if checked.contains(node) { WriteOutcome::Accepted } else { WriteOutcome::Rejected }
    };
    let well = |node: &NodeId| state.is_available(node);
    let (physical, placement) =
        (&entry.physical, state.membership.topology().placement(entry.shards));
    state
        .staleness
        .mark_by(|stale| {
            // Somebody has to keep settings to copy from.
            let nodes = || took.keys();
            let has_a_say = stale_marks::with_a_say(stale, &placement, physical, nodes());
            let rows = if checked.iter().any(has_a_say) {
                let doubted = |_: &NodeId| false;
                stale_marks::settings(
                    stale,
                    &placement,
                    physical,
                    nodes(),
                    well,
                    doubted,
                    outcome_of,
                )
            } else {
                Vec::new()
            };
            (rows, ())
        })
        .await?;
    Ok(())
}

pub(crate) async fn freeze(
    state: &Arc<ClusterState>,
    record: &mut TaskRecord,
    entry: &IndexEntry,
) -> Result<(), Error> {
    let why = "its nodes could not be brought to equal settings; see the log, mend the node, and \
               set the settings again";
    tracing::error!(index = %entry.name, "MiroirSettingsDivergence");
    if state.options.settings_broadcast.freeze_writes_on_unrepairable {
        state
            .catalog
            .change(entry, |old| IndexEntry { frozen: Some(why.to_owned()), ..old.clone() })
            .await?;
    }
    record.status = TaskStatus::Failed;
    record.error =
        Some(ApiError::new("miroir_index_frozen", format!("Index `{}`: {why}.", entry.name)));
    end(state, record, &entry.physical);
    Ok(())
}

/// Applies an overlay change to an entry.
fn apply_overlay(entry: &mut IndexEntry, change: &Map<String, Value>) {
    for (key, value) in change {
        if value.is_null() {
            entry.overlay.shift_remove(key);
        } else {
            entry.overlay.insert(key.clone(), value.clone());
        }
    }
}

/// Makes proposed settings those of the index: `nodes` have them, and show settings of this hash, if
/// they were compared.
pub(crate) async fn commit(
    state: &Arc<ClusterState>,
    record: &mut TaskRecord,
    entry: &IndexEntry,
    nodes: &BTreeSet<NodeId>,
    hash: Option<&[u8; 32]>,
) -> Result<(), Error> {
    phase(state, 3);
    let overlay = proposal(record).map(|proposal| proposal.overlay.clone()).unwrap_or_default();
    let task = record.uid;
    let hash = hash.map(|hash| hexadecimal(hash));
    let stored = state
        .catalog
        .change(entry, |old| {
            let mut new = old.clone();
            // A process that died between this and the end of the task commits again.
            if old.committed_by.is_none_or(|last| last < task) {
                new.settings_version += 1;
                apply_overlay(&mut new, &overlay);
                new.committed_by = Some(task);
            }
            new.settings_hash.clone_from(&hash);
            new.frozen = None;
            new.updated_at = clock::now();
            new.provisional = false;
            new
        })
        .await?;
    let Some(stored) = stored else {
        gone(state, record);
        return Ok(());
    };
    let version = stored.settings_version;
    for node in nodes {
        state.stores.settings_versions.set(&entry.physical, node, version).await?;
    }
    publish_version(state);
    record.status = TaskStatus::Succeeded;
    record.protocol = TaskState::Settings(Broadcast::Committed(version)).into();
    end(state, record, &entry.physical);
    Ok(())
}

pub(crate) fn refuse(state: &ClusterState, record: &mut TaskRecord, entry: &IndexEntry) {
    record.status = TaskStatus::Failed;
    let topology = state.membership.topology();
    let copies = topology.groups().len() as u64 * u64::from(topology.replication_factor());
    let errors = record.nodes.iter().filter_map(|task| task.error.as_ref());
    record.error = embedding_errors::one(errors, copies).map(|mut error| {
        error.message = node_errors::message(&error.message, entry);
        error
    });
    // Who took the proposal before it was canceled went back to what the others have.
    if canceled::is_partly_canceled(record) {
        canceled::become_canceled(record);
    }
    end(state, record, &entry.physical);
}

/// Ends a broadcast whose index was deleted meanwhile, whether or not it was made again: as on one
/// node, by what became of the settings before the deletion.
pub(crate) fn gone(state: &ClusterState, record: &mut TaskRecord) {
    let physical = record.physical.clone().unwrap_or_default();
    let count =
        |wanted| record.nodes.iter().filter(|task| !task.dropped && task.status == wanted).count();
    let counted = record.nodes.iter().filter(|task| !task.dropped).count();
    let did = count(TaskStatus::Succeeded);
    let missing = || ApiError::new("index_not_found", "The index was deleted meanwhile.");
    // Who canceled them has nothing to copy any more.
    if did > 0 && did + count(TaskStatus::Canceled) == counted {
        record.status = TaskStatus::Succeeded;
        record.protocol = TaskProtocol::default();
    } else {
        let refused = record.nodes.iter().find_map(|task| task.error.clone());
        record.status = TaskStatus::Failed;
        record.error = Some(refused.unwrap_or_else(missing));
    }
    end(state, record, &physical);
}

pub(crate) fn end(state: &ClusterState, record: &mut TaskRecord, physical: &str) {
    let now = clock::now();
    record.started_at.get_or_insert(now);
    record.finished_at = Some(now);
    secrets::forget(record);
    state.broadcasts.end(physical);
}
