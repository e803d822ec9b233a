//! What operators ask of an operation that is under way, and of those that have ended.

use std::sync::Arc;

use miroir_api::NodeId;
use miroir_core::topology::{Change, Phase};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::error::Error;
use miroir_store::NodeTask;
use miroir_store::records::{CommittedTopology, Operation, OperationState};
use uuid::Uuid;

use super::{Reason, commit, last, settled_on, waits};

/// What is asked of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Nothing more is copied, and the phase stays, until it is resumed. Not once everything is copied.
    Pause,
    /// It goes on.
    Resume,
    /// The layout from before is to be the only one again.
    Rollback,
}

/// An operation as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationView {
    /// What is stored of it.
    pub operation: Operation,
    /// Its phase; `None` where it has ended.
    pub phase: Option<Phase>,
    /// What the phase waits for, if it does.
    pub reason: Option<Reason>,
}

/// All operations that are remembered, the one under way first.
///
/// # Errors
/// When the store fails.
pub async fn list(state: &ClusterState) -> Result<Vec<OperationView>, Error> {
    let committed = state.committed.load_full();
    let mut all = Vec::new();
    if let (Some(change), Some(operation)) = (&committed.change, &committed.operation) {
        let reason = waits(state, &committed, change, operation).await?;
        let (operation, phase) = (operation.clone(), Some(change.phase));
        all.push(OperationView { operation, phase, reason });
    }
    let ended = |operation: &Operation| {
        let operation = operation.clone();
        OperationView { operation, phase: None, reason: None }
    };
    all.extend(committed.ended.iter().map(ended));
    Ok(all)
}

pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::api("miroir_operation_refused", message)
}

/// Does what is asked of the operation under way.
///
/// # Errors
/// `miroir_operation_not_found` if no such operation is remembered, `miroir_operation_refused` if it has
/// ended or cannot do that now, `miroir_no_leader` on a pod that does not lead; when the store fails.
pub async fn apply(state: &Arc<ClusterState>, id: Uuid, verb: Verb) -> Result<(), Error> {
    state.leadership.ensure_leader()?;
    let guard = state.leadership.begin_change();
    let committed = state.committed.load_full();
    let known = committed.change.clone().zip(committed.operation.clone());
    let Some((change, operation)) = known.filter(|(_, operation)| operation.id == id) else {
        if committed.ended.iter().any(|operation| operation.id == id) {
            return Err(refused(format!("Operation `{id}` has ended.")));
        }
        return Err(Error::api(
            "miroir_operation_not_found",
            format!("There is no operation `{id}`. `GET /_miroir/operations` lists them."),
        ));
    };
    let next = match verb {
        Verb::Pause if operation.state != OperationState::Moving => {
            return Err(refused(format!(
                "Operation `{id}` is {}; only one that is moving is paused.",
                operation.state.as_str()
            )));
        }
        Verb::Pause if change.phase >= Phase::Switched => {
            return Err(refused(format!(
                "Operation `{id}` has nothing more to copy: it is {}.",
                change.phase
            )));
        }
        Verb::Resume if operation.state != OperationState::Paused => {
            return Err(refused(format!("Operation `{id}` is not paused.")));
        }
        Verb::Pause => with(&committed, OperationState::Paused),
        Verb::Resume => with(&committed, OperationState::Moving),
        Verb::Rollback => roll_back(&committed, &change, &operation)?,
    };
    commit(state, &committed, next).await?;
    state.signals.repairs.notify_waiters();
    drop(guard);
    Ok(())
}

fn with(committed: &CommittedTopology, now: OperationState) -> CommittedTopology {
    let state = |operation: &Operation| Operation { state: now, ..operation.clone() };
    CommittedTopology { operation: committed.operation.as_ref().map(state), ..committed.clone() }
}

/// Goes through the phases the other way. Owners before the change were written all along.
fn roll_back(
    committed: &CommittedTopology,
    change: &Change,
    operation: &Operation,
) -> Result<CommittedTopology, Error> {
    if operation.state == OperationState::RollingBack {
        return Err(refused(format!("Operation `{}` is being rolled back.", operation.id)));
    }
    match change.phase {
        // Nobody was given a document.
        Phase::Announced => {
            let ended = Operation {
                state: OperationState::RolledBack,
                ended_at: Some(miroir_store::clock::now()),
                ..operation.clone()
            };
            Ok(settled_on(committed, &committed.layout, ended))
        }
        Phase::Copying | Phase::Switched => {
            let back = Change { to: committed.layout.clone(), phase: Phase::Copying };
            let next = with(committed, OperationState::RollingBack);
            Ok(CommittedTopology { layout: change.to.clone(), change: Some(back), ..next })
        }
        Phase::Retiring => Err(refused(format!(
            "Operation `{}` is past the point of return: owners before it are not written any more. \
             Begin one that leads back.",
            operation.id
        ))),
    }
}

/// Forgets a node that has no shards.
///
/// # Errors
/// `miroir_unknown_node` if there is no such node, `miroir_node_not_drained` if it has shards
/// or alone has settings,
/// `miroir_operation_running` while the topology changes, `miroir_no_leader` on a pod that does not lead;
/// when the store fails.
pub async fn remove_node(state: &Arc<ClusterState>, node: &NodeId) -> Result<(), Error> {
    state.leadership.ensure_leader()?;
    let guard = state.leadership.begin_change();
    let committed = state.committed.load_full();
    super::begin::ensure_idle(&committed)?;
    if committed.layout.nodes.iter().any(|seat| seat.id == *node) {
        return Err(Error::api(
            "miroir_node_not_drained",
            format!(
                "Node `{node}` has shards. Drain it first: `POST /_miroir/nodes/{node}/drain`."
            ),
        ));
    }
    let open = state.stores.tasks.unfinished().await?;
    let waits = |task: &NodeTask| task.node == *node && !task.dropped && !task.status.is_terminal();
    if let Some(record) = open.iter().find(|record| record.nodes.iter().any(waits)) {
        return Err(Error::api(
            "miroir_node_not_drained",
            format!("Task {} waits for node `{node}`. Try again when it has ended.", record.uid),
        ));
    }
    if let Some(entry) = last::loses_settings(state, |_, id| id != node) {
        return Err(Error::api(
            "miroir_node_not_drained",
            format!(
                "No other node than `{node}` has the settings of index `{}` yet. Try again when they are \
                 copied.",
                entry.name
            ),
        ));
    }
    let mut next = CommittedTopology::clone(&committed);
    next.without_shards.retain(|seat| seat.id != *node);
    next.spares.remove(node);
    if next.without_shards.len() == committed.without_shards.len() {
        return Err(Error::api(
            "miroir_unknown_node",
            format!("There is no node `{node}`. `GET /_miroir/topology` lists the nodes."),
        ));
    }
    commit(state, &committed, next).await?;
    let stale = state.staleness.load();
    for row in stale.rows().filter(|row| row.node == *node) {
        state.staleness.clear(row.clone()).await?;
    }
    drop(guard);
    Ok(())
}
