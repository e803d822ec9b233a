//! Totals and facets under a distinct attribute, as one node gives them.
//!
//! A node's estimate leaves out the duplicates of the hits it looked at ([`merge::scan_hits`]). No
//! leaf can tell: the duplicates may be on others, and each looks further than one node would. But
//! once the values looked at are known, every document without any of them counts, and of the others
//! the hits that were kept. Leaves count both: one more question, and one before it if hits tied with
//! the last of the page may go on beyond the leaves' lists.

use bytes::Bytes;
use futures_util::future::{join, try_join_all};

use super::super::explained::{Round, round};
use super::super::read::Gathered;
use super::super::{Scatter, gaps};
use super::ask;
use super::facets::exact_facets;
use super::plan::{Estimate, SearchPlan, bare, joined};
use crate::cluster::settings::IndexSettings;
use crate::error::{Error, NodeFailure};
use crate::index::Request;
use crate::leaf::{self, Scoped};
use crate::node::Call;
use crate::query::RawObject;
use miroir_core::documents;
use miroir_core::merge::{self, FacetOptions, FacetValue, MergedFacets, ScannedHits};
use miroir_core::routing::ShardSet;
use miroir_core::view::Route;

/// How many hits beyond the page are looked at to find the end of those tied with its last.
const DEEPER: &[usize] = &[1000, 10_000];

/// More values than this are not named in a filter; the total then is the leaves' own.
pub(super) const MAX_VALUES: usize = 20_000;

/// More hits than a leaf has candidates.
const EVERYTHING: usize = 1_000_000;

/// What a node would say of all candidates.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) total: u64,
    pub(super) facets: Option<MergedFacets>,
}

/// Who asks what, of whom.
pub(super) struct Counter<'a> {
    pub(super) scatter: &'a Scatter,
    pub(super) request: &'a Request,
    pub(super) plan: &'a SearchPlan,
    pub(super) shards: &'a ShardSet,
    pub(super) route: &'a Route,
    pub(super) settings: &'a IndexSettings,
}

