//! `rankingScoreThreshold`: leaves are asked without it, and [`merge::judge`] says what one node
//! would count. Numbered pages count all that scores enough, so that leaves may be asked for more.

use futures_util::future::try_join_all;

use super::super::explained::{Round, round};
use super::Found;
use super::distinct::Counter;
use super::plan::{SearchPlan, bare};
use crate::cluster::settings::IndexSettings;
use crate::error::Error;
use crate::leaf::Page;
use crate::query::RawObject;
use miroir_core::merge::{self, FacetOptions, Judged, MergedFacets, Pagination};

/// By how much longer the lists are that leaves are asked for again, and how long at least.
const LONGER: usize = 8;
const AT_LEAST: usize = 1000;
/// Longer lists are not asked for. Where all hits are counted, each leaf then counts by its own scores.
const LONGEST: usize = 20_000;

/// Going through the lists of leaves, which are asked for more as long as that is not enough.
pub(super) struct Judging<'a> {
    plan: &'a SearchPlan,
    /// How many hits there are up to the end of the page.
    depth: usize,
    /// Whether all hits are counted and not only those up to the end of the page.
    counts_all: bool,
    asked: usize,
    pub(super) judged: Judged,
}

impl<'a> Judging<'a> {
    /// Judges what leaves answered who were asked for the hits up to the end of the page.
    pub(super) fn new(
        plan: &'a SearchPlan,
        settings: &IndexSettings,
        pages: &[merge::Page],
    ) -> Self {
        let max_total_hits = settings.max_total_hits;
        // Where the page itself is empty, a node goes through what is skipped all the same.
        let (offset, limit) = plan.pagination.window(max_total_hits);
        let depth = offset.min(max_total_hits).saturating_add(limit);
        let asked = plan.pagination.depth(max_total_hits);
        // A node counts until it has as many hits for the page as it ever shows.
        let counts_all = match plan.pagination {
            Pagination::Page { page, hits_per_page } => page != 1 || hits_per_page < max_total_hits,
            Pagination::Offset { .. } => false,
        };
        let mut judging = Self { plan, depth, counts_all, asked, judged: Judged::default() };
        judging.judge(pages);
        judging
    }

    /// Whether longer lists are for counting only, so that they need no documents.
    pub(super) fn only_counts(&self) -> bool {
        self.counts_all && self.judged.falls
    }

    /// How many hits leaves are to be asked for; `None` if what they answered has to do.
    pub(super) fn longer(&mut self) -> Option<usize> {
        if !self.judged.open || self.asked >= LONGEST {
            return None;
        }
        self.asked = self.asked.saturating_mul(LONGER).clamp(AT_LEAST, LONGEST);
        Some(self.asked)
    }

    /// Judges what leaves answered who were asked for more.
    pub(super) fn judge(&mut self, pages: &[merge::Page]) {
        let wanted = if self.counts_all { usize::MAX } else { self.depth };
        self.judged = merge::judge(pages, &self.plan.hits, wanted, self.asked);
    }
}

