//! Documents like one document.
//!
//! Only the document's own shard can be asked for its neighbours. The other shards are asked for the
//! neighbours of the document's vectors, which is the same question.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::over_fetch::{OverFetch, raised};
use super::search::visible;
use super::{Scatter, read};
use crate::cluster::settings::IndexSettings;
use crate::error::{Error, ErrorKind, NodeFailure};
use crate::index::{Request, Response};
use crate::leaf::{self, Question, Scoped, ScopedMany};
use crate::node_errors;
use crate::query::{RawObject, Search};
use miroir_core::documents;
use miroir_core::merge::{self, HitOptions, SimilarRequest, merge_similar};
use miroir_core::routing::{ShardSet, shard_of};
use miroir_store::IndexEntry;

const KNOWN: &[&str] = &[
    "id",
    "embedder",
    "offset",
    "limit",
    "attributesToRetrieve",
    "retrieveVectors",
    "filter",
    "showRankingScore",
    "showRankingScoreDetails",
    "showPerformanceDetails",
    "rankingScoreThreshold",
];

/// What is asked for.
struct SimilarPlan {
    id: String,
    embedder: String,
    hits: HitOptions,
    filter: Option<Bytes>,
    /// What both kinds of questions have in common.
    shared: RawObject,
    performance: bool,
}

/// The id of the document in question as text, whatever else is wrong with the request.
fn identify(search: &Search) -> Option<String> {
    let body = search.body.as_ref()?;
    let raw: Box<serde_json::value::RawValue> = body.read("id").ok()??;
    documents::parse_id_value(&raw).ok().map(|id| id.as_str().to_owned())
}

/// `None`: a node has to say what is wrong.
fn plan(search: &Search, settings: &IndexSettings, index: &IndexEntry) -> Option<SimilarPlan> {
    let mut body = search.body.clone()?;
    if !body.keys().all(|key| KNOWN.contains(&key)) {
        return None;
    }
    if ["offset", "limit"].iter().any(|key| body.raw(key) == Some("null"))
        || body.raw("filter").is_some_and(node_errors::filters_by_reserved)
    {
        return None;
    }
    let id = identify(search)?;
    let embedder = body.read::<String>("embedder").ok()??;
    let threshold = body.read::<f64>("rankingScoreThreshold").ok()?;
    if threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
        return None;
    }
    let mut hits = HitOptions {
        offset: body.read("offset").ok()?.unwrap_or(0),
        limit: body.read("limit").ok()?.unwrap_or(20),
        show_score: body.read("showRankingScore").ok()?.unwrap_or(false),
        show_details: body.read("showRankingScoreDetails").ok()?.unwrap_or(false),
        score_threshold: threshold,
        ..HitOptions::default()
    };
    let performance = body.read("showPerformanceDetails").ok()?.unwrap_or(false);
    let displayed = settings.displayed.as_deref();
    let mut retrieve = body.read::<Vec<String>>("attributesToRetrieve").ok()?;
    if displayed.is_some() && retrieve.is_none() {
        retrieve = Some(vec!["*".to_owned()]);
    }
    let mut shared = RawObject::default();
    if let Some(list) = retrieve {
        let everything = list.iter().any(|name| name == "*") && displayed.is_none();
        let mut list = visible(list, displayed);
        if let Some(key) = index.primary_key.clone().filter(|_| !everything) {
            let top = key.split('.').next().unwrap_or_default().to_owned();
            if !list.iter().any(|name| *name == key || name.split('.').next() == Some(&top)) {
                hits.drop_fields.push(top);
                list.push(key);
            }
        }
        list.push(documents::ORDER.to_owned());
        shared.set("attributesToRetrieve", &list);
    }
    if body.read::<bool>("retrieveVectors").ok()?.unwrap_or(false) {
        shared.set("retrieveVectors", &true);
    }
    shared.set("showRankingScore", &true);
    shared.set("showRankingScoreDetails", &true);
    let filter = body.remove("filter").filter(|filter| filter.get() != "null");
    let filter = filter.map(|filter| Bytes::from(filter.get().to_owned()));
    Some(SimilarPlan { id, embedder, hits, filter, shared, performance })
}

/// What a node with the document says of the request. One without it would not know the document.
async fn refusal(scatter: &Scatter, request: &Request, search: &Search) -> Error {
    let id = identify(search).unwrap_or_default();
    let shards =
        ShardSet::single(shard_of(id.as_bytes(), request.index.shards), request.index.shards);
    let mut call = request.original.to_node_call(&format!("/indexes/{}", request.index.physical));
    node_errors::hide(&mut call);
    let route = read::route(scatter, request, scatter.state.reads.next_sequence());
    match read::gather(scatter, request, &shards, Question::Plain(Arc::new(call)), &route).await {
        Ok(_) => Error::internal("a node takes what Miroir cannot read"),
        Err(error) => node_errors::scrub(error, &request.index),
    }
}

fn not_found(id: &str) -> Error {
    Error::api("not_found_similar_id", format!("Document `{id}` not found."))
}

