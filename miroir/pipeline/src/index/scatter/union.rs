//! What several searches of one index find together.
//!
//! A federation counts a document once that several of its queries find. Only a node can tell which
//! those are, so each leaf is asked all queries as one federated search, and the leaves' counts are
//! added up.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Scatter, read, search};
use crate::error::{Error, ErrorKind, NodeFailure};
use crate::index::{Request, Response, Union};
use crate::leaf::{Page, Question, ScopedMany};
use crate::node_errors;
use crate::query::{Search, SearchKind};
use miroir_core::merge::{self, Facets, HitOptions, MergeRequest, Pagination, merge_facets};

/// A leaf's answer in the form of a search without hits.
fn as_search(page: &Page, index: &str) -> Result<merge::Page, Error> {
    let garbage = || Error::node(&page.node, NodeFailure::Garbage);
    let value: Value = serde_json::from_slice(&page.body).map_err(|_| garbage())?;
    let total = value.get("totalHits").or_else(|| value.get("estimatedTotalHits"));
    let mut out = json!({"hits": [], "estimatedTotalHits": total.ok_or_else(garbage)?});
    let facets = value.pointer(&format!("/facetsByIndex/{index}"));
    if let Some(facets) = facets {
        out["facetDistribution"] = facets["distribution"].clone();
        out["facetStats"] = facets["stats"].clone();
    }
    merge::Page::decode(&Bytes::from(out.to_string())).map_err(|_| garbage())
}

pub(super) async fn run(
    scatter: &Scatter,
    request: &Request,
    union: &Union,
) -> Result<Response, Error> {
    let settings = scatter.state.settings.get(&request.index, &request.cx).await?;
    let mut queries = Vec::with_capacity(union.queries.len());
    let mut fingerprint = 0;
    let mut options = None;
    for body in &union.queries {
        let mut body = body.clone();
        if let Some(facets) = &union.facets {
            body.set("facets", facets);
        }
        let query = Search { kind: SearchKind::Hits, body: Some(body), rules: None };
        let plan = search::plan(&query, &settings, &request.index);
        // The queries are asked for by themselves too, and their errors told from there.
        let Some(mut plan) = plan else { return Err(read::refusal(scatter, request).await) };
        if plan.no_facets {
            return Err(Error::api("invalid_search_facets", search::NO_FACETS));
        }
        fingerprint ^= plan.fingerprint;
        plan.count_only();
        options = plan.facets;
        queries.push(plan.scoped);
    }
    let mut federation = if union.exhaustive {
        json!({"page": 1, "hitsPerPage": union.depth})
    } else {
        json!({"limit": union.depth})
    };
    if let Some(distinct) = &union.distinct {
        federation["distinct"] = distinct.as_str().into();
    }
    if let Some(facets) = &union.facets {
        federation["facetsByIndex"] = json!({&request.index.physical: facets});
    }
    let federation = Some(Bytes::from(federation.to_string()));
    let question =
        Question::Many(Arc::new(ScopedMany { queries, federation, operation: "search" }));
    let route = read::route(scatter, request, fingerprint);
    let shards = read::shards(request);
    let gathered = read::gather(scatter, request, &shards, question, &route).await.map_err(
        |error| match error.kind() {
            ErrorKind::Verbatim { .. } => node_errors::scrub(error, &request.index),
            _ => error,
        },
    )?;
    let mut pages = Vec::with_capacity(gathered.pages.len());
    for page in &gathered.pages {
        pages.push(as_search(page, &request.index.physical)?);
    }
    let facets = options.as_ref().map(|options| merge_facets(&pages, options));
    let answer = MergeRequest {
        query: "",
        pagination: Pagination::Offset { offset: 0, limit: 0 },
        max_total_hits: settings.max_total_hits,
        hits: HitOptions::default(),
        facets: facets.as_ref().map_or(Facets::None, Facets::Ready),
        total: None,
        show_query_vector: false,
        processing_time_ms: 0,
        request_uid: "",
        metadata: None,
    };
    let body = merge::merge_search(&pages, &answer);
    Ok(Response { status: StatusCode::OK, body, meta: read::meta(scatter, request, &gathered) })
}
