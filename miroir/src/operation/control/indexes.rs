//! Indexes as such: create, list, show, update, rename, swap, delete.
//!
//! The catalogue is what clients see; nodes follow it. All changes of one index exclude each other
//! and every write to it, so a node's queue tells the same story as the catalogue.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use miroir_api::meili::{ApiError, TaskKind, TaskStatus};
use miroir_api::{IndexUid, NodeId};
use serde_json::{Map, Value, json};

use super::keys::forbidden;
use super::{Control, node_base_settings, tasks};
use crate::clock;
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::index::scatter::{Batch, Plan, dispatch_write};
use crate::index::sequencer::Exclusive;
use crate::node::Call;
use crate::operation::{IndexOp, RawObject, Request, Response};
use crate::quorum::{self, Verdict};
use crate::routing::ShardSet;
use crate::store::{IndexEntry, NewTask, Stale, StaleKind};

fn not_found(name: &str) -> ApiError {
    ApiError::new("index_not_found", format!("Index `{name}` not found."))
}

fn already_exists(name: &str) -> ApiError {
    ApiError::new("index_already_exists", format!("Index `{name}` already exists."))
}

fn view(entry: &IndexEntry) -> Value {
    json!({
        "uid": entry.name,
        "createdAt": clock::rfc3339(entry.created_at),
        "updatedAt": clock::rfc3339(entry.updated_at),
        "primaryKey": entry.primary_key,
    })
}

fn object(value: Value) -> Option<Map<String, Value>> {
    value.as_object().cloned()
}

/// `?customMetadata=`, the only parameter of index operations.
fn custom_metadata(request: &Request) -> Result<Option<String>, ()> {
    let pairs = crate::http::query_pairs(request.original.query.as_deref().unwrap_or_default());
    if pairs.iter().any(|(key, _)| key != "customMetadata") {
        return Err(());
    }
    Ok(pairs.into_iter().next().map(|(_, value)| value))
}

/// The calls that make an index on a node.
pub(super) fn creation_calls(physical: &str, primary_key: Option<&str>, base: &Value) -> Vec<Call> {
    let body = json!({"uid": physical, "primaryKey": primary_key}).to_string();
    vec![
        Call::new(Method::POST, "indexes_post", "/indexes").json(body),
        Call::new(Method::PATCH, "settings_patch", format!("/indexes/{physical}/settings"))
            .json(base.to_string()),
    ]
}

