//! Ranked reads: plan, ask the leaves for the head of their lists, merge.
//!
//! | file | |
//! | --- | --- |
//! | `plan` | what the leaves are asked and what Miroir does itself |
//! | `deep` | pages far down the list, whose hits are fetched apart |
//! | `distinct` | totals and facets under a distinct attribute |
//! | `distinct_listed` | the same from lists of all candidates |
//! | `distinct_multi_value` | hits under a distinct attribute with several values per document |
//! | `facets` | exact facet counts |
//! | `frequency` | `matchingStrategy: frequency` |
//! | `typed` | marks of a half-typed last word |
//! | `spellings` | spellings of values where leaves show several |
//! | `threshold` | totals and facets under `rankingScoreThreshold` |
//! | `whole` | pages of the one node that holds everything |
//! | `present` | the last touches to the merged answer |

mod deep;
mod distinct;
mod distinct_listed;
mod distinct_multi_value;
mod facets;
mod frequency;
mod plan;
mod project;
mod spellings;
mod threshold;
mod typed;
mod vectors;
mod whole;

pub(super) use deep::HitSizes;

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;
use uuid::Uuid;

use super::hybrid::{self, Mode};
use super::read::Gathered;
use super::{Scatter, explained, fetch, gaps, read};
use crate::cluster::settings::IndexSettings;
use crate::error::{Error, NodeFailure};
use crate::extension::Extension;
use crate::index::{Request, Response};
use crate::leaf::{self, Question, Scoped};
use crate::meta::Meta;
use crate::query::{Search, SearchKind};
use distinct::Counter;
use facets::exact_facets;
use miroir_core::merge::{self, Facets, HitOptions, MergeRequest, MergedHits, Pagination};
use miroir_core::routing::ShardSet;
use miroir_core::view::Route;
use plan::SearchPlan;
pub(super) use plan::{joined, plan, visible};
pub(super) use project::append;
pub(crate) use project::project;
pub(super) use spellings::Spelling;

/// The code of errors about `facets`.
pub(crate) const FACETS: &str = "invalid_search_facets";

/// What the leaves answered, and what was found out about it.
struct Found {
    pages: Vec<merge::Page>,
    gathered: Gathered,
    facets: Option<merge::MergedFacets>,
    /// The total, where it is not the pages' own.
    total: Option<u64>,
    /// The halves of a hybrid search and the order of their hits, where both have a share.
    fused: Option<(Vec<merge::Page>, MergedHits)>,
    /// The order of the hits, where they were merged already.
    order: Option<MergedHits>,
}

impl Found {
    /// Merges the pages. If a hit was not what it was taken for, they are decoded as a whole, and merged
    /// again.
    fn merge(&mut self, hits: &HitOptions) -> Result<MergedHits, Error> {
        if let Some(order) = self.order.take() {
            return Ok(order);
        }
        let order = merge::merge_hits(&self.pages, hits);
        if self.pages.iter().all(merge::Page::is_sound) {
            return Ok(order);
        }
        self.pages = decode_all(&self.gathered, merge::Page::decode)?;
        Ok(merge::merge_hits(&self.pages, hits))
    }
}

/// How often a search is begun anew without nodes that do not answer its second round.
const ANEW: usize = 2;

/// Answers a search. Where a node does not answer about its own page again, the search is begun anew
/// without it, if others hold its shards.
pub(super) async fn run(
    scatter: &Scatter,
    request: &Request,
    search: &Search,
) -> Result<Response, Error> {
    let mut answer = once(scatter, request, search).await;
    let mut other = None;
    for _ in 0..ANEW {
        let asked = other.as_ref().unwrap_or(request);
        let silent = gaps::silent_nodes(asked);
        if silent.is_empty() {
            break;
        }
        let Some(without) = read::elsewhere(scatter, asked, silent) else { break };
        answer = once(scatter, &without, search).await;
        other = Some(without);
    }
    answer
}

