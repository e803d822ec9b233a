//! Asking a node for its own words about a request.
//!
//! What Miroir cannot read a node may be able to, and would carry it out under the nodes' key, whatever
//! the caller's key allows. So a request that changes something is asked with a member that no route
//! knows. Of one that a node would take but for that, the request itself is asked only where something
//! that the route needs is missing; anything else is an incident, and is not asked.

use serde_json::Value;

use super::{IndexOp, Operation, Request, SystemOp, WebhookOp};
use crate::cluster::Nodes;
use crate::error::Error;
use crate::node_errors::{self, placeholder};
use crate::query::{ClientRequest, PROBE};

/// What a node says of the request as it came, under another prefix. An internal error if the node
/// has no complaint.
pub async fn refusal(nodes: &Nodes, request: &Request, prefix: &str) -> Error {
    let replay = |original| replay(nodes, request, original, prefix);
    if !prefix.is_empty() || !request.changes() {
        return replay(&request.original).await;
    }
    let inert = match request.original.inert() {
        Some(inert) => inert,
        // It complains of the media type, and reads nothing.
        None if !request.original.is_json() => {
            ClientRequest { body: "{}".into(), ..ClientRequest::clone(&request.original) }
        }
        // It finds a list.
        None if takes_an_object(&request.op) => request.original.made_anew(),
        None => return taken(request),
    };
    let error = replay(&inert).await;
    if !is_about_probe(&error) {
        return error;
    }
    if lacks_something(&request.op, &request.original) {
        return replay(&request.original.made_anew()).await;
    }
    if changes_nothing_if_empty(&request.op) {
        // The body is as it should be: it is the path that is not.
        let original = ClientRequest::clone(&request.original);
        return replay(&ClientRequest { body: "{}".into(), ..original }).await;
    }
    taken(request)
}

/// What a node says of another request than this one, in its place. It must have no effect.
pub async fn replay(
    nodes: &Nodes,
    request: &Request,
    original: &ClientRequest,
    prefix: &str,
) -> Error {
    let mut call = original.to_node_call(prefix);
    node_errors::hide(&mut call);
    match nodes.call_any(&call, &request.cx).await {
        Ok(_) => taken(request),
        Err(error) => node_errors::scrub(error, &placeholder()),
    }
}

/// Whether all that a node has to say of an inert request is that it is one.
pub fn is_about_probe(error: &Error) -> bool {
    let text = error.render().1;
    text.is_some_and(|text| memchr::memmem::find(&text, PROBE.as_bytes()).is_some())
}

/// A node takes, or would, what Miroir cannot read.
fn taken(request: &Request) -> Error {
    metrics::counter!("miroir_unread_requests_taken_total").increment(1);
    tracing::error!(
        method = %request.original.method,
        path = request.original.path,
        "a node takes a request that Miroir cannot read"
    );
    Error::internal("a node takes what Miroir cannot read")
}

/// Whether a route takes an object, and refuses any list.
fn takes_an_object(op: &Operation) -> bool {
    match op {
        Operation::Index(op) => matches!(op, IndexOp::Create | IndexOp::Update(_)),
        Operation::System(op) => matches!(
            op,
            SystemOp::Export | SystemOp::Features(_) | SystemOp::Webhook(_) | SystemOp::Rule(_)
        ),
        _ => false,
    }
}

/// Whether a route changes nothing where its object is empty, whatever its path names.
fn changes_nothing_if_empty(op: &Operation) -> bool {
    matches!(op, Operation::System(SystemOp::Webhook(WebhookOp::Update(_))))
}

