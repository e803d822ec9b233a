//! Errors as a node words them.

use serde_json::{Value, json};

/// An error object of Meilisearch.
pub(super) fn error(code: &str, message: &str) -> Value {
    json!({
        "message": message, "code": code, "type": "invalid_request",
        "link": format!("https://docs.meilisearch.com/errors#{code}"),
    })
}

/// The error about a missing index.
pub(super) fn no_index(uid: &str) -> Value {
    error("index_not_found", &format!("Index `{uid}` not found."))
}

/// The error of a task that fails for a reason of the node's own, `no_space_left_on_device` say.
pub(super) fn own_fault(code: &str) -> Value {
    let mut error = error(code, &format!("The node fails by itself: {code}."));
    error["type"] = json!("system");
    error
}
