//! `matchingStrategy: frequency` over leaves: count the words, then ask for every bucket by itself.

use futures_util::future::{join_all, try_join_all};
use serde_json::value::RawValue;

use super::super::Scatter;
use super::super::explained::{Round, round};
use super::facets::exact_facets;
use super::plan::SearchPlan;
use super::threshold::{Judging, scores};
use super::{Found, ask, distinct_total};
use crate::cluster::settings::IndexSettings;
use crate::error::Error;
use crate::index::Request;
use crate::leaf::Scoped;
use crate::query::RawObject;
use miroir_core::merge::{self, Level, QueryTerms};
use miroir_core::routing::ShardSet;
use miroir_core::view::Route;

/// Parameters that decide what a word matches.
const WORD_PARAMETERS: &[&str] = &["attributesToSearchOn", "locales"];

/// Where another rule comes before the number of words, hits that match fewer of them may stand
/// between those that match all; this many are looked through.
const BETWEEN: usize = 1000;

/// `None` when the query falls into too many buckets; then every leaf drops the words it would drop.
pub(super) async fn find(
    scatter: &Scatter,
    request: &Request,
    plan: &SearchPlan,
    settings: &IndexSettings,
    terms: &QueryTerms,
    shards: &ShardSet,
    route: &Route,
) -> Result<Option<Found>, Error> {
    let Some(body) = RawObject::parse(&plan.scoped.body) else { return Ok(None) };
    let frequencies = count(scatter, request, plan, &body, terms, route).await?;
    let Some(levels) = terms.levels(&frequencies) else { return Ok(None) };
    // What every hit matches says how many there are, and their facets.
    let mut all = body.clone();
    all.set("q", &levels.last().map(|level| level.text.as_str()).unwrap_or_default());
    all.set("matchingStrategy", &"all");
    let key = if all.has("hitsPerPage") { "hitsPerPage" } else { "limit" };
    let depth = body.read::<usize>(key).ok().flatten().unwrap_or_default();
    all.set(key, &0);
    let all = with(plan, &all);
    let whole = ask(scatter, request, all.clone(), shards, route);
    let hits = hits(scatter, request, plan, settings, &body, &levels, (key, depth), shards, route);
    let (pages, whole) = tokio::join!(hits, whole);
    let ((mut pages, ended), (gathered, candidates)) = (pages?, whole?);
    let facets = match &plan.facets {
        Some(options) => {
            let pages = (&gathered.pages[..], &candidates[..]);
            Some(exact_facets(scatter, request, settings, &all, pages, options, route).await?)
        }
        None => None,
    };
    let mut total = distinct_at_the_end(plan, settings, &pages, ended)
        .or_else(|| distinct_total(plan, settings, &candidates))
        .unwrap_or_else(|| candidates.iter().fold(0, |sum, page| sum.saturating_add(page.total)));
    if plan.threshold.is_some() {
        let mut judging = Judging::new(plan, settings, &pages);
        while let Some(asked) = judging.longer() {
            round(request, Round::Threshold);
            let counting = judging
                .only_counts()
                .then(|| scores(&body, plan.hits.unique.as_deref().as_slice()));
            let asking = counting.as_ref().unwrap_or(&body);
            let how = (key, asked);
            let (longer, _) =
                self::hits(scatter, request, plan, settings, asking, &levels, how, shards, route)
                    .await?;
            judging.judge(&longer);
            if counting.is_none() {
                pages = longer;
            }
        }
        total = judging.judged.total(total);
    }
    Ok(Some(Found { pages, gathered, facets, total: Some(total), fused: None, order: None }))
}

