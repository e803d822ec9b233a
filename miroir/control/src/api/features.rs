//! Experimental features: one node judges a change, all nodes get it, the store remembers it.
//!
//! A node that was away during a change, or joins later, is brought up to date by the repair worker
//! ([`apply`]). Features that were never set through Miroir are left as the nodes have them.

use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use miroir_api::NodeId;
use serde_json::{Map, Value};

use crate::api::Control;
use miroir_core::routing::ShardSet;
use miroir_pipeline::cluster::ClusterState;
use miroir_pipeline::context::{Context, Origin};
use miroir_pipeline::effect::Effect;
use miroir_pipeline::error::{Error, ErrorKind};
use miroir_pipeline::node::Call;
use miroir_pipeline::operation::{Request, Response};

const PATH: &str = "/experimental-features";

/// Routes that exist only while a feature is on: first segments of the path, feature.
const GATES: &[(&str, &str)] = &[
    ("/chats", "chatCompletions"),
    ("/logs", "logsRoute"),
    ("/metrics", "metrics"),
    ("/network", "network"),
    ("/render-template", "renderRoute"),
    ("/tasks/compact", "taskQueueCompactionRoute"),
];

/// The feature a route needs, if it needs one.
fn gate(path: &str) -> Option<&'static str> {
    if path.starts_with("/tasks/") && path.ends_with("/documents") {
        return Some("getTaskDocumentsRoute");
    }
    let fits = |prefix: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    GATES.iter().find(|(prefix, _)| fits(prefix)).map(|(_, feature)| *feature)
}

/// A node's view with what clients set through Miroir on top.
fn overlaid(mut node: Map<String, Value>, set: &[(String, bool)]) -> Map<String, Value> {
    for (name, on) in set {
        node.insert(name.clone(), (*on).into());
    }
    node
}

fn patch(set: &[(String, bool)]) -> Call {
    let body = overlaid(Map::new(), set);
    Call::change(Method::PATCH, "features_patch", PATH).json(Value::Object(body).to_string())
}

/// The switches of a submitted body; `null` leaves one as it is.
fn switches(body: &[u8]) -> Vec<(String, bool)> {
    let object = serde_json::from_slice::<Map<String, Value>>(body).unwrap_or_default();
    object.into_iter().filter_map(|(name, value)| Some((name, value.as_bool()?))).collect()
}

/// Brings nodes that may lack what clients set up to date.
///
/// # Errors
/// When the store fails. Nodes that fail are tried again next time.
pub async fn apply(shared: &Arc<ClusterState>) -> Result<(), Error> {
    let mut applied = shared.applied.features.lock().await;
    let topology = shared.membership.topology();
    let well: Vec<NodeId> = topology
        .nodes()
        .filter(|node| shared.nodes.is_available(node))
        .map(|node| node.id.clone())
        .collect();
    // Whoever went away may come back without them.
    applied.retain(|node| well.contains(node));
    let lacking: Vec<&NodeId> = well.iter().filter(|node| !applied.contains(*node)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let set = shared.stores.features.list().await?;
    let cx = Context::internal(Origin::Settings, shared.options.scatter.node_timeout);
    let call = patch(&set);
    let done = join_all(lacking.into_iter().map(|node| {
        let (call, cx, set) = (&call, &cx, &set);
        async move {
            if set.is_empty() {
                return Some(node.clone());
            }
            match shared.nodes.call(node, call, cx).await {
                Ok(_) => Some(node.clone()),
                Err(error) => {
                    tracing::warn!(%node, %error, "experimental features could not be set");
                    None
                }
            }
        }
    }))
    .await;
    applied.extend(done.into_iter().flatten());
    Ok(())
}

impl Control {
    fn none(&self) -> Error {
        Error::shards_unavailable(ShardSet::full(self.shared.options.shards))
    }

    async fn node_features(&self, cx: &Context) -> Result<Map<String, Value>, Error> {
        let call = Call::get("features_get", PATH);
        let (node, body) = self.shared.nodes.call_any(&call, cx).await?;
        Call::parse(&node, &body)
    }

    pub(crate) async fn features(
        &self,
        request: &Request,
        effect: Effect,
    ) -> Result<Response, Error> {
        if effect == Effect::Read {
            let node = self.node_features(&request.cx).await?;
            let set = self.shared.stores.features.list().await?;
            return Ok(Response::ok(&overlaid(node, &set)));
        }
        let mut applied = self.shared.applied.features.lock().await;
        let topology = self.shared.membership.topology();
        let nodes = topology.nodes().filter(|node| node.status.is_writable());
        let mut last = self.none();
        for judge in nodes.map(|node| &node.id) {
            // The client's own words, so that a node can say what is wrong with them.
            let answer =
                self.shared.nodes.call(judge, &request.original.replay(""), &request.cx).await;
            let view: Map<String, Value> = match answer {
                Ok(body) => Call::parse(judge, &body)?,
                Err(error) if matches!(error.kind(), ErrorKind::Verbatim { .. }) => {
                    return Err(error);
                }
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let submitted = switches(&request.original.body);
            applied.clear();
            self.shared.stores.features.set(submitted).await?;
            let set = self.shared.stores.features.list().await?;
            drop(applied);
            apply(&self.shared).await?;
            // Whoever could not be reached is told later.
            self.shared.signals.repairs.notify_waiters();
            return Ok(Response::ok(&overlaid(view, &set)));
        }
        Err(last)
    }

    /// A route Miroir does not serve: what a node says while the feature it needs is off, and
    /// otherwise why not.
    pub(crate) async fn refused(&self, request: &Request, what: &str) -> Error {
        if let Some(feature) = gate(&request.original.path) {
            match self.node_features(&request.cx).await {
                Ok(node) if node.get(feature) != Some(&Value::Bool(true)) => {
                    let error = self.refusal(request, "").await;
                    if matches!(error.kind(), ErrorKind::Verbatim { .. }) {
                        return error;
                    }
                }
                Ok(_) => {}
                Err(error) => return error,
            }
        }
        Error::api("miroir_not_supported", format!("Miroir does not serve {what}."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_know_their_feature() {
        for (path, feature) in [
            ("/metrics", Some("metrics")),
            ("/logs/stream", Some("logsRoute")),
            ("/chats/a/chat/completions", Some("chatCompletions")),
            ("/tasks/7/documents", Some("getTaskDocumentsRoute")),
            ("/tasks/compact", Some("taskQueueCompactionRoute")),
            ("/tasks/7", None),
            ("/networks", None),
        ] {
            assert_eq!(gate(path), feature, "{path}");
        }
    }

    #[test]
    fn null_and_nonsense_switch_nothing() {
        assert_eq!(
            switches(br#"{"a": true, "b": null, "c": false}"#),
            [("a".to_owned(), true), ("c".to_owned(), false)]
        );
        assert_eq!(switches(b"[]"), []);
    }

    #[test]
    fn what_was_set_wins_over_what_a_node_says() {
        let node = Map::from_iter([("a".to_owned(), false.into()), ("b".to_owned(), false.into())]);
        let shown = overlaid(node, &[("a".to_owned(), true)]);
        assert_eq!(Value::Object(shown), serde_json::json!({"a": true, "b": false}));
    }
}