impl Counter<'_> {
    /// What is found down to the threshold.
    ///
    /// # Errors
    /// That shards are unavailable, where the policy is not to answer without them.
    pub(super) async fn above_threshold(&self, settings: &IndexSettings) -> Result<Found, Error> {
        let plan = self.plan;
        let asked = RawObject::parse(&plan.scoped.body).unwrap_or_default();
        // The engine's cropping fails on some texts. One node crops only what scores enough, so leaves
        // are not asked to crop before that is known.
        let crops = asked.has("attributesToCrop");
        let base = if crops { uncropped(&asked) } else { asked.clone() };
        let (mut gathered, mut pages) = self.ask(self.scoped(&base, None)).await?;
        let candidates = pages.iter().fold(0, |sum: u64, page| sum.saturating_add(page.total));
        let mut judging = Judging::new(plan, settings, &pages);
        let mut counted = None;
        while let Some(longer) = judging.longer() {
            round(self.request, Round::Threshold);
            let only_counts = judging.only_counts();
            let mut body = if only_counts { scores(&asked, &[]) } else { base.clone() };
            body.set(if body.has("hitsPerPage") { "hitsPerPage" } else { "limit" }, &longer);
            let lists = self.ask(self.scoped(&body, None)).await?;
            judging.judge(&lists.1);
            if only_counts {
                counted = Some(lists.0);
            } else {
                (gathered, pages) = lists;
            }
        }
        let leaves = &counted.as_ref().unwrap_or(&gathered).pages;
        let judged = &judging.judged;
        let facets = match &plan.facets {
            Some(options) if judged.full => {
                let pages = (&gathered.pages[..], &pages[..]);
                Some(self.facets(&plan.scoped, pages, options).await?)
            }
            Some(options) => Some(self.facets_of_kept(judged, leaves, options).await?),
            None => None,
        };
        if crops {
            round(self.request, Round::Threshold);
            let kept = leaves.iter().zip(&judged.floors).map(|(leaf, floor)| {
                let mut body = asked.clone();
                body.remove("facets");
                body.set("rankingScoreThreshold", &floor.map(reached));
                async move {
                    match floor {
                        Some(_) => self.of(leaf, self.scoped(&body, None)).await,
                        None => Ok(merge::Page::default()),
                    }
                }
            });
            pages = try_join_all(kept).await?;
        }
        let total = Some(self.total(&judging, candidates).await?);
        Ok(Found { pages, gathered, facets, total, fused: None, order: None })
    }

    /// The total of one node that has this many candidates.
    ///
    /// # Errors
    /// That shards are unavailable, where the policy is not to answer without them.
    pub(super) async fn total(&self, judging: &Judging<'_>, candidates: u64) -> Result<u64, Error> {
        if !(judging.judged.open && judging.counts_all) {
            return Ok(judging.judged.total(candidates));
        }
        round(self.request, Round::Threshold);
        let mut body = bare(&RawObject::parse(&self.plan.scoped.body).unwrap_or_default());
        body.remove("facets");
        body.set("page", &1);
        body.set("hitsPerPage", &0);
        body.set("rankingScoreThreshold", &self.plan.threshold);
        let (_, pages) = self.ask(self.scoped(&body, None)).await?;
        Ok(pages.iter().fold(0, |sum: u64, page| sum.saturating_add(page.total)))
    }

    /// The facets of the hits that were kept: each leaf counts down to the last one of its own.
    ///
    /// # Errors
    /// That shards are unavailable, where the policy is not to answer without them.
    pub(super) async fn facets_of_kept(
        &self,
        judged: &Judged,
        leaves: &[Page],
        options: &FacetOptions,
    ) -> Result<MergedFacets, Error> {
        let body = RawObject::parse(&self.plan.scoped.body).unwrap_or_default();
        let asked = leaves.iter().zip(&judged.floors).map(|(leaf, floor)| {
            let mut body = bare(&body);
            body.set("attributesToRetrieve", &[(); 0]);
            // Pages have nodes go through all hits.
            body.set("page", &1);
            body.set("hitsPerPage", &0);
            // Nothing is kept: facets have their names all the same.
            body.set("rankingScoreThreshold", &floor.map_or(1.0, reached));
            if floor.is_none() {
                body.set("q", &NOTHING);
                body.set("matchingStrategy", &"all");
            }
            self.of(leaf, self.scoped(&body, None))
        });
        round(self.request, Round::Threshold);
        let pages = try_join_all(asked).await?;
        Ok(merge::merge_facets(&pages, options))
    }
}

/// A body that lists hits with their scores and these attributes, and nothing else of them.
pub(super) fn scores(body: &RawObject, attributes: &[&str]) -> RawObject {
    let mut body = bare(body);
    body.remove("facets");
    body.set("attributesToRetrieve", &attributes);
    body.set("showRankingScore", &true);
    body.set("showRankingScoreDetails", &true);
    body
}

/// The same without documents.
fn uncropped(body: &RawObject) -> RawObject {
    let mut out = scores(body, &[]);
    for key in ["facets", "limit"] {
        if let Some(value) = body.clone().remove(key) {
            out.set_raw(key, value);
        }
    }
    out
}

/// A phrase that no document has.
const NOTHING: &str = "\"qzxvjwkqhzpx zqhxvkqjwpxz\"";

/// A threshold that a hit of this score reaches. Nodes read long fractions a last digit too high or too
/// low, and would leave out the hit whose score they printed.
fn reached(score: f64) -> f64 {
    (score - 8.0 * f64::EPSILON).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::reached;

    #[test]
    fn a_score_reaches_its_own_threshold_as_nodes_read_it() {
        // Digits as an integer, over a power of ten: two roundings.
        let read = |number: f64| -> f64 {
            let text = number.to_string();
            let (whole, digits) = text.split_once('.').unwrap_or((&text, ""));
            let all: u64 = format!("{whole}{digits}").parse().unwrap();
            all as f64 / 10_f64.powi(digits.len() as i32)
        };
        let mut wrong = 0;
        for max in 2..700_u32 {
            for rank in 1..=max {
                let score = f64::from(rank) / f64::from(max);
                wrong += u32::from(read(score) > score);
                assert!(read(reached(score)) <= score, "{score}");
                assert!(reached(score) > f64::from(rank - 1) / f64::from(max), "{score}");
            }
        }
        assert!(wrong > 0, "this is what it is for");
    }
}
