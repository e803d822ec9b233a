//! Several searches in one request (`POST /multi-search`), plain or federated.
//!
//! Every query becomes a search of its own, which passes Handle and the index stage like any other.
//!
//! | file | |
//! | --- | --- |
//! | `plain` | one answer per query |
//! | `federated` | one list of hits |
//! | `facets` | facets of a federation |
//! | `aliases` | queries of what stands for several indexes |
//! | `node_errors` | what a node says of the request |

mod aliases;
mod facets;
mod federated;
mod federation;
mod node_errors;
mod plain;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use miroir_api::IndexUid;
use serde_json::Value;
use serde_json::value::RawValue;

pub(super) use federated::HitQueries;

use super::handle::Handle;
use super::{Operation, Request, Response};
use crate::error::{Error, ErrorKind};
use crate::explain::Record;
use crate::meta::Meta;
use crate::query::{ClientRequest, RawObject, Search, SearchKind};

/// How many queries of one request are under way at the same time.
const IN_FLIGHT: usize = 32;

/// An index that a name stands for.
#[derive(Clone, Debug)]
pub struct Behind {
    /// Its own name.
    pub index: String,
    /// A filter that its hits pass beside that of the query, in the form of the `filter` parameter;
    /// `None`: any.
    pub rule: Option<Box<RawValue>>,
}

/// One query.
#[derive(Clone, Debug)]
pub struct SubQuery {
    /// The index that is searched.
    pub index: String,
    /// The search in its `POST` form.
    pub body: RawObject,
    /// `federationOptions`.
    pub options: Option<Box<RawValue>>,
    /// What the client calls the index, if something else.
    alias: Option<Arc<str>>,
    /// The indexes that are searched instead of the one, as if they were one.
    indexes: Vec<Behind>,
    /// Which of the client's queries it is.
    position: usize,
}

impl SubQuery {
    /// The index as the client named it.
    pub fn name(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.index)
    }

    /// The one index that is searched; nothing if there are several.
    pub(super) fn of_one(&self) -> &str {
        if self.indexes.is_empty() { &self.index } else { "" }
    }
}

/// A request for several searches.
#[derive(Clone, Debug, Default)]
pub struct MultiSearch {
    /// `None`: the request could not be read; a node says why.
    queries: Option<Vec<SubQuery>>,
    federation: Option<RawObject>,
    /// How many queries the client asked.
    asked: usize,
    /// Whether it is one search of several indexes.
    is_search: bool,
    /// What names in `facetsByIndex` stand for, where that is something else.
    facets: Vec<(String, Vec<String>)>,
}

impl MultiSearch {
    /// Reads a request. What cannot be read has no queries, and a node comments on it.
    pub fn parse(body: &[u8]) -> Self {
        Self::read(body).unwrap_or_default()
    }

    fn read(body: &[u8]) -> Option<Self> {
        let body = RawObject::parse(body)?;
        if !body.keys().all(|key| matches!(key, "queries" | "federation")) {
            return None;
        }
        let federation = body.read::<RawObject>("federation").ok()?;
        let mut queries = Vec::new();
        for (position, mut query) in
            body.read::<Vec<RawObject>>("queries").ok()??.into_iter().enumerate()
        {
            let index = query.read::<String>("indexUid").ok()??;
            IndexUid::new(&index).ok()?;
            query.remove("indexUid");
            let options = query.remove("federationOptions").filter(|o| o.get() != "null");
            let (alias, indexes) = (None, Vec::new());
            queries.push(SubQuery { index, body: query, options, alias, indexes, position });
        }
        let asked = queries.len();
        Some(Self { queries: Some(queries), federation, asked, ..Self::default() })
    }

    /// The queries, in order.
    pub fn queries(&self) -> impl Iterator<Item = &SubQuery> {
        self.queries.iter().flatten()
    }

