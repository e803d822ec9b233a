//! What several searches of one index find together.
//!
//! A federation counts a document once that several of its queries find. Only a node can tell which
//! those are, so each leaf is asked all queries as one federated search, and the leaves' counts are
//! added up.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join;
use http::StatusCode;
use serde_json::{Value, json};

use super::explained::{Round, round};
use super::{Scatter, read, search};
use crate::cluster::settings::IndexSettings;
use crate::error::{Error, ErrorKind, NodeFailure};
use crate::index::{Request, Response, Union};
use crate::leaf::{Page, Question, ScopedMany};
use crate::node_errors;
use crate::query::{Search, SearchKind};
use miroir_core::merge::{
    self, FacetList, FacetOptions, Facets, HitOptions, MergeRequest, Namesakes, Pagination,
};
use miroir_core::view::Route;

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
    let (mut options, mut apart) = (None, union.distinct.is_some());
    for body in &union.queries {
        apart |= settings.distinct.is_some() || body.has("distinct");
        let mut body = body.clone();
        if let Some(facets) = &union.facets {
            body.set("facets", facets);
        }
        let query = Search { kind: SearchKind::Hits, body: Some(body), rules: None };
        let plan = search::plan(&query, &settings, &request.index);
        // The queries are asked for by themselves too, and their errors told from there.
        let Some(mut plan) = plan else { return Err(read::refusal(scatter, request).await) };
        if let Some(said) = plan.refused_facets {
            return Err(Error::api(search::FACETS, said));
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
    let all = ScopedMany { queries, federation, operation: "search" };
    let question = Question::Many(Arc::new(all.clone()));
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
    let facets = match &options {
        Some(options) => {
            let counted = Counted { settings: &settings, all: &all, options, route: &route };
            // Which documents are left of equal ones depends on how many are looked at.
            let namesakes = if apart {
                None
            } else {
                Some(namesakes(scatter, request, &counted, &gathered.pages, &pages).await?)
            };
            let merged = merge::merge_facets_apart(&pages, options, namesakes.as_deref());
            let (settings, route) = (&settings, &route);
            let (answered, searches) = (&gathered.pages[..], &all.queries[..]);
            let spelling =
                search::Spelling { scatter, request, settings, route, answered, searches };
            Some(if apart { merged } else { spelling.settle(merged).await })
        }
        None => None,
    };
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

/// What facets are counted of.
struct Counted<'a> {
    settings: &'a IndexSettings,
    all: &'a ScopedMany,
    options: &'a FacetOptions,
    route: &'a Route,
}

/// What the leaves' lists hide where facets have numbers and strings that are written like them: each
/// leaf is asked for the values of documents with such strings, and for those of the others.
async fn namesakes(
    scatter: &Scatter,
    request: &Request,
    counted: &Counted<'_>,
    from: &[Page],
    pages: &[merge::Page],
) -> Result<Vec<Namesakes>, Error> {
    let mut found = Vec::new();
    for (facet, leaves) in merge::doubtful_numbers(pages, counted.options) {
        if !counted.settings.compares(&facet) {
            continue;
        }
        for leaf in leaves {
            let Some(page) = from.get(leaf) else { continue };
            let numerals = merge::numeral_strings(&facet);
            let others = format!("NOT {numerals}");
            let ask = |condition| part(scatter, request, counted, page, condition);
            round(request, Round::FacetNumbers);
            let lists = join(ask(numerals), ask(others)).await;
            let (Some(beside), Some(others)) = (lists.0?, lists.1?) else { continue };
            let [shown, beside, others] =
                [&pages[leaf], &beside, &others].map(|page| FacetList::of(page, &facet));
            if beside.values.len().max(others.values.len()) < counted.options.node_limit {
                let told = merge::tell_apart((leaf, &facet), &shown, &beside, &others);
                found.extend(told.known);
                found.extend(told.unclear.into_iter().map(|(_, both)| both));
            }
        }
    }
    Ok(found)
}

/// A leaf's answer for the documents that meet a condition. `None` where it has no answer of its own.
async fn part(
    scatter: &Scatter,
    request: &Request,
    counted: &Counted<'_>,
    page: &Page,
    condition: String,
) -> Result<Option<merge::Page>, Error> {
    let mut all = counted.all.clone();
    for query in &mut all.queries {
        query.filter = Some(search::joined(query.filter.as_ref(), &condition));
    }
    let question = Question::Many(Arc::new(all));
    let gathered = read::gather_of(scatter, request, page, question, counted.route).await?;
    match &gathered.pages[..] {
        [one] if gathered.missing.is_empty() => as_search(one, &request.index.physical).map(Some),
        _ => Ok(None),
    }
}
