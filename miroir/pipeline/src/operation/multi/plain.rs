//! One answer per query, in the order of the queries.

use std::pin::pin;

use bytes::Bytes;
use futures_util::StreamExt;
use http::StatusCode;

use super::{Asked, MultiSearch, SubQuery, each, node_errors, together};
use crate::error::Error;
use crate::operation::handle::Handle;
use crate::operation::{Request, Response};

pub(super) async fn run(
    resolve: &Handle,
    request: &Request,
    queries: &[SubQuery],
    multi: &MultiSearch,
) -> Result<Response, Error> {
    if queries.iter().any(|query| query.options.is_some())
        && let Some(error) = node_errors::refusal(resolve, request, multi).await
    {
        return Err(error);
    }
    let mut answers = pin!(each(resolve, request, multi, queries.iter().map(Asked::alone)));
    let mut done = Vec::with_capacity(queries.len());
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(answer) => done.push(answer),
            Err(error) => {
                if !done.is_empty() {
                    metrics::counter!("miroir_multisearch_partial_failures_total").increment(1);
                }
                // One node answers for the whole request, or not at all.
                let own = node_errors::instead(resolve, request, multi, &error).await;
                return Err(own.unwrap_or_else(|| multi.about(&queries[done.len()], &error)));
            }
        }
    }
    let size: usize = done.iter().map(|answer| answer.body.len() + 64).sum();
    let mut body = Vec::with_capacity(size + 16);
    body.extend_from_slice(b"{\"results\":[");
    for (at, (query, answer)) in queries.iter().zip(&done).enumerate() {
        body.extend_from_slice(if at > 0 { b",{\"indexUid\":\"" } else { b"{\"indexUid\":\"" });
        // The name of an index has no character that JSON would escape.
        body.extend_from_slice(query.name().as_bytes());
        body.extend_from_slice(b"\",");
        body.extend_from_slice(answer.body.strip_prefix(b"{").unwrap_or(&answer.body));
    }
    body.extend_from_slice(b"]}");
    let meta = together(done.iter().map(|answer| &answer.meta));
    Ok(Response { status: StatusCode::OK, body: Bytes::from(body), meta })
}
