//! Settings: what clients set, what nodes get, and how the two are kept apart.
//!
//! Nodes hold a few settings in another form than the client set them: the shard attribute is
//! filterable, every field is displayed, the two limits that Miroir applies itself are raised, and
//! foreign keys they have none.
//! The client's own values are the index's *overlay* in the catalogue.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;
use miroir_api::meili::TaskKind;
use serde_json::{Map, Value, json};

use crate::api::{Control, tasks};
use crate::broadcast::progress;
use crate::form;
use crate::node_setup::{NODE_MAX_TOTAL_HITS, SHARD, node_values};
use crate::secrets::hide_embedders;
use miroir_core::documents::ORDER;
use miroir_core::routing::ShardSet;
use miroir_core::view::{CatchUp, StaleReplica};
use miroir_pipeline::cluster::ClusterOptions;
use miroir_pipeline::effect::Effect;
use miroir_pipeline::error::{Error, ErrorKind, Retry};
use miroir_pipeline::index::scatter::{SettingsVersion, WritePlan, dispatch_write};
use miroir_pipeline::node::Call;
use miroir_pipeline::node_errors::{self, OWN_RULES};
use miroir_pipeline::operation::{Request, Response, SettingsOp, foreign};
use miroir_store::task_state::{Broadcast, Proposal};
use miroir_store::{IndexEntry, NewTask, TaskState, clock};

/// Changes of the overlay that come with a settings update: `null` removes.
type Overlay = Map<String, Value>;

/// Submitted settings as a task shows them: a reset of the two lists of attributes that default to
/// everything shows as that, keys of embedders are cut short, and all is in a node's form.
fn shown(submitted: &Map<String, Value>) -> Map<String, Value> {
    let mut out = submitted.clone();
    for key in ["displayedAttributes", "searchableAttributes"] {
        if let Some(value) = out.get_mut(key).filter(|value| value.is_null()) {
            *value = json!(["*"]);
        }
    }
    hide_embedders(&mut out);
    form::settings::normalize(&mut out);
    out
}

/// Turns a client's settings object into the nodes' and the overlay's change. `None`: a value has
/// an unexpected type, so that a node has to say what is wrong.
fn to_nodes(submitted: &Map<String, Value>, tuning: &ClusterOptions) -> Option<(Value, Overlay)> {
    let mut nodes = submitted.clone();
    let mut overlay = Overlay::new();
    if let Some(displayed) = submitted.get("displayedAttributes") {
        let fine = displayed.is_null()
            || displayed.as_array().is_some_and(|list| list.iter().all(Value::is_string));
        if !fine {
            return None;
        }
        nodes.shift_remove("displayedAttributes");
        let mut value = displayed.clone();
        if let Value::Array(list) = &mut value {
            if list.iter().any(|name| name == "*") {
                value = json!(["*"]);
            } else {
                // One that is displayed twice is shown once.
                let mut seen = BTreeSet::new();
                list.retain(|name| seen.insert(name.as_str().map(str::to_owned)));
            }
        }
        overlay.insert("displayedAttributes".into(), value);
    }
    match submitted.get("filterableAttributes") {
        None => {}
        Some(Value::Null) => {
            nodes["filterableAttributes"] = json!([SHARD]);
            overlay.insert(OWN_RULES.into(), Value::Null);
        }
        Some(Value::Array(list)) => {
            let (list, first) = filterable(list);
            nodes["filterableAttributes"] = Value::Array(list);
            overlay.insert(OWN_RULES.into(), first.map_or(Value::Null, Value::from));
        }
        Some(_) => return None,
    }
    match submitted.get("pagination") {
        None => {}
        Some(Value::Null) => {
            nodes["pagination"] = json!({"maxTotalHits": NODE_MAX_TOTAL_HITS});
            overlay.insert("maxTotalHits".into(), Value::Null);
        }
        Some(Value::Object(fields)) => {
            let mut fields = fields.clone();
            if let Some(value) = fields.get("maxTotalHits").cloned() {
                if !value.is_null() && value.as_u64().is_none_or(|n| n == 0) {
                    return None;
                }
                let wanted = value.as_u64().unwrap_or(0).max(NODE_MAX_TOTAL_HITS);
                fields.insert("maxTotalHits".into(), wanted.into());
                overlay.insert("maxTotalHits".into(), value);
            }
            nodes["pagination"] = Value::Object(fields);
        }
        Some(_) => return None,
    }
    match submitted.get("faceting") {
        None => {}
        Some(Value::Null) => {
            nodes["faceting"] =
                json!({"maxValuesPerFacet": node_values(tuning), "sortFacetValuesBy": null});
            overlay.insert("maxValuesPerFacet".into(), Value::Null);
        }
        Some(Value::Object(fields)) => {
            let mut fields = fields.clone();
            if let Some(value) = fields.get("maxValuesPerFacet").cloned() {
                if !value.is_null() && value.as_u64().is_none() {
                    return None;
                }
                let wanted = value.as_u64().unwrap_or(0).saturating_mul(10);
                let wanted = wanted.max(node_values(tuning)).min(u64::from(u32::MAX));
                fields.insert("maxValuesPerFacet".into(), wanted.into());
                overlay.insert("maxValuesPerFacet".into(), value);
            }
            nodes["faceting"] = Value::Object(fields);
        }
        Some(_) => return None,
    }
    if let Some(keys) = nodes.shift_remove(foreign::SETTING) {
        overlay.insert(foreign::SETTING.into(), keys);
    }
    Some((Value::Object(nodes), overlay))
}

