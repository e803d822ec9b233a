//! Exact facet counts: the merged lists, and further rounds for what they leave open or hide.

use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::Value;

use super::super::explained::{Round, round};
use super::super::{Scatter, gaps, read};
use super::plan::joined;
use super::spellings::Spelling;
use crate::cluster::settings::IndexSettings;
use crate::error::{Error, ErrorKind, NodeFailure};
use crate::gather;
use crate::index::Request;
use crate::leaf::{Page, Question, Scoped, ScopedMany};
use crate::query::RawObject;
use miroir_core::filter::size;
use miroir_core::merge::{self, FacetList, FacetOptions, FacetValue, MergedFacets, Namesakes};
use miroir_core::view::Route;

/// At most this many facet counts are asked for in a second round.
const MAX_OPEN: usize = 400;

/// Conditions and bytes of the client's filter that values asked for one by one may make of it. Beyond,
/// counts are lower bounds: no question may cost a node hundreds of times what its filter does.
const MAX_CONDITIONS: usize = 4000;
const MAX_BYTES: usize = 4_000_000;

/// Merges facets, and asks for the counts that the leaves' lists leave open: one multi-search per
/// leaf with a query per facet, of its node or of those that stand in for it. What nobody answers
/// for is missing in the answer, and its counts are lower bounds. Before that, leaves that may show a
/// string's count in the place of a number's are asked for both. At last values get the spelling that
/// one node shows.
///
/// # Errors
/// That shards are unavailable, where the policy is not to answer without them.
pub(super) async fn exact_facets(
    scatter: &Scatter,
    request: &Request,
    settings: &IndexSettings,
    scoped: &Scoped,
    (answered, pages): (&[Page], &[merge::Page]),
    options: &FacetOptions,
    route: &Route,
) -> Result<MergedFacets, Error> {
    let leaf = |page| Leaf { scatter, request, settings, scoped, page, route };
    let namesakes = namesakes(leaf, answered, pages, options).await?;
    let merged = merge::merge_facets_apart(pages, options, namesakes.as_deref());
    let spelling =
        Spelling { scatter, request, settings, route, answered, searches: slice::from_ref(scoped) };
    if merged.open.is_empty() {
        return Ok(spelling.settle(merged).await);
    }
    let outcome = |name: &'static str| {
        metrics::counter!("miroir_facet_refinements_total", "outcome" => name).increment(1);
    };
    let mut wanted: Vec<Vec<Wanted<'_>>> = vec![Vec::new(); pages.len()];
    for open in merged.open.iter().take(MAX_OPEN) {
        for leaf in &open.leaves_to_ask {
            wanted[*leaf].push((&open.facet, &open.value));
        }
    }
    let mut calls = Vec::new();
    for (at, (page, values)) in answered.iter().zip(&wanted).enumerate() {
        if !values.is_empty() {
            let (leaf, limit) = (leaf(page), options.node_limit);
            calls.push(async move { (at, values, count_values(&leaf, values, limit).await) });
        }
    }
    round(request, Round::FacetCounts);
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
        for ((facet, value), count) in values.iter().zip(answer) {
            if let Some(count) = count {
                counts.push((leaf, (*facet).to_owned(), (*value).clone(), count));
            }
        }
        if counts.len() - before < values.len() {
            outcome("incomplete");
        }
    }
    let merged = merged.complete(&counts);
    outcome("refined");
    Ok(spelling.settle(merged).await)
}

/// A value that is counted, with its facet.
type Wanted<'a> = (&'a str, &'a FacetValue);

