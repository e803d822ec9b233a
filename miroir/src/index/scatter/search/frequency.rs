//! `matchingStrategy: frequency` over leaves: count the words, then ask for every bucket by itself.

use futures_util::future::{join_all, try_join_all};
use serde_json::value::RawValue;

use super::super::Scatter;
use super::facets::exact_facets;
use super::plan::Plan;
use super::{Found, ask, distinct_total};
use crate::error::Error;
use crate::index::Request;
use crate::index::settings::IndexSettings;
use crate::leaf::{Route, Scoped};
use crate::merge::{self, Terms};
use crate::operation::RawObject;
use crate::routing::ShardSet;

/// Parameters that decide what a word matches.
const WORD_PARAMETERS: &[&str] = &["attributesToSearchOn", "locales"];

/// `None` when the query falls into too many buckets; then every leaf drops the words it would drop.
pub(super) async fn find(
    scatter: &Scatter,
    request: &Request,
    plan: &Plan,
    settings: &IndexSettings,
    terms: &Terms,
    shards: &ShardSet,
    route: &Route,
) -> Result<Option<Found>, Error> {
    let Some(body) = RawObject::parse(&plan.scoped.body) else { return Ok(None) };
    let frequencies = count(scatter, request, plan, &body, terms, shards, route).await?;
    let Some(levels) = terms.levels(&frequencies) else { return Ok(None) };
    let asked = levels.iter().map(|level| {
        let mut body = body.clone();
        body.remove("facets");
        body.set("q", &level.text);
        body.set("matchingStrategy", &"last");
        ask(scatter, request, with(plan, &body), shards, route)
    });
    // What every hit matches says how many there are, and their facets.
    let mut all = body.clone();
    all.set("q", &levels.last().map(|level| level.text.as_str()).unwrap_or_default());
    all.set("matchingStrategy", &"all");
    let key = if all.has("hitsPerPage") { "hitsPerPage" } else { "limit" };
    all.set(key, &0);
    let all = with(plan, &all);
    let whole = ask(scatter, request, all.clone(), shards, route);
    let (asked, whole) = tokio::join!(join_all(asked), whole);
    let (gathered, candidates) = whole?;
    let mut pages = Vec::new();
    for (level, answer) in levels.iter().zip(asked) {
        let (_, found) = answer?;
        pages.extend(found.into_iter().map(|p| merge::relevel(p, level, &settings.ranking)));
    }
    let facets = match &plan.facets {
        Some(options) => {
            Some(exact_facets(scatter, request, &all, &gathered.pages, &candidates, options).await)
        }
        None => None,
    };
    let total = distinct_total(plan, settings, &candidates)
        .unwrap_or_else(|| candidates.iter().fold(0, |sum, page| sum.saturating_add(page.total)));
    Ok(Some(Found { pages, gathered, facets, total: Some(total), fused: None }))
}

fn with(plan: &Plan, body: &RawObject) -> Scoped {
    Scoped { body: body.to_bytes(), ..plan.scoped.clone() }
}

/// How many documents have each word, whatever the client's filter.
async fn count(
    scatter: &Scatter,
    request: &Request,
    plan: &Plan,
    body: &RawObject,
    terms: &Terms,
    shards: &ShardSet,
    route: &Route,
) -> Result<Vec<u64>, Error> {
    let mut base = RawObject::default();
    for key in WORD_PARAMETERS {
        let value = body.raw(key).and_then(|text| RawValue::from_string(text.to_owned()).ok());
        if let Some(value) = value {
            base.set_raw(key, value);
        }
    }
    base.set("limit", &0);
    base.set("matchingStrategy", &"all");
    let counts = terms.counts();
    let totals = try_join_all(counts.iter().map(|count| {
        let mut body = base.clone();
        body.set("q", &count.text);
        let scoped = Scoped { filter: None, ..with(plan, &body) };
        async {
            let (_, pages) = ask(scatter, request, scoped, shards, route).await?;
            Ok::<u64, Error>(pages.iter().fold(0, |sum, page| sum.saturating_add(page.total)))
        }
    }))
    .await?;
    Ok(merge::frequencies(&counts, &totals))
}
