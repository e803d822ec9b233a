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
use crate::store::IndexEntry;

/// Parameters Miroir lets through; a node comments on any other.
const KNOWN: &[&str] = &[
    "q",
    "vector",
    "media",
    "offset",
    "limit",
    "page",
    "hitsPerPage",
    "attributesToRetrieve",
    "retrieveVectors",
    "attributesToCrop",
    "cropLength",
    "attributesToHighlight",
    "showMatchesPosition",
    "showRankingScore",
    "showRankingScoreDetails",
    "showPerformanceDetails",
    "useNetwork",
    "filter",
    "sort",
    "distinct",
    "facets",
    "highlightPreTag",
    "highlightPostTag",
    "cropMarker",
    "matchingStrategy",
    "attributesToSearchOn",
    "hybrid",
    "rankingScoreThreshold",
    "locales",
    "personalize",
];

/// What one node says to `facets: ["*"]` on an index without filterable attributes.
const NO_FACETS: &str = "Invalid facet distribution: Pattern `*` is not filterable. This index does \
                         not have configured filterable attributes.";

/// At most this many facet counts are asked for in a second round.
const MAX_OPEN: usize = 400;

/// What a search needs besides its leaves' answers.
struct Plan {
    scoped: Scoped,
    query: Option<String>,
    pagination: Pagination,
    hits: HitOptions,
    facets: Option<FacetOptions>,
    /// The attribute whose values say how many distinct hits there are.
    count_distinct: Option<String>,
    show_query_vector: bool,
    performance: bool,
    project: bool,
    no_facets: bool,
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

/// Whether the client wants a top-level attribute highlighted or cropped.
fn formats(body: &RawObject, top: &str) -> bool {
    ["attributesToHighlight", "attributesToCrop"].iter().any(|key| {
        let names = body.read::<Vec<String>>(key).ok().flatten().unwrap_or_default();
        names.iter().any(|name| name == "*" || name.split(['.', ':']).next() == Some(top))
    })
}

/// `None`: a node has to say what is wrong.
fn plan(search: &Search, settings: &IndexSettings, index: &IndexEntry) -> Option<Plan> {
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
    let flag =
        |body: &RawObject, key: &str| body.read::<bool>(key).ok().map(|f| f.unwrap_or(false));
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
                    // What is highlighted or cropped is in `_formatted` even if it is not retrieved.
                    if !formats(&body, &top) {
                        hits.drop_formatted.push(top.clone());
                    }
                    hits.drop_fields.push(top);
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
    let performance = flag(&body, "showPerformanceDetails")?;
    let positions = flag(&body, "showMatchesPosition")?;
    // Numbered pages count distinct hits exhaustively; the same value may be on several leaves. Only
    // the query's own attribute is sure to be filterable, and so a facet.
    let pages = matches!(pagination, Pagination::Page { .. });
    let count_distinct =
        body.read::<String>("distinct").ok()?.filter(|_| pages && index.shards > 1);
    let mut drop_facets = Vec::new();
    if let Some(attribute) = &count_distinct {
        let mut facets = asked.clone().unwrap_or_default();
        if !facets.iter().any(|name| name == "*" || name == attribute) {
            facets.push(attribute.clone());
            drop_facets.push(attribute.clone());
            body.set("facets", &facets);
        }
    }
    // Nodes always have one filterable attribute, the shard: they would not refuse the wildcard.
    let no_facets = !settings.filterable
        && asked.as_ref().is_some_and(|facets| facets.len() == 1 && facets[0] == "*");
    let facets = asked.map(|_| FacetOptions {
        max_values_per_facet: settings.max_values,
        sort_by: settings.sort_facets.clone(),
        node_limit: settings.node_max_values,
        drop_facets,
    });
    for key in ["offset", "limit", "page", "hitsPerPage", "useNetwork", "showPerformanceDetails"] {
        body.remove(key);
    }
    body.set("showRankingScore", &true);
    body.set("showRankingScoreDetails", &true);
    let filter = body.remove("filter").filter(|f| f.get() != "null");
    let filter = filter.map(|f| Bytes::from(f.get().to_owned()));
    let unpaged = body.to_bytes();
    let fingerprint =
        read::fingerprint(index.name.as_str(), &[&unpaged, filter.as_deref().unwrap_or_default()]);
    if pages {
        // Pages make leaves count exhaustively.
        body.set("page", &1);
        body.set("hitsPerPage", &depth);
    } else {
        body.set("limit", &depth);
    }
    let query = body.read::<String>("q").ok()?;
    let project = displayed.is_some() && (positions || hits.show_details);
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
        count_distinct,
        show_query_vector: flag(&body, "retrieveVectors")?,
        performance,
        project,
        no_facets,
        fingerprint,
    })
}