async fn once(scatter: &Scatter, request: &Request, search: &Search) -> Result<Response, Error> {
    let started = Instant::now();
    let settings = scatter.state.settings.get(&request.index, &request.cx).await?;
    let Some(mut plan) = plan(search, &settings, &request.index) else {
        return Err(read::refusal(scatter, request).await);
    };
    if let (Some(explain), Some(body)) = (&request.cx.explain, &search.body) {
        explained::asked(explain, request, body, &settings);
    }
    if let Some(said) = &plan.refused_facets {
        return Err(refused_facets(scatter, request, said).await);
    }
    let part = (search.kind == SearchKind::Part)
        .then(|| part(&mut plan, &settings, request.index.primary_key.as_ref()));
    let tuning = &scatter.state.options.vector_search;
    let mode = match &search.body {
        Some(body) => hybrid::mode(body, tuning)?,
        None => Mode::Keyword,
    };
    let shards = read::shards(request);
    let route = read::route(scatter, request, plan.fingerprint);
    // A node that holds everything counts words itself.
    let several = plan.frequency.is_some() && !read::whole(scatter, request, &shards, &route);
    let typing = typed::prepare(&mut plan, search, &settings, || {
        !read::whole(scatter, request, &shards, &route)
    });
    let mut typed_words = Vec::new();
    let mut apart = match &plan.frequency {
        Some(terms) if several => {
            Box::pin(frequency::find(scatter, request, &plan, &settings, terms, &shards, &route))
                .await?
        }
        _ => None,
    };
    let mut hits = plan.hits.clone();
    (hits.offset, hits.limit) = plan.pagination.window(settings.max_total_hits);
    if apart.is_none()
        && mode == Mode::Keyword
        && let Some(own) = whole::question(search, &plan, &settings)
        && read::whole(scatter, request, &shards, &route)
    {
        let whom = (&shards, &route);
        apart = Box::pin(whole::find(scatter, request, own, &plan, &settings, whom)).await?;
        if apart.is_some() {
            // Its page is the client's, and what scores too little is left out.
            hits.begins = hits.offset;
            hits.score_threshold = None;
        }
    }
    let mut found = match apart {
        Some(found) => found,
        None if mode != Mode::Keyword => {
            let finding = vectors::find(scatter, request, &plan, &settings, &mode, &shards, &route);
            match Box::pin(finding).await? {
                Some(found) => found,
                None => return Box::pin(by_words(scatter, request, search)).await,
            }
        }
        None => {
            let plain = typing.is_none() && search.kind == SearchKind::Hits;
            let asked = plain.then(|| deep::questions(scatter, request, &plan, &hits));
            let deep = match asked.flatten() {
                Some(asked) => {
                    let whom = (&shards, &route);
                    Box::pin(deep::find(scatter, request, &plan, &settings, whom, &hits, asked))
                        .await?
                }
                None => None,
            };
            let finding = find(scatter, request, &plan, &settings, &shards, &route);
            match (deep, &typing) {
                (Some(found), _) => found,
                (None, Some(typing)) => {
                    let asking = typing.words(scatter, request, &plan, &route);
                    let (found, words) = tokio::join!(finding, asking);
                    typed_words = words;
                    found?
                }
                (None, None) => finding.await?,
            }
        }
    };
    let order = match found.fused {
        Some(_) => MergedHits::default(),
        None => found.merge(&hits)?,
    };
    deep::learn(scatter, request, &found, &order);
    let (request_uid, query_uid) = (Uuid::now_v7(), Uuid::now_v7());
    let uid = request_uid.to_string();
    let metadata = metadata(request, &plan, query_uid)?;
    let uids =
        std::iter::once(request_uid).chain(metadata.is_some().then_some(query_uid)).collect();
    let merged = MergeRequest {
        query: plan.query.as_deref().unwrap_or_default(),
        pagination: plan.pagination,
        max_total_hits: settings.max_total_hits,
        hits: plan.hits,
        facets: found.facets.as_ref().map_or(Facets::None, Facets::Ready),
        total: found.total,
        show_query_vector: plan.show_query_vector,
        processing_time_ms: started.elapsed().as_millis() as u64,
        request_uid: &uid,
        metadata: metadata.as_deref(),
    };
    let mut body = match &found.fused {
        Some((halves, order)) => merge::write_search(halves, order, &hits, &merged),
        None => {
            metrics::counter!("miroir_document_order_descending_leaves_total")
                .increment(order.descending);
            merge::write_search(&found.pages, &order, &hits, &merged)
        }
    };
    if let Some(typing) = &typing {
        body = Box::pin(typing.finish(scatter, request, &body, &found, &typed_words)).await;
    }
    if plan.project {
        body = project(&body, settings.displayed.as_deref().unwrap_or_default());
    }
    if plan.performance {
        let spent = format!("{:.2?}", started.elapsed());
        body = append(&body, "performanceDetails", &json!({"search": spent}));
    }
    let mut meta = Meta { uids, ..read::meta(scatter, request, &found.gathered) };
    if let Some(part) = part {
        meta.insert(part);
    }
    Ok(Response { status: StatusCode::OK, body, meta })
}

