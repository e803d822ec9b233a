//! What clients did and saw, and whether a cluster that keeps its promises can explain it.
//!
//! Each document id is a register that one client at a time writes, with values that never repeat.
//! So a read may show only what was written, from the last value whose task was reported
//! `succeeded` before the read began; and in the end each id holds the last acknowledged value, or
//! that of a later write whose outcome nobody knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use miroir_core::documents::ORDER;
use miroir_core::lock::Lock;
use miroir_core::routing::shard_of;
use miroir_core::topology::Intent;
use serde_json::Value;
use tokio::time::Instant;

use crate::cluster::SimCluster;
use crate::node::Document;
use crate::trace;

/// A value: a version, or nothing once the document is deleted.
pub type Version = Option<u64>;

#[derive(Clone, Copy, Debug)]
struct Entry {
    value: Version,
    acknowledged: bool,
}

/// All writes of one id, oldest first. The first is "never written".
#[derive(Clone, Debug)]
struct Register {
    entries: Vec<Entry>,
    /// The last entry whose task succeeded.
    confirmed: usize,
    /// Somebody wrote it past Miroir: reads are not judged.
    tainted: bool,
    /// What it should be was on one replica, which a call of a dead process wrote to.
    undone: bool,
}

impl Default for Register {
    fn default() -> Self {
        let entries = vec![Entry { value: None, acknowledged: true }];
        Self { entries, confirmed: 0, tainted: false, undone: false }
    }
}

impl Register {
    fn last_acknowledged(&self) -> usize {
        self.entries.iter().rposition(|entry| entry.acknowledged).unwrap_or(0)
    }

    fn since(&self, at: usize) -> BTreeSet<Version> {
        self.entries[at..].iter().map(|entry| entry.value).collect()
    }
}

/// A write under way: its place in the registers it touches.
#[derive(Clone, Debug)]
#[must_use = "a write ends acknowledged, unknown or refused"]
pub struct Pending(Vec<(String, usize)>);

/// What a read that begins now must at least have seen.
#[derive(Clone, Debug)]
pub struct Floor {
    confirmed: BTreeMap<String, usize>,
    at: Instant,
}

/// How much was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Writes acknowledged.
    pub acknowledged: usize,
    /// Writes whose outcome the client does not know.
    pub unknown: usize,
    /// Reads that claimed to be complete, all of them checked.
    pub reads: usize,
    /// Reads that were refused or said that something was missing.
    pub degraded: usize,
    /// Writes and reads after a process was killed and started again.
    pub restarts: usize,
}

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.reads += other.reads;
        self.degraded += other.degraded;
        self.restarts += other.restarts;
    }
}

#[derive(Debug, Default)]
struct State {
    /// Reads that began before are not judged.
    blind_until: Option<Instant>,
    registers: BTreeMap<String, Register>,
    violations: Vec<String>,
    figures: Figures,
}

/// Records and judges. See the module's documentation.
#[derive(Debug, Default)]
pub struct History {
    state: Lock<State>,
}

/// What each node did with a document, or with settings, oldest first.
fn story(cluster: &SimCluster, id: Option<&str>) -> String {
    let mut text = String::new();
    for node in &cluster.nodes {
        for line in node.inspect(|disk| disk.story_of(id)) {
            let _ = write!(text, "\n    {}: {line}", node.id());
        }
    }
    text
}

/// What a document says. Where it stands among ties is no part of it: replicas need not agree on that.
fn said(document: &Document) -> Document {
    let mut document = document.clone();
    document.remove(ORDER);
    document
}

