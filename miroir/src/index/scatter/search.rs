//! Ranked reads: plan, ask the leaves for the head of their lists, merge.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::fetch::own_words;
use super::{Scatter, read, words};
use crate::documents;
use crate::error::{Error, ErrorKind};
use crate::index::settings::IndexSettings;
use crate::index::{Request, Response};
use crate::leaf::{self, Ask, Page, Scoped};
use crate::merge::{
    self, FacetOptions, Facets, HitOptions, MergeRequest, MergedFacets, Pagination,
};
use crate::node::Call;
use crate::operation::{RawObject, Search};
use crate::routing::ShardSet;

/// Parameters Miroir lets through; a node comments on any other.
const KNOWN: &[&str] = &[
    "q", "vector", "media", "offset", "limit", "page", "hitsPerPage", "attributesToRetrieve",
    "retrieveVectors", "attributesToCrop", "cropLength", "attributesToHighlight",
    "showMatchesPosition", "showRankingScore", "showRankingScoreDetails",
    "showPerformanceDetails", "useNetwork", "filter", "sort", "distinct", "facets",
    "highlightPreTag", "highlightPostTag", "cropMarker", "matchingStrategy",
    "attributesToSearchOn", "hybrid", "rankingScoreThreshold", "locales", "personalize",
];

/// At most this many facet counts are asked for in a second round.
const MAX_OPEN: usize = 400;

/// What a search needs besides its leaves' answers.
struct Plan {
    scoped: Scoped,
    query: String,
    pagination: Pagination,
    hits: HitOptions,
    facets: Option<FacetOptions>,
    show_query_vector: bool,
    fingerprint: u64,
}

/// Attributes a client may see, out of those it names. `"*"` stands for all of them.
fn visible(names: Vec<String>, displayed: Option<&[String]>) -> Vec<String> {
    let names = names.into_iter().filter(|name| !documents::is_reserved(name));
    let Some(displayed) = displayed else { return names.collect() };
    let mut out: Vec<String> = Vec::new();
    for name in names {
        if name == "*" {
            out.extend(displayed.iter().cloned());
            continue;
        }
        for shown in displayed {
            let inside = |outer: &str, inner: &str| {
                inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
            };
            if *shown == name || inside(shown, &name) {
                out.push(name.clone());
            } else if inside(&name, shown) {
                out.push(shown.clone());
            }
        }
    }
    out
}

/// As [`visible`], for `name:length` entries.
fn visible_crops(names: Vec<String>, displayed: Option<&[String]>) -> Vec<String> {
    let mut out = Vec::new();
    for entry in names {
        let (name, length) = match entry.split_once(':') {
            Some((name, length)) => (name.to_owned(), format!(":{length}")),
            None => (entry, String::new()),
        };
        out.extend(visible(vec![name], displayed).into_iter().map(|name| name + &length));
    }
    out
}