/// The refusal of facets that nodes take. One node looks at them last, so that whatever nodes complain
/// of comes first, but for other facets.
async fn refused_facets(scatter: &Scatter, request: &Request, said: &str) -> Error {
    let own = || Error::api(FACETS, said);
    if request.cx.explain.as_ref().is_some_and(|explain| !explain.executes()) {
        return own();
    }
    let complaint = read::complaint(scatter, request).await;
    complaint.filter(|error| !error.has_code(FACETS)).unwrap_or_else(own)
}

fn metadata(
    request: &Request,
    plan: &SearchPlan,
    query_uid: Uuid,
) -> Result<Option<Box<RawValue>>, Error> {
    let metadata = request.original.metadata.then(|| {
        // In a node's order, which clients compare.
        let mut value = json!({});
        if let Some(query) = &plan.query {
            value["query"] = query.as_str().into();
        }
        value["queryUid"] = query_uid.to_string().into();
        value["indexUid"] = request.index.name.as_str().into();
        if let Some(key) = &request.index.primary_key {
            value["primaryKey"] = key.as_str().into();
        }
        serde_json::value::to_raw_value(&value)
    });
    metadata.transpose().map_err(Error::internal)
}

/// Asks all leaves one question and decodes their answers.
async fn ask(
    scatter: &Scatter,
    request: &Request,
    scoped: Scoped,
    shards: &ShardSet,
    route: &Route,
) -> Result<(Gathered, Vec<merge::Page>), Error> {
    let gathered = gather(scatter, request, scoped, shards, route).await?;
    let pages = decode_all(&gathered, merge::Page::decode)?;
    Ok((gathered, pages))
}

async fn gather(
    scatter: &Scatter,
    request: &Request,
    scoped: Scoped,
    shards: &ShardSet,
    route: &Route,
) -> Result<Gathered, Error> {
    let question = Question::Scoped(Arc::new(scoped));
    fetch::gather(scatter, request, shards, question, route).await
}

/// Decodes a leaf's answer in one of the ways of [`merge::Page`].
fn decode<E>(
    page: &leaf::Page,
    by: fn(&Bytes) -> Result<merge::Page, E>,
) -> Result<merge::Page, Error> {
    by(&page.body).map_err(|_| Error::node(&page.node, NodeFailure::Garbage))
}

/// Decodes the answers of all leaves.
fn decode_all<E>(
    gathered: &Gathered,
    by: fn(&Bytes) -> Result<merge::Page, E>,
) -> Result<Vec<merge::Page>, Error> {
    gathered.pages.iter().map(|page| decode(page, by)).collect()
}

