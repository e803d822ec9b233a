//! Searches by vector: asked as [`hybrid`] says, and both halves of a hybrid one merged.

use super::super::Scatter;
use super::super::fetch::own_words;
use super::super::hybrid::{self, Mode};
use super::super::read::{self, refusal};
use super::{Found, distinct_total, exact_facets, plan::SearchPlan};
use crate::cluster::settings::IndexSettings;
use crate::error::{Error, ErrorKind, NodeFailure};
use crate::index::Request;
use miroir_core::merge;
use miroir_core::routing::ShardSet;
use miroir_core::view::Route;

/// Finds hits by similarity, or by similarity and words. `None`: a node cannot embed the query, and
/// answers by words alone.
pub(super) async fn find(
    scatter: &Scatter,
    request: &Request,
    plan: &SearchPlan,
    settings: &IndexSettings,
    mode: &Mode,
    shards: &ShardSet,
    route: &Route,
) -> Result<Option<Found>, Error> {
    let tuning = &scatter.state.options.vector_search;
    let mut scoped = plan.scoped.clone();
    let ask = hybrid::ask(&mut scoped, mode, &plan.hits, request.cx.get().copied(), tuning);
    let gathered = match read::gather(scatter, request, shards, ask, route).await {
        Ok(gathered) => gathered,
        Err(error) if matches!(error.kind(), ErrorKind::Verbatim { .. }) => {
            if let Mode::Hybrid(_) = mode {
                let own = refusal(scatter, request).await;
                let refused = matches!(own.kind(), ErrorKind::Verbatim { .. });
                return if refused { Err(own) } else { Ok(None) };
            }
            return Err(own_words(scatter, request, error).await);
        }
        Err(error) => return Err(error),
    };
    let depth = plan.pagination.depth(settings.max_total_hits);
    let (pages, fused) = if let Mode::Hybrid(ratio) = *mode {
        let mut hits = plan.hits.clone();
        (hits.offset, hits.limit) = plan.pagination.window(settings.max_total_hits);
        let key = request.index.primary_key.as_deref();
        let halves = hybrid::halves(&gathered.pages, &hits, depth, ratio, key, tuning)?;
        (halves.pages, halves.merged)
    } else {
        let mut pages = Vec::with_capacity(gathered.pages.len());
        for page in &gathered.pages {
            let decoded = merge::Page::decode(&page.body)
                .map_err(|_| Error::node(&page.node, NodeFailure::Garbage))?;
            pages.push(decoded);
        }
        (pages, None)
    };
    hybrid::count_surplus(&pages, depth);
    let facets = match &plan.facets {
        Some(options) => {
            let both = (&gathered.pages[..], &pages[..]);
            Some(exact_facets(scatter, request, settings, &scoped, both, options, route).await?)
        }
        None => None,
    };
    let mut total = distinct_total(plan, settings, &pages);
    if let Some((_, merged)) = &fused {
        let found: u64 = pages.iter().map(|page| page.total).sum();
        total = total.or(Some(found.saturating_sub(merged.duplicates)));
    }
    Ok(Some(Found { pages, gathered, facets, total, fused, order: None }))
}
