//! Ranked reads: plan, ask the leaves for the head of their lists, merge.
//!
//! | file | |
//! | --- | --- |
//! | `plan` | what the leaves are asked and what Miroir does itself |
//! | `facets` | exact facet counts |
//! | `present` | the last touches to the merged answer |

mod facets;
mod plan;
mod present;

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::fetch::own_words;
use super::{Scatter, read};
use crate::error::{Error, ErrorKind};
use crate::index::{Request, Response};
use crate::leaf::Ask;
use crate::merge::{self, Facets, MergeRequest};
use crate::operation::Search;
use crate::routing::ShardSet;
use facets::exact_facets;
use plan::plan;
use present::{append, project};

/// What one node says to `facets: ["*"]` on an index without filterable attributes.
const NO_FACETS: &str = "Invalid facet distribution: Pattern `*` is not filterable. This index does \
                         not have configured filterable attributes.";
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