/// Finds hits the plain way: the client's own question, to all leaves.
async fn find(
    scatter: &Scatter,
    request: &Request,
    plan: &SearchPlan,
    settings: &IndexSettings,
    shards: &ShardSet,
    route: &Route,
) -> Result<Found, Error> {
    let counter = Counter { scatter, request, plan, shards, route, settings };
    if plan.threshold.is_some() {
        return Box::pin(counter.above_threshold(settings)).await;
    }
    let gathered = gather(scatter, request, plan.scoped.clone(), shards, route).await?;
    // Whoever counts goes through all hits.
    let read = if plan.counts() { merge::Page::decode } else { merge::Page::open };
    let mut pages = decode_all(&gathered, read)?;
    let mut uncovered = false;
    if let Some(attribute) = plan.apart.as_deref().filter(|_| pages.len() > 1) {
        // Hits in front of a page without any count, too.
        let depth = || plan.pagination.depth(settings.max_total_hits);
        let wanted = plan.estimate.as_ref().map_or_else(depth, |estimate| estimate.wanted);
        let uncovering = counter.uncover(attribute, &gathered.pages, wanted, &mut pages);
        uncovered = Box::pin(uncovering).await?;
    }
    if let Some(estimate) = &plan.estimate
        && let Some(counted) =
            Box::pin(counter.estimate(estimate, &gathered, &pages, uncovered)).await?
    {
        let (facets, total) = (counted.facets, Some(counted.total));
        return Ok(Found { pages, gathered, facets, total, fused: None, order: None });
    }
    let total = distinct_total(plan, settings, &pages);
    let numbered = matches!(plan.pagination, Pagination::Page { .. }) && pages.len() > 1;
    if let (Some(attribute), None, true) = (&plan.list_distinct, total, numbered)
        && let Some(counted) =
            Box::pin(counter.numbered(attribute, &gathered.pages, &pages)).await?
    {
        let (facets, total) = (counted.facets, Some(counted.total));
        return Ok(Found { pages, gathered, facets, total, fused: None, order: None });
    }
    let mut facets = match &plan.count_distinct {
        Some(attribute) if total.is_some() => {
            Box::pin(counter.paged(attribute, &gathered, &pages)).await?
        }
        _ => None,
    };
    if let (None, Some(options)) = (&facets, &plan.facets) {
        let both = (&gathered.pages[..], &pages[..]);
        facets = Some(Box::pin(counter.facets(&plan.scoped, both, options)).await?);
    }
    Ok(Found { pages, gathered, facets, total, fused: None, order: None })
}

/// How many hits there are over all leaves where a value may be on several of them.
fn distinct_total(
    plan: &SearchPlan,
    settings: &IndexSettings,
    pages: &[merge::Page],
) -> Option<u64> {
    let name = plan.count_distinct.as_deref().filter(|_| pages.len() > 1)?;
    merge::distinct_total(pages, name, settings.node_max_values)
}

/// What the client sees of the hits of one query of a federated search; in the [`Meta`] of its
/// answer.
#[derive(Clone, Debug)]
pub struct Part {
    /// Paging, scores and fields, as the client asked for them.
    pub hits: HitOptions,
    /// Primary key of the index; `None` while it has none.
    pub primary_key: Option<String>,
    /// Settings of the index, as of the version the query was answered under.
    pub settings: Arc<IndexSettings>,
    /// Whether hits hold attributes that the client may not see, so that they are taken out.
    pub project: bool,
}

impl Extension for Part {}

/// Keeps what the client is to see of the hits for whoever merges them further, and has them come
/// with everything.
fn part(
    plan: &mut SearchPlan,
    settings: &Arc<IndexSettings>,
    primary_key: Option<&String>,
) -> Part {
    let part = Part {
        hits: plan.hits.clone(),
        primary_key: primary_key.cloned(),
        settings: Arc::clone(settings),
        project: std::mem::take(&mut plan.project),
    };
    plan.hits.show_score = true;
    plan.hits.show_details = true;
    plan.hits.drop_fields.clear();
    plan.hits.drop_formatted.clear();
    part
}

/// The keyword half of a hybrid search as the whole of it.
async fn by_words(
    scatter: &Scatter,
    request: &Request,
    search: &Search,
) -> Result<Response, Error> {
    let mut words = search.clone();
    if let Some(body) = &mut words.body {
        for key in ["hybrid", "vector", "media"] {
            body.remove(key);
        }
    }
    let mut answer = Box::pin(once(scatter, request, &words)).await?;
    answer.body = append(&answer.body, "semanticHitCount", &json!(0));
    Ok(answer)
}
