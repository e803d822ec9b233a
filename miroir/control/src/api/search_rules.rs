//! `/dynamic-search-rules`: documents pinned to places of certain searches.
//!
//! Miroir keeps the rules, every node has all of them. A node pins what it holds and says so in the
//! score details of the hit; the merge puts pinned hits of all nodes in their places. Rules name
//! indexes as clients do and nodes as Miroir made them: after a swap or a change of name the nodes
//! get them anew, as they do when they were away ([`apply`]).

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use miroir_api::meili::TaskKind;
use miroir_api::{IndexUid, NodeId};
use serde_json::{Map, Value, json};

use crate::api::{Control, tasks};
use miroir_core::routing::ShardSet;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::{Error, ErrorKind};
use miroir_pipeline::node::{Call, TaskRef};
use miroir_pipeline::operation::{Request, Response, RuleOp};
use miroir_pipeline::query::{RawObject, query_pairs};
use miroir_store::{NewTask, NodeTask, clock};

const FEATURE: &str = "dynamicSearchRules";
const PATH: &str = "/dynamic-search-rules";
/// What tasks about rules call their index.
const INDEX: &str = ".meili_dsr";
/// More rules than a node is asked to list.
const ALL: usize = 1_000_000;

/// Rules by uid, as clients see them.
type Rules = BTreeMap<String, Value>;

/// Takes away members that are `null`, as nodes do not show them.
fn strip(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, member| !member.is_null());
    }
}

/// A submitted body as the task shows it.
fn tidy(mut update: Map<String, Value>) -> Map<String, Value> {
    if let Some(conditions) = update.get_mut("conditions") {
        strip(conditions);
        for part in conditions.as_object_mut().into_iter().flat_map(Map::values_mut) {
            strip(part);
        }
        if let Some(filter) = conditions.get_mut("filter").and_then(Value::as_object_mut) {
            filter.entry("values").or_insert_with(|| json!({}));
        }
    }
    let actions = update.get_mut("actions").and_then(Value::as_array_mut);
    for action in actions.into_iter().flatten() {
        if let Some(selector) = action.get_mut("selector") {
            strip(selector);
        }
    }
    update
}

/// A rule after a change; members that are `null` go back to their defaults.
fn changed(old: Option<&Value>, uid: &str, update: &Map<String, Value>, now: &str) -> Value {
    let mut rule = Map::new();
    rule.insert("uid".into(), uid.into());
    rule.insert("lastUpdatedAt".into(), now.into());
    let defaults = [
        ("description", Value::Null),
        ("precedence", Value::Null),
        ("active", true.into()),
        ("conditions", json!({})),
        ("actions", json!([])),
    ];
    for (name, default) in defaults {
        let value = match update.get(name) {
            Some(Value::Null) => default,
            Some(value) => value.clone(),
            None => old.and_then(|old| old.get(name)).cloned().unwrap_or(default),
        };
        rule.insert(name.into(), value);
    }
    let mut rule = Value::Object(rule);
    strip(&mut rule);
    rule
}

/// A rule as nodes get it: every member, and indexes by the names they have there.
fn for_nodes(shared: &ClusterState, rule: &Value) -> Value {
    let mut out = json!({
        "description": rule.get("description"), "precedence": rule.get("precedence"),
        "active": rule["active"], "conditions": rule["conditions"], "actions": rule["actions"],
    });
    for action in out["actions"].as_array_mut().into_iter().flatten() {
        let Some(uid) = action.pointer_mut("/selector/indexUid") else { continue };
        let name = uid.as_str().and_then(|name| IndexUid::new(name).ok());
        if let Some(entry) = name.and_then(|name| shared.catalog.get(&name)) {
            *uid = entry.physical.as_str().into();
        }
    }
    out
}

fn print(rules: &BTreeMap<&str, Value>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (uid, rule) in rules {
        (uid, rule.to_string()).hash(&mut hasher);
    }
    hasher.finish()
}

fn to_send<'a>(shared: &ClusterState, rules: &'a Rules) -> BTreeMap<&'a str, Value> {
    rules.iter().map(|(uid, rule)| (uid.as_str(), for_nodes(shared, rule))).collect()
}

fn patch(uid: &str, rule: &Value) -> Call {
    Call::change(Method::PATCH, "rules_patch", format!("{PATH}/{uid}")).json(rule.to_string())
}