/// The filterable attributes of nodes. Of several rules that an attribute fits, nodes follow the first:
/// so Miroir's own stand before a client's patterns, which might not let the shard be filtered by, or make
/// a facet of every stamp. Also says how many of them come first.
fn filterable(list: &[Value]) -> (Vec<Value>, Option<usize>) {
    let mut nodes = list.to_vec();
    if !list.iter().any(Value::is_object) {
        nodes.push(SHARD.into());
        return (nodes, None);
    }
    let own = [SHARD.into(), unindexed()];
    let first = own.len();
    nodes.splice(0..0, own);
    (nodes, Some(first))
}

/// The rule by which the order stamp is no facet.
fn unindexed() -> Value {
    json!({
        "attributePatterns": [ORDER],
        "features": {"facetSearch": false, "filter": {"equality": false, "comparison": false}},
    })
}

fn foreign_keys(overlay: &Map<String, Value>) -> Value {
    overlay.get(foreign::SETTING).cloned().unwrap_or_else(|| json!([]))
}

/// The settings a client sees, from a node's answer and the overlay.
pub fn client_settings(node: &Value, overlay: &Map<String, Value>) -> Value {
    let mut out = node.clone();
    if let Some(list) = out.get_mut("filterableAttributes").and_then(Value::as_array_mut) {
        let unindexed = unindexed();
        list.retain(|value| value != SHARD && *value != unindexed);
    }
    if out.get("displayedAttributes").is_some() {
        out["displayedAttributes"] =
            overlay.get("displayedAttributes").cloned().unwrap_or_else(|| json!(["*"]));
    }
    // They show it while its feature is on.
    if let Some(keys) = out.get_mut(foreign::SETTING) {
        *keys = foreign_keys(overlay);
    }
    if out.get("pagination").is_some() {
        out["pagination"]["maxTotalHits"] =
            overlay.get("maxTotalHits").cloned().unwrap_or_else(|| 1000.into());
    }
    if out.get("faceting").is_some() {
        out["faceting"]["maxValuesPerFacet"] =
            overlay.get("maxValuesPerFacet").cloned().unwrap_or_else(|| 100.into());
    }
    node_errors::shown_value(out)
}

impl Control {
    pub(crate) async fn settings_op(
        &self,
        request: &Request,
        op: SettingsOp,
    ) -> Result<Response, Error> {
        if op.effect == Effect::Change {
            self.change_settings(request, op).await
        } else {
            self.show(request, op).await
        }
    }

    async fn show(&self, request: &Request, op: SettingsOp) -> Result<Response, Error> {
        let Some(entry) = self.find(&op.index) else {
            return Err(self.missing(request, &op.index).await);
        };
        let value = match op.setting {
            // The whole object shows them only while their feature is on.
            Some(setting @ ("chat" | foreign::SETTING)) => {
                let value = self.shown(request, &entry, &request.original.path).await?;
                if setting == "chat" { value } else { foreign_keys(&entry.overlay) }
            }
            None => self.shown(request, &entry, "/settings").await?,
            Some(setting) => {
                let mut value = self.shown(request, &entry, "/settings").await?;
                value.get_mut(setting).map(Value::take).unwrap_or_default()
            }
        };
        let mut answer = Response::ok(&value);
        answer.meta.insert(SettingsVersion(entry.settings_version));
        Ok(answer)
    }

