//! Indexes as such: create, list, show, delete.
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
use crate::naming::{self, not_found};
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

pub(crate) fn already_exists(name: &str) -> ApiError {
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

pub(crate) fn object(value: Value) -> Option<Map<String, Value>> {
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
        all.retain(|entry| request.cx.scope.sees(entry.name.as_str()));
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
            teaches: None,
            order: None,
            handover: None,
            preflight: false,
        }
    }

    /// Whether a name stands for an index already.
    pub(crate) fn is_taken(&self, name: &IndexUid) -> bool {
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
        let gate = naming::close(&self.state, &name, &[]).await?;
        let details = json!({"primaryKey": key});
        if self.is_taken(&name) {
            let error = Err(already_exists(name.as_str()));
            let details = object(details);
            return self
                .decided(Some(name.as_str()), TaskKind::IndexCreation, details, None, error)
                .await;
        }
        let (entry, gate) = self.new_entry(&name, key, gate).await;
        let entry = Arc::new(entry);
        let base = node_base_settings(&self.state.options);
        let calls = creation_calls(&entry.physical, entry.primary_key.as_deref(), &base);
        let task = Self::task(&entry, TaskKind::IndexCreation, details);
        let plan = self.plan(&entry, &calls, CatchUp::Index, gate);
        let (leaves, state) = (self.leaves.clone(), Arc::clone(&self.state));
        let outcome = dispatch_write(leaves, state, plan, task, request.cx.clone()).await?;
        Ok(tasks::accepted_with(&outcome.record, outcome.degraded))
    }

    /// The index of a name, if there is one, with its gates closed: nobody else makes, changes or
    /// deletes an index of the name, nor writes to it.
    ///
    /// # Errors
    /// As [`naming::close`].
    pub(crate) async fn closed(
        &self,
        name: &IndexUid,
    ) -> Result<(Option<Arc<IndexEntry>>, Exclusive), Error> {
        let gate = naming::close(&self.state, name, &[]).await?;
        Ok((self.state.catalog.get(name), gate))
    }

    async fn delete(&self, request: &Request, name: &str) -> Result<Response, Error> {
        let uid =
            IndexUid::new(name).map_err(|e| Error::api("invalid_index_uid", e.to_string()))?;
        let details = json!({"deletedDocuments": null});
        let (listed, gate) = self.closed(&uid).await?;
        let Some(entry) = listed else {
            let details = object(json!({"deletedDocuments": 0}));
            let missing = Err(not_found(name));
            let kind = TaskKind::IndexDeletion;
            let answer = self.decided(Some(name), kind, details, None, missing).await;
            drop(gate);
            return answer;
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
}
