//! Documents: one by id, or a list.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use super::read::Gathered;
use super::{Scatter, read};
use crate::error::{Error, ErrorKind};
use crate::index::{Request, Response};
use crate::leaf::{Question, Scoped};
use crate::node::Call;
use crate::node_errors;
use crate::query::{FetchOne, List};
use miroir_core::documents;
use miroir_core::merge::{DocumentOptions, merge_documents, strip_reserved};
use miroir_core::routing::{ShardSet, shard_of};
use miroir_core::view::Route;

pub(super) async fn one(
    scatter: &Scatter,
    request: &Request,
    fetch: &FetchOne,
) -> Result<Response, Error> {
    let index = &request.index;
    let mut path =
        format!("/indexes/{}/documents/{}", index.physical, crate::query::encode(&fetch.id));
    if let Some(query) = &fetch.query {
        path.push('?');
        path.push_str(query);
    }
    let shard = shard_of(fetch.id.as_bytes(), index.shards);
    let shards = ShardSet::single(shard, index.shards);
    let question = Question::Plain(Arc::new(Call::get("document_get", path)));
    let route = read::route(scatter, request, scatter.state.reads.next_sequence());
    let gathered = read::gather(scatter, request, &shards, question, &route)
        .await
        .map_err(|error| node_errors::scrub(error, index))?;
    let page = gathered.pages.first().ok_or_else(|| Error::shards_unavailable(shards.clone()))?;
    let body = match strip_reserved(&page.body) {
        std::borrow::Cow::Borrowed(_) => page.body.clone(),
        std::borrow::Cow::Owned(stripped) => Bytes::from(stripped),
    };
    Ok(Response { status: StatusCode::OK, body, meta: read::meta(scatter, request, &gathered) })
}

/// Parameters of a list that Miroir understands.
const KNOWN: &[&str] =
    &["offset", "limit", "fields", "retrieveVectors", "ids", "filter", "sort", "useNetwork"];

pub(super) async fn list(
    scatter: &Scatter,
    request: &Request,
    list: &List,
) -> Result<Response, Error> {
    let Some((scoped, options)) = plan(list) else {
        return Err(read::refusal(scatter, request).await);
    };
    let filter = scoped.filter.clone().unwrap_or_default();
    let sorted = list.body.as_ref().and_then(|b| b.raw("sort")).unwrap_or_default().to_owned();
    let key = read::fingerprint(request.index.name.as_str(), &[&filter, sorted.as_bytes()]);
    let route = read::route(scatter, request, key);
    let shards = read::shards(request);
    let question = Question::Scoped(Arc::new(scoped));
    let gathered = gather(scatter, request, &shards, question, &route).await?;
    let bodies: Vec<Bytes> = gathered.pages.iter().map(|page| page.body.clone()).collect();
    let body = merge_documents(&bodies, &options).map_err(|e| Error::internal(e.to_string()))?;
    Ok(Response { status: StatusCode::OK, body, meta: read::meta(scatter, request, &gathered) })
}

/// As [`read::gather`], with a node's words about the client's request, not about Miroir's.
pub(super) async fn gather(
    scatter: &Scatter,
    request: &Request,
    shards: &ShardSet,
    question: Question,
    route: &Route,
) -> Result<Gathered, Error> {
    match read::gather(scatter, request, shards, question, route).await {
        Err(error) if matches!(error.kind(), ErrorKind::Verbatim { .. }) => {
            Err(own_words(scatter, request, error).await)
        }
        other => other,
    }
}

/// What a node says of the client's own request; what it said of Miroir's if none has a complaint.
pub(super) async fn own_words(scatter: &Scatter, request: &Request, error: Error) -> Error {
    match read::complaint(scatter, request).await {
        Some(own) => own,
        None => node_errors::scrub(error, &request.index),
    }
}

fn plan(list: &List) -> Option<(Scoped, DocumentOptions)> {
    let mut body = list.body.clone()?;
    if !body.keys().all(|key| KNOWN.contains(&key)) {
        return None;
    }
    for key in ["offset", "limit"] {
        if body.raw(key) == Some("null") {
            return None;
        }
    }
    let offset = body.read::<usize>("offset").ok()?.unwrap_or(0);
    let limit = body.read::<usize>("limit").ok()?.unwrap_or(20);
    if body.read::<bool>("useNetwork").ok()?.unwrap_or(false) {
        return None;
    }
    if body.raw("sort").is_some_and(node_errors::lists_reserved)
        || body.raw("filter").is_some_and(node_errors::filters_by_reserved)
    {
        return None;
    }
    let sorted = body.read::<Vec<String>>("sort").ok()?.is_some_and(|sort| !sort.is_empty());
    if let Some(fields) = body.read::<Vec<String>>("fields").ok()? {
        let mut fields: Vec<String> =
            fields.into_iter().filter(|name| !node_errors::is_within_reserved(name)).collect();
        // What says which of the leaves' documents comes first.
        fields.push(documents::ORDER.to_owned());
        body.set("fields", &fields);
    }
    body.remove("useNetwork");
    body.set("offset", &0);
    body.set("limit", &offset.saturating_add(limit));
    let filter = body.remove("filter").filter(|f| f.get() != "null");
    let scoped = Scoped {
        path: "/documents/fetch",
        filter: filter.map(|f| Bytes::from(f.get().to_owned())),
        body: body.to_bytes(),
        operation: "documents_fetch",
        sort_values: sorted,
    };
    Some((scoped, DocumentOptions { offset, limit, sorted }))
}
