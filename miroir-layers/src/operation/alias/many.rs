//! Reads of an alias that stands for several indexes.

use std::sync::Arc;

use http::StatusCode;
use miroir_pipeline::error::ErrorKind;
use miroir_pipeline::meta::Meta;
use miroir_pipeline::operation::{MultiSearch, Operation, Request, Response};
use miroir_pipeline::query::{ClientRequest, List, RawObject, SearchKind};
use miroir_pipeline::stage::Next;
use miroir_pipeline::{Error, StageService};
use miroir_store::records::Alias;
use serde_json::value::RawValue;

use super::names::{behind, named};

/// Documents a list shows where it does not say.
const PAGE: usize = 20;

/// The refusal of what cannot be asked of several indexes.
pub(super) fn unsupported(alias: &Alias, what: &str) -> Error {
    let names: Vec<String> = alias.target.indexes().iter().map(|i| format!("`{i}`")).collect();
    Error::api(
        "miroir_multi_alias_unsupported",
        format!(
            "Alias `{}` stands for several indexes, which {what} cannot be about. Ask them one by \
             one: {}.",
            alias.name,
            names.join(", ")
        ),
    )
}

/// What an alias stands for.
fn names(alias: &Alias) -> Vec<String> {
    alias.target.indexes().iter().map(ToString::to_string).collect()
}

/// Asks several indexes as if they were one.
pub(super) async fn read<S: StageService<Request>>(
    next: Next<Request, S>,
    request: Request,
    alias: Arc<Alias>,
) -> Result<Response, Error> {
    let indexes = names(&alias);
    match &request.op {
        Operation::Search { search, .. } if search.kind == SearchKind::Hits => {
            match search.body.clone() {
                Some(body) => searched(next, request, body, &alias).await,
                None => first(next, request, &indexes).await,
            }
        }
        Operation::Explain(op) => match &**op {
            Operation::Search { search, .. } => match search.body.clone() {
                Some(body) => searched(next, request, body, &alias).await,
                None => first(next, request, &indexes).await,
            },
            _ => Err(unsupported(&alias, "this request")),
        },
        Operation::FetchOne { .. } => first_that_has_it(next, request, &indexes).await,
        Operation::List { list, .. } => match list.body.clone() {
            Some(body) if body.has("sort") => {
                Err(unsupported(&alias, "a sorted list of documents"))
            }
            Some(body) => listed(next, request, body, &indexes).await,
            None => first(next, request, &indexes).await,
        },
        Operation::Search { search, .. } if search.kind == SearchKind::FacetValues => {
            Err(unsupported(&alias, "a facet search"))
        }
        Operation::Search { .. } => Err(unsupported(&alias, "a search for similar documents")),
        Operation::Settings(_) => Err(unsupported(&alias, "settings")),
        _ => Err(unsupported(&alias, "this request")),
    }
}

fn about(request: &Request, index: &str) -> Request {
    let mut request = request.clone();
    if let Some(name) = named(&mut request.op) {
        index.clone_into(name);
    }
    request
}

/// What cannot be read is refused by whoever is asked first.
async fn first<S: StageService<Request>>(
    next: Next<Request, S>,
    request: Request,
    indexes: &[String],
) -> Result<Response, Error> {
    let index = indexes.first().map_or("", String::as_str);
    next.run(about(&request, index)).await
}

/// Whether an index, or a document in it, is not there.
fn is_absent(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Api(api) => {
            matches!(api.code.as_ref(), "index_not_found" | "document_not_found")
        }
        ErrorKind::Verbatim { status, .. } => *status == StatusCode::NOT_FOUND,
        _ => false,
    }
}

async fn first_that_has_it<S: StageService<Request>>(
    next: Next<Request, S>,
    request: Request,
    indexes: &[String],
) -> Result<Response, Error> {
    let Some((newest, others)) = indexes.split_first() else { return Err(Error::not_found()) };
    let (first, rest) = next.start(about(&request, newest));
    let mut answer = first.await;
    for index in others {
        match &answer {
            Err(error) if is_absent(error) => {}
            _ => return answer,
        }
        answer = rest.clone().run(about(&request, index)).await;
    }
    answer
}

/// A list goes through the indexes in order.
async fn listed<S: StageService<Request>>(
    next: Next<Request, S>,
    request: Request,
    body: RawObject,
    indexes: &[String],
) -> Result<Response, Error> {
    let (Ok(offset), Ok(limit)) = (body.read::<usize>("offset"), body.read::<usize>("limit"))
    else {
        return first(next, request, indexes).await;
    };
    let (offset, limit) = (offset.unwrap_or(0), limit.unwrap_or(PAGE));
    let mut results: Vec<Box<RawValue>> = Vec::new();
    let mut total = 0;
    let mut last = None;
    let mut whole = Meta::default();
    let others = next.another();
    let mut ready = Some(next.into_unready());
    for index in indexes {
        let mut page = body.clone();
        page.set("offset", &offset.saturating_sub(total));
        page.set("limit", &(limit - results.len()));
        let mut request = about(&request, index);
        if let Operation::List { list, .. } = &mut request.op {
            *list = Arc::new(List { body: Some(page) });
        }
        let next = ready.take().unwrap_or_else(|| others.clone());
        let answer = next.run(request).await?;
        let object = RawObject::parse(&answer.body).unwrap_or_default();
        let odd = |()| Error::internal("a list of documents without results");
        results
            .extend(object.read::<Vec<Box<RawValue>>>("results").map_err(odd)?.unwrap_or_default());
        total += object.read::<usize>("total").map_err(odd)?.unwrap_or(0);
        whole.join(&answer.meta);
        last = Some(answer);
    }
    let Some(mut answer) = last else { return Err(Error::not_found()) };
    // What one of the indexes lacks, the list lacks.
    answer.meta = whole;
    let mut out = RawObject::default();
    out.set("results", &results);
    out.set("offset", &offset);
    out.set("limit", &limit);
    out.set("total", &total);
    answer.body = out.to_bytes();
    Ok(answer)
}

/// A search of several indexes: Resolve merges it as it does a federated one.
async fn searched<S: StageService<Request>>(
    next: Next<Request, S>,
    request: Request,
    body: RawObject,
    alias: &Alias,
) -> Result<Response, Error> {
    let multi =
        MultiSearch::of_one_search(alias.name.as_str(), body, &behind(alias, &request.cx.scope)?);
    let explains = matches!(request.op, Operation::Explain(_));
    let original = ClientRequest {
        query: request.original.query.clone().filter(|_| explains),
        ..multi.original(request.original.metadata)
    };
    let op = Operation::MultiSearch(Arc::new(multi));
    let op = if explains { Operation::Explain(Box::new(op)) } else { op };
    let mut request = request.with_original(original);
    request.op = op;
    next.run(request).await
}