/// Brings nodes that may have other rules up to date.
///
/// # Errors
/// When the store fails. Nodes that fail are tried again next time.
pub async fn apply(shared: &Arc<ClusterState>) -> Result<(), Error> {
    let mut applied = shared.applied.rules.lock().await;
    let topology = shared.membership.topology();
    let well: BTreeSet<NodeId> = topology
        .nodes()
        .filter(|node| shared.nodes.is_available(node))
        .map(|node| node.id.clone())
        .collect();
    // Whoever went away may come back with others.
    applied.retain(|node, _| well.contains(node));
    let known: Rules = shared.stores.rules.list().await?.into_iter().collect();
    if !known.is_empty() {
        let features = shared.stores.features.list().await?;
        // Nodes take no rules while they are switched off.
        if !features.iter().any(|(name, on)| name == FEATURE && *on) {
            return Ok(());
        }
    }
    let wanted = to_send(shared, &known);
    let print = print(&wanted);
    let lacking: Vec<&NodeId> =
        well.iter().filter(|node| applied.get(*node) != Some(&print)).collect();
    let cx = Context::internal(Origin::Settings, shared.options.scatter.node_timeout);
    let done = join_all(lacking.into_iter().map(|node| {
        let (wanted, cx) = (&wanted, &cx);
        async move {
            match bring_up(shared, node, wanted, cx).await {
                Ok(()) => Some(node.clone()),
                // Without the feature a node has no rules that count.
                Err(error) if matches!(error.kind(), ErrorKind::Verbatim { .. }) => {
                    wanted.is_empty().then(|| node.clone())
                }
                Err(error) => {
                    tracing::warn!(%node, %error, "search rules could not be set");
                    None
                }
            }
        }
    }))
    .await;
    applied.extend(done.into_iter().flatten().map(|node| (node, print)));
    Ok(())
}

/// Sends a node the rules that it lacks or has in another form, and deletes those that are gone.
async fn bring_up(
    shared: &ClusterState,
    node: &NodeId,
    wanted: &BTreeMap<&str, Value>,
    cx: &Context,
) -> Result<(), Error> {
    let list = Call::read(Method::POST, "rules_list", PATH).json(json!({"limit": ALL}).to_string());
    let body: Value = Call::parse(node, &shared.nodes.call(node, &list, cx).await?)?;
    let rules = body["results"].as_array().cloned().unwrap_or_default();
    let there: BTreeMap<&str, &Value> =
        rules.iter().filter_map(|rule| Some((rule["uid"].as_str()?, rule))).collect();
    for uid in there.keys().filter(|uid| !wanted.contains_key(*uid)) {
        let call = Call::change(Method::DELETE, "rules_delete", format!("{PATH}/{uid}"));
        shared.nodes.call(node, &call, cx).await?;
    }
    for (uid, rule) in wanted {
        let same = there.get(uid).is_some_and(|there| {
            rule.as_object()
                .into_iter()
                .flatten()
                .all(|(name, value)| there.get(name.as_str()).unwrap_or(&Value::Null) == value)
        });
        if !same {
            shared.nodes.call(node, &patch(uid, rule), cx).await?;
        }
    }
    Ok(())
}

impl Control {
    pub(crate) async fn rule_op(&self, request: &Request, op: RuleOp) -> Result<Response, Error> {
        if !self.has_feature(request, FEATURE).await? {
            return Err(self.refusal(request, "").await);
        }
        if let RuleOp::Get(uid) | RuleOp::Update(uid) | RuleOp::Delete(uid) = &op
            && IndexUid::new(uid).is_err()
        {
            return Err(self.refusal(request, "").await);
        }
        match op {
            RuleOp::List => self.list_rules(request).await,
            RuleOp::Get(uid) => {
                let known = self.shared.stores.rules.list().await?;
                let rule = known.into_iter().find(|(known, _)| *known == uid);
                let (_, rule) = rule.ok_or_else(|| {
                    let text = format!("Dynamic search rule `{uid}` not found.");
                    Error::api("dynamic_search_rule_not_found", text)
                })?;
                Ok(Response::ok(&rule))
            }
            RuleOp::Update(uid) => {
                let update = self.update_of(request).await?;
                self.change_rules(request, TaskKind::DsrUpdate, Some((uid, Some(update)))).await
            }
            RuleOp::Delete(uid) => {
                self.change_rules(request, TaskKind::DsrUpdate, Some((uid, None))).await
            }
            RuleOp::Clear => self.change_rules(request, TaskKind::DsrClear, None).await,
        }
    }

    /// What any node finds, in the words of the rules as clients know them.
    async fn list_rules(&self, request: &Request) -> Result<Response, Error> {
        let (node, body) =
            self.shared.nodes.call_any(&request.original.replay(""), &request.cx).await?;
        let mut list: Value = Call::parse(&node, &body)?;
        let known: Rules = self.shared.stores.rules.list().await?.into_iter().collect();
        for rule in list["results"].as_array_mut().into_iter().flatten() {
            if let Some(own) = rule["uid"].as_str().and_then(|uid| known.get(uid)) {
                *rule = own.clone();
            }
        }
        Ok(Response::ok(&list))
    }

    /// A body that a node takes; what is wrong with it is in a node's words.
    async fn update_of(&self, request: &Request) -> Result<Map<String, Value>, Error> {
        let body = RawObject::parse(&request.original.body).filter(|_| request.original.is_json());
        let Some(body) = body else { return Err(self.refusal(request, "").await) };
        self.judge(request, body).await?;
        serde_json::from_slice(&request.original.body).map(tidy).map_err(Error::internal)
    }

