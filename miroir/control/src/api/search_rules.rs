//! `/dynamic-search-rules`: documents pinned to places of certain searches.
//!
//! Miroir keeps the rules, every node has all of them. A node pins what it holds and says so in the
//! score details of the hit; the merge puts pinned hits of all nodes in their places. Rules name
//! indexes as clients do and nodes as Miroir made them: after a swap or a change of name the nodes
//! get them anew, as they do when they were away (`applied::search_rules`).

use futures_util::future::join_all;
use http::Method;
use miroir_api::IndexUid;
use miroir_api::meili::TaskKind;
use serde_json::{Map, Value, json};

use crate::api::{Control, tasks};
use crate::applied::search_rules::{FEATURE, PATH, Rules, for_nodes, patch, print, to_send};
use miroir_core::routing::ShardSet;
use miroir_pipeline::context::Context;
use miroir_pipeline::error::Error;
use miroir_pipeline::node::{Call, TaskRef};
use miroir_pipeline::operation::{Request, Response, RuleOp};
use miroir_pipeline::query::{RawObject, query_pairs};
use miroir_store::{NewTask, NodeTask, clock};

/// What tasks about rules call their index.
const INDEX: &str = ".meili_dsr";
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

impl Control {
    pub(crate) async fn rule_op(&self, request: &Request, op: RuleOp) -> Result<Response, Error> {
        let (node, on) = self.feature_at(request, FEATURE).await?;
        if !on {
            return Err(self.off_at(request, &node).await);
        }
        if let RuleOp::Get(uid) | RuleOp::Update(uid) | RuleOp::Delete(uid) = &op
            && IndexUid::new(uid).is_err()
        {
            return Err(self.refusal(request, "").await);
        }
        match op {
            RuleOp::List => self.list_rules(request).await,
            RuleOp::Get(uid) => {
                let known = self.state.stores.rules.list().await?;
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
            self.state.nodes.call_any(&request.original.to_node_call(""), &request.cx).await?;
        let mut list: Value = Call::parse(&node, &body)?;
        let known: Rules = self.state.stores.rules.list().await?.into_iter().collect();
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
        if body.is_none() {
            return Err(self.refusal(request, "").await);
        }
        self.judge(request).await?;
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
        self.state.tracker.spawn(work).await.map_err(Error::internal)?
    }

    async fn change_rules_now(
        &self,
        cx: Context,
        kind: TaskKind,
        change: Option<(String, Option<Map<String, Value>>)>,
        metadata: Option<String>,
    ) -> Result<Response, Error> {
        let state = &self.state;
        let mut applied = state.applied.rules.lock().await;
        let before: Rules = state.stores.rules.list().await?.into_iter().collect();
        let mut after = before.clone();
        let (call, details) = match &change {
            Some((uid, Some(update))) => {
                let now = clock::rfc3339(clock::now());
                let rule = changed(before.get(uid), uid, update, &now);
                let call = patch(uid, &for_nodes(state, &rule));
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
        let (old, new) = (print(&to_send(state, &before)), print(&to_send(state, &after)));
        let topology = state.membership.topology();
        let nodes = topology.nodes().filter(|node| node.is_writable());
        let sent = join_all(nodes.map(|node| {
            let (call, cx) = (&call, &cx);
            async move {
                let body = state.nodes.call(&node.id, call, cx).await?;
                Ok((node.id.clone(), Call::parse::<TaskRef>(&node.id, &body)?.task_uid))
            }
        }))
        .await;
        let mut took = Vec::new();
        let mut last = Error::shards_unavailable(ShardSet::full(state.options.shards));
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
                Some(rule) => state.stores.rules.put(uid, rule).await?,
                None => state.stores.rules.delete(uid).await?,
            },
            None => state.stores.rules.clear().await?,
        }
        let task = NewTask {
            index: Some(INDEX.to_owned()),
            details: details.as_object().cloned(),
            nodes: took
                .into_iter()
                .map(|(node, uid)| NodeTask {
                    life: self.state.lives.of(&node),
                    ..NodeTask::new(node, Some(uid))
                })
                .collect(),
            custom_metadata: metadata,
            ..NewTask::new(kind, clock::now())
        };
        let record = state.stores.tasks.insert(task).await?;
        drop(applied);
        state.signals.tasks.notify_one();
        state.signals.repairs.notify_waiters();
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
