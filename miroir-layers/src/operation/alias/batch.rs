//! Multi-searches whose queries name aliases.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use http::StatusCode;
use miroir::operation::{
    MultiSearch, Operation, Original, RawObject, Request, Response, position, relocate, together,
};
use miroir::{Error, StageService};
use tower::ServiceExt as _;

use super::layer::count;
use super::many;
use super::names::{Aliases, one, restore};

/// Asks each query of what its alias stands for.
pub(super) async fn run<S: StageService<Request>>(
    inner: S,
    request: Request,
    multi: MultiSearch,
    aliases: Arc<Aliases>,
) -> Result<Response, Error> {
    let asked: Vec<String> = multi.queries().map(|query| query.index.clone()).collect();
    let mut several = Vec::new();
    for (at, alias) in asked.iter().enumerate().filter_map(|(at, it)| Some((at, aliases.get(it)?)))
    {
        count(alias);
        if one(alias).is_none() {
            several.push(at);
        }
    }
    // In a federation, and to be explained, a query of several indexes is one query of each. So it
    // is where the request is refused anyway.
    let apart = !multi.is_federated()
        && !several.is_empty()
        && !matches!(request.op, Operation::Explain(_))
        && multi.queries().all(|query| query.options.is_none());
    if apart {
        each(inner, request, &multi, &asked, several, &aliases).await
    } else {
        whole(inner, request, multi, &asked, &aliases).await
    }
}

/// Everything at once, under the indexes' names.
async fn whole<S: StageService<Request>>(
    mut inner: S,
    request: Request,
    mut multi: MultiSearch,
    asked: &[String],
    aliases: &Aliases,
) -> Result<Response, Error> {
    let indexes = |name: &str| aliases.get(name).map(|alias| many::names(alias));
    let Some((body, positions)) = multi.rename(indexes) else { return inner.call(request).await };
    let original = Original { body, ..Original::clone(&request.original) };
    let op = Operation::MultiSearch(Arc::new(multi));
    let op = match request.op {
        Operation::Explain(_) => Operation::Explain(Box::new(op)),
        _ => op,
    };
    let request = Request { op, original: Arc::new(original), ..request };
    let mut answer = inner.call(request).await.map_err(|error| relocate(error, &positions))?;
    let names: Vec<(usize, &str)> =
        positions.iter().filter_map(|at| Some((*at, asked.get(*at)?.as_str()))).collect();
    if let Some(body) = restore(&answer.body, &names) {
        answer.body = body;
    }
    Ok(answer)
}

/// The queries at some positions as federated searches of their own, beside the others.
async fn each<S: StageService<Request>>(
    inner: S,
    request: Request,
    multi: &MultiSearch,
    asked: &[String],
    several: Vec<usize>,
    aliases: &Aliases,
) -> Result<Response, Error> {
    let others: Vec<usize> = (0..asked.len()).filter(|at| !several.contains(at)).collect();
    let spare = inner.clone();
    let mut ready = Some(inner);
    let together_with = async {
        if others.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = others.iter().map(|at| asked[*at].clone()).collect();
        let inner = spare.clone().ready_oneshot().await?;
        whole(inner, request.clone(), multi.only(&others), &names, aliases).await.map(Some)
    };
    let apart = join_all(multi.queries().enumerate().filter_map(|(at, query)| {
        let alias = aliases.get(&query.index).filter(|_| several.contains(&at))?;
        let (request, body) = (request.clone(), query.body.clone());
        let service = ready.take().unwrap_or_else(|| spare.clone());
        Some(async move {
            let indexes = many::names(alias);
            let service = service.ready_oneshot().await?;
            let answer = many::federated(service, request, body, &indexes).await;
            answer.map_err(|error| relocate(error, &vec![at; indexes.len()]))
        })
    }));
    let (others_answer, apart) = join(together_with, apart).await;
    let others_answer = others_answer.map_err(|error| relocate(error, &others));
    // What is wrong with the whole request comes first, then the first query that fails.
    let errors =
        apart.iter().filter_map(|it| it.as_ref().err()).chain(others_answer.as_ref().err());
    if let Some(error) = errors.min_by_key(|error| position(error)) {
        return Err(error.clone());
    }
    let rest = others_answer?;
    let apart = apart.into_iter().collect::<Result<Vec<_>, _>>()?;
    let meta = together(apart.iter().chain(&rest).map(|answer| &answer.meta));
    let mut results: Vec<(usize, Bytes)> = Vec::with_capacity(asked.len());
    for (at, answer) in several.into_iter().zip(apart) {
        let mut text = format!("{{\"indexUid\":\"{}\",", asked[at]).into_bytes();
        text.extend_from_slice(answer.body.strip_prefix(b"{").unwrap_or(&answer.body));
        results.push((at, Bytes::from(text)));
    }
    if let Some(rest) = rest {
        let object = RawObject::parse(&rest.body).unwrap_or_default();
        let list = object.read::<Vec<RawObject>>("results").ok().flatten();
        let odd = || Error::internal("a multi-search without results");
        results
            .extend(others.into_iter().zip(list.ok_or_else(odd)?.iter().map(RawObject::to_bytes)));
    }
    results.sort_unstable_by_key(|(at, _)| *at);
    let mut body = b"{\"results\":[".to_vec();
    for (n, (_, result)) in results.iter().enumerate() {
        if n > 0 {
            body.push(b',');
        }
        body.extend_from_slice(result);
    }
    body.extend_from_slice(b"]}");
    Ok(Response { status: StatusCode::OK, body: Bytes::from(body), meta })
}
