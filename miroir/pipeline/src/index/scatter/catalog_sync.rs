//! How the catalogue follows the making and the deletion of an index.
//!
//! The stored task is the intent. The catalogue changes after the task is stored and before a node
//! is called, so a process that dies in between leaves an unfinished task, which the next one ends
//! either way; never an index on nodes that nothing points to. Making an index without a task of its
//! own marks the entry as [`IndexEntry::making`] instead, and [`undo_makings`] sees to that.

use miroir_api::NodeId;
use miroir_api::meili::TaskKind;

use super::stale_marks;
use crate::cluster::ClusterState;
use crate::error::Error;
use crate::index::scatter::stale_marks::WriteOutcome;
use miroir_core::view::CatchUp;
use miroir_store::{IndexEntry, StoreError, Stores};

/// Lists or unlists an index whose task was just stored.
///
/// # Errors
/// When the store fails, or when the catalogue is not what it was when the task was planned: the name
/// of a new index is taken, or the index to delete is gone.
pub(super) async fn follow(
    state: &ClusterState,
    entry: &IndexEntry,
    kind: TaskKind,
) -> Result<(), Error> {
    match kind {
        TaskKind::IndexCreation if state.catalog.insert(entry.clone()).await?.is_none() => {
            let text = format!("Index `{}` already exists.", entry.name);
            Err(Error::api("index_already_exists", text))
        }
        TaskKind::IndexDeletion if !state.catalog.remove(entry).await? => {
            Err(Error::index_not_found(entry.name.as_str()))
        }
        _ => Ok(()),
    }
}

/// Restores the catalogue after a task that no quorum took. Nodes that may have made the index
/// delete it; that is on record before the entry goes.
pub(super) async fn take_back<'a>(
    state: &ClusterState,
    entry: &IndexEntry,
    kind: TaskKind,
    may_have: impl Iterator<Item = &'a NodeId>,
) -> Result<(), Error> {
    match kind {
        TaskKind::IndexCreation => unmake(state, entry, may_have).await?,
        TaskKind::IndexDeletion => {
            state.catalog.insert(entry.clone()).await?;
        }
        _ => {}
    }
    Ok(())
}

/// Takes an index out of the catalogue that was not made, and off the nodes that may have it, unless
/// its name on the nodes is another's by now.
///
/// # Errors
/// When a store fails. It is to be called again then.
pub async fn unmake<'a>(
    state: &ClusterState,
    entry: &IndexEntry,
    may_have: impl Iterator<Item = &'a NodeId>,
) -> Result<(), Error> {
    let listed = state.catalog.by_physical(&entry.physical);
    if listed.is_some_and(|listed| !listed.is_incarnation(entry.incarnation)) {
        return Ok(());
    }
    let rows =
        stale_marks::whole(&entry.physical, CatchUp::Deleted, may_have, |_| WriteOutcome::Unknown);
    state.staleness.mark(rows).await?;
    state.catalog.remove(entry).await?;
    state.staleness.forget_index(&entry.physical).await?;
    Ok(())
}

/// Undoes what a process that died was making: its entries go, and nodes that may have the index
/// delete it. For the start of a process, before anything is served.
///
/// # Errors
/// When the store fails.
pub async fn undo_makings(stores: &Stores, nodes: &[NodeId]) -> Result<(), StoreError> {
    for entry in stores.indexes.list().await?.into_iter().filter(|entry| entry.making) {
        tracing::warn!(index = %entry.name, "an index was being made when the process ended: undone");
        let rows = stale_marks::whole(&entry.physical, CatchUp::Deleted, nodes.iter(), |_| {
            WriteOutcome::Unknown
        });
        stores.replicas.mark(rows).await?;
        stores.indexes.delete(&entry.name, entry.version).await?;
    }
    Ok(())
}