/// How many distinct hits there are where the list of every level ends, and they do within the page. Where
/// another rule comes first, hits of fewer words may hide what a level has.
fn distinct_at_the_end(
    plan: &SearchPlan,
    settings: &IndexSettings,
    pages: &[merge::Page],
    ended: bool,
) -> Option<u64> {
    if plan.hits.distinct.is_none() || !ended || !settings.words_first {
        return None;
    }
    let wanted = plan.pagination.depth(settings.max_total_hits);
    merge::total_at_the_end(pages, &plan.hits, wanted).map(|total| total as u64)
}

/// The hits of every level, by the number of dropped words, until there are enough; and whether no list
/// has more of them.
#[allow(clippy::too_many_arguments, reason = "one caller, which has them all")]
async fn hits(
    scatter: &Scatter,
    request: &Request,
    plan: &SearchPlan,
    settings: &IndexSettings,
    body: &RawObject,
    levels: &[Level],
    (key, depth): (&str, usize),
    shards: &ShardSet,
    route: &Route,
) -> Result<(Vec<merge::Page>, bool), Error> {
    let mut pages = Vec::new();
    let mut ended = true;
    let between = match depth {
        _ if !settings.words_first => BETWEEN,
        // One more shows whether the list ends with the page.
        1.. if plan.hits.distinct.is_some() => 1,
        _ => 0,
    };
    let asked_for = depth.saturating_add(between);
    for equal in levels.chunk_by(|a, b| a.matching == b.matching) {
        let asked = equal.iter().map(|level| {
            let mut body = body.clone();
            body.remove("facets");
            body.set("q", &level.text);
            body.set("matchingStrategy", &"last");
            body.set(key, &asked_for);
            ask(scatter, request, with(plan, &body), shards, route)
        });
        let mut enough = false;
        for (level, answer) in equal.iter().zip(join_all(asked).await) {
            let (_, found) = answer?;
            let listed: Vec<usize> = found.iter().map(|page| page.hits.len()).collect();
            let found: Vec<_> =
                found.into_iter().map(|p| merge::relevel(p, level, &settings.ranking)).collect();
            // Hits of fewer words come after all of the level.
            let ends = |(page, listed): (&merge::Page, usize)| {
                listed < asked_for || page.hits.len() < listed
            };
            ended &= found.iter().zip(listed).all(ends);
            enough |= found.iter().map(|page| page.hits.len()).sum::<usize>() >= depth;
            pages.extend(found);
        }
        // A threshold and distinct values drop hits: there are never surely enough.
        let dropping = plan.hits.score_threshold.is_some() || plan.hits.distinct.is_some();
        if enough && !dropping && settings.words_first {
            return Ok((pages, false));
        }
    }
    Ok((pages, ended))
}

fn with(plan: &SearchPlan, body: &RawObject) -> Scoped {
    Scoped { body: body.to_bytes(), ..plan.scoped.clone() }
}

/// How many documents of all shards have each word, whatever the client's filter.
async fn count(
    scatter: &Scatter,
    request: &Request,
    plan: &SearchPlan,
    body: &RawObject,
    terms: &QueryTerms,
    route: &Route,
) -> Result<Vec<u64>, Error> {
    let shards = &ShardSet::full(request.index.shards);
    let mut base = RawObject::default();
    for key in WORD_PARAMETERS {
        let value = body.raw(key).and_then(|text| RawValue::from_string(text.to_owned()).ok());
        if let Some(value) = value {
            base.set_raw(key, value);
        }
    }
    base.set("limit", &0);
    let counts = terms.counts();
    round(request, Round::Words);
    let totals = try_join_all(counts.iter().map(|count| {
        let mut body = base.clone();
        body.set("q", &count.text);
        body.set("matchingStrategy", if count.last { &"last" } else { &"all" });
        let scoped = Scoped { filter: None, ..with(plan, &body) };
        async {
            let (_, pages) = ask(scatter, request, scoped, shards, route).await?;
            Ok::<u64, Error>(pages.iter().fold(0, |sum, page| sum.saturating_add(page.total)))
        }
    }))
    .await?;
    Ok(merge::frequencies(&counts, &totals))
}