    async fn shown(
        &self,
        request: &Request,
        entry: &IndexEntry,
        path: &str,
    ) -> Result<Value, Error> {
        let stale = self.state.staleness.load();
        let topology = self.state.membership.topology();
        let call = Call::get("settings_get", format!("/indexes/{}{path}", entry.physical));
        let mut last = Error::shards_unavailable(ShardSet::full(entry.shards));
        for node in topology.nodes() {
            if !node.is_readable() || stale.misses_index(&entry.physical, &node.id) {
                continue;
            }
            match self.state.nodes.call(&node.id, &call, &request.cx).await {
                Ok(body) => {
                    let value: Value = Call::parse(&node.id, &body)?;
                    return Ok(client_settings(&value, &entry.overlay));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// What a node says of these settings, judged where they have no effect.
    async fn refused_settings(&self, request: &Request) -> Error {
        let error = self.refusal(request, node_errors::nowhere()).await;
        if matches!(error.kind(), ErrorKind::Internal) {
            // It had no complaint after all, and made an index: take it back.
            let call = Call::change(Method::DELETE, "indexes_delete", node_errors::nowhere());
            for node in self.state.nodes.any() {
                if let Err(error) = self.state.nodes.call(&node, &call, &request.cx).await {
                    tracing::warn!(%error, "a scratch index could not be deleted");
                }
            }
        }
        error
    }

    fn submitted(request: &Request, op: &SettingsOp) -> Option<Map<String, Value>> {
        if request.original.method == Method::DELETE {
            let keys =
                op.setting.map_or_else(|| form::settings::NAMES.to_vec(), |setting| vec![setting]);
            return Some(keys.into_iter().map(|key| (key.to_owned(), Value::Null)).collect());
        }
        if !request.original.is_json() {
            return None;
        }
        let value: Value = serde_json::from_slice(&request.original.body).ok()?;
        match op.setting {
            Some(setting) => Some(Map::from_iter([(setting.to_owned(), value)])),
            None => value.as_object().cloned(),
        }
    }

    async fn change_settings(&self, request: &Request, op: SettingsOp) -> Result<Response, Error> {
        let Ok(uid) = miroir_api::IndexUid::new(&op.index) else {
            return Err(self
                .refusal(request, &miroir_pipeline::query::index_path(&op.index))
                .await);
        };
        let Some(submitted) = Self::submitted(request, &op) else {
            return Err(self.refused_settings(request).await);
        };
        let Some((nodes, overlay)) = to_nodes(&submitted, &self.state.options) else {
            return Err(self.refused_settings(request).await);
        };
        if submitted.get(foreign::SETTING).is_some_and(|keys| !keys.is_null()) {
            // Nodes get none, but say what is wrong with them, or that their feature is off.
            let error = self.refused_settings(request).await;
            if !matches!(error.kind(), ErrorKind::Internal) {
                return Err(error);
            }
        }
        if let Some(keys) = submitted.get(foreign::SETTING) {
            let old = self.find(&op.index);
            let old = old.as_ref().and_then(|entry| entry.overlay.get(foreign::SETTING));
            foreign::check(&request.cx.scope, keys, old)?;
        }
        let (listed, mut gate) = self.closed(&uid).await?;
        let makes = listed.is_none();
        let entry = match listed {
            Some(entry) => entry,
            None if request.original.method == Method::DELETE => {
                let details = Some(shown(&submitted));
                return self.missing_index(&uid, TaskKind::SettingsUpdate, details, None).await;
            }
            None => {
                // A refused body must not leave an index behind.
                let probe = self.validate_elsewhere(request, &nodes).await;
                if let Err(error) = probe {
                    return Err(match error.kind() {
                        ErrorKind::Verbatim { .. } => self.refused_settings(request).await,
                        _ => error,
                    });
                }
                if !request.cx.scope.may_create(uid.as_str()) {
                    let details = Some(shown(&submitted));
                    return self.missing_index(&uid, TaskKind::SettingsUpdate, details, None).await;
                }
                let (entry, held) = self.create_on_nodes(&uid, gate, &request.cx).await?;
                gate = held;
                entry
            }
        };
        let call = Call::change(
            Method::PATCH,
            "settings_patch",
            format!("/indexes/{}/settings", entry.physical),
        )
        .json(nodes.to_string());
        let patch = nodes.as_object().cloned().unwrap_or_default();
        let proposal = Proposal { overlay, submitted: shown(&submitted), patch };
        let task = NewTask {
            details: Some(shown(&submitted)),
            protocol: TaskState::Settings(Broadcast::Proposed(Box::new(proposal))).into(),
            ..NewTask::about(&entry, TaskKind::SettingsUpdate, clock::now())
        };
        let plan =
            WritePlan { preflight: true, ..self.plan(&entry, &[call], CatchUp::Index, gate) };
        self.state.broadcasts.begin(&entry.physical);
        progress::phase(&self.state, 1);
        let (leaves, state) = (self.leaves.clone(), Arc::clone(&self.state));
        match dispatch_write(leaves, state, plan, task, request.cx.clone()).await {
            Ok(outcome) => Ok(tasks::accepted_with(&outcome.record, outcome.degraded)),
            Err(error) => {
                self.state.broadcasts.end(&entry.physical);
                if makes {
                    self.take_back(&entry).await;
                }
                match error.kind() {
                    ErrorKind::Verbatim { .. } => Err(self.refused_settings(request).await),
                    _ => Err(error),
                }
            }
        }
    }

    /// Lets a node judge settings in a scratch index. The scratch index is on record before it is
    /// made, so that the repairer takes it away whatever happens.
    async fn validate_elsewhere(&self, request: &Request, nodes: &Value) -> Result<(), Error> {
        let path = format!("{}/settings", node_errors::nowhere());
        let call = Call::change(Method::PATCH, "settings_patch", path).json(nodes.to_string());
        let (state, cx) = (Arc::clone(&self.state), request.cx.clone());
        let job = self.state.tracker.spawn(async move {
            let index = node_errors::nowhere().trim_start_matches("/indexes/");
            // The repairer waits at this gate.
            let gate = state.sequencer.exclusive(index).await;
            let mut answer = Err(Error::no_quorum(ShardSet::full(state.options.shards)));
            for node in state.nodes.any() {
                let row = StaleReplica {
                    node: node.clone(),
                    index: index.to_owned(),
                    shard: None,
                    kind: CatchUp::Deleted,
                    generation: 0,
                    awaits: Vec::new(),
                };
                state.staleness.mark(vec![row]).await?;
                answer = state.nodes.call(&node, &call, &cx).await;
                // One that fails to answer judges nothing.
                if !answer.as_ref().is_err_and(|error| error.retry() == Retry::OtherReplica) {
                    break;
                }
            }
            drop(gate);
            state.signals.repairs.notify_waiters();
            answer.map(|_| ())
        });
        job.await.map_err(Error::internal)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn nodes_keep_what_miroir_needs_and_clients_see_their_own() {
        let tuning = ClusterOptions::default();
        let submitted = object(json!({
            "displayedAttributes": ["a"], "filterableAttributes": ["g"],
            "pagination": {"maxTotalHits": 5}, "faceting": {"maxValuesPerFacet": 300},
        }));
        let (nodes, overlay) = to_nodes(&submitted, &tuning).unwrap();
        assert_eq!(nodes.get("displayedAttributes"), None);
        assert_eq!(nodes["filterableAttributes"], json!(["g", SHARD]));
        assert_eq!(nodes["pagination"]["maxTotalHits"], json!(NODE_MAX_TOTAL_HITS));
        assert_eq!(nodes["faceting"]["maxValuesPerFacet"], json!(3000));
        let mut node = nodes.clone();
        node["displayedAttributes"] = json!(["*"]);
        assert_eq!(client_settings(&node, &overlay), Value::Object(submitted));
    }

    #[test]
    fn patterns_of_clients_come_after_what_miroir_needs() {
        let pattern = json!({"attributePatterns": ["*"], "features": {"facetSearch": true}});
        let submitted = object(json!({"filterableAttributes": ["g", pattern]}));
        let (nodes, overlay) = to_nodes(&submitted, &ClusterOptions::default()).unwrap();
        let list = nodes["filterableAttributes"].as_array().unwrap();
        assert_eq!((&list[0], &list[1]), (&json!(SHARD), &unindexed()));
        assert_eq!(client_settings(&nodes, &overlay), Value::Object(submitted));
    }

    #[test]
    fn resets_restore_defaults_without_losing_the_shard_attribute() {
        let tuning = ClusterOptions::default();
        let submitted = object(json!({
            "displayedAttributes": null, "filterableAttributes": null, "pagination": null,
            "faceting": null,
        }));
        let (nodes, overlay) = to_nodes(&submitted, &tuning).unwrap();
        assert_eq!(nodes["filterableAttributes"], json!([SHARD]));
        assert!(overlay.values().all(Value::is_null));
        let odd = object(json!({"filterableAttributes": "g"}));
        assert!(to_nodes(&odd, &tuning).is_none());
    }
}