/// `None`: a node has to say what is wrong.
fn plan(search: &Search, settings: &IndexSettings, index: &str) -> Option<Plan> {
    let mut body = search.body.clone()?;
    if !body.keys().all(|key| KNOWN.contains(&key)) || body.has("personalize") {
        return None;
    }
    for key in ["offset", "limit"] {
        if body.raw(key) == Some("null") {
            return None;
        }
    }
    for key in ["filter", "sort", "distinct", "facets"] {
        if body.raw(key).is_some_and(words::names_reserved) {
            return None;
        }
    }
    let flag = |body: &RawObject, key: &str| body.read::<bool>(key).ok().map(|f| f.unwrap_or(false));
    if flag(&body, "useNetwork")? {
        return None;
    }
    let (page, per_page) =
        (body.read::<usize>("page").ok()?, body.read::<usize>("hitsPerPage").ok()?);
    let offset = body.read::<usize>("offset").ok()?.unwrap_or(0);
    let limit = body.read::<usize>("limit").ok()?.unwrap_or(20);
    let pagination = if page.is_some() || per_page.is_some() {
        Pagination::Page { page: page.unwrap_or(1), hits_per_page: per_page.unwrap_or(20) }
    } else {
        Pagination::Offset { offset, limit }
    };
    let depth = pagination.depth(settings.max_total_hits);
    let displayed = settings.displayed.as_deref();

    let mut hits = HitOptions {
        show_score: flag(&body, "showRankingScore")?,
        show_details: flag(&body, "showRankingScoreDetails")?,
        score_threshold: body.read("rankingScoreThreshold").ok()?,
        distinct: body.read("distinct").ok()?.or_else(|| settings.distinct.clone()),
        ranking: settings.ranking.clone(),
        ..HitOptions::default()
    };
    let mut retrieve = body.read::<Vec<String>>("attributesToRetrieve").ok()?;
    if displayed.is_some() && retrieve.is_none() {
        retrieve = Some(vec!["*".to_owned()]);
    }
    if let Some(list) = retrieve {
        let everything = list.iter().any(|name| name == "*") && displayed.is_none();
        let mut list = visible(list, displayed);
        if let Some(distinct) = hits.distinct.clone().filter(|_| !everything) {
            let top = distinct.split('.').next().unwrap_or_default().to_owned();
            if !list.iter().any(|name| *name == distinct || *name == top) {
                // Hits are told apart by it, but the client did not ask to see it.
                if !list.iter().any(|name| name.split('.').next() == Some(&top)) {
                    hits.drop_fields.push(top.clone());
                    hits.drop_formatted.push(top);
                }
                list.push(distinct);
            }
        }
        body.set("attributesToRetrieve", &list);
    }
    if let Some(list) = body.read::<Vec<String>>("attributesToHighlight").ok()? {
        body.set("attributesToHighlight", &visible(list, displayed));
    }
    if let Some(list) = body.read::<Vec<String>>("attributesToCrop").ok()? {
        body.set("attributesToCrop", &visible_crops(list, displayed));
    }
    let asked = body.read::<Vec<String>>("facets").ok()?.filter(|facets| !facets.is_empty());
    let facets = asked.map(|_| FacetOptions {
        max_values_per_facet: settings.max_values,
        sort_by: settings.sort_facets.clone(),
        node_limit: settings.node_max_values,
        drop_facets: Vec::new(),
    });
    for key in ["offset", "limit", "page", "hitsPerPage", "useNetwork", "showPerformanceDetails"] {
        body.remove(key);
    }
    body.set("showRankingScore", &true);
    body.set("showRankingScoreDetails", &true);
    let filter = body.remove("filter").filter(|f| f.get() != "null");
    let filter = filter.map(|f| Bytes::from(f.get().to_owned()));
    let unpaged = body.to_bytes();
    let fingerprint = read::fingerprint(index, &[&unpaged, filter.as_deref().unwrap_or_default()]);
    if matches!(pagination, Pagination::Page { .. }) {
        // Pages make leaves count exhaustively.
        body.set("page", &1);
        body.set("hitsPerPage", &depth);
    } else {
        body.set("limit", &depth);
    }
    let query = body.read::<String>("q").ok()?.unwrap_or_default();
    Some(Plan {
        scoped: Scoped {
            path: "/search",
            body: body.to_bytes(),
            filter,
            operation: "search",
            sort_values: false,
        },
        query,
        pagination,
        hits,
        facets,
        show_query_vector: flag(&body, "retrieveVectors")?,
        fingerprint,
    })
}

pub(super) async fn run(
    scatter: &Scatter,
    request: &Request,
    search: &Search,
) -> Result<Response, Error> {
    let started = Instant::now();
    let settings = scatter.shared.settings(&request.index, &request.cx).await?;
    let Some(plan) = plan(search, &settings, request.index.name.as_str()) else {
        return Err(read::refusal(scatter, request).await);
    };
    let shards = request
        .hints
        .shards
        .as_ref()
        .map_or_else(|| ShardSet::full(request.index.shards), |ask| ask.value.clone());
    let route = read::route(request, plan.fingerprint);
    let ask = Ask::Scoped(Arc::new(plan.scoped.clone()));
    let gathered = match read::gather(scatter, request, &shards, ask, &route).await {
        Ok(gathered) => gathered,
        Err(error) if matches!(error.kind(), ErrorKind::Verbatim { .. }) => {
            return Err(own_words(scatter, request, error).await);
        }
        Err(error) => return Err(error),
    };
    let mut pages = Vec::with_capacity(gathered.pages.len());
    for page in &gathered.pages {
        let decoded =
            merge::Page::decode(&page.body).map_err(|_| Error::node(&page.node, "garbage"))?;
        pages.push(decoded);
    }
    let facets = match &plan.facets {
        Some(options) => Some(exact_facets(scatter, request, &plan, &gathered.pages, &pages, options).await),
        None => None,
    };
    let uid = Uuid::now_v7().to_string();
    let metadata = request.original.metadata.then(|| {
        let mut value = json!({"queryUid": Uuid::now_v7(), "indexUid": request.index.name});
        if let Some(key) = &request.index.primary_key {
            value["primaryKey"] = Value::from(key.as_str());
        }
        serde_json::value::to_raw_value(&value)
    });
    let metadata = metadata.transpose().map_err(Error::internal)?;
    let merged = MergeRequest {
        query: &plan.query,
        pagination: plan.pagination,
        max_total_hits: settings.max_total_hits,
        hits: plan.hits,
        facets: facets.as_ref().map_or(Facets::None, Facets::Ready),
        total: None,
        show_query_vector: plan.show_query_vector,
        processing_time_ms: started.elapsed().as_millis() as u64,
        request_uid: &uid,
        metadata: metadata.as_deref(),
    };
    let body = merge::merge_search(&pages, &merged);
    Ok(Response { status: StatusCode::OK, body, meta: read::meta(scatter, request, &gathered) })
}

