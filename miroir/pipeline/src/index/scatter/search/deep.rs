//! Pages far down the list: what is shown is fetched once it is known what that is.
//!
//! For a page that ends at hit 920 every node ranks 920 hits, and would send all their documents for 20 to
//! be shown. Where that is much, nodes are first asked for what a merge compares (score, details, order
//! stamp, primary key). The hits of the page follow each other in each node's list, so each node is then
//! asked the client's question once more, from the first of its own to the last. The primary keys have to
//! be the same both times: where something changed meanwhile, or a node does not answer, nodes are asked
//! for everything.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use uuid::Uuid;

use super::distinct::Counter;
use super::plan::{SHOWN, SearchPlan};
use super::{Found, decode, decode_all, gather};
use crate::cluster::settings::IndexSettings;
use crate::error::Error;
use crate::explain::Audience;
use crate::gather as all;
use crate::index::Request;
use crate::index::scatter::{Scatter, read};
use crate::leaf::{self, Question, Scoped};
use crate::query::RawObject;
use miroir_core::documents::ORDER;
use miroir_core::merge::{self, HitOptions, MergedHits};
use miroir_core::routing::ShardSet;
use miroir_core::view::Route;

/// Pages that end before this hit are not worth a thought.
const SHALLOW: usize = 100;

/// How large the hits of an index are, as they were last seen; of indexes that share a slot one is known.
#[derive(Debug)]
pub(in crate::index::scatter) struct HitSizes([AtomicU64; HitSizes::SLOTS]);

impl Default for HitSizes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::default()))
    }
}

impl HitSizes {
    const SLOTS: usize = 1024;

    /// The slot of an index and what tells it from others of the same slot.
    fn place(&self, index: Uuid) -> (&AtomicU64, u64) {
        let (high, low) = index.as_u64_pair();
        let mixed = (high ^ low).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (&self.0[(mixed >> 54) as usize % Self::SLOTS], mixed & 0xFFFF_FFFF)
    }

    /// Bytes of a hit without score and details.
    fn of(&self, index: Uuid) -> Option<usize> {
        let (slot, tag) = self.place(index);
        let word = slot.load(Ordering::Relaxed);
        (word >> 32 == tag && word != 0).then_some((word & 0xFFFF_FFFF) as usize)
    }

    fn learn(&self, index: Uuid, bytes: usize) {
        let (slot, tag) = self.place(index);
        let bytes = bytes.clamp(1, u32::MAX as usize) as u64;
        slot.store(tag << 32 | bytes, Ordering::Relaxed);
    }
}

/// Notes how large the shown hits of a deep page are.
pub(super) fn learn(scatter: &Scatter, request: &Request, found: &Found, order: &MergedHits) {
    let deepest = found.pages.iter().map(|page| page.hits.len()).max().unwrap_or_default();
    if deepest < SHALLOW || order.placed.is_empty() {
        return;
    }
    let shown = order.placed.iter().map(|at| found.pages[at.leaf].bytes_of(at.hit));
    let bytes = shown.sum::<usize>() / order.placed.len();
    scatter.hit_sizes.learn(request.index.incarnation, bytes);
}

/// The page, found in two rounds. `None` where the second did not find what the first had.
pub(super) async fn find(
    scatter: &Scatter,
    request: &Request,
    plan: &SearchPlan,
    settings: &IndexSettings,
    (shards, route): (&ShardSet, &Route),
    hits: &HitOptions,
    Questions { key, thin, body }: Questions,
) -> Result<Option<Found>, Error> {
    let gathered = gather(scatter, request, thin.clone(), shards, route).await?;
    let pages = decode_all(&gathered, merge::Page::open)?;
    let order = merge::merge_hits(&pages, hits);
    if !pages.iter().all(merge::Page::is_sound) {
        return Ok(None);
    }
    let facets = match &plan.facets {
        Some(options) => {
            let counter = Counter { scatter, request, plan, shards, route, settings };
            Some(counter.facets(&thin, (&gathered.pages, &pages), options).await?)
        }
        None => None,
    };
    let mut found = Found { pages, gathered, facets, total: None, fused: None, order: Some(order) };
    let again = Again { scatter, request, plan, route, body };
    let fetched = again.fetch(&key, &mut found).await.is_some();
    let outcome = if fetched { "fetched" } else { "whole" };
    metrics::counter!("miroir_deep_pages_total", "outcome" => outcome).increment(1);
    if let Some(explain) = &request.cx.explain {
        explain.fact("fetched_apart", json!(fetched), Audience::Everybody);
    }
    Ok(fetched.then_some(found))
}

