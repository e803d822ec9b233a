//! Edition of documents by function: every node edits its own copies, each document is counted once.
//!
//! The function sees one document at a time, so where a document is does not matter. What differs
//! from one node: a function that fails on a document fails the task, but what other nodes edited
//! stays edited.

use std::sync::Arc;

use http::Method as Verb;
use miroir_api::meili::TaskKind;
use serde_json::{Value, json};

use super::Scatter;
use super::disjoint_counts::counted;
use super::document_tasks::{About, finish, new_task};
use super::filter_settings;
use crate::error::Error;
use crate::index::{EditByFunction, Request, Response};
use crate::leaf::narrow;
use crate::node::Call;
use crate::node_errors;
use miroir_core::copying::Touch;
use miroir_core::documents::edit_function::{self, Unwrappable};
use miroir_core::routing::ShardSet;
use miroir_store::TaskState;

fn unwrappable(why: Unwrappable) -> Error {
    let text = match why {
        Unwrappable::DefinesAndEnds => {
            "Miroir does not run functions that both define functions or closures and end with \
             `return` or `exit`. Write the condition as `if … else …`, or do without the definition."
        }
        Unwrappable::Shadows => {
            "Miroir does not run functions that define `eval`, `keys`, `mixin`, `remove`, \
             `starts_with` or `type_of`: it calls them itself. Give the definition another name."
        }
    };
    Error::api("miroir_not_supported", text)
}

pub(super) async fn run(
    scatter: Scatter,
    request: Request,
    edit: Arc<EditByFunction>,
    metadata: Option<String>,
) -> Result<Response, Error> {
    let index = Arc::clone(&request.index);
    // Nobody who writes a function knows it.
    let secret = uuid::Uuid::new_v4().simple().to_string();
    let wrapped = edit_function::wrap(&edit.function, &secret).map_err(unwrappable)?;
    let path = format!("/indexes/{}/documents/edit", index.physical);
    let filter = edit.filter.as_ref().map(|filter| {
        let text = filter.to_string();
        if node_errors::names_reserved(&text) { node_errors::hidden(&text) } else { text }
    });
    if let Some(filter) = &filter {
        filter_settings::wait(&scatter.state, &request, filter.as_bytes()).await?;
    }
    let call = |shards: &ShardSet, part: bool| {
        let client = filter.as_deref().map(str::as_bytes);
        let filter = if part {
            serde_json::from_slice(&narrow(client, shards, index.shards)).ok()
        } else {
            client.and_then(|client| serde_json::from_slice::<Value>(client).ok())
        };
        let mut body = json!({"function": wrapped.text, "context": edit.context});
        if let Some(filter) = filter {
            body["filter"] = filter;
        }
        vec![Call::change(Verb::POST, "documents_edit", path.clone()).json(body.to_string())]
    };
    let mut task = new_task(
        &request,
        TaskKind::DocumentEdition,
        metadata,
        json!({
            "deletedDocuments": null, "editedDocuments": null,
            "context": edit.context, "function": edit.function,
            "originalFilter": edit.filter.as_ref().map(Value::to_string),
        }),
    );
    task.protocol = TaskState::Edition { lines_before: wrapped.lines_before }.into();
    let all = ShardSet::full(index.shards);
    let batches = counted(&scatter.state, &request, &all, call);
    let about = About { shards: all, touch: Touch::Any, teaches: None, order: None };
    finish(scatter, request.clone(), about, batches, task).await
}