    /// The body of the request, with what [`MultiSearch::restrict`] added. `None` if it could not be read.
    pub fn body(&self) -> Option<Bytes> {
        let mut queries = Vec::new();
        for query in self.queries.as_ref()? {
            let mut body = query.body.clone();
            body.set("indexUid", &query.index);
            if let Some(options) = &query.options {
                body.set_raw("federationOptions", options.clone());
            }
            queries.push(body);
        }
        let mut whole = RawObject::default();
        if let Some(federation) = &self.federation {
            whole.set("federation", federation);
        }
        whole.set("queries", &queries);
        Some(whole.to_bytes())
    }

    /// Whether all queries have one list of hits.
    pub fn is_federated(&self) -> bool {
        self.federation.is_some()
    }

    /// The searches, in order.
    pub(super) fn bodies(&mut self) -> impl Iterator<Item = &mut RawObject> {
        self.queries.iter_mut().flatten().map(|query| &mut query.body)
    }

    /// Restricts one query to what matches a filter.
    pub fn restrict(&mut self, position: usize, rules: &RawValue) {
        if let Some(query) = self.queries.as_mut().and_then(|queries| queries.get_mut(position)) {
            query.body.and_filter(rules);
        }
    }
}

/// Answers a request for several searches.
pub(super) async fn run(
    resolve: &Handle,
    request: &Request,
    multi: &MultiSearch,
) -> Result<Response, Error> {
    let tuning = &resolve.state().options.multi_search;
    let queries = readable(resolve, request, multi).await?;
    if !multi.is_search {
        metrics::counter!("miroir_multisearch_batches_total").increment(1);
        metrics::histogram!("miroir_multisearch_queries_per_batch").record(multi.asked as f64);
    }
    // Queries wait for each other at the end; the batch as a whole has a time of its own.
    let mut request = request.clone();
    if !multi.is_search {
        request.cx.deadline = request.cx.deadline.min(tuning.total_timeout);
    }
    let deadline = request.cx.deadline;
    let answer = async {
        match &multi.federation {
            None => plain::run(resolve, &request, queries, multi).await,
            Some(federation) => federated::run(resolve, &request, queries, federation, multi).await,
        }
    };
    if multi.is_search {
        let mut answer = answer.await?;
        let q = queries.first().and_then(|query| query.body.raw("q")).filter(|q| *q != "null");
        answer.body = aliases::as_search(&answer.body, q.unwrap_or("\"\""))
            .ok_or_else(|| Error::internal("a federated search without hits"))?;
        return Ok(answer);
    }
    deadline.run(answer).await.unwrap_or_else(|_| {
        Err(Error::api(
            "miroir_deadline_exceeded",
            "The queries together took longer than `multi_search.total_timeout_ms`. Retry later, \
             or raise it.",
        ))
    })
}

/// What is decided about each query of a request that is to be explained and not executed, in order,
/// and how the query ends.
pub(super) async fn planned(
    resolve: &Handle,
    request: &Request,
    multi: &MultiSearch,
) -> Result<Vec<(Record, Result<Response, Error>)>, Error> {
    let queries = readable(resolve, request, multi).await?;
    let kind = if multi.is_federated() { SearchKind::Part } else { SearchKind::Hits };
    let searches =
        queries.iter().map(|query| Asked::search(&query.index, query.body.clone(), kind));
    let answers: Vec<_> = each(resolve, request, multi, searches).collect().await;
    let parts = request.cx.explain.as_ref().map(|explain| explain.parts()).unwrap_or_default();
    Ok(parts.iter().map(|part| part.record()).zip(answers).collect())
}

/// The queries, if they can be answered.
async fn readable<'a>(
    resolve: &Handle,
    request: &Request,
    multi: &'a MultiSearch,
) -> Result<&'a [SubQuery], Error> {
    let tuning = &resolve.state().options.multi_search;
    if !tuning.enabled && !multi.is_search {
        return Err(Error::api(
            "miroir_not_supported",
            "Multi-search is switched off (`multi_search.enabled`).",
        ));
    }
    let Some(queries) = multi.queries.as_deref().filter(|_| request.original.is_json()) else {
        return Err(node_errors::unreadable(resolve, request).await);
    };
    if multi.asked > tuning.max_queries_per_batch {
        return Err(Error::api(
            "miroir_too_many_queries",
            format!(
                "A multi-search may have {} queries (`multi_search.max_queries_per_batch`), and \
                 this one has {}. Send several requests, or raise the limit.",
                tuning.max_queries_per_batch, multi.asked
            ),
        ));
    }
    Ok(queries)
}

