//! Nodes without shards that take the place of one that fails.

use std::sync::Arc;

use miroir_api::NodeId;
use miroir_core::topology::{Refused, Seat, Wish};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_store::records::CommittedTopology;

use super::begin::{ensure_idle, probe, sentence};
use super::commit;
use super::verbs::refused;

/// Adds an empty node that gets no shards before another of its group fails.
///
/// # Errors
/// `miroir_operation_refused` with the reason where it cannot be a node of its group,
/// `miroir_operation_running` while the topology changes, `miroir_no_leader` on a pod that does not lead;
/// when the store fails.
pub async fn add_spare(state: &Arc<ClusterState>, seat: Seat) -> Result<(), Error> {
    state.leadership.ensure_leader()?;
    let guard = state.leadership.begin_change();
    let committed = state.committed.load_full();
    ensure_idle(&committed)?;
    if committed.without_shards.iter().any(|own| own.id == seat.id) {
        let known = Refused::KnownNode(seat.id.clone());
        return Err(refused(sentence(&known)));
    }
    // It is to be able to join.
    let join = committed.layout.after(&Wish::Join(vec![seat.clone()]));
    join.map_err(|error| refused(sentence(&error)))?;
    if let Some(blocker) = probe(state, &committed, &seat).await.into_iter().next() {
        return Err(refused(blocker));
    }
    let mut next = CommittedTopology::clone(&committed);
    next.spares.insert(seat.id.clone());
    next.without_shards.push(seat);
    commit(state, &committed, next).await?;
    drop(guard);
    Ok(())
}

/// Has a node without shards take the place of the next one that fails.
///
/// # Errors
/// As [`add_spare`].
pub(in crate::topology) async fn make_spare(
    state: &Arc<ClusterState>,
    node: &NodeId,
) -> Result<(), Error> {
    let guard = state.leadership.begin_change();
    let committed = state.committed.load_full();
    ensure_idle(&committed)?;
    if committed.without_shards.iter().any(|own| own.id == *node) {
        let mut next = CommittedTopology::clone(&committed);
        if next.spares.insert(node.clone()) {
            commit(state, &committed, next).await?;
        }
    }
    drop(guard);
    Ok(())
}
