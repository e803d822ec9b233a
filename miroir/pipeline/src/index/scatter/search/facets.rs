//! Exact facet counts: the merged lists, and a second round for what they leave open.

use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::super::{Scatter, gaps, read};
use crate::error::{Error, ErrorKind, NodeFailure};
use crate::gather;
use crate::index::Request;
use crate::leaf::{Page, Question, Scoped, ScopedMany};
use crate::query::RawObject;
use miroir_core::filter::size;
use miroir_core::merge::{self, FacetOptions, MergedFacets};
use miroir_core::view::Route;

/// At most this many facet counts are asked for in a second round.
const MAX_OPEN: usize = 400;

/// Conditions and bytes of the client's filter that values asked for one by one may make of it. Beyond,
/// counts are lower bounds: no question may cost a node hundreds of times what its filter does.
const MAX_CONDITIONS: usize = 4000;
const MAX_BYTES: usize = 4_000_000;

/// Merges facets, and asks for the counts that the leaves' lists leave open: one multi-search per
/// leaf with a query per facet, of its node or of those that stand in for it. What nobody answers
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
    let mut wanted: Vec<Vec<Wanted<'_>>> = vec![Vec::new(); pages.len()];
    for open in merged.open.iter().take(MAX_OPEN) {
        for leaf in &open.leaves_to_ask {
            wanted[*leaf].push((&open.facet, &open.value, open.numeric));
        }
    }
    let mut calls = Vec::new();
    for (at, (page, values)) in answered.iter().zip(&wanted).enumerate() {
        if !values.is_empty() {
            let leaf = Leaf { scatter, request, scoped, page, route };
            let limit = options.node_limit;
            calls.push(async move { (at, values, count_values(&leaf, values, limit).await) });
        }
    }
    let answers = gather::all(calls).await;
    let mut counts = Vec::new();
    for (leaf, values, answer) in answers {
        let answer = match answer {
            Ok(answer) => answer,
            // Nodes refuse to count it, whoever is asked.
            Err(error) if matches!(error.kind(), ErrorKind::Verbatim { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        let before = counts.len();
        for ((facet, value, _), count) in values.iter().zip(answer) {
            if let Some(count) = count {
                counts.push((leaf, (*facet).to_owned(), (*value).to_owned(), count));
            }
        }
        if counts.len() - before < values.len() {
            outcome("incomplete");
        }
    }
    let merged = merged.complete(&counts);
    outcome("refined");
    Ok(merged)
}

/// A value that is counted: its facet, the value as it is shown, and whether it is a number.
type Wanted<'a> = (&'a str, &'a str, bool);

/// Counts values in the shards of one leaf: by one query for each facet, which lists them; and one by
/// one what a full list has no room for. `None`: that value was not counted.
///
/// # Errors
/// What nodes say of the question, or that shards are unavailable.
async fn count_values(
    leaf: &Leaf<'_>,
    values: &[Wanted<'_>],
    limit: usize,
) -> Result<Vec<Option<u64>>, Error> {
    let Some(mut base) = RawObject::parse(&leaf.scoped.body) else {
        return Ok(vec![None; values.len()]);
    };
    for key in ["facets", "page", "hitsPerPage", "attributesToHighlight", "attributesToCrop"] {
        base.remove(key);
    }
    base.set("limit", &0);
    // Which documents are left of equal ones depends on the filter: each value is asked for alone.
    let mut counts = if base.has("distinct") {
        vec![None; values.len()]
    } else {
        leaf.list(&base, values, limit).await?
    };
    let left: Vec<usize> = (0..values.len()).filter(|at| counts[*at].is_none()).collect();
    if left.len() <= leaf.affordable() {
        let alone: Vec<Wanted<'_>> = left.iter().map(|at| values[*at]).collect();
        for (at, count) in left.into_iter().zip(leaf.count(&base, &alone).await?) {
            counts[at] = count;
        }
    }
    Ok(counts)
}

/// A leaf that was answered for, and what it was asked.
struct Leaf<'a> {
    scatter: &'a Scatter,
    request: &'a Request,
    scoped: &'a Scoped,
    page: &'a Page,
    route: &'a Route,
}

impl Leaf<'_> {
    /// How often a node may be asked the client's filter once more.
    fn affordable(&self) -> usize {
        let filter = self.scoped.filter.as_deref().unwrap_or_default();
        let conditions = serde_json::from_slice(filter).map_or(1, |filter| size(&filter).0.max(1));
        MAX_OPEN.min(MAX_CONDITIONS / conditions).min(MAX_BYTES / filter.len().max(1))
    }

    /// Lists the values of each facet among documents that have one of those wanted.
    async fn list(
        &self,
        base: &RawObject,
        values: &[Wanted<'_>],
        limit: usize,
    ) -> Result<Vec<Option<u64>>, Error> {
        let mut facets: IndexMap<&str, Vec<usize>> = IndexMap::new();
        for (at, (facet, ..)) in values.iter().enumerate() {
            facets.entry(facet).or_default().push(at);
        }
        let queries = facets.iter().map(|(facet, wanted)| {
            let mut body = base.clone();
            body.set("facets", &[facet]);
            let literals: Vec<_> = wanted.iter().map(|at| literal(&values[*at])).collect();
            let condition = format!("{} IN [{}]", merge::quoted(facet), literals.join(", "));
            self.narrowed(body.to_bytes(), &condition)
        });
        let mut counts = vec![Some(0_u64); values.len()];
        let Some(parts) = self
            .ask(queries.collect(), |results| {
                let lists = facets.iter().zip(results).map(|((facet, wanted), result)| {
                    let list = result.get("facetDistribution")?.get(*facet)?.as_object()?;
                    let list =
                        list.iter().map(|(value, count)| Some((value.as_str(), count.as_u64()?)));
                    let list: Vec<_> = list.collect::<Option<_>>()?;
                    let wanted = wanted.iter().map(|at| (values[*at].1, values[*at].2));
                    Some(merge::counts_of(&list, wanted, limit))
                });
                lists.collect::<Option<Vec<_>>>()
            })
            .await?
        else {
            return Ok(vec![None; values.len()]);
        };
        for part in parts {
            for (wanted, found) in facets.values().zip(part) {
                for (at, found) in wanted.iter().zip(found) {
                    let sum = counts[*at].zip(found).map(|(sum, found)| sum.saturating_add(found));
                    counts[*at] = sum;
                }
            }
        }
        Ok(counts)
    }

    /// Counts each value by a query of its own.
    async fn count(
        &self,
        base: &RawObject,
        values: &[Wanted<'_>],
    ) -> Result<Vec<Option<u64>>, Error> {
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let body = base.to_bytes();
        let queries = values.iter().map(|wanted| {
            let condition = format!("{} = {}", merge::quoted(wanted.0), literal(wanted));
            self.narrowed(body.clone(), &condition)
        });
        let total = |result: &Value| result.get("estimatedTotalHits")?.as_u64();
        let parts = self.ask(queries.collect(), |results| {
            results.iter().map(total).collect::<Option<Vec<_>>>()
        });
        let Some(parts) = parts.await? else { return Ok(vec![None; values.len()]) };
        let mut sums = vec![0_u64; values.len()];
        for part in parts {
            for (sum, count) in sums.iter_mut().zip(part) {
                *sum = sum.saturating_add(count);
            }
        }
        Ok(sums.into_iter().map(Some).collect())
    }

    fn narrowed(&self, body: Bytes, condition: &str) -> Scoped {
        let filter = Some(joined(self.scoped.filter.as_ref(), condition));
        Scoped { body, filter, ..self.scoped.clone() }
    }

    /// Asks all of these for the leaf's shards, of its node or of those that stand in for it, and
    /// reads each answer's results. `None`: some of the shards were not answered for.
    async fn ask<T>(
        &self,
        queries: Vec<Scoped>,
        read: impl Fn(&[Value]) -> Option<Vec<T>>,
    ) -> Result<Option<Vec<Vec<T>>>, Error> {
        let count = queries.len();
        let many = ScopedMany { queries, federation: None, operation: "multi_search" };
        let question = Question::Many(Arc::new(many));
        let (scatter, request) = (self.scatter, self.request);
        let gathered = read::gather_of(scatter, request, self.page, question, self.route).await?;
        if !gathered.missing.is_empty() {
            return Ok(None);
        }
        let mut out = Vec::new();
        for part in &gathered.pages {
            let results = results(&part.body).filter(|results| results.len() == count);
            let Some(found) = results.as_deref().and_then(&read) else {
                let garbage = Error::node(&part.node, NodeFailure::Garbage);
                gaps::go_on_without(scatter, request, &part.shards, &garbage)?;
                return Ok(None);
            };
            out.push(found);
        }
        Ok(Some(out))
    }
}

/// A value as a filter names it.
fn literal((_, value, numeric): &Wanted<'_>) -> String {
    if *numeric { (*value).to_owned() } else { merge::quoted(value) }
}

/// The results of a multi-search.
fn results(body: &[u8]) -> Option<Vec<Value>> {
    match serde_json::from_slice::<Value>(body).ok()?.get_mut("results")?.take() {
        Value::Array(results) => Some(results),
        _ => None,
    }
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
