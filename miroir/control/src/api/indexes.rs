//! Indexes as such: create, list, show, update, rename, swap, delete.
//!
//! The catalogue is what clients see; nodes follow it. All changes of one index exclude each other
//! and every write to it, so a node's queue tells the same story as the catalogue.

use std::sync::Arc;

use http::Method;
use miroir_api::IndexUid;
use miroir_api::meili::{ApiError, TaskKind};
use serde_json::{Map, Value, json};

use crate::api::keys::forbidden;
use crate::api::{Control, tasks};
use crate::node_setup::{creation_calls, node_base_settings};
use miroir_core::copying::Touch;
use miroir_core::routing::ShardSet;
use miroir_core::view::CatchUp;
use miroir_pipeline::cluster::Catalog;
use miroir_pipeline::cluster::sequencer::Exclusive;
use miroir_pipeline::error::{Error, ErrorKind};
use miroir_pipeline::index::scatter::{Batch, WritePlan, dispatch_write};
use miroir_pipeline::node::Call;
use miroir_pipeline::operation::{IndexOp, Request, Response};
use miroir_pipeline::query::RawObject;
use miroir_store::{IndexEntry, NewTask, TaskState, clock};

pub(crate) fn not_found(name: &str) -> ApiError {
    ApiError::new("index_not_found", format!("Index `{name}` not found."))
}

fn already_exists(name: &str) -> ApiError {
    ApiError::new("index_already_exists", format!("Index `{name}` already exists."))
}

fn view(catalog: &Catalog, entry: &IndexEntry) -> Value {
    json!({
        "uid": entry.name,
        "createdAt": clock::rfc3339(entry.created_at),
        "updatedAt": clock::rfc3339(catalog.updated_at(entry)),
        "primaryKey": entry.primary_key,
    })
}

fn object(value: Value) -> Option<Map<String, Value>> {
    value.as_object().cloned()
}

