//! Searching the values of one facet: every leaf's values, counted together.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use super::search::Spelling;
use super::{Scatter, fetch, read};
use crate::cluster::settings::IndexSettings;
use crate::error::Error;
use crate::index::{Request, Response};
use crate::leaf::{Question, Scoped};
use crate::node_errors;
use crate::query::{RawObject, Search};
use miroir_core::merge::{FacetHits, FacetSearchOptions};

/// What the leaves are asked, and how their answers are merged. `None`: a node has to say what is
/// wrong.
fn plan(search: &Search, settings: &IndexSettings) -> Option<(Scoped, String, FacetSearchOptions)> {
    let mut body: RawObject = search.body.clone()?;
    let facet = body.read::<String>("facetName").ok()??;
    if body.raw("facetName").is_some_and(node_errors::lists_reserved)
        || body.raw("filter").is_some_and(node_errors::filters_by_reserved)
    {
        return None;
    }
    if body.read::<bool>("useNetwork").ok()?.unwrap_or(false) {
        return None;
    }
    body.remove("useNetwork");
    let query = body.read::<String>("facetQuery").ok()?.is_some();
    let order = settings.sort_facets.get(&facet).or_else(|| settings.sort_facets.get("*"));
    let filter = body.remove("filter").filter(|filter| filter.get() != "null");
    let scoped = Scoped {
        path: "/facet-search",
        body: body.to_bytes(),
        filter: filter.map(|filter| Bytes::from(filter.get().to_owned())),
        operation: "facet_search",
        sort_values: false,
    };
    let options = FacetSearchOptions {
        max_values_per_facet: settings.max_values,
        order: order.copied().unwrap_or_default(),
        query,
        processing_time_ms: 0,
    };
    Some((scoped, facet, options))
}

/// A search that finds every document.
fn everything() -> Scoped {
    let body = Bytes::from_static(b"{}");
    Scoped { path: "/search", body, filter: None, operation: "facet_search", sort_values: false }
}

pub(super) async fn run(
    scatter: &Scatter,
    request: &Request,
    search: &Search,
) -> Result<Response, Error> {
    let settings = scatter.state.settings.get(&request.index, &request.cx).await?;
    let Some((scoped, facet, mut options)) = plan(search, &settings) else {
        return Err(read::refusal(scatter, request).await);
    };
    let parts = [&scoped.body[..], scoped.filter.as_deref().unwrap_or_default()];
    let route =
        read::route(scatter, request, read::fingerprint(request.index.name.as_str(), &parts));
    let shards = read::shards(request);
    let question = Question::Scoped(Arc::new(scoped));
    let gathered = fetch::gather(scatter, request, &shards, question, &route).await?;
    let merging = Instant::now();
    let bodies: Vec<Bytes> = gathered.pages.iter().map(|page| page.body.clone()).collect();
    let mut hits = FacetHits::read(&bodies).map_err(|e| Error::internal(e.to_string()))?;
    let disputed = hits.disputed(&facet, &options);
    if !disputed.is_empty() {
        // One node spells values here as the first of all documents does, found or not.
        let (settings, answered, route) = (&settings, &gathered.pages[..], &route);
        let searches = &[everything()];
        let spelling = Spelling { scatter, request, settings, route, answered, searches };
        hits.spell(&spelling.of(disputed).await);
    }
    // As a node says how long it searched, without the way there.
    options.processing_time_ms = hits.slowest_ms + merging.elapsed().as_millis() as u64;
    let body = hits.write(&options);
    Ok(Response { status: StatusCode::OK, body, meta: read::meta(scatter, request, &gathered) })
}