/// Adds a key to a JSON object.
fn append(body: &Bytes, key: &str, value: &Value) -> Bytes {
    let open = body.strip_suffix(b"}").unwrap_or(body);
    Bytes::from([open, format!(",\"{key}\":{value}}}").as_bytes()].concat())
}

/// Hides what tells of attributes a client may not see: positions of matches in them, and the values
/// hits were sorted by.
fn project(body: &Bytes, displayed: &[String]) -> Bytes {
    let Ok(mut answer) = serde_json::from_slice::<Value>(body) else { return body.clone() };
    let shown = |name: &str| {
        displayed.iter().any(|d| {
            name == d || name.strip_prefix(d.as_str()).is_some_and(|rest| rest.starts_with('.'))
        })
    };
    for hit in answer["hits"].as_array_mut().into_iter().flatten() {
        if let Some(positions) = hit.get_mut("_matchesPosition").and_then(Value::as_object_mut) {
            positions.retain(|name, _| shown(name));
        }
        if let Some(details) = hit.get_mut("_rankingScoreDetails").and_then(Value::as_object_mut) {
            let hidden = |key: &str| {
                let field = key.strip_suffix(":asc").or_else(|| key.strip_suffix(":desc"));
                field.is_some_and(|field| !field.starts_with("_geoPoint(") && !shown(field))
            };
            *details = std::mem::take(details)
                .into_iter()
                .map(|(key, value)| {
                    if !hidden(&key) {
                        return (key, value);
                    }
                    let order = value["order"].clone();
                    (format!("<hidden-rule-{order}>"), json!({"order": order, "value": "<hidden>"}))
                })
                .collect();
        }
    }
    serde_json::to_vec(&answer).map_or_else(|_| body.clone(), Bytes::from)
}

pub(super) async fn run(
    scatter: &Scatter,
    request: &Request,
    search: &Search,
) -> Result<Response, Error> {
    let started = Instant::now();
    let settings = scatter.shared.settings(&request.index, &request.cx).await?;
    let Some(plan) = plan(search, &settings, &request.index) else {
        return Err(read::refusal(scatter, request).await);
    };
    if plan.no_facets {
        return Err(Error::api("invalid_search_facets", NO_FACETS));
    }
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
        Some(options) => {
            Some(exact_facets(scatter, request, &plan, &gathered.pages, &pages, options).await)
        }
        None => None,
    };
    let total = plan.count_distinct.as_deref().filter(|_| pages.len() > 1);
    let total =
        total.and_then(|name| merge::distinct_total(&pages, name, settings.node_max_values));
    let uid = Uuid::now_v7().to_string();
    let metadata = request.original.metadata.then(|| {
        let mut value = json!({"queryUid": Uuid::now_v7(), "indexUid": request.index.name});
        if let Some(key) = &request.index.primary_key {
            value["primaryKey"] = Value::from(key.as_str());
        }
        if let Some(query) = &plan.query {
            value["query"] = Value::from(query.as_str());
        }
        serde_json::value::to_raw_value(&value)
    });
    let metadata = metadata.transpose().map_err(Error::internal)?;
    let merged = MergeRequest {
        query: plan.query.as_deref().unwrap_or_default(),
        pagination: plan.pagination,
        max_total_hits: settings.max_total_hits,
        hits: plan.hits,
        facets: facets.as_ref().map_or(Facets::None, Facets::Ready),
        total,
        show_query_vector: plan.show_query_vector,
        processing_time_ms: started.elapsed().as_millis() as u64,
        request_uid: &uid,
        metadata: metadata.as_deref(),
    };
    let mut body = merge::merge_search(&pages, &merged);
    if plan.project {
        body = project(&body, settings.displayed.as_deref().unwrap_or_default());
    }
    if plan.performance {
        let spent = format!("{:.2?}", started.elapsed());
        body = append(&body, "performanceDetails", &json!({"search": spent}));
    }
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
        let client =
            plan.scoped.filter.as_deref().and_then(|f| serde_json::from_slice::<Value>(f).ok());
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