impl Control {
    pub(crate) async fn index_op(&self, request: &Request, op: IndexOp) -> Result<Response, Error> {
        match op {
            IndexOp::List => self.list_indexes(request).await,
            IndexOp::Get(name) => match self.find(&name) {
                Some(entry) => Ok(Response::ok(&view(&self.state.catalog, &entry))),
                None => Err(self.missing(request, &name).await),
            },
            IndexOp::Create => self.create(request).await,
            IndexOp::Update(name) => self.update(request, &name).await,
            IndexOp::Delete(name) => self.delete(request, &name).await,
            IndexOp::Stats(name) => match self.find(&name) {
                Some(entry) => self.index_stats(request, &entry).await,
                None => Err(self.missing(request, &name).await),
            },
            IndexOp::Fields(name) => match self.find(&name) {
                Some(entry) => self.fields(request, &entry).await,
                None => Err(self.missing(request, &name).await),
            },
            IndexOp::Compact(name) => self.compact(request, &name).await,
            IndexOp::Swap => self.swap(request).await,
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<IndexEntry>> {
        IndexUid::new(name).ok().and_then(|uid| self.state.catalog.get(&uid))
    }

    pub(crate) async fn missing(&self, request: &Request, name: &str) -> Error {
        let error = self.refusal(request, &miroir_pipeline::query::index_path(name)).await;
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
            miroir_pipeline::query::query_pairs(request.original.query.as_deref().unwrap_or(""))
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
        let mut all = self.state.catalog.all();
        all.retain(|entry| request.cx.scope.allows(entry.name.as_str()));
        let results: Vec<Value> =
            all.iter().skip(offset).take(limit).map(|e| view(&self.state.catalog, e)).collect();
        Ok(Response::ok(&json!({
            "results": results, "offset": offset, "limit": limit, "total": all.len(),
        })))
    }

    fn batches(&self, entry: &IndexEntry, calls: &[Call]) -> Vec<Batch> {
        let topology = self.state.membership.topology();
        let placement = topology.placement(entry.shards);
        topology
            .nodes()
            .map(|node| Batch {
                node: node.id.clone(),
                shards: placement.owned_by(&node.id),
                calls: calls.to_vec(),
                parts: Vec::new(),
            })
            .collect()
    }

    fn task(entry: &IndexEntry, kind: TaskKind, details: Value) -> NewTask {
        NewTask { details: object(details), ..NewTask::about(entry, kind, clock::now()) }
    }

    /// A write of an index's own, to every node.
    pub(crate) fn plan(
        &self,
        entry: &Arc<IndexEntry>,
        calls: &[Call],
        missed: CatchUp,
        gate: Exclusive,
    ) -> WritePlan {
        WritePlan {
            index: Arc::clone(entry),
            topology: self.state.membership.topology(),
            touched: ShardSet::full(entry.shards),
            touch: Touch::Any,
            missed,
            batches: self.batches(entry, calls),
            exclusive: Some(gate),
            preflight: false,
        }
    }

    /// Whether a name stands for an index already.
    fn is_taken(&self, name: &IndexUid) -> bool {
        self.state.catalog.get(name).is_some()
            || self.state.aliases.table().get(name.as_str()).is_some()
    }

    async fn create(&self, request: &Request) -> Result<Response, Error> {
        let body = RawObject::parse(&request.original.body).filter(|_| request.original.is_json());
        let parsed =
            body.filter(|o| o.keys().all(|k| matches!(k, "uid" | "primaryKey"))).and_then(|o| {
                let uid = o.read::<String>("uid").ok()??;
                let key = o.read::<String>("primaryKey").ok()?;
                Some((IndexUid::new(&uid).ok()?, key))
            });
        // The query string is not looked at, as on one node.
        let Some((name, key)) = parsed else {
            return Err(self.refusal(request, "").await);
        };
        if !request.cx.scope.may_create(name.as_str()) {
            return Err(forbidden());
        }
        let mut gate = self.state.sequencer.exclusive(name.as_str()).await;
        let details = json!({"primaryKey": key});
        if self.is_taken(&name) {
            let error = Err(already_exists(name.as_str()));
            let details = object(details);
            return self
                .decided(Some(name.as_str()), TaskKind::IndexCreation, details, None, error)
                .await;
        }
        let entry = Arc::new(self.new_entry(&name, key));
        if entry.physical != name.as_str() {
            self.state.sequencer.exclusive_too(&mut gate, &entry.physical).await;
        }
        let base = node_base_settings(&self.state.options);
        let calls = creation_calls(&entry.physical, entry.primary_key.as_deref(), &base);
        let task = Self::task(&entry, TaskKind::IndexCreation, details);
        let plan = self.plan(&entry, &calls, CatchUp::Index, gate);
        let (leaves, state) = (self.leaves.clone(), Arc::clone(&self.state));
        let outcome = dispatch_write(leaves, state, plan, task, request.cx.clone()).await?;
        Ok(tasks::accepted_with(&outcome.record, outcome.degraded))
    }

    /// The index of a name with its gate closed: nobody else changes it or writes to it.
    pub(crate) async fn closed(&self, name: &IndexUid) -> Option<(Arc<IndexEntry>, Exclusive)> {
        loop {
            let before = self.state.catalog.get(name)?;
            let gate = self.state.sequencer.exclusive(&before.physical).await;
            match self.state.catalog.get(name) {
                Some(entry) if entry.physical == before.physical => return Some((entry, gate)),
                Some(_) => {}
                None => return None,
            }
        }
    }

    async fn delete(&self, request: &Request, name: &str) -> Result<Response, Error> {
        let uid =
            IndexUid::new(name).map_err(|e| Error::api("invalid_index_uid", e.to_string()))?;
        let details = json!({"deletedDocuments": null});
        let Some((entry, gate)) = self.closed(&uid).await else {
            let details = object(json!({"deletedDocuments": 0}));
            return self
                .decided(Some(name), TaskKind::IndexDeletion, details, None, Err(not_found(name)))
                .await;
        };
        let call =
            Call::change(Method::DELETE, "indexes_delete", format!("/indexes/{}", entry.physical));
        // Where a node is missing, the others' numbers overlap: count before there is nothing left.
        let counted = if self
            .state
            .membership
            .topology()
            .nodes()
            .all(|node| self.state.nodes.is_available(node))
        {
            None
        } else {
            self.count(request, &entry).await.ok()
        };
        let plan = self.plan(&entry, &[call], CatchUp::Deleted, gate);
        let mut task = Self::task(&entry, TaskKind::IndexDeletion, details);
        task.protocol.state = counted.map(|documents| TaskState::IndexDeletion { documents });
        let (leaves, state) = (self.leaves.clone(), Arc::clone(&self.state));
        let outcome = dispatch_write(leaves, state, plan, task, request.cx.clone()).await?;
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
        let mut details = json!({"primaryKey": key});
        if let Some(new) = &new {
            details["oldIndexUid"] = json!(name);
            details["newIndexUid"] = json!(new);
        }
        let details = object(details);
        let decide =
            |result| self.decided(Some(name), TaskKind::IndexUpdate, details.clone(), None, result);
        let Some((entry, gate)) = self.closed(&uid).await else {
            return decide(Err(not_found(name))).await;
        };
        let other = new.as_ref().filter(|new| **new != uid);
        if let Some(taken) = other.filter(|new| self.is_taken(new)) {
            return decide(Err(already_exists(taken.as_str()))).await;
        }
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
            let call = Call::change(
                Method::PATCH,
                "indexes_patch",
                format!("/indexes/{}", entry.physical),
            )
            .json(json!({"primaryKey": key}).to_string());
            self.apply_everywhere(&entry, &[call], &request.cx)
                .await
                .map_err(|missed| missed.error)?;
        }
        let renamed = new.unwrap_or_else(|| uid.clone());
        let mut moved = IndexEntry::clone(&entry);
        moved.primary_key = key.or(moved.primary_key);
        moved.updated_at = clock::now();
        moved.name = renamed.clone();
        if renamed != uid {
            let both = [(renamed.clone(), Some(moved.clone())), (uid.clone(), None)];
            self.state.catalog.change_many(|_| both.clone().into()).await?;
        } else {
            self.state.catalog.change(&entry, |_| moved.clone()).await?;
        }
        drop(gate);
        let physical = vec![entry.physical.clone()];
        self.renamed(Some(name), TaskKind::IndexUpdate, details.clone(), physical).await
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
        let mut physical = Vec::new();
        self.state
            .catalog
            .change_many(|old| {
                let named = swaps.iter().flat_map(|swap| &swap.indexes);
                physical = named
                    .filter_map(|name| old.get(&IndexUid::new(name).ok()?))
                    .map(|entry| entry.physical.clone())
                    .collect();
                let names = swaps.iter().flat_map(|swap| {
                    let names: Vec<IndexUid> =
                        swap.indexes.iter().filter_map(|n| IndexUid::new(n).ok()).collect();
                    let other =
                        |at: usize| names.get(1 - at).and_then(|name| old.get(name)).cloned();
                    [(names[0].clone(), other(0)), (names[1].clone(), other(1))]
                });
                names.collect()
            })
            .await?;
        self.renamed(None, TaskKind::IndexSwap, details.clone(), physical).await
    }
}
