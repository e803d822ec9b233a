//! The settings broadcast after its proposal: verify, commit, repair, freeze.
//!
//! A pure decision ([`decide`]) over what the nodes say, and the effects around it. The state is
//! part of the task and stored before an effect is relied on, so a restart resumes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use miroir_api::NodeId;
use miroir_api::meili::{ApiError, TaskStatus};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::settings::apply_overlay;
use crate::clock;
use crate::cluster::Shared;
use crate::context::{Context, Origin};
use crate::error::Error;
use crate::index::scatter::words;
use crate::leaf;
use crate::node::{Call, TaskRef};
use crate::store::{IndexEntry, TaskRecord};

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
/// A proposal that some nodes refuse is refused: those who took it go back to what the others have.
pub fn decide(
    took: &BTreeMap<NodeId, bool>,
    hashes: &BTreeMap<NodeId, [u8; 32]>,
) -> Option<Decision> {
    let refused = took.values().any(|ok| !ok);
    if refused && took.values().all(|ok| !ok) {
        return Some(Decision::Refuse);
    }
    let reference = took.iter().find(|(node, ok)| **ok != refused && hashes.contains_key(*node))?.0;
    let right = hashes.get(reference)?;
    let nodes: Vec<NodeId> =
        hashes.iter().filter(|(_, hash)| *hash != right).map(|(node, _)| node.clone()).collect();
    if nodes.is_empty() {
        return Some(if refused { Decision::Refuse } else { Decision::Commit });
    }
    Some(Decision::Repair { reference: reference.clone(), nodes, refused })
}

/// Says that a broadcast of this index is over.
pub(super) fn end_broadcast(shared: &Shared, physical: &str) {
    let mut broadcasts = shared.broadcasts.lock().expect("no panic holds this lock");
    if let Some(count) = broadcasts.get_mut(physical) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            broadcasts.remove(physical);
        }
    }
}

/// Shows what nodes made of the submitted settings, except where they hold another form.
pub(super) fn note_details(
    details: &mut Option<Map<String, Value>>,
    protocol: &mut Option<Value>,
    node: Option<&Map<String, Value>>,
) {
    let submitted = protocol.as_ref().and_then(|p| p.pointer("/settings/submitted"));
    let (Some(submitted), Some(node)) = (submitted.and_then(Value::as_object), node) else {
        return;
    };
    let mut shown = Map::new();
    for (key, value) in submitted {
        let own = matches!(
            key.as_str(),
            "displayedAttributes" | "filterableAttributes" | "pagination" | "faceting"
        );
        let value = if own { value } else { node.get(key).unwrap_or(value) };
        shown.insert(key.clone(), value.clone());
    }
    *details = Some(shown);
}

async fn read_settings(shared: &Shared, entry: &IndexEntry, node: &NodeId) -> Result<Value, Error> {
    let cx = Context::internal(Origin::Settings, shared.tuning.node_timeout);
    let call = Call::get("settings_get", format!("/indexes/{}/settings", entry.physical));
    let body = shared.call(node, &call, &cx).await?;
    Call::parse(node, &body)
}