impl History {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock())
    }

    /// A client is about to write one value to some ids.
    pub fn begin(&self, ids: &[String], value: Version) -> Pending {
        self.with(|state| {
            let places = ids.iter().map(|id| {
                let register = state.registers.entry(id.clone()).or_default();
                register.entries.push(Entry { value, acknowledged: false });
                (id.clone(), register.entries.len() - 1)
            });
            Pending(places.collect())
        })
    }

    /// It was acknowledged.
    pub fn acknowledged(&self, pending: &Pending) {
        self.with(|state| {
            state.figures.acknowledged += 1;
            for (id, at) in &pending.0 {
                if let Some(register) = state.registers.get_mut(id) {
                    register.entries[*at].acknowledged = true;
                }
            }
        });
    }

    /// It failed in a way that does not say whether it takes effect.
    pub fn unknown(&self, _pending: Pending) {
        self.with(|state| state.figures.unknown += 1);
    }

    /// Its task succeeded: from now on reads must see it.
    pub fn confirmed(&self, pending: &Pending) {
        self.with(|state| {
            for (id, at) in &pending.0 {
                if let Some(register) = state.registers.get_mut(id) {
                    register.confirmed = register.confirmed.max(*at);
                }
            }
        });
    }

    /// It was acknowledged, and failed for a reason that a plain node could have had as well:
    /// whether it takes effect is not known.
    pub fn failed(&self, pending: &Pending) {
        self.with(|state| {
            for (id, at) in &pending.0 {
                if let Some(register) = state.registers.get_mut(id) {
                    register.entries[*at].acknowledged = false;
                }
            }
        });
    }

    /// Somebody writes an id past Miroir: what is read of it from now on is not judged, only what it
    /// is in the end.
    pub fn taint(&self, id: &str) {
        self.with(|state| {
            if let Some(register) = state.registers.get_mut(id) {
                register.tainted = true;
            }
        });
    }

    /// A call of a process that has ended wrote an id where the only sound replica of it is: what that
    /// had is nowhere any more. Replicas have to agree on it in the end, whatever it is.
    pub fn undone(&self, id: &str) {
        self.taint(id);
        self.with(|state| {
            if let Some(register) = state.registers.get_mut(id) {
                register.undone = true;
            }
        });
    }

    /// Nobody can know yet what befell the cluster: what is read is not judged for some time from now.
    pub fn blind_for(&self, some_time: Duration) {
        self.with(|state| state.blind_until = Some(Instant::now() + some_time));
    }

    /// All ids that anybody wrote.
    pub fn ids(&self) -> Vec<String> {
        self.with(|state| state.registers.keys().cloned().collect())
    }

    /// A replica that may be read holds this of an id: it must be what was reported as succeeded, or
    /// something later.
    pub fn is_there(&self, cluster: &SimCluster, id: &str, node: &str, value: Version) {
        self.with(|state| {
            if state.blind_until.is_some_and(|until| Instant::now() < until) {
                return;
            }
            let Some(register) = state.registers.get(id).filter(|r| !r.tainted) else { return };
            let allowed = register.since(register.confirmed);
            if !allowed.contains(&value) {
                let told = story(cluster, Some(id));
                state.violations.push(format!(
                    "told but not there: {id} is {value:?} on {node}, which may be read, not in \
                     {allowed:?}{told}"
                ));
            }
        });
    }

    /// Counts a restart.
    pub fn restarted(&self) {
        self.with(|state| state.figures.restarts += 1);
    }

    /// A read begins.
    pub fn floor(&self) -> Floor {
        self.with(|state| {
            let confirmed = state.registers.iter().map(|(id, r)| (id.clone(), r.confirmed));
            Floor { confirmed: confirmed.collect(), at: Instant::now() }
        })
    }

    /// Something that must not be.
    pub fn violation(&self, what: impl Into<String>) {
        self.with(|state| state.violations.push(what.into()));
    }

    /// A read was refused, or said that something is missing.
    pub fn degraded(&self) {
        self.with(|state| state.figures.degraded += 1);
    }

    /// A read of one id claimed to be complete.
    pub fn saw(&self, what: &str, floor: &Floor, id: &str, value: Version) {
        self.with(|state| {
            state.figures.reads += 1;
            if !state.is_blind(floor) {
                state.judge(what, floor, id, value);
            }
        });
    }

    /// A read of everything claimed to be complete. Each hit is a document.
    pub fn saw_all(&self, what: &str, floor: &Floor, hits: &[Value], total: Option<u64>) {
        self.with(|state| {
            state.figures.reads += 1;
            if state.is_blind(floor) {
                return;
            }
            let mut seen = BTreeMap::new();
            for hit in hits {
                let id = hit["id"].as_str().unwrap_or_default().to_owned();
                if seen.insert(id.clone(), hit["v"].as_u64()).is_some() {
                    state.violations.push(format!("{what}: {id} is there twice"));
                }
            }
            if total.is_some_and(|total| total != hits.len() as u64) {
                let text = format!("{what}: total {total:?}, but {} hits", hits.len());
                state.violations.push(text);
            }
            let ids: Vec<String> = state.registers.keys().cloned().collect();
            for id in &ids {
                state.judge(what, floor, id, seen.remove(id).flatten());
            }
            for id in seen.keys() {
                state.violations.push(format!("{what}: nobody wrote {id}"));
            }
        });
    }

    /// What was recorded.
    pub fn figures(&self) -> Figures {
        self.with(|state| state.figures)
    }

    /// Everything that went wrong.
    pub fn violations(&self) -> Vec<String> {
        self.with(|state| state.violations.clone())
    }

    /// Judges what the nodes of a quiet cluster hold of an index.
    pub fn check_nodes(&self, cluster: &SimCluster, name: &str) {
        let shared = cluster.miroir().cluster.state;
        let topology = shared.membership.topology();
        let entries = shared.catalog.all();
        let Some(entry) = entries.iter().find(|entry| entry.name.as_str() == name) else {
            self.violation(format!("index {name} is gone"));
            return;
        };
        let placement = topology.placement(entry.shards);
        let held: BTreeMap<_, BTreeMap<String, Document>> = cluster
            .members()
            .map(|node| {
                let documents = node.inspect(|disk| {
                    let index = disk.indexes.get(&entry.physical)?;
                    let documents = index.documents.iter();
                    Some(documents.map(|(id, doc)| (id.clone(), said(doc))).collect())
                });
                (node.id().clone(), documents.unwrap_or_default())
            })
            .collect();
        self.with(|state| {
            for (id, register) in &state.registers {
                let shard = shard_of(id.as_bytes(), entry.shards);
                let allowed = register.since(register.last_acknowledged());
                let mut first: Option<Option<&Document>> = None;
                for (_, owner) in placement.write_targets(shard) {
                    let document = held[owner].get(id);
                    let value = document.and_then(|d| d.get("v")).and_then(Value::as_u64);
                    if !register.undone && !allowed.contains(&value) {
                        state.violations.push(format!(
                            "acknowledged write lost: {id} (shard {shard}) is {value:?} on {owner}, \
                             not in {allowed:?}{}",
                            story(cluster, Some(id))
                        ));
                    }
                    if first.is_some_and(|first| first != document) {
                        let text = format!(
                            "replicas differ: {id} (shard {shard}) on {owner}: {:?}, {document:?}",
                            first.flatten()
                        );
                        state.violations.push(format!("{text}{}", story(cluster, Some(id))));
                    }
                    first.get_or_insert(document);
                }
            }
            for (node, documents) in &held {
                // One that was drained while it was away keeps what it had, which nobody reads.
                let drained = topology.node(node).is_some_and(|n| n.intent == Intent::Drained);
                for id in documents.keys() {
                    let shard = shard_of(id.as_bytes(), entry.shards);
                    if !drained && !placement.held_by(node).contains(shard) {
                        state.violations.push(format!("{node} holds {id}, which it does not own"));
                    }
                    if !state.registers.contains_key(id) {
                        state.violations.push(format!("{node} holds {id}, which nobody wrote"));
                    }
                }
            }
        });
        let mut settings = BTreeMap::new();
        for node in cluster.members() {
            let text = node.inspect(|disk| {
                disk.indexes.get(&entry.physical).map(|index| index.settings.to_string())
            });
            settings.entry(text).or_insert_with(Vec::new).push(node.id().to_string());
        }
        if settings.len() > 1 {
            let told = story(cluster, None);
            self.violation(format!("settings differ: {settings:?}{told}"));
        }
    }

    /// Judges whether the nodes of a quiet cluster hold exactly the indexes of the catalogue, or those
    /// and others.
    pub fn check_catalogue(&self, cluster: &SimCluster, and_others: bool) {
        let shared = cluster.miroir().cluster.state;
        let wanted: BTreeSet<String> =
            shared.catalog.all().iter().map(|entry| entry.physical.clone()).collect();
        for node in cluster.members() {
            let held: BTreeSet<String> =
                node.inspect(|disk| disk.indexes.keys().cloned().collect());
            if held != wanted && !(and_others && held.is_superset(&wanted)) {
                let mut text = format!("catalogue {wanted:?}, but {} holds", node.id());
                let _ = write!(text, " {held:?}");
                self.violation(text);
            }
        }
    }
}

