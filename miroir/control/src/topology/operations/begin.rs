//! The start of an operation: what is wanted, whether it can be, and what it would move.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use miroir_api::NodeId;
use miroir_core::topology::{Change, Node, Phase, Refused, Seat, Wish};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::Error;
use miroir_pipeline::node::Call;
use miroir_store::clock;
use miroir_store::records::{CommittedTopology, Operation, OperationKind, OperationState};
use serde::Deserialize;
use uuid::Uuid;

use super::plan::{self, Plan};
use super::{commit, last, mark_new};

/// How long a new node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

fn kind(wish: &Wish) -> OperationKind {
    match wish {
        Wish::Join(_) => OperationKind::Join,
        Wish::Drain(_) => OperationKind::Drain,
        Wish::Replace { .. } => OperationKind::Replace,
        Wish::AddGroup(_) => OperationKind::GroupAdd,
        Wish::RemoveGroup(_) => OperationKind::GroupRemove,
        Wish::ReplicationFactor(_) => OperationKind::ReplicationFactor,
    }
}

/// Refuses while a change is under way.
pub(super) fn ensure_idle(committed: &CommittedTopology) -> Result<(), Error> {
    match &committed.operation {
        Some(running) => Err(Error::api(
            "miroir_operation_running",
            format!(
                "Operation `{}` ({}) is under way, and there is one change of the topology at a time. \
                 Wait for it, or roll it back: `POST /_miroir/operations/{}/rollback`.",
                running.id,
                running.kind.as_str(),
                running.id
            ),
        )),
        None => Ok(()),
    }
}

/// Begins what is asked for and answers its plan with its id; with `dry_run` only the plan.
///
/// # Errors
/// `miroir_operation_running` while another is under way, `miroir_operation_refused` with the reason where
/// it cannot be, `miroir_no_leader` on a pod that does not lead; when the store fails.
pub async fn begin(
    state: &Arc<ClusterState>,
    wish: &Wish,
    dry_run: bool,
) -> Result<(Plan, Option<Uuid>), Error> {
    begin_for(state, wish, dry_run, None).await
}

/// As [`begin`], by itself: a node failed whose copies are made anew.
pub(in crate::topology) async fn begin_for(
    state: &Arc<ClusterState>,
    wish: &Wish,
    dry_run: bool,
    restores: Option<NodeId>,
) -> Result<(Plan, Option<Uuid>), Error> {
    state.leadership.ensure_leader()?;
    let guard = state.leadership.begin_change();
    let committed = state.committed.load_full();
    ensure_idle(&committed)?;
    let refused = |error: Refused| Error::api("miroir_operation_refused", sentence(&error));
    let to = committed.layout.after(wish).map_err(refused)?;
    let has = |id: &NodeId| committed.layout.nodes.iter().any(|seat| seat.id == *id);
    let new: Vec<Seat> = to.nodes.iter().filter(|seat| !has(&seat.id)).cloned().collect();
    let mut blockers = Vec::new();
    for seat in &new {
        blockers.extend(probe(state, &committed, seat).await);
    }
    let is_new = |id: &NodeId| new.iter().any(|seat| seat.id == *id);
    // Whatever a member without shards has is made anew when it joins.
    if let Some(entry) = last::loses_settings(state, |_, id| !is_new(id)) {
        blockers.push(format!(
            "No other node has the settings of index `{}` yet, which joining would delete. Try again \
             when they are copied.",
            entry.name
        ));
    }
    let change = Change { to, phase: Phase::Announced };
    let plan = plan::of(state, &committed, &change, kind(wish), blockers).await?;
    if dry_run {
        return Ok((plan, None));
    }
    if let Some(blocker) = plan.blockers.first() {
        return Err(Error::api("miroir_operation_refused", blocker.clone()));
    }
    let gone = committed.layout.nodes.iter();
    let gone = gone.filter(|seat| !change.to.nodes.iter().any(|other| other.id == seat.id));
    let nodes: BTreeSet<NodeId> = new.iter().chain(gone).map(|seat| seat.id.clone()).collect();
    let operation = Operation {
        id: Uuid::now_v7(),
        kind: kind(wish),
        state: OperationState::Moving,
        nodes: nodes.into_iter().collect(),
        restores,
        began_at: clock::now(),
        ended_at: None,
    };
    let id = operation.id;
    tracing::info!(operation = %id, kind = operation.kind.as_str(), "a change of the topology begins");
    let mut next = CommittedTopology {
        change: Some(change),
        operation: Some(operation),
        ..CommittedTopology::clone(&committed)
    };
    next.without_shards.retain(|seat| !new.iter().any(|own| own.id == seat.id));
    next.spares.retain(|id| !new.iter().any(|own| own.id == *id));
    let hold = state.catalog.hold().await;
    mark_new(state, &new).await?;
    commit(state, &committed, next).await?;
    drop((hold, guard));
    Ok((plan, Some(id)))
}

pub(super) fn sentence(error: &Refused) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// What keeps a node from joining.
pub(super) async fn probe(
    state: &ClusterState,
    committed: &CommittedTopology,
    seat: &Seat,
) -> Vec<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        pkg_version: String,
    }
    #[derive(Deserialize)]
    struct Indexes {
        total: u64,
    }
    let cx = Context::internal(Origin::Repair, PATIENCE);
    let node = Node::new(seat.id.clone(), seat.address.clone(), seat.group);
    let ask = async |call: Call| {
        let request = call.request(&cx, PATIENCE)?;
        Call::accept(&node.id, state.nodes.pool.ask(&node, request).await?)
    };
    let at = format!("node `{}` at {}", seat.id, seat.address);
    let version = ask(Call::get("version_get", "/version")).await;
    let version = version.and_then(|body| Call::parse::<Version>(&node.id, &body));
    let version = match version {
        Ok(version) => version.pkg_version,
        Err(error) => return vec![format!("The {at} does not answer as a Meilisearch: {error}")],
    };
    let mut blockers = Vec::new();
    let others = state.nodes.call_any(&Call::get("version_get", "/version"), &cx).await;
    if let Ok((other, body)) = others
        && let Ok(theirs) = Call::parse::<Version>(&other, &body)
        && theirs.pkg_version != version
    {
        blockers.push(format!(
            "The {at} is Meilisearch {version}, and `{other}` is {}: all nodes of a group have one \
             version.",
            theirs.pkg_version
        ));
    }
    // One without shards that is a member already has what it was given.
    let member = committed.without_shards.iter().any(|own| own.id == seat.id);
    let indexes = ask(Call::get("indexes_list", "/indexes?limit=1")).await;
    match indexes.and_then(|body| Call::parse::<Indexes>(&node.id, &body)) {
        Ok(found) if found.total > 0 && !member => blockers.push(format!(
            "The {at} has {} index(es), which joining would delete. Use an empty node.",
            found.total
        )),
        Ok(_) => {}
        Err(error) => blockers.push(format!("The {at} does not show its indexes: {error}")),
    }
    blockers
}
