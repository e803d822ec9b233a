//! Dynamic search rules on nodes.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use miroir_api::{IndexUid, NodeId};
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::error::{Error, ErrorKind};
use miroir_pipeline::node::Call;
use serde_json::{Value, json};

pub(crate) const FEATURE: &str = "dynamicSearchRules";

pub(crate) const PATH: &str = "/dynamic-search-rules";

/// More rules than a node is asked to list.
const ALL: usize = 1_000_000;

/// Rules by uid, as clients see them.
pub(crate) type Rules = BTreeMap<String, Value>;

/// A rule as nodes get it: every member, and indexes by the names they have there.
pub(crate) fn for_nodes(state: &ClusterState, rule: &Value) -> Value {
    let mut out = json!({
        "description": rule.get("description"), "precedence": rule.get("precedence"),
        "active": rule["active"], "conditions": rule["conditions"], "actions": rule["actions"],
    });
    for action in out["actions"].as_array_mut().into_iter().flatten() {
        let Some(uid) = action.pointer_mut("/selector/indexUid") else { continue };
        let name = uid.as_str().and_then(|name| IndexUid::new(name).ok());
        if let Some(entry) = name.and_then(|name| state.catalog.get(&name)) {
            *uid = entry.physical.as_str().into();
        }
    }
    out
}

pub(crate) fn print(rules: &BTreeMap<&str, Value>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (uid, rule) in rules {
        (uid, rule.to_string()).hash(&mut hasher);
    }
    hasher.finish()
}

pub(crate) fn to_send<'a>(state: &ClusterState, rules: &'a Rules) -> BTreeMap<&'a str, Value> {
    rules.iter().map(|(uid, rule)| (uid.as_str(), for_nodes(state, rule))).collect()
}

pub(crate) fn patch(uid: &str, rule: &Value) -> Call {
    Call::change(Method::PATCH, "rules_patch", format!("{PATH}/{uid}")).json(rule.to_string())
}

/// Brings nodes that may have other rules up to date.
///
/// # Errors
/// When the store fails. Nodes that fail are tried again next time.
pub(crate) async fn apply(state: &Arc<ClusterState>) -> Result<(), Error> {
    let mut applied = state.applied.rules.lock().await;
    let topology = state.membership.topology();
    let well: BTreeSet<NodeId> = topology
        .nodes()
        .filter(|node| state.nodes.is_available(node))
        .map(|node| node.id.clone())
        .collect();
    // Whoever went away may come back with others.
    applied.retain(|node, _| well.contains(node));
    let known: Rules = state.stores.rules.list().await?.into_iter().collect();
    if !known.is_empty() {
        let features = state.stores.features.list().await?;
        // Nodes take no rules while they are switched off.
        if !features.iter().any(|(name, on)| name == FEATURE && *on) {
            return Ok(());
        }
    }
    let wanted = to_send(state, &known);
    let print = print(&wanted);
    let lacking: Vec<&NodeId> =
        well.iter().filter(|node| applied.get(*node) != Some(&print)).collect();
    let cx = Context::internal(Origin::Settings, state.options.scatter.call_timeout());
    let done = join_all(lacking.into_iter().map(|node| {
        let (wanted, cx) = (&wanted, &cx);
        async move {
            match bring_up(state, node, wanted, cx).await {
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
    state: &ClusterState,
    node: &NodeId,
    wanted: &BTreeMap<&str, Value>,
    cx: &Context,
) -> Result<(), Error> {
    let list = Call::read(Method::POST, "rules_list", PATH).json(json!({"limit": ALL}).to_string());
    let body: Value = Call::parse(node, &state.nodes.call(node, &list, cx).await?)?;
    let rules = body["results"].as_array().cloned().unwrap_or_default();
    let there: BTreeMap<&str, &Value> =
        rules.iter().filter_map(|rule| Some((rule["uid"].as_str()?, rule))).collect();
    for uid in there.keys().filter(|uid| !wanted.contains_key(*uid)) {
        let call = Call::change(Method::DELETE, "rules_delete", format!("{PATH}/{uid}"));
        state.nodes.call(node, &call, cx).await?;
    }
    for (uid, rule) in wanted {
        let same = there.get(uid).is_some_and(|there| {
            rule.as_object()
                .into_iter()
                .flatten()
                .all(|(name, value)| there.get(name.as_str()).unwrap_or(&Value::Null) == value)
        });
        if !same {
            state.nodes.call(node, &patch(uid, rule), cx).await?;
        }
    }
    Ok(())
}
