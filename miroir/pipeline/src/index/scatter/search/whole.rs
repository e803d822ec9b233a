//! A page of the one node that holds everything: it is asked for that page itself.
//!
//! How far a node looks depends on its own offset and limit, and with that what it counts of duplicates
//! under a distinct attribute and below a threshold. Asked the client's own question, its answer is right
//! as it comes, and no hit moves that is not shown.

use super::super::{Scatter, gaps};
use super::distinct::Counter;
use super::plan::SearchPlan;
use super::{Found, ask};
use crate::cluster::settings::IndexSettings;
use crate::error::Error;
use crate::index::Request;
use crate::leaf::Scoped;
use crate::query::{RawObject, Search, SearchKind};
use miroir_core::merge::Pagination;
use miroir_core::routing::ShardSet;
use miroir_core::view::Route;

/// The client's own question, where it differs from the one several leaves are asked.
pub(super) fn question(
    search: &Search,
    plan: &SearchPlan,
    settings: &IndexSettings,
) -> Option<Scoped> {
    let Pagination::Offset { offset, .. } = plan.pagination else { return None };
    if search.kind != SearchKind::Hits {
        return None;
    }
    if offset == 0 && plan.estimate.is_none() && plan.threshold.is_none() {
        return None;
    }
    let mut body = RawObject::parse(&plan.scoped.body)?;
    let (offset, limit) = plan.pagination.window(settings.max_total_hits);
    body.set("offset", &offset.min(settings.max_total_hits));
    body.set("limit", &limit);
    if plan.threshold.is_some() {
        let threshold = search.body.clone()?.remove("rankingScoreThreshold")?;
        body.set_raw("rankingScoreThreshold", threshold);
    }
    Some(Scoped { body: body.to_bytes(), ..plan.scoped.clone() })
}

/// The page as that node has it, from its first hit on. `None` where several nodes stood in for the one.
pub(super) async fn find(
    scatter: &Scatter,
    request: &Request,
    question: Scoped,
    plan: &SearchPlan,
    settings: &IndexSettings,
    (shards, route): (&ShardSet, &Route),
) -> Result<Option<Found>, Error> {
    // What this round lacks is asked for again.
    let mut first = request.clone();
    first.cx.insert(gaps::Gaps::default());
    let (gathered, pages) = ask(scatter, &first, question.clone(), shards, route).await?;
    let [page] = &pages[..] else { return Ok(None) };
    if !gathered.missing.is_empty() {
        return Ok(None);
    }
    let total = Some(page.total);
    let facets = match &plan.facets {
        Some(options) => {
            let counter = Counter { scatter, request, plan, shards, route, settings };
            Some(counter.facets(&question, (&gathered.pages, &pages), options).await?)
        }
        None => None,
    };
    Ok(Some(Found { pages, gathered, facets, total, fused: None, order: None }))
}