impl State {
    fn is_blind(&self, floor: &Floor) -> bool {
        self.blind_until.is_some_and(|until| floor.at < until)
    }

    fn judge(&mut self, what: &str, floor: &Floor, id: &str, value: Version) {
        let Some(register) = self.registers.get(id) else { return };
        if register.tainted {
            return;
        }
        let from = floor.confirmed.get(id).copied().unwrap_or(0);
        let allowed = register.since(from);
        if !allowed.contains(&value) {
            let text = format!("{what}: {id} is {value:?}, not in {allowed:?}");
            trace::line(|| text.clone());
            self.violations.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_confirmed_must_be_seen() {
        let history = History::default();
        let ids = vec!["a".to_owned()];
        let first = history.begin(&ids, Some(1));
        history.acknowledged(&first);
        let early = history.floor();
        history.confirmed(&first);
        let late = history.floor();
        history.saw("read", &early, "a", None);
        assert_eq!(history.violations(), Vec::<String>::new());
        history.saw("read", &late, "a", None);
        assert_eq!(history.violations().len(), 1);
        let second = history.begin(&ids, Some(2));
        history.unknown(second);
        history.saw("read", &late, "a", Some(2));
        history.saw("read", &late, "a", Some(1));
        assert_eq!(history.violations().len(), 1);
    }

    #[test]
    fn doubles_and_strangers_are_seen() {
        let history = History::default();
        let floor = history.floor();
        history.saw_all(
            "list",
            &floor,
            &[json!({"id": "a", "v": 1}), json!({"id": "a", "v": 1})],
            Some(3),
        );
        assert_eq!(history.violations().len(), 3, "{:?}", history.violations());
    }
}
