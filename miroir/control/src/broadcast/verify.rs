//! The settings broadcast after its proposal: verify, commit, repair, freeze.
//!
//! A pure decision ([`decide`]) over what the nodes say, and the effects around it. It runs beside
//! the task poller, which goes on with other tasks. The state is part of the task and stored before
//! an effect is relied on, so a restart resumes.
//!
//! A node that cannot be reached does not delay the broadcast: it is left out of reads until it has
//! copied the settings. An index is frozen only when a node that answers will not take what the others have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use miroir_api::meili::{ApiError, TaskKind, TaskStatus};
use miroir_api::{NodeId, TaskUid};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::broadcast::conclude::{commit, end, freeze, gone, leave_out, refuse};
use crate::broadcast::progress::{phase, proposal};
use crate::detached;
use crate::form;
use crate::making;
use crate::node_tasks::wait_for;
use crate::replicas::repair::has_all_settings;
use crate::secrets::hide_embedders;
use miroir_pipeline::cluster::{ClusterState, disk_loss};
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::{Error, ErrorKind};
use miroir_pipeline::node::{Call, TaskRef};
use miroir_store::task_state::Proposal;
use miroir_store::{IndexEntry, TaskRecord};

/// SHA-256 of settings in canonical form: object keys sorted at every depth, arrays that Meilisearch
/// treats as sets left as the node prints them (sorted already).
pub fn settings_hash(settings: &Value) -> [u8; 32] {
    fn canonical(value: &Value, out: &mut String) {
        match value {
            Value::Object(map) => {
                let sorted: BTreeMap<_, _> = map.iter().collect();
                out.push('{');
                for (at, (key, value)) in sorted.into_iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    out.push_str(&Value::from(key.as_str()).to_string());
                    out.push(':');
                    canonical(value, out);
                }
                out.push('}');
            }
            Value::Array(list) => {
                out.push('[');
                for (at, value) in list.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    canonical(value, out);
                }
                out.push(']');
            }
            other => out.push_str(&other.to_string()),
        }
    }
    let mut text = String::new();
    canonical(settings, &mut text);
    Sha256::digest(text.as_bytes()).into()
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// All agree on the proposed settings.
    Commit,
    /// All refused: the task fails, nothing changed.
    Refuse,
    /// These nodes differ from the reference node.
    Repair {
        /// Whose settings are right.
        reference: NodeId,
        /// Who has to take them.
        nodes: Vec<NodeId>,
        /// Whether the task fails once they did: some node refused the proposal.
        refused: bool,
    },
}

/// Decides from who took the proposal and what each node's settings hash to. Pure.
///
/// A proposal that some nodes refuse is refused: those who took it go back to what the others have. A
/// node that `is_read` is the reference before others: the others may go, with what they have.
pub fn decide(
    took: &BTreeMap<NodeId, bool>,
    hashes: &BTreeMap<NodeId, [u8; 32]>,
    is_read: impl Fn(&NodeId) -> bool,
) -> Option<Decision> {
    let refused = took.values().any(|ok| !ok);
    if refused && took.values().all(|ok| !ok) {
        return Some(Decision::Refuse);
    }
    let mut fit = took.iter().filter(|(node, ok)| **ok != refused && hashes.contains_key(*node));
    let first = fit.clone().next();
    let reference = fit.find(|(node, _)| is_read(node)).or(first)?.0;
    let right = hashes.get(reference)?;
    let nodes: Vec<NodeId> =
        hashes.iter().filter(|(_, hash)| *hash != right).map(|(node, _)| node.clone()).collect();
    if nodes.is_empty() {
        return Some(if refused { Decision::Refuse } else { Decision::Commit });
    }
    Some(Decision::Repair { reference: reference.clone(), nodes, refused })
}

/// Shows what a node made of the submitted settings, except where it holds another form.
pub(crate) fn note_details(record: &mut TaskRecord, node: Option<&Map<String, Value>>) {
    let (Some(Proposal { submitted, .. }), Some(node)) = (proposal(record), node) else { return };
    let mut shown = Map::new();
    for (key, value) in submitted {
        let own = matches!(
            key.as_str(),
            "displayedAttributes" | "filterableAttributes" | "pagination" | "faceting"
        );
        let value = if own { value } else { node.get(key).unwrap_or(value) };
        shown.insert(key.clone(), value.clone());
    }
    // A node shows those inside of composite embedders.
    hide_embedders(&mut shown);
    form::settings::normalize(&mut shown);
    record.details = Some(shown);
}

