//! Exact facet counts: the merged lists, and a second round for what they leave open.

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::super::Scatter;
use crate::index::Request;
use crate::leaf::{self, Page, Scoped};
use crate::node::Call;
use crate::query::RawObject;
use miroir_core::merge::{self, FacetOptions, MergedFacets};

/// At most this many facet counts are asked for in a second round.
const MAX_OPEN: usize = 400;
/// Merges facets, and asks for the counts that the leaves' lists leave open: one multi-search per
/// node with a filter per value. A node that does not answer leaves lower bounds.
pub(super) async fn exact_facets(
    scatter: &Scatter,
    request: &Request,
    scoped: &Scoped,
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
        let counts = count_values(scatter, request, scoped, page, values).await;
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
    scoped: &Scoped,
    page: &Page,
    values: &[(&str, &str, bool)],
) -> Option<Vec<u64>> {
    let mut base: RawObject = RawObject::parse(&scoped.body)?;
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
            format!("\"{facet}\" = {}", merge::quoted(value))
        };
        let counted = Scoped {
            body: base.to_bytes(),
            filter: Some(joined(scoped.filter.as_ref(), &wanted)),
            ..scoped.clone()
        };
        let body = leaf::restrict(&counted, Some((&page.shards, request.index.shards)));
        queries.push(serde_json::from_slice::<Value>(&body).ok()?);
    }
    let call = Call::read(http::Method::POST, "multi_search", "/multi-search")
        .json(json!({"queries": queries}).to_string());
    let body = scatter.state.nodes.call(&page.node, &call, &request.cx).await.ok()?;
    let value: Value = serde_json::from_slice(&body).ok()?;
    let results = value.get("results")?.as_array()?;
    results.iter().map(|r| r.get("estimatedTotalHits")?.as_u64()).collect()
}

/// The client's filter and one more condition; the leaf's shards join both.
pub(super) fn joined(client: Option<&Bytes>, condition: &str) -> Bytes {
    let client = client.and_then(|filter| serde_json::from_slice::<Value>(filter).ok());
    let joined = match client {
        None => json!(condition),
        Some(Value::Array(mut list)) => {
            list.push(condition.into());
            Value::Array(list)
        }
        Some(other) => json!([other, condition]),
    };
    Bytes::from(joined.to_string())
}