/// What nodes are asked for a page that is found in two rounds.
pub(super) struct Questions {
    key: String,
    /// First: all hits up to the end of the page, without their documents.
    thin: Scoped,
    /// Then, from a position on.
    body: RawObject,
}

/// What to ask for a page in two rounds; `None` where one is better.
pub(super) fn questions(
    scatter: &Scatter,
    request: &Request,
    plan: &SearchPlan,
    hits: &HitOptions,
) -> Option<Questions> {
    let most = scatter.state.options.scatter.deep_page_bytes;
    let end = hits.offset.saturating_add(hits.limit);
    let counts = plan.counts() || plan.threshold.is_some();
    let compares =
        hits.distinct.is_some() || hits.score_threshold.is_some() || hits.unique.is_some();
    if most == 0 || end < SHALLOW || hits.limit * 2 > end || counts || compares {
        return None;
    }
    let size = scatter.hit_sizes.of(request.index.incarnation)?;
    if size.saturating_mul(end) < most {
        return None;
    }
    let key = request.index.primary_key.clone()?;
    let body = RawObject::parse(&plan.scoped.body)?;
    let mut thin = body.clone();
    for name in SHOWN.iter().filter(|name| !matches!(**name, "limit" | "showRankingScore")) {
        thin.remove(name);
    }
    thin.set("showRankingScoreDetails", &true);
    thin.set("attributesToRetrieve", &[ORDER, &key]);
    let thin = Scoped { body: thin.to_bytes(), ..plan.scoped.clone() };
    Some(Questions { key, thin, body })
}

/// The second round.
struct Again<'a> {
    scatter: &'a Scatter,
    request: &'a Request,
    plan: &'a SearchPlan,
    route: &'a Route,
    /// What nodes are asked for a page that is taken as a whole.
    body: RawObject,
}

impl Again<'_> {
    /// Puts the hits of the page in the place of those that only said where they are.
    async fn fetch(&self, key: &str, found: &mut Found) -> Option<()> {
        let order = found.order.as_mut()?;
        let mut runs: Vec<Option<RangeInclusive<usize>>> = vec![None; found.pages.len()];
        for at in &order.placed {
            let run = runs[at.leaf].take();
            let (start, end) = run.map_or((at.hit, at.hit), RangeInclusive::into_inner);
            runs[at.leaf] = Some(start.min(at.hit)..=end.max(at.hit));
        }
        let mut asks = Vec::new();
        for (leaf, (run, page)) in runs.iter().zip(&found.gathered.pages).enumerate() {
            if let Some(run) = run {
                asks.push(self.ask(leaf, page, run.clone()));
            }
        }
        let mut fetched: Vec<Option<merge::Page>> = vec![None; found.pages.len()];
        for (leaf, page) in all::all(asks).await.into_iter().flatten() {
            fetched[leaf] = Some(page);
        }
        for at in &order.placed {
            let start = runs[at.leaf].as_ref().map_or(0, |run| *run.start());
            let id = fetched[at.leaf].as_ref()?.field(at.hit - start, key)?;
            if found.pages[at.leaf].field(at.hit, key) != Some(id) {
                return None;
            }
        }
        for at in &mut order.placed {
            at.hit -= runs[at.leaf].as_ref().map_or(0, |run| *run.start());
        }
        for (page, hits) in found.pages.iter_mut().zip(fetched) {
            page.show(hits.unwrap_or_default());
        }
        Some(())
    }

    /// The hits of one leaf from one place to another.
    async fn ask(
        &self,
        leaf: usize,
        answered: &leaf::Page,
        run: RangeInclusive<usize>,
    ) -> Option<(usize, merge::Page)> {
        let (question, count) = (self.from(&run), run.count());
        let parts =
            read::try_of(self.scatter, self.request, answered, question, self.route).await?;
        let [part] = &parts[..] else { return None };
        let page = decode(part, merge::Page::decode).ok()?;
        (page.hits.len() == count).then_some((leaf, page))
    }

    /// The client's question from one hit of a node to another.
    fn from(&self, run: &RangeInclusive<usize>) -> Question {
        let mut body = self.body.clone();
        for name in ["page", "hitsPerPage", "facets"] {
            body.remove(name);
        }
        body.set("offset", run.start());
        body.set("limit", &run.clone().count());
        let scoped = Scoped { body: body.to_bytes(), ..self.plan.scoped.clone() };
        Question::Scoped(Arc::new(scoped))
    }
}
