//! One list of hits for several queries.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{join, join_all};
use http::StatusCode;
use miroir_api::IndexUid;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::facets;
use super::federation::{Federation, Query};
use super::{Asked, MultiSearch, SubQuery, each, node_errors, together};
use crate::error::{Error, ErrorKind};
use crate::extension::Extension;
use crate::index::Union;
use crate::index::scatter::project;
use crate::index::scatter::{FACETS, Part};
use crate::operation::handle::Handle;
use crate::operation::{Request, Response};
use crate::query::{RawObject, SearchKind};
use miroir_core::merge::{
    FederatedHits, FederatedOptions, FederatedQuery, Page, Pagination, merge_federated,
    write_federated_hit,
};

/// The answer to one query.
struct Answered {
    response: Response,
    part: Arc<Part>,
}

pub(super) async fn run(
    resolve: &Handle,
    request: &Request,
    queries: &[SubQuery],
    object: &RawObject,
    multi: &MultiSearch,
) -> Result<Response, Error> {
    let started = Instant::now();
    let Some(federation) = Federation::read(queries, object) else {
        let own = node_errors::refusal(resolve, request, multi).await;
        return Err(own.unwrap_or_else(|| {
            Error::api(
                "miroir_not_supported",
                "Miroir cannot read this federation. Remove `federation.personalize` and \
                 parameters that Meilisearch 1.50 does not have.",
            )
        }));
    };
    let missing = federation.queries.iter().position(|query| {
        IndexUid::new(&query.index).ok().and_then(|uid| resolve.state().catalog.get(&uid)).is_none()
    });
    if federation.doubtful || federation.remote || missing.is_some() {
        if let Some(error) = node_errors::refusal(resolve, request, multi).await {
            return Err(error);
        }
        if federation.remote {
            return Err(Error::api(
                "miroir_not_supported",
                "Miroir is the network here: remove `federationOptions.remote` and \
                 `federationOptions.queryPosition`.",
            ));
        }
        if let Some(at) = missing {
            let query = &queries[at];
            return Err(multi.about(query, &Error::index_not_found(&query.index)));
        }
    }
    let judgement = async {
        if !federation.mixed {
            return None;
        }
        node_errors::judgement(resolve, request, multi, object).await
    };
    let (judgement, (parts, unions)) = join(
        judgement,
        join(parts(resolve, request, multi, &federation), unions(resolve, request, &federation)),
    )
    .await;
    // Nodes may take the facets that one node refuses, and complain of others.
    let (judgement, later) = match judgement {
        Some(error) if error.has_code(FACETS) => (None, Some(error)),
        other => (other, None),
    };
    if let Some(error) = judgement {
        return Err(error);
    }
    let (position, error) = match (parts, unions) {
        (Ok(parts), Ok(unions)) => {
            return match later {
                Some(error) => Err(error),
                None => answer(request, multi, &federation, parts, unions, started),
            };
        }
        (Err((position, error)), _) | (_, Err((position, error))) => (position, error),
    };
    if position > 0 && !multi.is_search {
        metrics::counter!("miroir_multisearch_partial_failures_total").increment(1);
    }
    let own = node_errors::instead(resolve, request, multi, &error).await;
    let query = &queries[position];
    Err(own.unwrap_or_else(|| match error.kind() {
        ErrorKind::Api(api) if api.code == FACETS && !multi.is_search => {
            let mut api = api.clone();
            let name = query.name();
            api.message = format!("Inside `.federation.facetsByIndex.{name}`: {}", api.message);
            multi.about(query, &Error::client(api))
        }
        _ => multi.about(query, &error),
    }))
}

/// Runs every query.
async fn parts(
    resolve: &Handle,
    request: &Request,
    multi: &MultiSearch,
    federation: &Federation,
) -> Result<Vec<Answered>, (usize, Error)> {
    let searches = federation.queries.iter().map(|query| {
        let mut body = query.body.clone();
        if alone(federation, query)
            && let Some(facets) = federation.facets_of(&query.index)
        {
            body.set("facets", &facets);
        }
        Asked::search(&query.index, body, SearchKind::Part)
    });
    let mut answers = pin!(each(resolve, request, multi, searches));
    let mut out = Vec::with_capacity(federation.queries.len());
    while let Some(answer) = answers.next().await {
        let response = answer.map_err(|error| (out.len(), error))?;
        let Some(part) = response.meta.extensions().share::<Part>() else {
            return Err((
                out.len(),
                Error::internal("a query's answer does not say how to merge it"),
            ));
        };
        out.push(Answered { response, part });
    }
    Ok(out)
}