/// One of the searches that a request is made of.
struct Asked {
    op: Operation,
    path: &'static str,
    body: Bytes,
}

impl Asked {
    fn search(index: &str, body: RawObject, kind: SearchKind) -> Self {
        let text = body.to_bytes();
        let search = Search { kind, body: Some(body), rules: None };
        let op = Operation::Search { index: index.to_owned(), search: Arc::new(search) };
        Self { op, path: "/search", body: text }
    }

    /// A query as a client would ask it by itself.
    fn alone(query: &SubQuery) -> Self {
        if query.indexes.is_empty() {
            return Self::search(&query.index, query.body.clone(), SearchKind::Hits);
        }
        let multi = MultiSearch::of_one_search(query.name(), query.body.clone(), &query.indexes);
        let body = multi.body().unwrap_or_default();
        Self { op: Operation::MultiSearch(Arc::new(multi)), path: "/multi-search", body }
    }
}

/// Runs searches side by side, answering in their order.
fn each<'a, I: Iterator<Item = Asked> + Send + 'a>(
    resolve: &'a Handle,
    request: &'a Request,
    multi: &MultiSearch,
    searches: I,
) -> impl Stream<Item = Result<Response, Error>> + Send + use<'a, I> {
    let patience = resolve.state().options.multi_search.per_query_timeout;
    let patience = (!multi.is_search).then_some(patience);
    let calls = searches.map(move |Asked { op, path, body }| {
        let original = ClientRequest {
            method: http::Method::POST,
            path: path.to_owned(),
            query: None,
            body,
            content_type: Some("application/json".to_owned()),
            metadata: request.original.metadata,
        };
        let mut cx = request.cx.clone();
        cx.explain = cx.explain.map(|explain| explain.part());
        if let Some(patience) = patience {
            cx.deadline = cx.deadline.min(patience);
        }
        let deadline = cx.deadline;
        let actions = request.actions;
        let call = resolve.clone().whole(Request { op, actions, original: Arc::new(original), cx });
        async move { deadline.run(call).await? }
    });
    stream::iter(calls).buffered(IN_FLIGHT)
}

impl MultiSearch {
    /// The error of one query as an error of the request.
    fn about(&self, query: &SubQuery, error: &Error) -> Error {
        if self.is_search { error.clone() } else { inside(error, query.position, &query.index) }
    }
}

/// An error as a client reads it; `None` where it has no words.
fn worded(error: &Error) -> Option<(http::StatusCode, Value)> {
    let (status, body) = error.render();
    Some((status, serde_json::from_slice(&body?).ok()?))
}

/// The error of one query about an index, as an error of the batch.
pub(super) fn inside(error: &Error, position: usize, index: &str) -> Error {
    let words = match error.kind() {
        ErrorKind::DeadlineExceeded => worded(&Error::api(
            "miroir_deadline_exceeded",
            "The query took longer than `multi_search.per_query_timeout_ms`. Retry later, or raise \
             it.",
        )),
        _ => worded(error),
    };
    let Some((status, mut value)) = words else { return error.clone() };
    let message = value["message"].as_str().unwrap_or_default();
    // The index is not part of the path here.
    let status = if message == format!("Index `{index}` not found.") {
        http::StatusCode::BAD_REQUEST
    } else {
        status
    };
    value["message"] = format!("Inside `.queries[{position}]`: {message}").into();
    Error::verbatim(status, Bytes::from(value.to_string()))
}

/// What is known of how several answers came about.
fn together<'a>(metas: impl Iterator<Item = &'a Meta>) -> Meta {
    let mut out = Meta::default();
    for meta in metas {
        out.join(meta);
    }
    out
}

#[cfg(test)]
mod tests;