/// What lists hide where facets have numbers and strings: such leaves list the values of documents with
/// a string that may read as a number, and those of the others. `None` where that cannot be asked: counts
/// are taken as they are shown.
///
/// # Errors
/// That shards are unavailable, where the policy is not to answer without them.
async fn namesakes<'a>(
    leaf: impl Fn(&'a Page) -> Leaf<'a>,
    answered: &'a [Page],
    pages: &[merge::Page],
    options: &FacetOptions,
) -> Result<Option<Vec<Namesakes>>, Error> {
    // What an only leaf lists is what one node lists, unless it has to be cut: what is hidden counts there,
    // and every number may hide behind a string.
    if let [page] = pages {
        let mut lists = page.facet_distribution.iter().flatten();
        if lists.all(|facet| facet.values.len() * 2 <= options.max_values_per_facet) {
            return Ok(None);
        }
    }
    let mut asked: Vec<Vec<&str>> = vec![Vec::new(); answered.len()];
    let doubtful = merge::doubtful_numbers(pages, options);
    // Which documents are left of equal ones depends on how many are looked at.
    if !doubtful.is_empty() && answered.iter().any(|page| leaf(page).looks_for_duplicates()) {
        return Ok(None);
    }
    for (facet, leaves) in &doubtful {
        for of in leaves {
            asked.get_mut(*of).into_iter().for_each(|facets| facets.push(facet));
        }
    }
    let mut calls = Vec::new();
    for (at, page) in answered.iter().enumerate() {
        let leaf = leaf(page);
        let (Some(list), Some(facets)) = (pages.get(at), asked.get(at)) else { break };
        let facets = facets.iter().copied().filter(|facet| leaf.settings.compares(facet));
        let facets: Vec<&str> = facets.collect();
        if !facets.is_empty() {
            let limit = options.node_limit;
            round(leaf.request, Round::FacetNumbers);
            calls.push(async move { leaf.tell_apart(at, list, &facets, limit).await });
        }
    }
    let mut found = Vec::new();
    for answer in gather::all(calls).await {
        match answer {
            Ok(namesakes) => found.extend(namesakes),
            Err(error) if matches!(error.kind(), ErrorKind::Verbatim { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(found))
}

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
    let Some(base) = leaf.base() else { return Ok(vec![None; values.len()]) };
    // Which documents are left of equal ones depends on the filter: each value is asked for alone. So
    // is one that a list may show another in the place of.
    let mut counts = vec![None; values.len()];
    if !base.has("distinct") {
        let strings = values.iter().any(|(_, value)| !value.is_number());
        let listed = |at: &usize| !strings || !values[*at].1.may_have_namesakes();
        let listed: Vec<usize> = (0..values.len()).filter(listed).collect();
        let these: Vec<Wanted<'_>> = listed.iter().map(|at| values[*at]).collect();
        if !these.is_empty() {
            for (at, count) in listed.into_iter().zip(leaf.list(&base, &these, limit).await?) {
                counts[at] = count;
            }
        }
    }
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
    settings: &'a IndexSettings,
    scoped: &'a Scoped,
    page: &'a Page,
    route: &'a Route,
}

impl Leaf<'_> {
    /// What says which documents are candidates, and shows none of them.
    fn base(&self) -> Option<RawObject> {
        let mut base = RawObject::parse(&self.scoped.body)?;
        for key in ["facets", "page", "hitsPerPage", "attributesToHighlight", "attributesToCrop"] {
            base.remove(key);
        }
        base.set("limit", &0);
        Some(base)
    }

    /// Whether duplicates of hits were not counted in the leaf's answer.
    fn looks_for_duplicates(&self) -> bool {
        let Some(body) = RawObject::parse(&self.scoped.body) else { return true };
        let distinct = body.has("distinct") || self.settings.distinct.is_some();
        distinct && (body.has("hitsPerPage") || body.raw("limit") != Some("0"))
    }

    /// What the leaf's lists of these facets hide.
    async fn tell_apart(
        &self,
        at: usize,
        page: &merge::Page,
        facets: &[&str],
        limit: usize,
    ) -> Result<Vec<Namesakes>, Error> {
        let Some(base) = self.base() else { return Ok(Vec::new()) };
        let queries = facets.iter().flat_map(|facet| {
            let mut body = base.clone();
            body.set("facets", &[facet]);
            let numerals = merge::numeral_strings(facet);
            let others = format!("NOT {numerals}");
            [numerals, others].map(|condition| self.narrowed(body.to_bytes(), &condition))
        });
        let read = |results: &[Value]| -> Option<Vec<FacetList>> {
            let lists = results.iter().zip(facets.iter().flat_map(|facet| [facet, facet]));
            let list = |(result, facet): (&Value, &&str)| {
                let bound = |key: &str| result.get("facetStats")?.get(*facet)?.get(key)?.as_f64();
                let numbers = bound("min").zip(bound("max"));
                Some(FacetList { values: listed(result, facet)?, numbers })
            };
            lists.map(list).collect()
        };
        let Some(parts) = self.ask(queries.collect(), read).await? else { return Ok(Vec::new()) };
        // Nodes that stand in for the leaf's list parts of its documents.
        let [lists] = &parts[..] else { return Ok(Vec::new()) };
        let (mut found, mut unclear) = (Vec::new(), Vec::new());
        for (facet, lists) in facets.iter().zip(lists.chunks(2)) {
            let [beside, others] = lists else { continue };
            if beside.values.len().max(others.values.len()) < limit {
                let shown = FacetList::of(page, facet);
                let told = merge::tell_apart((at, facet), &shown, beside, others);
                found.extend(told.known);
                unclear.extend(told.unclear);
            }
        }
        self.clear_up(&base, &mut unclear).await?;
        found.extend(unclear.into_iter().map(|(_, both)| both));
        Ok(found)
    }

    /// Asks for numbers, and strings written like them, one by one.
    async fn clear_up(
        &self,
        base: &RawObject,
        unclear: &mut [(f64, Namesakes)],
    ) -> Result<(), Error> {
        if unclear.len() * 2 > self.affordable() {
            return Ok(());
        }
        let values = unclear.iter().flat_map(|(number, both)| {
            let values = [FacetValue::number(*number), FacetValue::text(&both.display)];
            values.map(|value| (both.facet.clone(), value))
        });
        let values: Vec<(String, FacetValue)> = values.collect();
        let wanted: Vec<Wanted<'_>> =
            values.iter().map(|(facet, value)| (facet.as_str(), value)).collect();
        let counts = self.count(base, &wanted).await?;
        for ((_, both), counts) in unclear.iter_mut().zip(counts.chunks(2)) {
            if let [Some(number), Some(text)] = counts {
                (both.number, both.text) = (*number, *text);
            }
        }
        Ok(())
    }

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
            let condition = self.any_of(facet, wanted.iter().map(|at| values[*at].1));
            self.narrowed(body.to_bytes(), &condition)
        });
        let mut counts = vec![Some(0_u64); values.len()];
        let Some(parts) = self
            .ask(queries.collect(), |results| {
                let lists = facets.iter().zip(results).map(|((facet, wanted), result)| {
                    let list = listed(result, facet)?;
                    let list: Vec<_> =
                        list.iter().map(|(display, count)| (display.as_str(), *count)).collect();
                    let wanted = wanted.iter().map(|at| values[*at].1);
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
            let condition = self.any_of(wanted.0, [wanted.1]);
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

    fn any_of<'v>(&self, facet: &str, values: impl IntoIterator<Item = &'v FacetValue>) -> String {
        merge::any_of(facet, values, self.settings.compares(facet)).unwrap_or_default()
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

/// A facet's values and counts in an answer.
fn listed(result: &Value, facet: &str) -> Option<Vec<(String, u64)>> {
    let facets = result.get("facetDistribution")?;
    let Some(list) = facets.get(facet) else { return Some(Vec::new()) };
    let list = list.as_object()?.iter();
    list.map(|(display, count)| Some((display.clone(), count.as_u64()?))).collect()
}

/// The results of a multi-search.
fn results(body: &[u8]) -> Option<Vec<Value>> {
    match serde_json::from_slice::<Value>(body).ok()?.get_mut("results")?.take() {
        Value::Array(results) => Some(results),
        _ => None,
    }
}
