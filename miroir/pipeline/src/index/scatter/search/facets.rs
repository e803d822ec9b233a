//! Exact facet counts: the merged lists, and a second round for what they leave open.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::{Scatter, gaps, read};
use crate::error::{Error, ErrorKind, NodeFailure};
use crate::gather;
use crate::index::Request;
use crate::leaf::{Page, Question, Scoped, ScopedMany};
use crate::query::RawObject;
use miroir_core::merge::{self, FacetOptions, MergedFacets};
use miroir_core::view::Route;

/// At most this many facet counts are asked for in a second round.
const MAX_OPEN: usize = 400;

/// Merges facets, and asks for the counts that the leaves' lists leave open: one multi-search per
/// leaf with a filter per value, of its node or of those that stand in for it. What nobody answers
/// for is missing in the answer, and its counts are lower bounds.
///
/// # Errors
/// That shards are unavailable, where the policy is not to answer without them.
pub(super) async fn exact_facets(
    scatter: &Scatter,
    request: &Request,
    scoped: &Scoped,
    (answered, pages): (&[Page], &[merge::Page]),
    options: &FacetOptions,
    route: &Route,
) -> Result<MergedFacets, Error> {
    let merged = merge::merge_facets(pages, options);
    if merged.open.is_empty() {
        return Ok(merged);
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
    let mut calls = Vec::new();
    for (at, (page, values)) in answered.iter().zip(&wanted).enumerate() {
        if !values.is_empty() {
            let counts = count_values(scatter, request, scoped, page, values, route);
            calls.push(async move { (at, values, counts.await) });
        }
    }
    let answers = gather::all(calls).await;
    let mut counts = Vec::new();
    for (leaf, values, answer) in answers {
        let answer = match answer {
            Ok(answer) => answer,
            // Nodes refuse to count it, whoever is asked.
            Err(error) if matches!(error.kind(), ErrorKind::Verbatim { .. }) => None,
            Err(error) => return Err(error),
        };
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
    Ok(merged)
}

/// Counts values in the shards of one leaf. `None`: some of the shards were not counted.
async fn count_values(
    scatter: &Scatter,
    request: &Request,
    scoped: &Scoped,
    page: &Page,
    values: &[(&str, &str, bool)],
    route: &Route,
) -> Result<Option<Vec<u64>>, Error> {
    let Some(mut base) = RawObject::parse(&scoped.body) else { return Ok(None) };
    for key in ["facets", "page", "hitsPerPage", "attributesToHighlight", "attributesToCrop"] {
        base.remove(key);
    }
    base.set("limit", &0);
    let body = base.to_bytes();
    let queries = values.iter().map(|(facet, value, numeric)| {
        let wanted = if *numeric {
            format!("\"{facet}\" = {value}")
        } else {
            format!("\"{facet}\" = {}", merge::quoted(value))
        };
        let filter = Some(joined(scoped.filter.as_ref(), &wanted));
        Scoped { body: body.clone(), filter, ..scoped.clone() }
    });
    let queries = queries.collect();
    let many = ScopedMany { queries, federation: None, operation: "multi_search" };
    let question = Question::Many(Arc::new(many));
    let gathered = read::gather_of(scatter, request, page, question, route).await?;
    if !gathered.missing.is_empty() {
        return Ok(None);
    }
    let mut sums = vec![0_u64; values.len()];
    for part in &gathered.pages {
        let Some(counts) = totals(&part.body).filter(|counts| counts.len() == sums.len()) else {
            let garbage = Error::node(&part.node, NodeFailure::Garbage);
            gaps::go_on_without(scatter, request, &part.shards, &garbage)?;
            return Ok(None);
        };
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum = sum.saturating_add(count);
        }
    }
    Ok(Some(sums))
}

/// The totals of a multi-search.
fn totals(body: &[u8]) -> Option<Vec<u64>> {
    let value: Value = serde_json::from_slice(body).ok()?;
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