impl Control {
    pub(super) async fn index_op(&self, request: &Request, op: IndexOp) -> Result<Response, Error> {
        match op {
            IndexOp::List => self.list_indexes(request).await,
            IndexOp::Get(name) => match self.find(&name) {
                Some(entry) => Ok(Response::ok(&view(&entry))),
                None => Err(self.missing(request, &name).await),
            },
            IndexOp::Create => self.create(request).await,
            IndexOp::Update(name) => self.update(request, &name).await,
            IndexOp::Delete(name) => self.delete(request, &name).await,
            IndexOp::Stats(name) => match self.find(&name) {
                Some(entry) => self.index_stats(request, &entry).await,
                None => Err(self.missing(request, &name).await),
            },
            IndexOp::Swap => self.swap(request).await,
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<IndexEntry>> {
        IndexUid::new(name).ok().and_then(|uid| self.shared.index(&uid))
    }

    pub(super) async fn missing(&self, request: &Request, name: &str) -> Error {
        let error = self.refusal(request, &crate::http::index_path(name)).await;
        if matches!(error.kind(), ErrorKind::Verbatim { .. }) {
            error
        } else {
            Error::index_not_found(name)
        }
    }

    async fn list_indexes(&self, request: &Request) -> Result<Response, Error> {
        let mut offset = 0;
        let mut limit = 20;
        for (key, value) in
            crate::http::query_pairs(request.original.query.as_deref().unwrap_or(""))
        {
            let slot = match key.as_str() {
                "offset" => &mut offset,
                "limit" => &mut limit,
                _ => return Err(self.refusal(request, "").await),
            };
            match value.parse::<usize>() {
                Ok(number) => *slot = number,
                Err(_) => return Err(self.refusal(request, "").await),
            }
        }
        let mut all = self.shared.indexes();
        all.retain(|entry| request.cx.scope.allows(entry.name.as_str()));
        let results: Vec<Value> = all.iter().skip(offset).take(limit).map(|e| view(e)).collect();
        Ok(Response::ok(&json!({
            "results": results, "offset": offset, "limit": limit, "total": all.len(),
        })))
    }

    /// A new entry and its index on all nodes. The caller holds the index's gate.
    pub(super) async fn create_on_nodes(
        &self,
        name: &IndexUid,
        primary_key: Option<String>,
        cx: &Context,
    ) -> Result<Arc<IndexEntry>, Error> {
        let entry = Arc::new(self.new_entry(name, primary_key));
        let base = node_base_settings(&self.shared.tuning);
        let calls = creation_calls(&entry.physical, entry.primary_key.as_deref(), &base);
        self.apply_everywhere(&entry, &calls, cx).await?;
        let stored = self
            .shared
            .change_index(name, |old| {
                Some(old.cloned().unwrap_or_else(|| IndexEntry::clone(&entry)))
            })
            .await?;
        stored.ok_or_else(|| Error::index_not_found(name.as_str()))
    }

    fn new_entry(&self, name: &IndexUid, primary_key: Option<String>) -> IndexEntry {
        let now = clock::now();
        IndexEntry {
            name: name.clone(),
            physical: self.free_physical(name),
            shards: self.shared.tuning.shards,
            primary_key,
            created_at: now,
            updated_at: now,
            settings_version: 0,
            overlay: Map::new(),
            frozen: None,
            version: 0,
        }
    }

    /// The name itself, unless another index lives under it on the nodes since a rename or swap.
    fn free_physical(&self, name: &IndexUid) -> String {
        let taken: Vec<String> =
            self.shared.indexes().iter().map(|entry| entry.physical.clone()).collect();
        let mut candidate = name.to_string();
        let mut number = 2;
        while taken.contains(&candidate) {
            candidate = format!("{name}--{number}");
            number += 1;
        }
        candidate
    }

    /// Runs calls on every node without a task of its own. Rolls back and fails without a quorum.
    async fn apply_everywhere(
        &self,
        entry: &Arc<IndexEntry>,
        calls: &[Call],
        cx: &Context,
    ) -> Result<(), Error> {
        let topology = self.shared.topology();
        let jobs = topology.nodes().map(|node| async {
            if !node.status.is_writable() || self.shared.scores.is_open(&node.id) {
                return (node.id.clone(), Err(Error::node(&node.id, "down")));
            }
            for call in calls {
                if let Err(error) = self.shared.call(&node.id, call, cx).await {
                    return (node.id.clone(), Err(error));
                }
            }
            (node.id.clone(), Ok(()))
        });
        let results: BTreeMap<NodeId, Result<(), Error>> =
            join_all(jobs).await.into_iter().collect();
        let acked = |node: &NodeId| results.get(node).is_some_and(Result::is_ok);
        let stale = self.shared.stale();
        let verdict = quorum::evaluate(
            &topology.placement(entry.shards),
            topology.replication_factor(),
            self.shared.tuning.write_quorum,
            &ShardSet::full(entry.shards),
            |node, _| acked(node) && !stale.lacks_index(&entry.physical, node),
        );
        match verdict {
            Verdict::Met { missed, .. } => {
                let rows =
                    missed.into_iter().filter(|(node, _)| !acked(node)).map(|(node, _)| Stale {
                        node,
                        index: entry.physical.clone(),
                        shard: None,
                        kind: StaleKind::Index,
                        generation: 0,
                    });
                self.shared.mark_stale(rows.collect()).await?;
                Ok(())
            }
            Verdict::NoQuorum { shards, .. } => {
                self.roll_back_creation(entry, results.keys(), cx).await?;
                let refused = results.into_values().filter_map(Result::err);
                let refused =
                    refused.into_iter().find(|e| matches!(e.kind(), ErrorKind::Verbatim { .. }));
                Err(refused.unwrap_or_else(|| Error::no_quorum(shards)))
            }
        }
    }

    async fn roll_back_creation<'a>(
        &self,
        entry: &IndexEntry,
        nodes: impl Iterator<Item = &'a NodeId>,
        cx: &Context,
    ) -> Result<(), Error> {
        let call =
            Call::new(Method::DELETE, "indexes_delete", format!("/indexes/{}", entry.physical));
        let sent = nodes.map(|node| {
            let call = &call;
            async move { (node, self.shared.call(node, call, cx).await.is_ok()) }
        });
        // Who may still have it must not keep it.
        let rows =
            join_all(sent).await.into_iter().filter(|(_, gone)| !gone).map(|(node, _)| Stale {
                node: node.clone(),
                index: entry.physical.clone(),
                shard: None,
                kind: StaleKind::Deleted,
                generation: 0,
            });
        Ok(self.shared.mark_stale(rows.collect()).await?)
    }

    fn batches(&self, entry: &IndexEntry, calls: &[Call]) -> Vec<Batch> {
        let topology = self.shared.topology();
        let placement = topology.placement(entry.shards);
        topology
            .nodes()
            .map(|node| Batch {
                node: node.id.clone(),
                shards: placement.owned_by(&node.id),
                calls: calls.to_vec(),
            })
            .collect()
    }

    fn task(entry: &IndexEntry, kind: TaskKind, details: Value) -> NewTask {
        NewTask {
            index: Some(entry.name.to_string()),
            physical: Some(entry.physical.clone()),
            kind,
            status: TaskStatus::Enqueued,
            details: object(details),
            error: None,
            enqueued_at: clock::now(),
            custom_metadata: None,
            nodes: Vec::new(),
            protocol: None,
        }
    }

    fn plan(
        &self,
        entry: &Arc<IndexEntry>,
        calls: &[Call],
        missed: StaleKind,
        gate: Exclusive,
    ) -> Plan {
        Plan {
            index: Arc::clone(entry),
            topology: self.shared.topology(),
            touched: ShardSet::full(entry.shards),
            missed,
            batches: self.batches(entry, calls),
            exclusive: Some(gate),
            preflight: false,
        }
    }

    async fn create(&self, request: &Request) -> Result<Response, Error> {
        let body = RawObject::parse(&request.original.body).filter(|_| request.original.is_json());
        let parsed =
            body.filter(|o| o.keys().all(|k| matches!(k, "uid" | "primaryKey"))).and_then(|o| {
                let uid = o.read::<String>("uid").ok()??;
                let key = o.read::<String>("primaryKey").ok()?;
                Some((IndexUid::new(&uid).ok()?, key))
            });
        let (Some((name, key)), Ok(metadata)) = (parsed, custom_metadata(request)) else {
            return Err(self.refusal(request, "").await);
        };
        if !request.cx.scope.may_create(name.as_str()) {
            return Err(forbidden());
        }
        let gate = self.shared.sequencer.exclusive(name.as_str()).await;
        let details = json!({"primaryKey": key});
        if self.shared.index(&name).is_some() {
            let error = Err(already_exists(name.as_str()));
            let details = object(details);
            return self
                .decided(Some(name.as_str()), TaskKind::IndexCreation, details, metadata, error)
                .await;
        }
        let entry = Arc::new(self.new_entry(&name, key));
        let base = node_base_settings(&self.shared.tuning);
        let calls = creation_calls(&entry.physical, entry.primary_key.as_deref(), &base);
        let mut task = Self::task(&entry, TaskKind::IndexCreation, details);
        task.custom_metadata = metadata;
        let plan = self.plan(&entry, &calls, StaleKind::Index, gate);
        let nodes: Vec<NodeId> = plan.batches.iter().map(|batch| batch.node.clone()).collect();
        // In the catalogue first: whoever comes next waits at the gate and then finds it there.
        self.shared.change_index(&name, |_| Some(IndexEntry::clone(&entry))).await?;
        let (leaves, shared) = (self.leaves.clone(), Arc::clone(&self.shared));
        match dispatch_write(leaves, shared, plan, task, request.cx.clone()).await {
            Ok(outcome) => Ok(tasks::accepted_with(&outcome.record, outcome.degraded)),
            Err(error) => {
                self.shared.change_index(&name, |_| None).await?;
                self.shared.forget_stale(&entry.physical).await?;
                self.roll_back_creation(&entry, nodes.iter(), &request.cx).await?;
                Err(error)
            }
        }
    }

    async fn delete(&self, request: &Request, name: &str) -> Result<Response, Error> {
        let uid =
            IndexUid::new(name).map_err(|e| Error::api("invalid_index_uid", e.to_string()))?;
        let details = json!({"deletedDocuments": null});
        let Some(entry) = self.shared.index(&uid) else {
            let details = object(json!({"deletedDocuments": 0}));
            return self
                .decided(Some(name), TaskKind::IndexDeletion, details, None, Err(not_found(name)))
                .await;
        };
        let gate = self.shared.sequencer.exclusive(&entry.physical).await;
        let call =
            Call::new(Method::DELETE, "indexes_delete", format!("/indexes/{}", entry.physical));
        let plan = self.plan(&entry, &[call], StaleKind::Deleted, gate);
        let task = Self::task(&entry, TaskKind::IndexDeletion, details);
        let (leaves, shared) = (self.leaves.clone(), Arc::clone(&self.shared));
        // Out of the catalogue first: a process that dies in between must not leave an entry whose
        // nodes have nothing.
        self.shared.change_index(&uid, |_| None).await?;
        let outcome = match dispatch_write(leaves, shared, plan, task, request.cx.clone()).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let back = |old: Option<&IndexEntry>| {
                    Some(old.cloned().unwrap_or_else(|| IndexEntry::clone(&entry)))
                };
                self.shared.change_index(&uid, back).await?;
                return Err(error);
            }
        };
        self.shared.forget_stale(&entry.physical).await?;
        self.shared.stores.settings_versions.forget(&entry.physical).await?;
        Ok(tasks::accepted_with(&outcome.record, outcome.degraded))
    }

    async fn update(&self, request: &Request, name: &str) -> Result<Response, Error> {
        let uid =
            IndexUid::new(name).map_err(|e| Error::api("invalid_index_uid", e.to_string()))?;
        let body = RawObject::parse(&request.original.body).filter(|_| request.original.is_json());
        let parsed =
            body.filter(|o| o.keys().all(|k| matches!(k, "uid" | "primaryKey"))).and_then(|o| {
                let new = match o.read::<String>("uid").ok()? {
                    Some(text) => Some(IndexUid::new(&text).ok()?),
                    None => None,
                };
                Some((new, o.read::<String>("primaryKey").ok()?))
            });
        let Some((new, key)) = parsed else {
            return Err(self.refusal(request, "/indexes/miroir-nowhere").await);
        };
        let Ok(metadata) = custom_metadata(request) else {
            return Err(self.refusal(request, "/indexes/miroir-nowhere").await);
        };
        let mut details = json!({"primaryKey": key});
        if let Some(new) = &new {
            details["oldIndexUid"] = json!(name);
            details["newIndexUid"] = json!(new);
        }
        let details = object(details);
        let decide = |result| {
            self.decided(
                Some(name),
                TaskKind::IndexUpdate,
                details.clone(),
                metadata.clone(),
                result,
            )
        };
        let Some(entry) = self.shared.index(&uid) else {
            return decide(Err(not_found(name))).await;
        };
        let other = new.as_ref().filter(|new| **new != uid);
        if let Some(taken) = other.filter(|new| self.shared.index(new).is_some()) {
            return decide(Err(already_exists(taken.as_str()))).await;
        }
        let gate = self.shared.sequencer.exclusive(&entry.physical).await;
        let changed = key.clone().filter(|key| entry.primary_key.as_ref() != Some(key));
        if let Some(key) = changed {
            if entry.primary_key.is_some() && self.count(request, &entry).await? > 0 {
                let known = entry.primary_key.as_deref().unwrap_or_default();
                return decide(Err(ApiError::new(
                    "index_primary_key_already_exists",
                    format!("Index `{name}`: Index already has a primary key: `{known}`."),
                )))
                .await;
            }
            let call =
                Call::new(Method::PATCH, "indexes_patch", format!("/indexes/{}", entry.physical))
                    .json(json!({"primaryKey": key}).to_string());
            self.apply_everywhere(&entry, &[call], &request.cx).await?;
        }
        let renamed = new.unwrap_or_else(|| uid.clone());
        let mut moved = IndexEntry::clone(&entry);
        moved.primary_key = key.or(moved.primary_key);
        moved.updated_at = clock::now();
        moved.name = renamed.clone();
        if renamed != uid {
            self.shared.change_index(&renamed, |_| Some(moved.clone())).await?;
            self.shared.change_index(&uid, |_| None).await?;
        } else {
            self.shared.change_index(&uid, |_| Some(moved.clone())).await?;
        }
        drop(gate);
        decide(Ok(())).await
    }

    async fn swap(&self, request: &Request) -> Result<Response, Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Swap {
            indexes: Vec<String>,
            #[serde(default)]
            rename: bool,
        }
        let parsed: Option<Vec<Swap>> = serde_json::from_slice(&request.original.body).ok();
        let pairs = parsed.iter().flatten().take_while(|swap| swap.indexes.len() == 2);
        let mut named = pairs.flat_map(|swap| &swap.indexes);
        let readable = named.clone().all(|name| IndexUid::new(name).is_ok());
        if readable && named.any(|name| !request.cx.scope.allows(name)) {
            return Err(forbidden());
        }
        let valid = parsed.filter(|swaps| {
            let mut seen = std::collections::BTreeSet::new();
            request.original.is_json()
                && swaps.iter().all(|s| s.indexes.len() == 2)
                && swaps
                    .iter()
                    .flat_map(|s| &s.indexes)
                    .all(|n| IndexUid::new(n).is_ok() && seen.insert(n.clone()))
        });
        let Some(swaps) = valid else { return Err(self.refusal(request, "").await) };
        let shown: Vec<Value> =
            swaps.iter().map(|s| json!({"indexes": s.indexes, "rename": s.rename})).collect();
        let details = object(json!({"swaps": shown}));
        let decide =
            |result| self.decided(None, TaskKind::IndexSwap, details.clone(), None, result);
        for swap in &swaps {
            let (a, b) = (&swap.indexes[0], &swap.indexes[1]);
            let missing: Vec<&String> = if swap.rename { vec![a] } else { vec![a, b] }
                .into_iter()
                .filter(|name| self.find(name).is_none())
                .collect();
            if let Some(first) = missing.first() {
                let error = if missing.len() == 1 {
                    not_found(first)
                } else {
                    ApiError::new("index_not_found", format!("Indexes `{a}`, `{b}` not found."))
                };
                return decide(Err(error)).await;
            }
            if swap.rename && self.find(b).is_some() {
                return decide(Err(ApiError::new(
                    "index_already_exists",
                    format!(
                        "Cannot rename `{a}` to `{b}` as the index already exists. Hint: You can \
                         remove `{b}` first and then do your remove."
                    ),
                )))
                .await;
            }
        }
        for swap in &swaps {
            let (Some(first), second) = (self.find(&swap.indexes[0]), self.find(&swap.indexes[1]))
            else {
                continue;
            };
            let names: Vec<IndexUid> =
                swap.indexes.iter().filter_map(|n| IndexUid::new(n).ok()).collect();
            let rename = |entry: &IndexEntry, name: &IndexUid| IndexEntry {
                name: name.clone(),
                ..entry.clone()
            };
            self.shared.change_index(&names[1], |_| Some(rename(&first, &names[1]))).await?;
            self.shared
                .change_index(&names[0], |_| second.as_ref().map(|e| rename(e, &names[0])))
                .await?;
        }
        decide(Ok(())).await
    }
}
