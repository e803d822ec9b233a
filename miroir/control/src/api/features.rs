//! Experimental features: one node judges a change, all nodes get it, the store remembers it.
//!
//! A node that was away during a change, or joins later, is brought up to date by the repair worker
//! (`applied::features`). Features that were never set through Miroir are left as the nodes have them.

use serde_json::{Map, Value};

use crate::api::Control;
use crate::applied::features::{PATH, apply, overlaid};
use miroir_core::routing::ShardSet;
use miroir_pipeline::context::Context;
use miroir_pipeline::effect::Effect;
use miroir_pipeline::error::{Error, ErrorKind};
use miroir_pipeline::node::Call;
use miroir_pipeline::operation::{Request, Response};

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

/// The switches of a submitted body; `null` leaves one as it is.
fn switches(body: &[u8]) -> Vec<(String, bool)> {
    let object = serde_json::from_slice::<Map<String, Value>>(body).unwrap_or_default();
    object.into_iter().filter_map(|(name, value)| Some((name, value.as_bool()?))).collect()
}

impl Control {
    fn none(&self) -> Error {
        Error::shards_unavailable(ShardSet::full(self.state.options.shards))
    }

    async fn node_features(&self, cx: &Context) -> Result<Map<String, Value>, Error> {
        let call = Call::get("features_get", PATH);
        let (node, body) = self.state.nodes.call_any(&call, cx).await?;
        Call::parse(&node, &body)
    }

    pub(crate) async fn features(
        &self,
        request: &Request,
        effect: Effect,
    ) -> Result<Response, Error> {
        if effect == Effect::Read {
            let node = self.node_features(&request.cx).await?;
            let set = self.state.stores.features.list().await?;
            return Ok(Response::ok(&overlaid(node, &set)));
        }
        let mut applied = self.state.applied.features.lock().await;
        let topology = self.state.membership.topology();
        let nodes = topology.nodes().filter(|node| node.is_writable());
        let mut last = self.none();
        for judge in nodes.map(|node| &node.id) {
            // The client's own words, so that a node can say what is wrong with them.
            let answer =
                self.state.nodes.call(judge, &request.original.to_node_call(""), &request.cx).await;
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
            self.state.stores.features.set(submitted).await?;
            let set = self.state.stores.features.list().await?;
            drop(applied);
            apply(&self.state).await?;
            // Whoever could not be reached is told later.
            self.state.signals.repairs.notify_waiters();
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