/// Whether a query is the only one about its index: then it counts for the index.
fn alone(federation: &Federation, query: &Query) -> bool {
    federation.queries.iter().filter(|other| other.index == query.index).count() == 1
}

/// What the queries of one index find together, for indexes with several of them.
async fn unions(
    resolve: &Handle,
    request: &Request,
    federation: &Federation,
) -> Result<BTreeMap<String, Response>, (usize, Error)> {
    let mut indexes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, query) in federation.queries.iter().enumerate() {
        indexes.entry(&query.index).or_default().push(at);
    }
    let several = indexes.into_iter().filter(|(_, positions)| positions.len() > 1);
    let calls = several.map(|(index, positions)| async move {
        let queries = positions.iter().map(|at| {
            let mut body = federation.queries[*at].body.clone();
            for key in ["limit", "page", "hitsPerPage"] {
                body.remove(key);
            }
            if federation.distinct.is_some() {
                body.remove("distinct");
            }
            body
        });
        let union = Union {
            queries: queries.collect(),
            depth: federation.depth(),
            exhaustive: federation.exhaustive(),
            distinct: federation.distinct.clone(),
            facets: federation.facets_of(index).map(<[String]>::to_vec),
        };
        let answer = resolve.union(request, index, union).await;
        answer.map(|answer| (index.to_owned(), answer)).map_err(|error| (positions[0], error))
    });
    join_all(calls).await.into_iter().collect()
}

/// Merges what was found and writes the answer.
fn answer(
    request: &Request,
    multi: &MultiSearch,
    federation: &Federation,
    parts: Vec<Answered>,
    unions: BTreeMap<String, Response>,
    started: Instant,
) -> Result<Response, Error> {
    let garbage = |_| Error::internal("an answer of the index stage is not readable");
    // One node goes through indexes by name, and through an index's queries in their order.
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|at| (&federation.queries[*at].index, *at));
    let mut queries: Vec<FederatedQuery> = Vec::with_capacity(parts.len());
    let mut names: Vec<&str> = Vec::new();
    let mut caps = Vec::new();
    let mut total = 0;
    let mut by_index = facets::ByIndex::new();
    let mut settings = facets::Settings::new();
    // What hits of an index with a distinct attribute add up to, less documents found again.
    let mut distinct_totals: BTreeMap<usize, u64> = BTreeMap::new();
    for at in order {
        let (query, part) = (&federation.queries[at], &parts[at]);
        let page = Page::decode(&part.response.body).map_err(garbage)?;
        let apart = part.part.hits.distinct.is_some();
        if names.last() != Some(&query.index.as_str()) {
            names.push(&query.index);
            caps.push(federation.depth().min(part.part.settings.max_total_hits));
            settings.insert(query.index.clone(), Arc::clone(&part.part.settings));
            let body = match unions.get(&query.index) {
                Some(union) => {
                    if !apart {
                        total += Page::decode(&union.body).map_err(garbage)?.total;
                    }
                    &union.body
                }
                None => {
                    if !apart {
                        total += page.total;
                    }
                    &part.response.body
                }
            };
            if federation.facets_of(&query.index).is_some() {
                let facets = serde_json::from_slice(body).map_err(garbage)?;
                by_index.insert(query.index.clone(), facets);
            }
        }
        if apart {
            *distinct_totals.entry(names.len() - 1).or_insert(0) += page.total;
        }
        queries.push(FederatedQuery {
            position: at,
            index: names.len() - 1,
            weight: query.weight,
            page,
            ranking: part.part.hits.ranking.clone(),
            primary_key: part.part.primary_key.clone(),
        });
    }
    let (offset, limit) = federation.pagination.window(usize::MAX);
    let distinct = federation.distinct.clone();
    let merged = merge_federated(&queries, &FederatedOptions { offset, limit, distinct, caps });

    for (index, found) in distinct_totals {
        let repeated = merged.repeated.get(index).copied().unwrap_or_default();
        total += found.saturating_sub(repeated);
    }

    let mut out = Vec::from(&b"{\"hits\":["[..]);
    hits(&queries, federation, &parts, &merged, &mut out);
    out.push(b']');
    if federation.queries.iter().any(|query| query.vectors) {
        let vectors = queries.iter().filter(|query| federation.queries[query.position].vectors);
        let vectors: BTreeMap<usize, _> = vectors
            .filter_map(|query| {
                let asked = federation.queries[query.position].position;
                Some((asked, query.page.query_vector.as_deref()?))
            })
            .collect();
        member(&mut out, "queryVectors", &vectors);
    }
    member(&mut out, "processingTimeMs", &(started.elapsed().as_millis() as u64));
    let total = total.saturating_sub(merged.duplicates);
    match federation.pagination {
        Pagination::Offset { offset, limit } => {
            member(&mut out, "limit", &limit);
            member(&mut out, "offset", &offset);
            member(&mut out, "estimatedTotalHits", &total);
        }
        Pagination::Page { page, hits_per_page } => {
            let per_page = hits_per_page as u64;
            member(&mut out, "hitsPerPage", &hits_per_page);
            member(&mut out, "page", &page);
            let pages = if per_page == 0 { 0 } else { total.div_ceil(per_page) };
            member(&mut out, "totalPages", &pages);
            member(&mut out, "totalHits", &total);
        }
    }
    match federation.merge {
        Some(options) => {
            if let Some(all) = facets::merge(by_index, &settings, options) {
                member(&mut out, "facetDistribution", &all.distribution);
                member(&mut out, "facetStats", &all.stats);
            }
        }
        None if by_index.is_empty() => {}
        None => member(&mut out, "facetsByIndex", &multi.named(by_index, &settings)),
    }
    member(&mut out, "requestUid", &Uuid::now_v7());
    if request.original.metadata {
        // Queries that one of the client's was made into follow each other.
        let mut last = None;
        let asked = federation.queries.iter().zip(&parts);
        let metadata: Vec<Value> = asked
            .filter(|(query, _)| last.replace(query.position) != Some(query.position))
            .map(|(query, part)| metadata(query, part))
            .collect();
        member(&mut out, "metadata", &metadata);
    }
    if queries.iter().any(|query| query.page.semantic_hit_count.is_some()) {
        member(&mut out, "semanticHitCount", &merged.semantic);
    }
    if federation.performance {
        let spent = format!("{:.2?}", started.elapsed());
        member(&mut out, "performanceDetails", &json!({"search": spent}));
    }
    out.push(b'}');
    let metas = parts.iter().map(|part| &part.response.meta);
    let mut meta = together(metas.chain(unions.values().map(|union| &union.meta)));
    let of = merged.placed.iter().map(|(at, _)| queries[*at].position);
    meta.insert(HitQueries(of.collect()));
    Ok(Response { status: StatusCode::OK, body: Bytes::from(out), meta })
}

