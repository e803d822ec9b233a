//! Totals and facets under a distinct attribute whose groups no filter and no facet tells.
//!
//! Leaves list all their candidates, duplicates too, with their values, and what one node would leave of
//! them is found out here. That is for an attribute that is not filterable, and for pages numbered over
//! one of which documents have several values.

use futures_util::future::try_join_all;

use super::super::explained::{Round, round};
use super::distinct::{Counted, Counter};
use super::plan::bare;
use crate::error::Error;
use crate::leaf;
use crate::query::RawObject;
use miroir_core::merge::{self, Pagination, ScannedHits};

/// A leaf with more candidates lists none of them: the total then is the leaves' own.
const MAX_LISTED: usize = 5000;

/// An attribute that may be filtered on, as all below the shard's name, and that no document has: hits
/// with it as their distinct attribute are all there are.
const NO_ATTRIBUTE: &str = "_miroir_shard.none";

impl Counter<'_> {
    /// What one node would count in numbered pages. `None` where it cannot be told.
    ///
    /// # Errors
    /// That shards are unavailable, where the policy is not to answer without them.
    pub(super) async fn numbered(
        &self,
        attribute: &str,
        from: &[leaf::Page],
        pages: &[merge::Page],
    ) -> Result<Option<Counted>, Error> {
        let Some(body) = RawObject::parse(&self.plan.scoped.body) else { return Ok(None) };
        let Ok(Some(wanted)) = body.read::<usize>("hitsPerPage") else { return Ok(None) };
        let scanned = match wanted {
            0 => ScannedHits { values: vec![Vec::new(); pages.len()], ..ScannedHits::default() },
            _ => merge::scan_hits(pages, &self.plan.hits, wanted, wanted),
        };
        match self.listed(attribute, Some(&scanned), wanted, (from, pages)).await {
            Ok(counted) => Ok(counted),
            Err(error) => {
                self.without(&error, "distinct hits are not counted exactly")?;
                Ok(None)
            }
        }
    }

    /// What one node would leave of all candidates, given what it looks at for its page of `wanted` hits.
    /// Without that, it is found out from the lists. `None` where the candidates are too many.
    pub(super) async fn listed(
        &self,
        attribute: &str,
        scanned: Option<&ScannedHits>,
        wanted: usize,
        (from, pages): (&[leaf::Page], &[merge::Page]),
    ) -> Result<Option<Counted>, Error> {
        let exhaustive = matches!(self.plan.pagination, Pagination::Page { .. });
        let many = |page: &merge::Page| page.total > MAX_LISTED as u64;
        let Some(body) = RawObject::parse(&self.plan.scoped.body) else { return Ok(None) };
        if pages.iter().any(many) {
            return Ok(None);
        }
        let facets = pages.iter().flat_map(|page| page.facet_distribution.iter().flatten());
        let mut names: Vec<String> = facets.map(|facet| facet.name.clone()).collect();
        names.sort();
        names.dedup();
        if let Some(options) = &self.plan.facets {
            names.retain(|name| !options.drop_facets.contains(name));
        }
        let mut body = bare(&body);
        for key in ["facets", "page", "hitsPerPage"] {
            body.remove(key);
        }
        let shown: Vec<&str> = names.iter().map(String::as_str).chain([attribute]).collect();
        body.set("attributesToRetrieve", &shown);
        body.set("distinct", &NO_ATTRIBUTE);
        body.set("limit", &(MAX_LISTED + 1));
        if scanned.is_none() {
            body.set("showRankingScore", &true);
            body.set("showRankingScoreDetails", &true);
        }
        let scoped = self.scoped(&body, None);
        round(self.request, Round::DistinctCounts);
        let lists = try_join_all(from.iter().map(|page| self.of(page, scoped.clone()))).await?;
        if lists.iter().any(|list| list.hits.len() > MAX_LISTED) {
            return Ok(None);
        }
        let own = match scanned {
            Some(_) => None,
            None => Some(merge::scan_hits(&lists, &self.plan.hits, wanted, MAX_LISTED + 1)),
        };
        let Some(scanned) = own.as_ref().or(scanned) else { return Ok(None) };
        let left = merge::candidates_left(&lists, attribute, scanned, exhaustive);
        let total = left.iter().map(Vec::len).sum::<usize>().saturating_sub(scanned.dropped);
        let facets = self.plan.facets.as_ref();
        let facets = facets.map(|options| merge::count_facets(&lists, &left, &names, options));
        Ok(Some(Counted { total: total as u64, facets }))
    }
}
