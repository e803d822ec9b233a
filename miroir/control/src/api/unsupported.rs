//! Routes that no cluster serves, or serves in part, refused on purpose.
//!
//! While the experimental feature of such a route is off, a node says so in its own words. Once it is
//! on, Miroir says why it does not serve the route.

use http::StatusCode;
use miroir_api::NodeId;
use miroir_api::meili::{ApiError, TaskKind};
use serde_json::{Map, Value, json};

use crate::api::Control;
use miroir_pipeline::error::Error;
use miroir_pipeline::http::routes::Gate;
use miroir_pipeline::node::Call;
use miroir_pipeline::operation::{Request, Response, is_about_probe, replay};
use miroir_pipeline::query::RawObject;

/// Whether a request to render names an index, whose documents no single node has.
fn names_an_index(body: &Value) -> bool {
    ["template", "input"].iter().any(|part| !body[part]["indexUid"].is_null())
}

impl Control {
    /// Whether the nodes have an experimental feature switched on.
    pub(crate) async fn has_feature(&self, request: &Request, name: &str) -> Result<bool, Error> {
        Ok(self.feature_at(request, name).await?.1)
    }

    /// A node, and whether it has an experimental feature switched on.
    pub(crate) async fn feature_at(
        &self,
        request: &Request,
        name: &str,
    ) -> Result<(NodeId, bool), Error> {
        let call = Call::get("features_get", "/experimental-features");
        let (node, body) = self.state.nodes.call_any(&call, &request.cx).await?;
        let features: Value = Call::parse(&node, &body)?;
        Ok((node, features.get(name).and_then(Value::as_bool) == Some(true)))
    }

    pub(crate) async fn gated(&self, request: &Request, gate: &Gate) -> Error {
        match self.feature_at(request, gate.feature).await {
            Ok((_, true)) => {
                Error::api("miroir_not_supported", format!("In a cluster {}.", gate.why))
            }
            Ok((node, false)) => self.off_at(request, &node).await,
            Err(error) => error,
        }
    }

    /// What a node says of a request whose feature that very node has off: it carries out nothing of
    /// it.
    pub(crate) async fn off_at(&self, request: &Request, node: &NodeId) -> Error {
        let call = request.original.made_anew().to_node_call("");
        match self.state.nodes.call(node, &call, &request.cx).await {
            Ok(_) => Error::internal("a node serves what it has off"),
            Err(error) => error,
        }
    }

    /// A template and a document that come with the request are rendered by any node, which also
    /// says what is wrong with them. It gets what was judged here, and nothing else.
    pub(crate) async fn render(&self, request: &Request, gate: &Gate) -> Result<Response, Error> {
        let body = serde_json::from_slice::<Value>(&request.original.body).ok();
        let Some(body) = body.filter(|_| request.original.is_json()) else {
            return Err(replay(&self.state.nodes, request, &request.original, "").await);
        };
        if names_an_index(&body) {
            return Err(self.gated(request, gate).await);
        }
        let call = request.original.made_anew().to_node_call("");
        let (_, body) = self.state.nodes.call_any(&call, &request.cx).await?;
        Ok(Response { status: StatusCode::OK, body, meta: Default::default() })
    }

    /// Has a node say what is wrong with a body, without any effect of one it would take.
    pub(crate) async fn judge(&self, request: &Request) -> Result<(), Error> {
        let Some(inert) = request.original.inert() else { return Ok(()) };
        let error = replay(&self.state.nodes, request, &inert, "").await;
        if is_about_probe(&error) { Ok(()) } else { Err(error) }
    }

    /// A body that a node would take becomes a task that fails and says why. Of any other body a node
    /// says what is wrong.
    pub(crate) async fn export(&self, request: &Request) -> Result<Response, Error> {
        let body = RawObject::parse(&request.original.body).filter(|_| request.original.is_json());
        let Some(body) = body else { return Err(self.refusal(request, "").await) };
        self.judge(request).await?;
        // A node takes it without one, and fails the task.
        let url = body.read::<String>("url").ok().flatten().unwrap_or_default();
        let mut details = Map::new();
        details.insert("url".into(), url.into());
        if let Ok(Some(key)) = body.read::<String>("apiKey") {
            details.insert("apiKey".into(), crate::secrets::masked(&key, 0).into());
        }
        if let Ok(Some(size)) = body.read::<String>("payloadSize") {
            details.insert("payloadSize".into(), size.into());
        }
        let everything = json!({"*": {"filter": null, "overrideSettings": false}});
        let indexes = body.read::<Value>("indexes").ok().flatten().unwrap_or(everything);
        details.insert("indexes".into(), indexes);
        let error = ApiError::new(
            "miroir_not_supported",
            "A cluster exports nothing: its nodes would send every replica, with fields of Miroir's \
             own. Read the documents with `GET /indexes/{uid}/documents` and add them to the other \
             instance.",
        );
        let done = self.decided(None, TaskKind::Export, Some(details), None, Err(error)).await?;
        Ok(Response { status: StatusCode::OK, ..done })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_with_the_request_is_rendered() {
        let inline = json!({
            "template": {"kind": "inlineDocumentTemplate", "inline": "{{doc.indexUid}}"},
            "input": {"kind": "inlineDocument", "inline": {"indexUid": "a"}},
        });
        assert!(!names_an_index(&inline));
        for part in ["template", "input"] {
            let mut body = inline.clone();
            body[part]["indexUid"] = "a".into();
            assert!(names_an_index(&body));
        }
    }
}