/// The position of the query that each hit of a federated search belongs to; in its [`Meta`].
#[derive(Debug)]
pub(in crate::operation) struct HitQueries(pub Vec<usize>);

impl Extension for HitQueries {}

fn metadata(query: &Query, part: &Answered) -> Value {
    // In a node's order, which clients compare.
    let mut value = json!({});
    if let Ok(Some(text)) = query.body.read::<String>("q") {
        value["query"] = text.into();
    }
    value["queryUid"] = Uuid::now_v7().to_string().into();
    value["indexUid"] = query.name.as_str().into();
    if let Some(key) = &part.part.primary_key {
        value["primaryKey"] = key.as_str().into();
    }
    value
}

/// Appends a member to an object that has one already.
fn member(out: &mut Vec<u8>, name: &str, value: &impl serde::Serialize) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend(serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec()));
}

fn hits(
    queries: &[FederatedQuery],
    federation: &Federation,
    parts: &[Answered],
    merged: &FederatedHits,
    out: &mut Vec<u8>,
) {
    for (at, (query, hit)) in merged.placed.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let query = &queries[*query];
        let part = &parts[query.position].part;
        let asked = &federation.queries[query.position];
        let asked = (asked.name.as_str(), asked.position);
        if !part.project {
            write_federated_hit(query, *hit, asked, &part.hits, out);
            continue;
        }
        let mut wrapped = Vec::from(&b"{\"hits\":["[..]);
        write_federated_hit(query, *hit, asked, &part.hits, &mut wrapped);
        wrapped.extend_from_slice(b"]}");
        let shown = part.settings.displayed.as_deref().unwrap_or_default();
        let projected = project(&Bytes::from(wrapped), shown);
        let inner = projected.strip_prefix(&b"{\"hits\":["[..]);
        out.extend_from_slice(inner.and_then(|rest| rest.strip_suffix(b"]}")).unwrap_or(b"{}"));
    }
}