/// Merges facets, and asks for the counts that the leaves' lists leave open: one multi-search per
/// node with a filter per value. A node that does not answer leaves lower bounds.
async fn exact_facets(
    scatter: &Scatter,
    request: &Request,
    plan: &Plan,
    answered: &[Page],
    pages: &[merge::Page],
    options: &FacetOptions,
) -> MergedFacets {
    let merged = merge::merge_facets(pages, options);
    if merged.open.is_empty() {
        return merged;
    }
    let outcome = |name: &'static str| {
        metrics::counter!("miroir_facet_refinements_total", "outcome" => name).increment(1);
    };
    let mut wanted: Vec<Vec<(&str, &str, bool)>> = vec![Vec::new(); pages.len()];
    for open in merged.open.iter().take(MAX_OPEN) {
        for leaf in &open.leaves_to_ask {
            wanted[*leaf].push((&open.facet, &open.value, open.numeric));
        }
    }
    let calls = answered.iter().zip(&wanted).enumerate().filter(|(_, (_, w))| !w.is_empty());
    let answers = join_all(calls.map(|(at, (page, values))| async move {
        let counts = count_values(scatter, request, plan, page, values).await;
        (at, values, counts)
    }))
    .await;
    let mut counts = Vec::new();
    for (leaf, values, answer) in answers {
        let Some(answer) = answer else {
            outcome("incomplete");
            continue;
        };
        for ((facet, value, _), count) in values.iter().zip(answer) {
            counts.push((leaf, (*facet).to_owned(), (*value).to_owned(), count));
        }
    }
    let merged = merged.complete(&counts);
    outcome("refined");
    merged
}

async fn count_values(
    scatter: &Scatter,
    request: &Request,
    plan: &Plan,
    page: &Page,
    values: &[(&str, &str, bool)],
) -> Option<Vec<u64>> {
    let mut base: RawObject = RawObject::parse(&plan.scoped.body)?;
    for key in ["facets", "page", "hitsPerPage", "attributesToHighlight", "attributesToCrop"] {
        base.remove(key);
    }
    base.set("limit", &0);
    base.set("indexUid", &request.index.physical);
    let mut queries = Vec::with_capacity(values.len());
    for (facet, value, numeric) in values {
        let wanted = if *numeric {
            format!("\"{facet}\" = {value}")
        } else {
            format!("\"{facet}\" = \"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
        };
        // The value's condition joins the client's filter; the leaf's shards join both.
        let client = plan.scoped.filter.as_deref().and_then(|f| serde_json::from_slice::<Value>(f).ok());
        let joined = match client {
            None => json!(wanted),
            Some(Value::Array(mut list)) => {
                list.push(wanted.into());
                Value::Array(list)
            }
            Some(other) => json!([other, wanted]),
        };
        let scoped = Scoped {
            body: base.to_bytes(),
            filter: Some(Bytes::from(joined.to_string())),
            ..plan.scoped.clone()
        };
        let body = leaf::restrict(&scoped, Some((&page.shards, request.index.shards)));
        queries.push(serde_json::from_slice::<Value>(&body).ok()?);
    }
    let call = Call::new(http::Method::POST, "multi_search", "/multi-search")
        .json(json!({"queries": queries}).to_string());
    let body = scatter.shared.call(&page.node, &call, &request.cx).await.ok()?;
    let value: Value = serde_json::from_slice(&body).ok()?;
    let results = value.get("results")?.as_array()?;
    results.iter().map(|r| r.get("estimatedTotalHits")?.as_u64()).collect()
}