    async fn change_rules(
        &self,
        request: &Request,
        kind: TaskKind,
        change: Option<(String, Option<Map<String, Value>>)>,
    ) -> Result<Response, Error> {
        let mut metadata = None;
        for (name, value) in query_pairs(request.original.query.as_deref().unwrap_or_default()) {
            if name != "customMetadata" {
                return Err(self.refusal(request, "").await);
            }
            metadata = Some(value);
        }
        // Goes on without its client: nodes must not have what no task speaks of.
        let (this, cx) = (self.clone(), request.cx.clone());
        let work = async move { this.change_rules_now(cx, kind, change, metadata).await };
        self.shared.tracker.spawn(work).await.map_err(Error::internal)?
    }

    async fn change_rules_now(
        &self,
        cx: Context,
        kind: TaskKind,
        change: Option<(String, Option<Map<String, Value>>)>,
        metadata: Option<String>,
    ) -> Result<Response, Error> {
        let shared = &self.shared;
        let mut applied = shared.applied.rules.lock().await;
        let before: Rules = shared.stores.rules.list().await?.into_iter().collect();
        let mut after = before.clone();
        let (call, details) = match &change {
            Some((uid, Some(update))) => {
                let now = clock::rfc3339(clock::now());
                let rule = changed(before.get(uid), uid, update, &now);
                let call = patch(uid, &for_nodes(shared, &rule));
                after.insert(uid.clone(), rule);
                (call, json!({"rule": update, "updatedRules": 1}))
            }
            Some((uid, None)) => {
                after.remove(uid);
                let path = format!("{PATH}/{uid}");
                (Call::change(Method::DELETE, "rules_delete", path), json!({"updatedRules": 1}))
            }
            None => {
                after.clear();
                let details = json!({"deletedDocuments": null});
                (Call::change(Method::DELETE, "rules_clear", PATH), details)
            }
        };
        let (old, new) = (print(&to_send(shared, &before)), print(&to_send(shared, &after)));
        let topology = shared.membership.topology();
        let nodes = topology.nodes().filter(|node| node.status.is_writable());
        let sent = join_all(nodes.map(|node| {
            let (call, cx) = (&call, &cx);
            async move {
                let body = shared.nodes.call(&node.id, call, cx).await?;
                Ok((node.id.clone(), Call::parse::<TaskRef>(&node.id, &body)?.task_uid))
            }
        }))
        .await;
        let mut took = Vec::new();
        let mut last = Error::shards_unavailable(ShardSet::full(shared.options.shards));
        for answer in sent {
            match answer {
                Ok(node) => took.push(node),
                Err(error) => last = error,
            }
        }
        // Whoever has another state than the one before, or may have, is brought up to date.
        applied.retain(|node, print| *print == old && took.iter().any(|(took, _)| took == node));
        applied.values_mut().for_each(|print| *print = new);
        if took.is_empty() {
            return Err(last);
        }
        match change {
            Some((uid, _)) => match after.remove(&uid) {
                Some(rule) => shared.stores.rules.put(uid, rule).await?,
                None => shared.stores.rules.delete(uid).await?,
            },
            None => shared.stores.rules.clear().await?,
        }
        let task = NewTask {
            index: Some(INDEX.to_owned()),
            details: details.as_object().cloned(),
            nodes: took.into_iter().map(|(node, uid)| NodeTask::new(node, Some(uid))).collect(),
            custom_metadata: metadata,
            ..NewTask::new(kind, clock::now())
        };
        let record = shared.stores.tasks.insert(task).await?;
        drop(applied);
        shared.signals.tasks.notify_one();
        shared.signals.repairs.notify_waiters();
        Ok(tasks::accepted(&record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let first = object(json!({"description": "a", "precedence": 3, "actions": [1]}));
        let rule = changed(None, "r", &first, "now");
        let expected = json!({
            "uid": "r", "lastUpdatedAt": "now", "description": "a", "precedence": 3,
            "active": true, "conditions": {}, "actions": [1],
        });
        assert_eq!(rule, expected);
        let second = object(json!({"description": null, "active": false, "conditions": {"a": {}}}));
        let rule = changed(Some(&rule), "r", &second, "later");
        let expected = json!({
            "uid": "r", "lastUpdatedAt": "later", "precedence": 3, "active": false,
            "conditions": {"a": {}}, "actions": [1],
        });
        assert_eq!(rule, expected);
    }

    #[test]
    fn what_is_null_is_not_shown() {
        let update = tidy(object(json!({
            "description": null,
            "conditions": {"query": {"words": "a", "isEmpty": null}, "time": null, "filter": {}},
            "actions": [{"selector": {"indexUid": null, "id": "1"}, "action": {}}],
        })));
        let expected = json!({
            "description": null,
            "conditions": {"query": {"words": "a"}, "filter": {"values": {}}},
            "actions": [{"selector": {"id": "1"}, "action": {}}],
        });
        assert_eq!(Value::Object(update), expected);
    }
}