impl Counter<'_> {
    /// `None` where it cannot be told: then the leaves' own counts have to do. Shards that were not
    /// counted are missing in the answer. `uncovered`: documents with several values made way for `pages`.
    ///
    /// # Errors
    /// That shards are unavailable, where the policy is not to answer without them.
    pub(super) async fn estimate(
        &self,
        estimate: &Estimate,
        gathered: &Gathered,
        pages: &[merge::Page],
        uncovered: bool,
    ) -> Result<Option<Counted>, Error> {
        match self.count(estimate, gathered, pages, uncovered).await {
            Ok(counted) => Ok(counted),
            Err(error) => {
                self.without(&error, "distinct hits are not counted exactly")?;
                Ok(None)
            }
        }
    }

    /// Goes on without an answer that would have made this one exact.
    pub(super) fn without(&self, error: &Error, what: &str) -> Result<(), Error> {
        tracing::warn!(index = %self.request.index.name, cause = error.label(), "{what}");
        gaps::go_on_without(self.scatter, self.request, self.shards, error)
    }

    async fn count(
        &self,
        estimate: &Estimate,
        gathered: &Gathered,
        pages: &[merge::Page],
        uncovered: bool,
    ) -> Result<Option<Counted>, Error> {
        let (attribute, wanted) = (&estimate.attribute, estimate.wanted);
        let Some(body) = RawObject::parse(&self.plan.scoped.body) else { return Ok(None) };
        if let [page] = pages {
            // It looked at what one node looks at, or at one hit more.
            let right = page.hits.len() <= wanted;
            return if right { Ok(None) } else { self.alone(&body, wanted).await.map(Some) };
        }
        let mut scanned = merge::scan_hits(pages, &self.plan.hits, wanted, estimate.asked());
        if let Some(counted) = self.counted_all(&scanned) {
            return Ok(Some(counted));
        }
        if !estimate.filterable {
            let found = Some(&scanned).filter(|scanned| !scanned.unfinished);
            return self.listed(attribute, found, wanted, (&gathered.pages, pages)).await;
        }
        let mut further = None;
        for more in DEEPER {
            if !scanned.unfinished {
                break;
            }
            round(self.request, Round::Ties);
            let asked = wanted.saturating_add(*more);
            let mut body = bare(&body);
            body.remove("facets");
            body.set("attributesToRetrieve", &[attribute.as_str(), documents::ORDER]);
            body.set("showRankingScore", &true);
            body.set("showRankingScoreDetails", &true);
            body.set("limit", &asked);
            let answer = self.ask(self.scoped(&body, None)).await?;
            scanned = merge::scan_hits(&answer.1, &self.plan.hits, wanted, asked);
            further = Some(answer.0);
        }
        let leaves = further.as_ref().unwrap_or(gathered);
        if scanned.unfinished {
            return Ok(None);
        }
        if let Some(counted) = self.counted_all(&scanned) {
            return Ok(Some(counted));
        }
        if scanned.values.iter().map(Vec::len).sum::<usize>() > MAX_VALUES {
            return Ok(None);
        }
        // They would come back where their other values are not taken.
        scanned.multi_valued |= uncovered;
        self.parts(&body, attribute, &scanned, leaves).await.map(Some)
    }

    /// What is known where everything was looked at.
    fn counted_all(&self, scanned: &ScannedHits) -> Option<Counted> {
        let known = scanned.exhausted && self.plan.facets.is_none();
        known.then(|| Counted { total: scanned.shown as u64, facets: None })
    }

    /// Facets of numbered pages, which count each value once: every leaf is asked again without the
    /// values that others have. `None` where that cannot be told.
    ///
    /// # Errors
    /// That shards are unavailable, where the policy is not to answer without them.
    pub(super) async fn paged(
        &self,
        attribute: &str,
        gathered: &Gathered,
        pages: &[merge::Page],
    ) -> Result<Option<MergedFacets>, Error> {
        let plan = self.plan;
        let Some(options) = &plan.facets else { return Ok(None) };
        let Some(body) = RawObject::parse(&plan.scoped.body) else { return Ok(None) };
        let Ok(Some(wanted)) = body.read::<usize>("hitsPerPage") else { return Ok(None) };
        let scanned = match wanted {
            0 => ScannedHits { values: vec![Vec::new(); pages.len()], ..ScannedHits::default() },
            _ => merge::scan_hits(pages, &plan.hits, wanted, wanted),
        };
        let without = merge::apportion(pages, attribute, &scanned);
        let Some(without) =
            without.filter(|lists| lists.iter().map(Vec::len).sum::<usize>() <= MAX_VALUES)
        else {
            return Ok(None);
        };
        round(self.request, Round::DistinctCounts);
        let leaves = gathered.pages.iter().zip(without).enumerate();
        let asked = leaves.map(|(leaf, (page, without))| {
            let mut body = bare(&body);
            body.set("attributesToRetrieve", &[(); 0]);
            body.set("hitsPerPage", scanned.valued.get(leaf).unwrap_or(&0));
            let condition = self.none_of(attribute, &without);
            self.of(page, self.scoped(&body, condition.as_deref()))
        });
        match try_join_all(asked).await {
            Ok(pages) => Ok(Some(merge::merge_facets(&pages, options))),
            Err(error) => {
                self.without(&error, "facets under a distinct attribute are not exact")?;
                Ok(None)
            }
        }
    }

    /// What the one leaf says that holds everything, if it is asked for no more than the page.
    async fn alone(&self, body: &RawObject, wanted: usize) -> Result<Counted, Error> {
        round(self.request, Round::DistinctCounts);
        let mut body = bare(body);
        body.set("attributesToRetrieve", &[(); 0]);
        body.set("limit", &wanted);
        self.counted(self.scoped(&body, None)).await
    }

    /// Counts what has none of the values, and what was kept of the rest.
    async fn parts(
        &self,
        body: &RawObject,
        attribute: &str,
        scanned: &ScannedHits,
        leaves: &Gathered,
    ) -> Result<Counted, Error> {
        round(self.request, Round::DistinctCounts);
        let others = self.none_of(attribute, scanned.all());
        // Of hits that show an empty string one is kept, though it has no value that is indexed.
        let empty = scanned.empty.filter(|_| scanned.exhausted && scanned.dropped > 0);
        let quoted = merge::quoted(attribute);
        let full = empty.map(|_| format!("{quoted} IS NOT EMPTY"));
        let others: Vec<String> = others.into_iter().chain(full).collect();
        if others.is_empty() {
            return self.rest(body, None).await;
        }
        let others = others.join(" AND ");
        let valued: usize = scanned.valued.iter().sum();
        let Some(options) = &self.plan.facets else {
            let rest = self.rest(body, Some(&others)).await?;
            let total = (rest.total + valued as u64).saturating_sub(scanned.dropped as u64);
            return Ok(Counted { total, facets: None });
        };
        let mut bare = bare(body);
        bare.set("limit", &0);
        let scoped = self.scoped(&bare, Some(&others));
        let kept = leaves.pages.iter().enumerate().filter_map(|(leaf, page)| {
            let owns = empty == Some(leaf);
            let valued = scanned.valued.get(leaf)?;
            if *valued == 0 && !owns {
                return None;
            }
            let mut body = bare.clone();
            body.set("limit", if owns { &EVERYTHING } else { valued });
            body.set("attributesToRetrieve", &[(); 0]);
            let own = scanned.values.get(leaf)?;
            let these = merge::any_of(attribute, own, self.settings.compares(attribute));
            // What shares a value with a hit of another leaf must not take its place here.
            let apart = self.none_of(attribute, scanned.of_others(leaf));
            let apart = apart.filter(|_| scanned.multi_valued);
            let these: Vec<String> = these.into_iter().chain(apart).collect();
            let these = Some(these.join(" AND ")).filter(|these| !these.is_empty());
            let bare = owns.then(|| format!("{quoted} IS EMPTY"));
            let these: Vec<String> = these.into_iter().chain(bare).collect();
            Some(self.of(page, self.scoped(&body, Some(&these.join(" OR ")))))
        });
        let (rest, kept) = join(self.ask(scoped.clone()), try_join_all(kept)).await;
        let ((gathered, mut pages), kept) = (rest?, kept?);
        pages.extend(kept);
        let mut total = pages.iter().fold(0, |sum: u64, page| sum.saturating_add(page.total));
        if empty.is_none() {
            total = total.saturating_sub(scanned.dropped as u64);
        }
        let facets = self.facets(&scoped, (&gathered.pages, &pages), options).await?;
        Ok(Counted { total, facets: Some(facets) })
    }

    /// Counts all candidates that meet a condition.
    async fn rest(&self, body: &RawObject, condition: Option<&str>) -> Result<Counted, Error> {
        let mut bare = bare(body);
        bare.set("limit", &0);
        self.counted(self.scoped(&bare, condition)).await
    }

    /// Totals and facets of one question.
    async fn counted(&self, scoped: Scoped) -> Result<Counted, Error> {
        let (gathered, pages) = self.ask(scoped.clone()).await?;
        let total = pages.iter().fold(0, |sum: u64, page| sum.saturating_add(page.total));
        let facets = match &self.plan.facets {
            Some(options) => Some(self.facets(&scoped, (&gathered.pages, &pages), options).await?),
            None => None,
        };
        Ok(Counted { total, facets })
    }

    /// Exact facets of what pages say, which answer `scoped`.
    pub(super) async fn facets(
        &self,
        scoped: &Scoped,
        pages: (&[leaf::Page], &[merge::Page]),
        options: &FacetOptions,
    ) -> Result<MergedFacets, Error> {
        let Self { scatter, request, settings, route, .. } = *self;
        exact_facets(scatter, request, settings, scoped, pages, options, route).await
    }

    /// A condition that documents have none of the values of an attribute.
    pub(super) fn none_of<'v>(
        &self,
        attribute: &str,
        values: impl IntoIterator<Item = &'v FacetValue>,
    ) -> Option<String> {
        merge::none_of(attribute, values, self.settings.compares(attribute))
    }

    pub(super) async fn ask(&self, scoped: Scoped) -> Result<(Gathered, Vec<merge::Page>), Error> {
        ask(self.scatter, self.request, scoped, self.shards, self.route).await
    }

    /// Asks the leaf a page came from. The question is about that page, so that no other node can
    /// answer it.
    ///
    /// # Errors
    /// That its shards are unavailable where the node does not answer: then the search is begun anew
    /// without it, if others hold them.
    pub(super) async fn of(&self, page: &leaf::Page, scoped: Scoped) -> Result<merge::Page, Error> {
        let answer = self.again(page, &scoped).await;
        answer.map_err(|error| gaps::silent(self.request, page, error))
    }

    async fn again(&self, page: &leaf::Page, scoped: &Scoped) -> Result<merge::Page, Error> {
        let index = &self.request.index;
        let body = leaf::restrict(scoped, Some((&page.shards, index.shards)));
        let path = format!("/indexes/{}/search", index.physical);
        let call = Call::read(http::Method::POST, "search", path).json(body);
        let answer = self.scatter.state.nodes.call(&page.node, &call, &self.request.cx).await?;
        merge::Page::decode(&answer).map_err(|_| Error::node(&page.node, NodeFailure::Garbage))
    }

    pub(super) fn scoped(&self, body: &RawObject, condition: Option<&str>) -> Scoped {
        let client = self.plan.scoped.filter.as_ref();
        let filter: Option<Bytes> = match condition {
            Some(condition) => Some(joined(client, condition)),
            None => client.cloned(),
        };
        Scoped { body: body.to_bytes(), filter, ..self.plan.scoped.clone() }
    }
}