pub(crate) async fn read_settings(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
) -> Result<Value, Error> {
    let cx = Context::internal(Origin::Settings, state.options.scatter.call_timeout());
    let call = Call::get("settings_get", format!("/indexes/{}/settings", entry.physical));
    let body = state.nodes.call(node, &call, &cx).await?;
    Call::parse(node, &body)
}

/// Why a node did not take settings again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untaken {
    /// It refused them, or could not apply them.
    Refused,
    /// It did not answer, or not in time.
    Unreachable,
}

/// Gives a node another one's settings, and waits until it has them.
pub(crate) async fn reapply(
    state: &ClusterState,
    entry: &IndexEntry,
    node: &NodeId,
    settings: &Value,
) -> Result<(), Untaken> {
    let cx = Context::internal(Origin::Settings, state.options.scatter.call_timeout());
    let call = Call::change(
        Method::PATCH,
        "settings_patch",
        format!("/indexes/{}/settings", entry.physical),
    )
    .json(settings.to_string());
    let answer = async {
        let before = state.membership.task_uids.highest(node);
        let body = state.nodes.call(node, &call, &cx).await?;
        let task: TaskRef = Call::parse(node, &body)?;
        disk_loss::accept_task_uid(state, node, before, task.task_uid).await?;
        wait_for(state, node, task.task_uid, state.options.settings_broadcast.verify_timeout).await
    };
    match answer.await {
        Ok(TaskStatus::Succeeded) => Ok(()),
        Ok(_) => Err(Untaken::Refused),
        Err(error) => {
            tracing::warn!(%node, %error, "settings repair failed");
            let refused = matches!(error.kind(), ErrorKind::Verbatim { .. });
            Err(if refused { Untaken::Refused } else { Untaken::Unreachable })
        }
    }
}

/// Pause before the first look again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Ends a broadcast whose node tasks have all ended, beside the poller. Does nothing while that is
/// under way already. The task stays unfinished until it is done, so a restart begins it again.
pub(crate) fn settle(state: &Arc<ClusterState>, uid: TaskUid) {
    detached::spawn(state, uid, "a settings broadcast is begun again", move |state| async move {
        verify(&state, uid).await
    });
}