/// The document's vectors. Fails if there is no such document, or none the client may know of.
async fn vectors(
    scatter: &Scatter,
    request: &Request,
    search: &Search,
    plan: &SimilarPlan,
    shards: &ShardSet,
) -> Result<Vec<Value>, Error> {
    let key = request.index.primary_key.as_deref().unwrap_or("id");
    let scoped = Scoped {
        path: "/documents/fetch",
        body: Bytes::from(
            json!({"ids": [plan.id], "limit": 1, "fields": [key], "retrieveVectors": true})
                .to_string(),
        ),
        filter: search.rules.as_ref().map(|rules| Bytes::from(rules.get().to_owned())),
        operation: "documents_fetch",
        sort_values: false,
    };
    let route = read::route(scatter, request, scatter.state.reads.next_sequence());
    let gathered =
        read::gather(scatter, request, shards, Question::Scoped(Arc::new(scoped)), &route).await?;
    let page = gathered.pages.first().ok_or_else(|| Error::shards_unavailable(shards.clone()))?;
    let value: Value = serde_json::from_slice(&page.body)
        .map_err(|_| Error::node(&page.node, NodeFailure::Garbage))?;
    let Some(document) = value["results"].get(0) else { return Err(not_found(&plan.id)) };
    let embeddings = &document["_vectors"][&plan.embedder]["embeddings"];
    let list = embeddings.as_array().cloned().unwrap_or_default();
    Ok(if list.first().is_some_and(Value::is_number) { vec![embeddings.clone()] } else { list })
}

/// The answers of one gathering, as pages.
fn decode(pages: &[leaf::Page], many: bool) -> Result<Vec<merge::Page>, Error> {
    let mut out = Vec::new();
    for page in pages {
        let garbage = || Error::node(&page.node, NodeFailure::Garbage);
        if !many {
            out.push(merge::Page::decode(&page.body).map_err(|_| garbage())?);
            continue;
        }
        let value: Value = serde_json::from_slice(&page.body).map_err(|_| garbage())?;
        for result in value["results"].as_array().ok_or_else(garbage)? {
            let body = Bytes::from(result.to_string());
            out.push(merge::Page::decode(&body).map_err(|_| garbage())?);
        }
    }
    Ok(out)
}

pub(super) async fn run(
    scatter: &Scatter,
    request: &Request,
    search: &Search,
) -> Result<Response, Error> {
    let started = Instant::now();
    let index = &request.index;
    let tuning = &scatter.state.options.vector_search;
    if !tuning.enabled {
        return Err(Error::api(
            "miroir_not_supported",
            "Similar documents are switched off (`vector_search.enabled`).",
        ));
    }
    let settings = scatter.state.settings.get(index, &request.cx).await?;
    let known =
        |plan: &SimilarPlan| settings.embedders.iter().any(|known| known.name == plan.embedder);
    let Some(plan) = plan(search, &settings, index).filter(known) else {
        return Err(refusal(scatter, request, search).await);
    };
    let home = ShardSet::single(shard_of(plan.id.as_bytes(), index.shards), index.shards);
    let vectors = match vectors(scatter, request, search, &plan, &home).await {
        Ok(vectors) => vectors,
        Err(error) if error.is_about_the_request() => {
            let own = refusal(scatter, request, search).await;
            let refused = matches!(own.kind(), ErrorKind::Verbatim { .. });
            return Err(if refused { own } else { error });
        }
        Err(error) => return Err(error),
    };
    let depth = plan.hits.offset.saturating_add(plan.hits.limit);
    let factor = request.cx.get().map_or(tuning.over_fetch_factor, |OverFetch(factor)| *factor);
    let fetch = raised(depth, factor as usize);
    let scoped = |body: RawObject, path| Scoped {
        path,
        body: body.to_bytes(),
        filter: plan.filter.clone(),
        operation: "similar",
        sort_values: false,
    };
    let own = {
        let mut body = plan.shared.clone();
        body.set("id", &plan.id);
        body.set("embedder", &plan.embedder);
        body.set("limit", &depth);
        Question::Scoped(Arc::new(scoped(body, "/similar")))
    };
    let others = {
        let mut queries: Vec<Scoped> = vectors
            .iter()
            .map(|vector| {
                let mut body = plan.shared.clone();
                body.set("vector", vector);
                body.set("hybrid", &json!({"embedder": plan.embedder, "semanticRatio": 1.0}));
                body.set("limit", &fetch);
                scoped(body, "/search")
            })
            .collect();
        if queries.is_empty() {
            // Nothing is similar to it; what could be is counted all the same.
            let mut body = RawObject::default();
            body.set("limit", &0);
            queries.push(scoped(body, "/search"));
        }
        Question::Many(Arc::new(ScopedMany { queries, federation: None, operation: "similar" }))
    };
    // The document itself need not pass the filter.
    let rest = read::shards(request).difference(&home);
    let route = read::route(scatter, request, scatter.state.reads.next_sequence());
    let both = try_join(
        read::gather(scatter, request, &home, own, &route),
        read::gather(scatter, request, &rest, others, &route),
    );
    let (mut gathered, more) = match both.await {
        Ok(both) => both,
        Err(error) if matches!(error.kind(), ErrorKind::Verbatim { .. }) => {
            let own = refusal(scatter, request, search).await;
            let refused = matches!(own.kind(), ErrorKind::Verbatim { .. });
            return Err(if refused { own } else { node_errors::scrub(error, index) });
        }
        Err(error) => return Err(error),
    };
    let mut pages = decode(&gathered.pages, false)?;
    let asked = vectors.len().max(1);
    let elsewhere = decode(&more.pages, true)?;
    let candidates = pages.iter().map(|page| page.total).sum::<u64>()
        + elsewhere.iter().step_by(asked).map(|page| page.total).sum::<u64>();
    pages.extend(elsewhere);
    gathered.missing.union_with(&more.missing);
    gathered.pages.extend(more.pages);
    let mut body = merge_similar(
        &pages,
        &SimilarRequest {
            id: &plan.id,
            hits: plan.hits,
            primary_key: index.primary_key.as_deref(),
            candidates,
            max_total_hits: settings.max_total_hits,
            processing_time_ms: started.elapsed().as_millis() as u64,
        },
    );
    if plan.performance {
        let spent = format!("{:.2?}", started.elapsed());
        body = super::search::append(&body, "performanceDetails", &json!({"search": spent}));
    }
    Ok(Response { status: StatusCode::OK, body, meta: read::meta(scatter, request, &gathered) })
}
