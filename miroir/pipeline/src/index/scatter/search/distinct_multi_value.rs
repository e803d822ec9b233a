//! Hits under a distinct attribute with several values per document.
//!
//! A leaf shows one hit per value. A hit of its that has to make way for another leaf's may have
//! hidden documents that share *another* value with it, and that one node would show. Leaves that
//! are told which values are taken elsewhere find them ([`merge::hidden_behind`]). What they find may
//! push out further hits, so they are asked until nothing is hidden.

use futures_util::future::try_join_all;

use super::super::explained::{Round, round};
use super::distinct::{Counter, MAX_VALUES};
use crate::error::Error;
use crate::leaf;
use crate::query::RawObject;
use miroir_core::merge;
use miroir_core::merge::{FacetValue, hidden_behind};

/// How often leaves are asked again; each time the list is right a hit further down at least.
const ROUNDS: usize = 32;

impl Counter<'_> {
    /// Uncovers what is hidden in `pages`, up to `wanted` hits, and says whether anything was: documents
    /// with several values, which `pages` show no more then. Where a leaf fails meanwhile, its first answer
    /// stands, and its shards are missing in the answer.
    ///
    /// # Errors
    /// That shards are unavailable, where the policy is not to answer without them.
    pub(super) async fn uncover(
        &self,
        attribute: &str,
        from: &[leaf::Page],
        wanted: usize,
        pages: &mut [merge::Page],
    ) -> Result<bool, Error> {
        match self.look(attribute, from, wanted, pages).await {
            Ok(found) => Ok(found),
            Err(error) => self.without(&error, "distinct hits may be hidden").map(|()| true),
        }
    }

    async fn look(
        &self,
        attribute: &str,
        from: &[leaf::Page],
        wanted: usize,
        pages: &mut [merge::Page],
    ) -> Result<bool, Error> {
        let Some(body) = RawObject::parse(&self.plan.scoped.body) else { return Ok(false) };
        let mut told: Vec<Vec<FacetValue>> = vec![Vec::new(); pages.len()];
        for _ in 0..ROUNDS {
            let Some(without) = hidden_behind(pages, &self.plan.hits, wanted) else {
                return Ok(told.iter().any(|values| !values.is_empty()));
            };
            if without == told || without.iter().map(Vec::len).sum::<usize>() > MAX_VALUES {
                break;
            }
            let asked = without.iter().zip(&told).enumerate().filter(|(_, (new, old))| new != old);
            let asked = asked.map(|(leaf, (without, _))| {
                let condition = self.none_of(attribute, without);
                let scoped = self.scoped(&body, condition.as_deref());
                async move { Ok::<_, Error>((leaf, self.of(&from[leaf], scoped).await?)) }
            });
            round(self.request, Round::HiddenHits);
            for (leaf, mut page) in try_join_all(asked).await? {
                // The counts of the first question are about all candidates.
                let old = &mut pages[leaf];
                page.total = old.total;
                page.facet_distribution = old.facet_distribution.take();
                page.facet_stats = old.facet_stats.take();
                *old = page;
            }
            told = without;
        }
        tracing::debug!(index = %self.request.index.name, "distinct hits may be hidden");
        Ok(true)
    }
}