async fn verify(state: &Arc<ClusterState>, uid: TaskUid) -> Result<(), Error> {
    // The poller may have decided on a copy that is older than the end of the task.
    let stored = state.stores.tasks.get(uid).await?;
    let Some(mut record) = stored.filter(|record| !record.status.is_terminal()) else {
        return Ok(());
    };
    let record = &mut record;
    let (mut attempt, mut pause) = (0, FIRST_PAUSE);
    loop {
        phase(state, 2);
        // What was set before is committed before.
        let index = record.physical.as_deref().unwrap_or_default();
        let kind = TaskKind::SettingsUpdate;
        if state.open_tasks.first_of_kind(index, kind).is_some_and(|first| first < record.uid) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            continue;
        }
        match step(state, record, attempt).await? {
            Step::Done => {
                phase(state, 0);
                return making::end_now(state, record.clone()).await;
            }
            Step::Repaired => attempt += 1,
            // Nobody to judge by. That is an outage and no divergence: it does not count.
            Step::Nobody => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// How one look at the nodes ended.
enum Step {
    /// The task has ended.
    Done,
    /// Nodes were told the right settings again.
    Repaired,
    /// No node that took the proposal answers.
    Nobody,
}

async fn step(
    state: &Arc<ClusterState>,
    record: &mut TaskRecord,
    attempt: u32,
) -> Result<Step, Error> {
    let physical = record.physical.clone().unwrap_or_default();
    let Some(entry) = state.catalog.of_task(record) else {
        gone(state, record);
        return Ok(Step::Done);
    };
    let took: BTreeMap<NodeId, bool> = record
        .nodes
        .iter()
        .filter(|t| !t.dropped)
        .map(|t| (t.node.clone(), t.status == TaskStatus::Succeeded))
        .collect();
    if took.is_empty() {
        record.status = TaskStatus::Failed;
        record.error = Some(ApiError::new(
            "miroir_no_quorum",
            "Every node that took the settings went away before it was done. Set them again.",
        ));
        end(state, record, &physical);
        return Ok(Step::Done);
    }
    // One that makes the index anew, or catches up, shows what it had before.
    let stale = state.staleness.load();
    let mut counted = took.clone();
    counted.retain(|node, _| !stale.misses_index(&physical, node));
    let all_took = !counted.is_empty() && counted.values().all(|took| *took);
    if all_took && is_followed(state, record) {
        // Nodes are at different ones of several changes: they are compared after the last.
        let nodes: BTreeSet<NodeId> = counted.into_keys().collect();
        leave_out(state, &entry, &took, &nodes).await?;
        return commit(state, record, &entry, &nodes, None).await.map(|()| Step::Done);
    }
    let placement = state.membership.topology().placement(entry.shards);
    let is_read = |node: &NodeId| placement.is_read(node);
    let needs_read = counted.keys().any(is_read);
    // Nobody judges by nodes without shards alone: they may go, with what they have.
    let is_judged = |nodes: &BTreeMap<NodeId, [u8; 32]>| !needs_read || nodes.keys().any(is_read);
    let mut gate = None;
    let (settings, hashes, reference, nodes, refused) = loop {
        let (settings, hashes) = look(state, &entry, counted.keys()).await;
        let decided = decide(&counted, &hashes, is_read);
        match decided.filter(|_| is_judged(&hashes) || !counted.values().any(|took| *took)) {
            None => return Ok(Step::Nobody),
            Some(Decision::Commit) => {
                let nodes: BTreeSet<NodeId> = hashes.keys().cloned().collect();
                leave_out(state, &entry, &took, &nodes).await?;
                let hash = hashes.values().next();
                return commit(state, record, &entry, &nodes, hash).await.map(|()| Step::Done);
            }
            Some(Decision::Refuse) => {
                // Who took it and does not answer has it still.
                let nodes: BTreeSet<NodeId> = hashes.keys().cloned().collect();
                let mut asked = took.clone();
                asked.retain(|node, took| *took || nodes.contains(node));
                leave_out(state, &entry, &with_others(state, &took, asked), &nodes).await?;
                refuse(state, record, &entry);
                return Ok(Step::Done);
            }
            Some(Decision::Repair { reference, nodes, refused }) if gate.is_some() => {
                break (settings, hashes, reference, nodes, refused);
            }
            // What differs may be a later change that is on its way: nobody may send one now.
            Some(Decision::Repair { .. }) => {
                gate = Some(state.sequencer.exclusive(&physical).await);
                for node in hashes.keys() {
                    if !has_all_settings(state, node, &physical).await? {
                        return Ok(Step::Nobody);
                    }
                }
            }
        }
    };
    metrics::counter!("miroir_settings_hash_mismatch_total").increment(nodes.len() as u64);
    let right = &settings[&reference];
    let embedders = |node: &NodeId| settings.get(node).map(|all| &all["embedders"]);
    let drifted = nodes.iter().filter(|n| embedders(n) != embedders(&reference)).count() as u64;
    metrics::counter!("miroir_vector_embedder_drift_total").increment(drifted);
    let told = join_all(
        nodes
            .iter()
            .map(|node| async { (node.clone(), reapply(state, &entry, node, right).await) }),
    )
    .await;
    let taken = told.iter().filter(|(_, result)| result.is_ok()).count();
    metrics::counter!("miroir_settings_drift_repair_total").increment(taken as u64);
    drop(gate);
    if attempt < state.options.settings_broadcast.max_repair_retries || taken == told.len() {
        return Ok(Step::Repaired);
    }
    if told.iter().any(|(_, result)| *result == Err(Untaken::Refused)) {
        freeze(state, record, &entry).await?;
        return Ok(Step::Done);
    }
    // A node that cannot be reached is left out of reads until it has copied the settings; the
    // broadcast does not wait for it.
    let wrong: BTreeSet<NodeId> = told.into_iter().map(|(node, _)| node).collect();
    let right: BTreeMap<_, _> =
        hashes.into_iter().filter(|(node, _)| !wrong.contains(node)).collect();
    if !is_judged(&right) {
        return Ok(Step::Nobody);
    }
    let nodes: BTreeSet<NodeId> = right.keys().cloned().collect();
    if refused {
        let asked = with_others(state, &took, took.clone());
        leave_out(state, &entry, &asked, &nodes).await?;
        refuse(state, record, &entry);
    } else {
        leave_out(state, &entry, &took, &nodes).await?;
        commit(state, record, &entry, &nodes, right.values().next()).await?;
    }
    Ok(Step::Done)
}

/// Whether the settings of the index are to be changed again by a later task.
fn is_followed(state: &ClusterState, record: &TaskRecord) -> bool {
    let index = record.physical.as_deref().unwrap_or_default();
    let last = state.open_tasks.last_of(index, TaskKind::SettingsUpdate);
    last.is_some_and(|last| last > record.uid)
}

/// The settings that nodes show, and their hashes.
async fn look(
    state: &ClusterState,
    entry: &IndexEntry,
    nodes: impl Iterator<Item = &NodeId>,
) -> (BTreeMap<NodeId, Value>, BTreeMap<NodeId, [u8; 32]>) {
    let read = nodes.map(|node| async { (node.clone(), read_settings(state, entry, node).await) });
    let settings: BTreeMap<NodeId, Value> =
        join_all(read).await.into_iter().filter_map(|(node, v)| Some((node, v.ok()?))).collect();
    let hashes = settings.iter().map(|(node, v)| (node.clone(), settings_hash(v))).collect();
    (settings, hashes)
}

/// Adds to `asked` the nodes that the proposal never reached, `took` being those it did: while it was not
/// taken back, they may have copied it from one of these.
fn with_others(
    state: &ClusterState,
    took: &BTreeMap<NodeId, bool>,
    mut asked: BTreeMap<NodeId, bool>,
) -> BTreeMap<NodeId, bool> {
    let topology = state.membership.topology();
    let others = topology.nodes().filter(|node| !took.contains_key(&node.id));
    asked.extend(others.map(|node| (node.id.clone(), false)));
    asked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn votes(list: &[(&str, bool)]) -> BTreeMap<NodeId, bool> {
        list.iter().map(|(n, ok)| (node(n), *ok)).collect()
    }

    fn hashes(list: &[(&str, u8)]) -> BTreeMap<NodeId, [u8; 32]> {
        list.iter().map(|(n, h)| (node(n), [*h; 32])).collect()
    }

    #[test]
    fn agreement_commits_and_difference_repairs() {
        let took = votes(&[("a", true), ("b", true)]);
        assert_eq!(decide(&took, &hashes(&[("a", 1), ("b", 1)]), |_| true), Some(Decision::Commit));
        assert_eq!(
            decide(&took, &hashes(&[("a", 1), ("b", 2)]), |_| true),
            Some(Decision::Repair { reference: node("a"), nodes: vec![node("b")], refused: false })
        );
        assert_eq!(decide(&took, &hashes(&[]), |_| true), None);
    }

    #[test]
    fn a_partly_refused_proposal_is_taken_back() {
        let took = votes(&[("a", true), ("b", false)]);
        assert_eq!(
            decide(&took, &hashes(&[("a", 1), ("b", 2)]), |_| true),
            Some(Decision::Repair { reference: node("b"), nodes: vec![node("a")], refused: true })
        );
        assert_eq!(decide(&took, &hashes(&[("a", 2), ("b", 2)]), |_| true), Some(Decision::Refuse));
        let none = votes(&[("a", false), ("b", false)]);
        assert_eq!(decide(&none, &hashes(&[("a", 1), ("b", 2)]), |_| true), Some(Decision::Refuse));
    }

    #[test]
    fn key_order_does_not_matter_to_the_hash() {
        let a = json!({"x": {"a": 1, "b": [1, 2]}, "y": null});
        let b = json!({"y": null, "x": {"b": [1, 2], "a": 1}});
        assert_eq!(settings_hash(&a), settings_hash(&b));
        assert_ne!(
            settings_hash(&a),
            settings_hash(&json!({"x": {"a": 1, "b": [2, 1]}, "y": null}))
        );
    }
}