/// Whether a node refuses a request for certain: it is without a member that its route needs, or names
/// an index twice where it must not.
fn lacks_something(op: &Operation, original: &ClientRequest) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(&original.body) else { return true };
    let lacks = |name: &str| body.get(name).is_none();
    match op {
        Operation::Index(IndexOp::Create) => lacks("uid"),
        Operation::Index(IndexOp::Swap) => {
            let mut seen = std::collections::BTreeSet::new();
            let mut pair = |swap: &Value| {
                let names = swap.get("indexes").and_then(Value::as_array);
                names.is_some_and(|names| {
                    names.len() == 2
                        && names
                            .iter()
                            .all(|n| n.as_str().is_some_and(|n| seen.insert(n.to_owned())))
                })
            };
            !body.as_array().is_some_and(|swaps| swaps.iter().all(&mut pair))
        }
        Operation::System(SystemOp::Webhook(WebhookOp::Create)) => lacks("url"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::operation::RuleOp;

    fn original(body: &str) -> ClientRequest {
        let body = body.to_owned().into();
        ClientRequest { body, ..ClientRequest::new(Method::POST, "/x") }
    }

    #[test]
    fn only_what_a_node_refuses_for_certain_is_asked_as_it_is() {
        let create = Operation::Index(IndexOp::Create);
        let swap = Operation::Index(IndexOp::Swap);
        let export = Operation::System(SystemOp::Export);
        let webhook = Operation::System(SystemOp::Webhook(WebhookOp::Create));
        for (op, body, lacks) in [
            (&create, r#"{"primaryKey": "k"}"#, true),
            (&create, r#"{"uid": 1}"#, false),
            (&create, "no JSON", true),
            (&swap, r#"[{"rename": true}]"#, true),
            (&swap, r#"[{"indexes": ["a", "b"]}, {"indexes": ["a", "c"]}]"#, true),
            (&swap, r#"[{"indexes": ["a"]}]"#, true),
            (&swap, r#"[{"indexes": ["a", "b"], "rename": 1}]"#, false),
            // The last of two members counts.
            (&swap, r#"[{"indexes": ["a"], "indexes": ["a", "b"]}]"#, false),
            (&export, "{}", false),
            (&webhook, "{}", true),
            (&webhook, r#"{"url": "http://x"}"#, false),
            (&Operation::Index(IndexOp::Update("a".to_owned())), "{}", false),
        ] {
            assert_eq!(lacks_something(op, &original(body)), lacks, "{body}");
        }
    }

    #[test]
    fn an_empty_list_is_shown_to_routes_that_take_none() {
        let rule = RuleOp::Update("r".to_owned());
        for (op, takes) in [
            (Operation::Index(IndexOp::Create), true),
            (Operation::Index(IndexOp::Update("a".to_owned())), true),
            (Operation::Index(IndexOp::Swap), false),
            (Operation::System(SystemOp::Export), true),
            (Operation::System(SystemOp::Webhook(WebhookOp::Create)), true),
            (Operation::System(SystemOp::Rule(rule)), true),
        ] {
            assert_eq!(takes_an_object(&op), takes, "{op:?}");
        }
    }

    #[test]
    fn an_empty_object_is_shown_where_it_changes_nothing() {
        let name = || "1".to_owned();
        for (op, nothing) in [
            (Operation::System(SystemOp::Webhook(WebhookOp::Update(name()))), true),
            (Operation::System(SystemOp::Webhook(WebhookOp::Create)), false),
            (Operation::System(SystemOp::Webhook(WebhookOp::Delete(name()))), false),
            // A task of its own, though it changes nothing.
            (Operation::Index(IndexOp::Update(name())), false),
        ] {
            assert_eq!(changes_nothing_if_empty(&op), nothing, "{op:?}");
        }
    }

    #[test]
    fn an_inert_body_is_one_that_no_route_knows() {
        let inert = |body: &str| {
            original(body).inert().map(|made| String::from_utf8_lossy(&made.body).into_owned())
        };
        assert_eq!(inert(r#"{"a": 1, "a": 2}"#).unwrap(), r#"{"a":2,"unknownToEveryNode":true}"#);
        assert_eq!(inert(r#"[{"a": 1}, 2]"#).unwrap(), r#"[{"a":1,"unknownToEveryNode":true},2]"#);
        assert_eq!(inert("{").unwrap(), "{");
        assert_eq!(inert("[]"), None, "an empty list is carried out");
    }
}
