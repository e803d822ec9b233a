//! What was written, and whether the nodes hold exactly that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::Outcome;
use crate::cluster::Cluster;

/// Ids that are written again and again, so that order matters.
const IDS: usize = 300;

#[derive(Clone, Debug, Default)]
struct Entry {
    /// The last version that was acknowledged.
    acknowledged: Option<u64>,
    /// Versions sent after that, which may have taken effect.
    open: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    entries: BTreeMap<String, Entry>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<State>);

impl Ledger {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().expect("no panic holds this lock"))
    }

    /// The documents that are there from the beginning.
    pub(super) fn base(&self, count: usize) -> Value {
        Value::Array(self.load(0..count, "a word or two"))
    }

    /// Documents that are written once, each with this text.
    pub(super) fn load(&self, numbers: Range<usize>, text: &str) -> Vec<Value> {
        self.with(|state| {
            numbers
                .map(|number| {
                    let id = format!("base-{number}");
                    let entry = Entry { acknowledged: Some(0), ..Entry::default() };
                    state.entries.insert(id.clone(), entry);
                    json!({"id": id, "version": 0, "origin": "base", "text": text})
                })
                .collect()
        })
    }

    /// The next batch of a writer, each of which has ids of its own: their versions, and the
    /// documents.
    pub(super) fn next(&self, writer: usize, count: usize) -> (Vec<(String, u64)>, Value) {
        self.with(|state| {
            let mut ids = Vec::new();
            for _ in 0..count {
                state.version += 1;
                let id = format!("late-{writer}-{}", state.version as usize * 17 % IDS);
                state.entries.entry(id.clone()).or_default().open.insert(state.version);
                ids.push((id, state.version));
            }
            let documents = ids
                .iter()
                .map(|(id, version)| {
                    json!({"id": id, "version": version, "origin": "late", "text": "another word"})
                })
                .collect();
            (ids, documents)
        })
    }

    /// A batch was acknowledged: what was sent before it counts no more.
    pub(super) fn acknowledged(&self, ids: &[(String, u64)]) {
        self.with(|state| {
            for (id, version) in ids {
                if let Some(entry) = state.entries.get_mut(id) {
                    entry.acknowledged = Some(*version);
                    entry.open.retain(|open| open > version);
                }
            }
        });
    }

    /// Compares document by document what all nodes hold with what was written.
    pub(super) fn check(&self, cluster: &Cluster, index: &str, copies: usize) -> Outcome<()> {
        let mut held: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for node in &cluster.nodes {
            let path = format!("/indexes/{index}/documents/fetch");
            let reply = node.client().json("POST", &path, &json!({"limit": 1_000_000}))?;
            let page = reply.json();
            let Some(documents) = page["results"].as_array() else {
                return Err(format!("{} answered {}", node.url, reply.text()).into());
            };
            for document in documents {
                let id = document["id"].as_str().unwrap_or_default().to_owned();
                held.entry(id).or_default().push(document.clone());
            }
        }
        let mut client = cluster.server.client();
        let path = format!("/indexes/{index}/documents/fetch");
        let reply = client.json("POST", &path, &json!({"limit": 1_000_000}))?.json();
        let shown = reply["results"].as_array().map_or(0, Vec::len);
        let problems = self.with(|state| compare(state, &held, copies));
        if shown != held.len() || reply["total"] != held.len() {
            return Err(format!(
                "Miroir shows {shown} documents (total {}), its nodes hold {}",
                reply["total"],
                held.len()
            )
            .into());
        }
        if let Some(first) = problems.first() {
            return Err(format!("{} documents are wrong, first: {first}", problems.len()).into());
        }
        println!(
            "  {} documents compared on every node: each {copies} times, all right",
            held.len()
        );
        Ok(())
    }
}

fn compare(state: &State, held: &BTreeMap<String, Vec<Value>>, copies: usize) -> Vec<String> {
    let mut problems = Vec::new();
    for (id, entry) in &state.entries {
        let found = held.get(id).map(Vec::as_slice).unwrap_or_default();
        if found.is_empty() && entry.acknowledged.is_none() {
            continue;
        }
        if found.len() != copies {
            problems.push(format!("{id} is on {} nodes", found.len()));
            continue;
        }
        if found.iter().any(|document| document != &found[0]) {
            problems.push(format!("copies of {id} differ: {found:?}"));
        }
        let version = found[0]["version"].as_u64();
        let right = version == entry.acknowledged
            || version.is_some_and(|version| entry.open.contains(&version));
        if !right {
            problems.push(format!("{id} is {version:?}, should be {entry:?}"));
        }
    }
    for id in held.keys().filter(|id| !state.entries.contains_key(*id)) {
        problems.push(format!("nobody wrote {id}"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_doubled_and_strange_documents_are_noticed() {
        let ledger = Ledger::default();
        ledger.base(1);
        let (ids, documents) = ledger.next(0, 1);
        ledger.acknowledged(&ids);
        let late = documents[0].clone();
        let base = json!({"id": "base-0", "version": 0});
        let key = late["id"].as_str().unwrap().to_owned();
        let right = BTreeMap::from([
            ("base-0".to_owned(), vec![base.clone(), base.clone()]),
            (key.clone(), vec![late.clone(), late.clone()]),
        ]);
        let judge = |held: &BTreeMap<String, Vec<Value>>| {
            ledger.with(|state| compare(state, held, 2)).len()
        };
        assert_eq!(judge(&right), 0);
        let mut lost = right.clone();
        lost.get_mut(&key).unwrap().pop();
        assert_eq!(judge(&lost), 1);
        let mut doubled = right.clone();
        doubled.get_mut(&key).unwrap().push(late);
        assert_eq!(judge(&doubled), 1);
        let mut strange = right.clone();
        strange.insert("x".to_owned(), vec![base.clone(), base]);
        assert_eq!(judge(&strange), 1);
    }
}