/// Waits for one task of one node.
pub(super) async fn wait_for(
    shared: &Shared,
    node: &NodeId,
    uid: u32,
    patience: Duration,
) -> Result<TaskStatus, Error> {
    #[derive(serde::Deserialize)]
    struct Seen {
        status: TaskStatus,
    }
    let cx = Context::internal(Origin::Settings, patience);
    let mut pause = Duration::from_millis(5);
    loop {
        let body = shared.call(node, &Call::get("tasks_get", format!("/tasks/{uid}")), &cx).await?;
        let seen: Seen = Call::parse(node, &body)?;
        if seen.status.is_terminal() {
            return Ok(seen.status);
        }
        if cx.deadline.remaining().is_zero() {
            return Err(Error::node(node, "timeout"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

async fn reapply(
    shared: &Shared,
    entry: &IndexEntry,
    node: &NodeId,
    settings: &Value,
) -> Result<(), Error> {
    let cx = Context::internal(Origin::Settings, shared.tuning.node_timeout);
    let call =
        Call::new(Method::PATCH, "settings_patch", format!("/indexes/{}/settings", entry.physical))
            .json(settings.to_string());
    let body = shared.call(node, &call, &cx).await?;
    let task: TaskRef = Call::parse(node, &body)?;
    wait_for(shared, node, task.task_uid, shared.tuning.verify_timeout).await.map(|_| ())
}

/// Advances a broadcast whose node tasks have all ended.
pub(super) async fn advance(
    shared: &Arc<Shared>,
    _leaves: &leaf::BoxService,
    record: &mut TaskRecord,
) -> Result<(), Error> {
    let physical = record.physical.clone().unwrap_or_default();
    let Some(entry) = shared.indexes().into_iter().find(|e| e.physical == physical) else {
        record.status = TaskStatus::Failed;
        record.error = Some(ApiError::new("index_not_found", "The index was deleted meanwhile."));
        end(shared, record, &physical);
        return Ok(());
    };
    let took: BTreeMap<NodeId, bool> = record
        .nodes
        .iter()
        .filter(|t| !t.dropped)
        .map(|t| (t.node.clone(), t.status == TaskStatus::Succeeded))
        .collect();
    for attempt in 0..=shared.tuning.max_repair_retries {
        let read = join_all(
            took.keys()
                .map(|node| async { (node.clone(), read_settings(shared, &entry, node).await) }),
        )
        .await;
        let settings: BTreeMap<NodeId, Value> =
            read.into_iter().filter_map(|(node, v)| Some((node, v.ok()?))).collect();
        let hashes = settings.iter().map(|(node, v)| (node.clone(), settings_hash(v))).collect();
        match decide(&took, &hashes) {
            None => {}
            Some(Decision::Commit) => return commit(shared, record, &entry, took.keys()).await,
            Some(Decision::Refuse) => {
                refuse(shared, record, &entry);
                return Ok(());
            }
            Some(Decision::Repair { reference, nodes, .. }) => {
                metrics::counter!("miroir_settings_hash_mismatch_total")
                    .increment(nodes.len() as u64);
                for node in nodes {
                    match reapply(shared, &entry, &node, &settings[&reference]).await {
                        Ok(()) => {
                            metrics::counter!("miroir_settings_drift_repair_total").increment(1);
                        }
                        Err(error) => tracing::warn!(%node, %error, "settings repair failed"),
                    }
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(100) * 2u32.pow(attempt.min(6))).await;
    }
    let why = "its nodes could not be brought to equal settings; see the log, mend the node, and \
               set the settings again";
    tracing::error!(index = %entry.name, "MiroirSettingsDivergence");
    if shared.tuning.freeze_writes {
        shared
            .change_index(&entry.name, |old| {
                old.map(|e| IndexEntry { frozen: Some(why.to_owned()), ..e.clone() })
            })
            .await?;
    }
    record.status = TaskStatus::Failed;
    record.error =
        Some(ApiError::new("miroir_index_frozen", format!("Index `{}`: {why}.", entry.name)));
    end(shared, record, &physical);
    Ok(())
}

async fn commit(
    shared: &Arc<Shared>,
    record: &mut TaskRecord,
    entry: &IndexEntry,
    nodes: impl Iterator<Item = &NodeId>,
) -> Result<(), Error> {
    let empty = Map::new();
    let overlay = record
        .protocol
        .as_ref()
        .and_then(|p| p.pointer("/settings/overlay"))
        .and_then(Value::as_object)
        .unwrap_or(&empty)
        .clone();
    let stored = shared
        .change_index(&entry.name, |old| {
            old.map(|old| {
                let mut new = old.clone();
                apply_overlay(&mut new, &overlay);
                new.settings_version += 1;
                new.frozen = None;
                new.updated_at = clock::now();
                new
            })
        })
        .await?;
    let version = stored.map_or(0, |entry| entry.settings_version);
    for node in nodes {
        shared.stores.settings_versions.set(&entry.physical, node, version).await?;
    }
    record.status = TaskStatus::Succeeded;
    record.protocol = Some(json!({"done": version}));
    end(shared, record, &entry.physical);
    Ok(())
}

fn refuse(shared: &Shared, record: &mut TaskRecord, entry: &IndexEntry) {
    record.status = TaskStatus::Failed;
    record.error = record.nodes.iter().find_map(|t| t.error.clone()).map(|mut error| {
        error.message = words::message(&error.message, entry, false);
        error
    });
    end(shared, record, &entry.physical);
}

fn end(shared: &Shared, record: &mut TaskRecord, physical: &str) {
    let now = clock::now();
    record.started_at.get_or_insert(now);
    record.finished_at = Some(now);
    end_broadcast(shared, physical);
}

#[cfg(test)]
mod tests {
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
        assert_eq!(decide(&took, &hashes(&[("a", 1), ("b", 1)])), Some(Decision::Commit));
        assert_eq!(
            decide(&took, &hashes(&[("a", 1), ("b", 2)])),
            Some(Decision::Repair { reference: node("a"), nodes: vec![node("b")], refused: false })
        );
        assert_eq!(decide(&took, &hashes(&[])), None);
    }

    #[test]
    fn a_partly_refused_proposal_is_taken_back() {
        let took = votes(&[("a", true), ("b", false)]);
        assert_eq!(
            decide(&took, &hashes(&[("a", 1), ("b", 2)])),
            Some(Decision::Repair { reference: node("b"), nodes: vec![node("a")], refused: true })
        );
        assert_eq!(decide(&took, &hashes(&[("a", 2), ("b", 2)])), Some(Decision::Refuse));
        let none = votes(&[("a", false), ("b", false)]);
        assert_eq!(decide(&none, &hashes(&[("a", 1), ("b", 2)])), Some(Decision::Refuse));
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
